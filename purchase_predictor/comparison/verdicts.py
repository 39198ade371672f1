"""Arms held against one another on the same rows, and what that says of each market."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from purchase_predictor.comparison.arms import EXPLORATORY, POOLED, PRIMARY
from purchase_predictor.comparison.pooling import Pooling, fit_pooling, pool
from purchase_predictor.evaluation.gap import NOT_ENOUGH, SAME, UNDECIDED, paired_gaps
from purchase_predictor.evaluation.intervals import Draws, draw
from purchase_predictor.evaluation.metrics import HIGHER_IS_BETTER
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.report.comparing_data import CHANCE
from purchase_predictor.settings import Settings

METRICS = (
    "auc", "normalised_entropy", "average_precision", "brier", "mean_ratio", "slope", "ece",
    "lift_10",
)  # fmt: skip
"""What is told of every arm."""

GAPS = ("auc", "normalised_entropy")

EQUIVALENT = "equivalent"

NOT_ENOUGH_CONVERSIONS = "too few test conversions"
UNDECIDED_REASON = "a difference would have to be larger to be seen"
"""Why there is not enough data."""


def side_by_side(
    frames: Mapping[str, pl.DataFrame], system: str, part: str, markets: Sequence[str]
) -> pl.DataFrame:
    """The probabilities of all arms as columns of one table.

    Args:
        frames: held rows of each arm, the global one among them.
        system: whose probabilities.
        part: `validation` or `test`.
        markets: those that every arm serves.

    Returns:
        impression_id, market, converted, unit, list_number (of the global arm, whose units are
        those of all markets) and a column for each arm.
    """
    base, *others = PRIMARY[0], *(name for name in frames if name != PRIMARY[0])
    wide = _rows(frames[base], part, markets).rename({system: base})
    wide = wide.select("impression_id", "market", "converted", "unit", "list_number", base)
    for name in others:
        rows = _rows(frames[name], part, markets).select(
            "impression_id", pl.col(system).alias(name)
        )
        wide = wide.join(rows, on="impression_id", how="left", maintain_order="left")
        if wide[name].null_count():
            raise ValueError(f"{name} lacks {wide[name].null_count()} of {len(wide)} rows")
    return wide


def _rows(frame: pl.DataFrame, part: str, markets: Sequence[str]) -> pl.DataFrame:
    return frame.filter(pl.col("part") == part, pl.col("market").is_in(list(markets)))


def with_pooled(
    frames: Mapping[str, pl.DataFrame],
    system: str,
    markets: Sequence[str],
    n_converted: Mapping[str, int],
) -> tuple[pl.DataFrame, Pooling]:
    """The test rows with all arms, the pooled one made here of global and local.

    Args:
        frames: as for `side_by_side`, as are `system` and `markets`.
        system: likewise.
        markets: likewise.
        n_converted: training conversions of each market.
    """
    pooling = fit_pooling(side_by_side(frames, system, "validation", markets), n_converted)
    test = side_by_side(frames, system, "test", markets)
    return test.with_columns(pl.Series(POOLED, pool(test, pooling, n_converted))), pooling


def beside_chance(frame: pl.DataFrame, system: str) -> pl.DataFrame:
    """The test rows of markets whose own rows train no model, as the model for all predicts them.

    Args:
        frame: held rows of those markets, of the global arm.
        system: whose probabilities.

    Returns:
        As `side_by_side`, of the global arm and `CHANCE`, which is 0.5 everywhere.
    """
    return frame.filter(pl.col("part") == "test").select(
        "impression_id", "market", "converted", "unit", "list_number",
        pl.col(system).alias(PRIMARY[0]), pl.lit(0.5).alias(CHANCE),
    )  # fmt: skip


def draw_seeds(tests: Sequence[pl.DataFrame], arms: Sequence[str], settings: Settings) -> Draws:
    """Metrics of all arms under resampling of users and, where there are several, of seeds.

    The same resamples serve all seeds, and each then takes as many seeds with replacement as
    there are: the interval has both the test's and the models' chance in it.

    Args:
        tests: for each seed, what `with_pooled` or `beside_chance` gave.
        arms: columns.
        settings: of the evaluation.
    """
    found = [
        draw(Rows.from_frame(test, arms), settings=settings.evaluation, seed=settings.seed)
        for test in tests
    ]
    if len(found) == 1:
        return found[0]
    generator = np.random.default_rng(settings.seed)
    n_resamples = found[0].draws.shape[-1]
    chosen = generator.integers(0, len(found), (len(found), n_resamples))
    stacked = np.stack([each.draws for each in found])
    resample = np.arange(n_resamples)
    draws = np.mean([stacked[seeds, ..., resample] for seeds in chosen], axis=0)
    return replace(
        found[0],
        value=np.mean([each.value for each in found], axis=0),
        draws=np.moveaxis(draws, 0, -1),
        auc_covariance=np.mean([each.auc_covariance for each in found], axis=0),
    )


def compare_arms(
    draws: Draws, settings: Settings, n_train: Mapping[str, tuple[int, int]]
) -> list[dict[str, Any]]:
    """Every gap of `gap.json`, the primary contrast first.

    Args:
        draws: of `draw_seeds`.
        settings: level, thresholds and margin.
        n_train: training rows and conversions of each market.
    """
    pairs = [pair for pair in (PRIMARY, *EXPLORATORY) if set(pair) <= set(draws.systems)]
    gaps = paired_gaps(draws, pairs, settings=settings.evaluation, metrics=GAPS)
    for gap in gaps:
        _tell(gap, draws, settings, n_train)
    return gaps


def compare_chance(
    draws: Draws, settings: Settings, n_train: Mapping[str, tuple[int, int]]
) -> list[dict[str, Any]]:
    """The gap in AUC over chance of each market without a model of its own.

    A contrast of its own, Holm's family too: it says that the model for all is of use there, and
    nothing of what a model of the market's own would be.

    Args:
        draws: of `draw_seeds`, of what `beside_chance` gave.
        settings: level and thresholds.
        n_train: training rows and conversions of each market.

    Returns:
        As of `compare_arms`, a row for each market.
    """
    gaps = paired_gaps(
        draws, [(PRIMARY[0], CHANCE)], settings=settings.evaluation, metrics=("auc",)
    )
    found = [gap for gap in gaps if gap["scope"] == "market"]
    for gap in found:
        _tell(gap, draws, settings, n_train)
    return found


def _tell(
    gap: dict[str, Any],
    draws: Draws,
    settings: Settings,
    n_train: Mapping[str, tuple[int, int]],
) -> None:
    """Put into a gap what `gap.json` has beside the figures."""
    gap["n_train"], gap["n_train_positive"] = n_train.get(gap["market"], (None, None))
    gap["primary"] = (gap["arm"], gap["against"]) == PRIMARY and gap["metric"] == "auc"
    gap["equivalent_within"] = None
    if gap["metric"] == "auc":
        gap |= _equivalence(draws, gap, settings)
    gap["reason"] = {NOT_ENOUGH: NOT_ENOUGH_CONVERSIONS, UNDECIDED: UNDECIDED_REASON}.get(
        gap["verdict"], ""
    )
    gap["verdict"] = _verdict(gap)
    if gap["verdict"] != NOT_ENOUGH:
        gap["reason"] = ""


def _equivalence(draws: Draws, gap: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The margin where two one-sided tests at the usual level say that the gap is within it."""
    margin = settings.comparison.margin
    alpha = 1 - settings.evaluation.confidence
    scope = ["macro", "pooled", *draws.markets].index(gap["market"])
    spread = draws.of(gap["arm"], "auc")[1][scope] - draws.of(gap["against"], "auc")[1][scope]
    if gap["low"] is None or gap["verdict"] == NOT_ENOUGH:
        return {"equivalent_within": None}
    low, high = np.nanquantile(spread, [alpha, 1 - alpha])
    return {"equivalent_within": margin if -margin < low and high < margin else None}


def _verdict(gap: Mapping[str, Any]) -> str:
    """The better arm's name, `equivalent`, `SAME` of gaps, or `not enough data`."""
    if gap["verdict"] == SAME:
        return SAME
    if gap["verdict"] in (NOT_ENOUGH, UNDECIDED):
        shown = gap["verdict"] == UNDECIDED and gap["equivalent_within"] is not None
        return EQUIVALENT if shown else NOT_ENOUGH
    arm_better = (gap["value"] > 0) == HIGHER_IS_BETTER[gap["metric"]]
    return str(gap["arm"] if arm_better else gap["against"])


def figures(draws: Draws, settings: Settings) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics of every arm in every scope: arm, scope, metric.

    Args:
        draws: of `draw_seeds`.
        settings: level.
    """
    return {
        arm: {
            name: {
                metric: draws.interval(arm, scope, metric, settings.evaluation.confidence)
                for metric in METRICS
            }
            for scope, name in enumerate(["macro", "pooled", *draws.markets])
        }
        for arm in draws.systems
    }
