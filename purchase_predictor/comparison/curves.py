"""Learning curves of local models, and the conversions at which they stop losing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import LEFT_OUT, TRAIN
from features.clickstream import session_units
from features.schema import Tables
from purchase_predictor.comparison.flat import QuickModels
from purchase_predictor.counted import Counted
from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.metrics import auc
from purchase_predictor.settings import Settings

Progress = Callable[[str], None]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class BreakEven:
    """Training conversions from which a local model loses no more.

    Attributes:
        market: whose.
        conversions: None where the curve never gets there: then it is more than `largest`.
        low: of its interval; likewise `high`. None where the interval is open on that side.
        high: see `low`.
        largest: conversions of the largest local model that was measured.
        smallest: of the smallest; a break-even there is that or fewer.
    """

    market: str
    conversions: float | None
    low: float | None
    high: float | None
    largest: float
    smallest: float


def learning_curves(
    models: QuickModels, markets: Sequence[str], *, settings: Settings, progress: Progress
) -> pl.DataFrame:
    """Fit local models on random subsets of each market's users.

    Args:
        models: fits them.
        markets: those compared.
        settings: sizes, repeats and seed.
        progress: told a line for each market.

    Returns:
        `market, conversions, repeat, local, everyone`: conversions of the subset, AUC of the local
        model of that subset, and of the model of all markets with all their rows.
    """
    every = models.predict(models.markets, markets, seed=settings.seed)
    points = []
    for market in markets:
        of_all = _auc(every.filter(pl.col("market") == market))
        if of_all is None:
            continue
        n = _conversions(models.tables, models.split.part, market)
        if not n:
            continue
        sizes = [size for size in settings.comparison.curve_conversions if size < n]
        steps = ", ".join(map(str, [*sizes, "all"]))
        progress(f"learning curve of {market}: {steps} of {Counted(n):conversion|conversions}")
        for size in [*sizes, n]:
            # all rows are one subset only
            repeats = 1 if size == n else settings.comparison.curve_repeats
            for repeat in range(repeats):
                part = _subset(models, market, size / n, seed=settings.seed + 1000 * repeat + size)
                try:
                    local = _auc(models.predict([market], [market], seed=settings.seed, part=part))
                except DataError:  # by chance, a subset without a conversion
                    continue
                points.append(
                    {
                        "market": market,
                        "conversions": _conversions(models.tables, part, market),
                        "size": size,
                        "repeat": repeat,
                        "local": local,
                        "everyone": of_all,
                    }
                )
    return pl.DataFrame(points)


def break_evens(
    curves: pl.DataFrame, *, confidence: float, n_draws: int = 1000, seed: int = 0
) -> list[BreakEven]:
    """Where each market's curve of gaps crosses zero, and how sure that is.

    The gap (everyone less local) is interpolated between the sizes, straight in the logarithm of
    the conversions. The interval comes from redrawing the subsets at each size; the test rows are
    the same throughout, so their chance is not in it.

    Args:
        curves: of `learning_curves`.
        confidence: level of the interval.
        n_draws: redraws of the subsets.
        seed: of the redraws.
    """
    generator = np.random.default_rng(seed)
    found = []
    for (market,), rows in curves.group_by("market", maintain_order=True):
        sizes = [part for _, part in rows.sort("size").group_by("size", maintain_order=True)]
        n = np.array([part["conversions"].mean() for part in sizes], np.float64)
        gaps = [(part["everyone"] - part["local"]).to_numpy() for part in sizes]
        crossing = crossing_point(n, np.array([gap.mean() for gap in gaps]))
        drawn = [
            crossing_point(n, np.array([generator.choice(gap, len(gap)).mean() for gap in gaps]))
            for _ in range(n_draws)
        ]
        low, high = np.quantile(
            drawn, [(1 - confidence) / 2, (1 + confidence) / 2], method="inverted_cdf"
        )
        found.append(
            BreakEven(
                market=str(market),
                conversions=None if np.isinf(crossing) else float(crossing),
                low=None if np.isinf(low) else float(low),
                high=None if np.isinf(high) else float(high),
                largest=float(n.max()),
                smallest=float(n.min()),
            )
        )
    return found


def crossing_point(n: Floats, gap: Floats) -> float:
    """Size from which the gap stays at zero or below; infinite where it never does.

    Args:
        n: [k], rising sizes.
        gap: [k], what local loses.
    """
    losing = np.flatnonzero(gap > 0)
    if not len(losing):
        return float(n[0])
    last = losing[-1]
    if last == len(n) - 1:
        return float(np.inf)
    share = gap[last] / (gap[last] - gap[last + 1])
    return float(np.exp(np.log(n[last]) + share * np.log(n[last + 1] / n[last])))


def _subset(models: QuickModels, market: str, share: float, *, seed: int) -> NDArray[np.int8]:
    """The split with a share of the market's training units, chosen at random."""
    part = models.split.part.copy()
    if share >= 1:
        return part
    shown = models.tables.impressions.select("session_id", "market").join(
        session_units(models.tables), on="session_id", how="left", maintain_order="left"
    )
    rows = (part == TRAIN) & (shown["market"] == market).to_numpy()
    units = shown["unit"].to_numpy()
    distinct = np.unique(units[rows].astype(str))
    drawn = np.random.default_rng(seed).random(len(distinct)) < share
    kept = np.isin(units.astype(str), distinct[drawn])
    part[rows & ~kept] = LEFT_OUT
    return part


def _conversions(tables: Tables, part: NDArray[np.int8], market: str) -> int:
    rows = tables.impressions.filter(pl.Series(part == TRAIN), pl.col("market") == market)
    return int(rows["converted"].sum())


def _auc(rows: pl.DataFrame) -> float | None:
    y, p = rows["converted"].to_numpy(), rows["p"].to_numpy()
    return float(auc(y, p)) if y.any() and not y.all() else None
