"""How good the probabilities were: each model by market, and models against one another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from purchase_predictor.evaluation.gap import paired_gaps
from purchase_predictor.evaluation.intervals import MACRO, POOLED, Draws, draw
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.following.joining import Joined, Model
from purchase_predictor.following.resampling import judged, resampled_sums
from purchase_predictor.settings import EvaluationSettings

CALIBRATION = ("mean_ratio", "slope", "ece")
DISCRIMINATION = ("auc", "normalised_entropy", "lift_10")
FIGURES = (*CALIBRATION, *DISCRIMINATION)
"""Metrics that are followed, in the order in which they are written."""

NO_COMMON_PERIOD = "no common period"

SCHEMA: dict[str, Any] = {
    "system": pl.String, "model_version": pl.String, "model": pl.String, "scope": pl.String,
    "market": pl.String, "metric": pl.String, "value": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "n": pl.Int64, "n_positive": pl.Int64, "n_units": pl.Int64,
}  # fmt: skip
"""Columns of `calibration.parquet`."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Measured:
    """The metrics of models, resampled; models with the same impressions share the resamples.

    Attributes:
        draws: for each label what `intervals.draw` made of the model's rows.
        joined: scores and outcomes.
        settings: resamples, level and thresholds.
        seed: of the resampling.
    """

    draws: dict[str, Draws]
    joined: Joined
    settings: EvaluationSettings
    seed: int

    @classmethod
    def of(cls, joined: Joined, *, settings: EvaluationSettings, seed: int) -> "Measured":
        """Measure every model on the impressions that it scored.

        Args:
            joined: scores and outcomes.
            settings: resamples, level and thresholds.
            seed: of the resampling.
        """
        alike: dict[bytes, list[str]] = {}
        known = joined.happened()
        for model in joined.models:
            mask = known[model.label].is_not_null().to_numpy()
            alike.setdefault(np.packbits(mask).tobytes(), []).append(model.label)
        draws: dict[str, Draws] = {}
        for labels in alike.values():
            shared = _draw(joined, labels, settings, seed)
            draws |= dict.fromkeys(labels, shared)
        return cls({m.label: draws[m.label] for m in joined.models}, joined, settings, seed)

    def of_pair(self, pair: Pair) -> Draws | None:
        """Both models on the impressions that both scored; None where there are none."""
        first, second = (self.draws[label] for label in pair)
        if first is second:
            return first
        if self.joined.happened(*pair).is_empty():
            return None
        return _draw(self.joined, pair, self.settings, self.seed)


def pairs_of(models: Sequence[Model]) -> list[Pair]:
    """Every two models as (arm, against): what comes later is held against what came before."""
    return [(arm.label, against.label) for against, arm in combinations(models, 2)]


def realised(measured: Measured) -> list[dict[str, Any]]:
    """Calibration and discrimination of every model, by market.

    Args:
        measured: all models.

    Returns:
        For each model `model, system, model_version, markets_averaged`, and under `macro`,
        `pooled` and `markets` each metric of `FIGURES` as `value, low, high`, and `n`,
        `n_positive`, `n_units`.
    """
    found = []
    for model in measured.joined.models:
        draws = measured.draws[model.label]
        scopes = [
            _figures(draws, model.label, scope, measured.settings.confidence)
            for scope in range(2 + len(draws.markets))
        ]
        averaged = zip(draws.markets, draws.averaged, strict=True)
        found.append(
            {
                "model": model.label,
                "system": model.system,
                "model_version": model.version,
                "markets_averaged": [name for name, kept in averaged if kept],
                "macro": scopes[MACRO],
                "pooled": scopes[POOLED],
                "markets": dict(zip(draws.markets, scopes[2:], strict=True)),
            }
        )
    return found


def long_table(found: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The figures of `realised` as `calibration.parquet`: columns of `SCHEMA`."""
    rows = [
        {
            **{name: entry[name] for name in ("system", "model_version", "model")},
            "scope": scope if scope in ("macro", "pooled") else "market",
            "market": scope,
            "metric": metric,
            **figures[metric],
            **{name: figures[name] for name in ("n", "n_positive", "n_units")},
        }
        for entry in found
        for scope, figures in {
            "macro": entry["macro"], "pooled": entry["pooled"], **entry["markets"],
        }.items()
        for metric in FIGURES
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=SCHEMA)


def shared_gaps(measured: Measured) -> list[dict[str, Any]]:
    """Paired gaps of models that scored the same impressions.

    Args:
        measured: all models.

    Returns:
        What `paired_gaps` gives for each pair that shares impressions, on those alone.
    """
    found = []
    for pair in pairs_of(measured.joined.models):
        draws = measured.of_pair(pair)
        if draws is not None:
            found += paired_gaps(draws, [pair], settings=measured.settings)
    return found


def served_apart(
    joined: Joined, *, settings: EvaluationSettings, seed: int
) -> list[dict[str, Any]]:
    """Conversion rates of models that served different impressions of one market and period.

    What differs may be the shoppers: only where models were assigned at random is the difference
    caused by them. Rows count from the later of the models' first impressions to the earlier of
    their last ones. A user served by both is resampled with both.

    Args:
        joined: scores and outcomes.
        settings: resamples of users, level and the conversions below which there is no verdict.
        seed: of the resampling.

    Returns:
        For each pair and market in which both scored but no impression is shared: `market, arm,
        against, first, last` (the common period), `n, n_positive, n_units, rate` of arm and
        against, `n_units_both`, `value, low, high` (difference of the rates),
        `smallest_detectable, verdict`, and `reason` where there is nothing to compare.
    """
    found = []
    for pair in pairs_of(joined.models):
        rows = joined.happened()
        both = rows.drop_nulls(list(pair))["market"].unique()
        for market in rows["market"].unique().sort().to_list():
            if market in both:
                continue
            here = rows.filter(pl.col("market") == market)
            arm, against = (here.drop_nulls(label) for label in pair)
            if len(arm) and len(against):
                names = {"market": market, "arm": pair[0], "against": pair[1]}
                found.append(names | _rates(arm, against, settings=settings, seed=seed))
    return found


def _rates(
    arm: pl.DataFrame, against: pl.DataFrame, *, settings: EvaluationSettings, seed: int
) -> dict[str, Any]:
    """The difference of two conversion rates in the period that both sides have."""
    first = max(arm["timestamp"].min(), against["timestamp"].min())  # type: ignore[type-var]
    last = min(arm["timestamp"].max(), against["timestamp"].max())  # type: ignore[type-var]
    sides = [side.filter(pl.col("timestamp").is_between(first, last)) for side in (arm, against)]
    units = [side["unit"].unique() for side in sides]
    entry: dict[str, Any] = {
        "first": str(first),
        "last": str(last),
        "n_units_both": int(units[0].is_in(units[1].implode()).sum()),
    }
    rows = pl.concat([side.with_columns(side=pl.lit(s)) for s, side in enumerate(sides)])
    if not all(len(side) for side in sides):
        nothing = dict.fromkeys(("value", "low", "high", "smallest_detectable", "verdict"))
        return entry | nothing | {"reason": NO_COMMON_PERIOD}
    side = rows["side"].to_numpy().astype(np.int64)
    converted = rows["converted"].cast(pl.Float64).to_numpy()
    unit = rows["unit"].rank("dense").cast(pl.Int64).to_numpy()
    columns = np.stack([side == 0, side == 1, (side == 0) * converted, (side == 1) * converted])
    sums = resampled_sums(columns.astype(np.float64), unit, settings=settings, seed=seed)
    rates = [sums.ratio(2 + s, s) for s in (0, 1)]
    positive = (int(sums.value[2]), int(sums.value[3]))
    for s, name in enumerate(("arm", "against")):
        entry |= {
            f"n_{name}": len(sides[s]),
            f"n_positive_{name}": positive[s],
            f"n_units_{name}": len(units[s]),
            f"rate_{name}": rates[s].figure(settings.confidence, known=positive[s] > 0),
        }
    return entry | judged(rates[0].minus(rates[1]), positive, settings) | {"reason": None}


def _draw(joined: Joined, labels: Sequence[str], settings: EvaluationSettings, seed: int) -> Draws:
    rows = Rows.from_frame(joined.happened(*labels), list(labels))
    return draw(rows, settings=settings, seed=seed)


def _figures(draws: Draws, label: str, scope: int, confidence: float) -> dict[str, Any]:
    figures: dict[str, Any] = {
        metric: draws.interval(label, scope, metric, confidence) for metric in FIGURES
    }
    counts = {"n": draws.n, "n_positive": draws.n_positive, "n_units": draws.n_units}
    return figures | {name: int(values[scope]) for name, values in counts.items()}
