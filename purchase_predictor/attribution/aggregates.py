"""Contributions averaged over a market, with intervals clustered by unit.

Rows of one user are not independent: the variance of a ratio of means comes from the sums of its
residuals over each unit (Liang and Zeger, Biometrika 73, 1986), referred to a t with as many
degrees of freedom as there are units, less one. A word is of listings as well as of users, so its
mean is clustered by both. Intervals tell how far contributions differ between
users, not how sure the model is of its weights: `effects` tells that.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr, t

from purchase_predictor.attribution.shapley import MODALITIES
from purchase_predictor.attribution.tokens import TITLE

Floats = NDArray[np.float64]

MIN_UNITS = 10
"""Of fewer users a mean is told without an interval; a word of fewer users or listings not at
all."""

SHARE, LOG_LOSS = "share", "log_loss"
"""What `modalities.parquet` measures: share of all contributions in size, and log-loss saved."""

FEWEST = 5
"""Pairs from which a rank correlation is told."""

NOT_ASKED = {"integrated_gradients": ("culture",)}
"""Modalities that a method has no token of: gradients stay within a market (`tokens`). Their share
is null, not 0, and the others' shares are of the rest."""


def clustered_ratio(
    above: Floats, below: Floats, unit: NDArray[np.int64], confidence: float
) -> tuple[float, float, float]:
    """Ratio of two means over the same rows, with its interval.

    Args:
        above: float64 [n].
        below: float64 [n], ones for a plain mean.
        unit: int64 [n], what is independent.
        confidence: level.

    Returns:
        The ratio, low and high; NaN where there is nothing to divide by, low and high also where
        there are fewer than `MIN_UNITS` units.
    """
    total = below.sum()
    if not total:
        return np.nan, np.nan, np.nan
    ratio = float(above.sum() / total)
    distinct, of_unit = np.unique(unit, return_inverse=True)
    n_units = len(distinct)
    if n_units < MIN_UNITS:
        return ratio, np.nan, np.nan
    sums = np.bincount(of_unit, weights=above - ratio * below)
    error = np.sqrt((sums**2).sum() * n_units / (n_units - 1)) / total
    reach = float(t.isf((1 - confidence) / 2, n_units - 1) * error)
    return ratio, ratio - reach, ratio + reach


def two_way_error(x: Floats, first: NDArray[np.integer], second: NDArray[np.integer]) -> float:
    """Standard error of a mean of rows that share one thing or another.

    Variances clustered by either, less that of independent rows (Cameron, Gelbach and Miller,
    Journal of Business and Economic Statistics 29, 2011); never less than the larger of the two.

    Args:
        x: float64 [n].
        first: [n], what rows share.
        second: [n], likewise.
    """
    away = x - x.mean()
    squares = [
        (np.bincount(np.unique(owner, return_inverse=True)[1], weights=away) ** 2).sum()
        for owner in (first, second)
    ]
    both = max(*squares, sum(squares) - (away**2).sum())
    return float(np.sqrt(both) / len(x))


def two_way_interval(
    x: Floats, unit: NDArray[np.integer], product: NDArray[np.integer], confidence: float
) -> tuple[float, float, float]:
    """Mean of rows that share users and listings, with its interval.

    Args:
        x: float64 [n].
        unit: [n], the user of each row.
        product: [n], the listing of each row.
        confidence: level.

    Returns:
        Mean, low and high; low and high are NaN where there are fewer than `MIN_UNITS` users or
        listings. The t has as many degrees of freedom as there are of the scarcer, less one.
    """
    mean = float(x.mean())
    fewest = min(len(np.unique(unit)), len(np.unique(product)))
    if fewest < MIN_UNITS:
        return mean, np.nan, np.nan
    reach = float(t.isf((1 - confidence) / 2, fewest - 1) * two_way_error(x, unit, product))
    return mean, mean - reach, mean + reach


def rank_correlations(first: Floats, second: Floats) -> Floats:
    """Rank correlation of two things told of each row's tokens, over those it has.

    Args:
        first: float64 [n, n_tokens], 0 where there is no such token.
        second: likewise.

    Returns:
        float64 [n]; NaN where there are under two tokens, or one side ranks none of them.
    """
    found = np.full(len(first), np.nan)
    for row, (x, y) in enumerate(zip(first, second, strict=True)):
        there = (x != 0) | (y != 0)
        if there.sum() > 1:
            a, b = rankdata(x[there]), rankdata(y[there])
            if a.std() and b.std():
                found[row] = np.corrcoef(a, b)[0, 1]
    return found


def rank_or_none(
    first: Sequence[float] | Floats, second: Sequence[float] | Floats
) -> float | None:
    """Rank correlation of n pairs; None for fewer than `FEWEST` and where one side is constant."""
    if len(first) < FEWEST:
        return None
    rank = float(spearmanr(first, second)[0])
    return rank if np.isfinite(rank) else None


def modality_table(
    by_modality: Mapping[str, Floats],
    saved: Floats | None,
    market: NDArray[np.str_],
    unit: NDArray[np.int64],
    converted: NDArray[np.floating],
    *,
    min_conversions: int,
    confidence: float,
) -> pl.DataFrame:
    """`modalities.parquet`: what each modality weighs in each market.

    Args:
        by_modality: method to float64 [n, 6], contributions in log-odds.
        saved: float64 [n, 6], log-loss that each modality saves, by Shapley values; NaN where the
            outcome is not known; None where none is.
        market: str [n].
        unit: int64 [n].
        converted: float [n], NaN where it is not known.
        min_conversions: of a market with fewer the log-loss saved is told without an interval:
            a few conversions decide it.
        confidence: level of the intervals.

    Returns:
        `market, method, measure, modality, value, low, high, n_impressions, n_positive`;
        `n_positive` counts known conversions, null where none of the outcomes is known.
    """
    rows = []
    tables = [(method, SHARE, np.abs(values)) for method, values in by_modality.items()]
    if saved is not None:
        tables.append(("shapley", LOG_LOSS, saved))
    for name in np.unique(market):
        for method, measure, values in tables:
            here = (market == name) & np.isfinite(values).all(axis=1)
            own, ones = values[here], np.ones(int(here.sum()))
            below = own.sum(axis=1) if measure == SHARE else ones
            known = converted[here][np.isfinite(converted[here])]
            n_positive = int(known.sum()) if len(known) else None
            for place, modality in enumerate(MODALITIES):
                value, low, high = clustered_ratio(own[:, place], below, unit[here], confidence)
                if measure == LOG_LOSS and (n_positive or 0) < min_conversions:
                    low = high = np.nan
                if modality in NOT_ASKED.get(method, ()):
                    value = low = high = np.nan
                rows.append(
                    {
                        "market": str(name), "method": method, "measure": measure,
                        "modality": modality, "value": value, "low": low, "high": high,
                        "n_impressions": int(here.sum()), "n_positive": n_positive,
                    }
                )  # fmt: skip
    frame = pl.DataFrame(rows, schema_overrides={"n_positive": pl.Int64})
    return frame.with_columns(pl.col("value", "low", "high").fill_nan(None))


def word_table(
    contributions: pl.LazyFrame, rows: pl.DataFrame, method: str, confidence: float
) -> pl.DataFrame:
    """Mean contribution of each word of titles, and of each phrase, in each market.

    Args:
        contributions: as `contributions.parquet`.
        rows: `impression_id, unit, product`: what contributions share.
        method: whose contributions.
        confidence: level of the intervals, not corrected for how many words there are.

    Returns:
        `market, token, value, low, high, n_impressions`, over impressions that have the word, the
        largest in size first; words of fewer than `MIN_UNITS` users or listings are not told.
    """
    own = (
        contributions.filter((pl.col("method") == method) & (pl.col("modality") == "text"))
        .filter(pl.col("token") != TITLE)
        .with_columns(pl.col("token").str.to_lowercase())
        .group_by("market", "token", "impression_id")
        .agg(pl.col("value").sum())
        .join(rows.lazy(), on="impression_id")
        .group_by("market", "token")
        .agg("value", "unit", "product")
        .filter(pl.col("unit").list.n_unique() >= MIN_UNITS)
        .filter(pl.col("product").list.n_unique() >= MIN_UNITS)
        .sort("market", "token")
        .collect()
    )
    found = []
    for market, token, value, unit, product in own.iter_rows():
        x = np.array(value)
        mean = two_way_interval(x, np.array(unit), np.array(product), confidence)
        found.append((market, token, *mean, len(x)))
    return pl.DataFrame(found, schema=_WORDS, orient="row").sort(
        pl.col("value").abs(), descending=True, maintain_order=True
    )


_WORDS = {
    "market": pl.String, "token": pl.String, "value": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "n_impressions": pl.Int64,
}  # fmt: skip
