"""Contributions averaged over a market, with intervals clustered by unit.

Rows of one user are not independent: the variance of a ratio of means comes from the sums of its
residuals over each unit (Liang and Zeger, Biometrika 73, 1986), referred to a t with as many
degrees of freedom as there are units, less one. They tell how far contributions differ between
users, not how sure the model is of its weights: `effects` tells that.
"""

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import t

from purchase_predictor.attribution.shapley import MODALITIES

Floats = NDArray[np.float64]

MIN_UNITS = 10
"""Of fewer users a mean is told without an interval, a word not at all."""

SHARE, LOG_LOSS = "share", "log_loss"
"""What `modalities.parquet` measures: share of all contributions in size, and log-loss saved."""


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


def modality_table(
    by_modality: Mapping[str, Floats],
    saved: Floats | None,
    market: NDArray[np.str_],
    unit: NDArray[np.int64],
    confidence: float,
) -> pl.DataFrame:
    """`modalities.parquet`: what each modality weighs in each market.

    Args:
        by_modality: method to float64 [n, 6], contributions in log-odds.
        saved: float64 [n, 6], log-loss that each modality saves, by Shapley values; NaN where the
            outcome is not known; None where none is.
        market: str [n].
        unit: int64 [n].
        confidence: level of the intervals.

    Returns:
        `market, method, measure, modality, value, low, high, n_impressions`.
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
            for place, modality in enumerate(MODALITIES):
                value, low, high = clustered_ratio(own[:, place], below, unit[here], confidence)
                rows.append(
                    {
                        "market": str(name), "method": method, "measure": measure,
                        "modality": modality, "value": value, "low": low, "high": high,
                        "n_impressions": int(here.sum()),
                    }
                )  # fmt: skip
    return pl.DataFrame(rows).with_columns(pl.col("value", "low", "high").fill_nan(None))


def word_table(
    contributions: pl.LazyFrame, units: pl.DataFrame, method: str, confidence: float
) -> pl.DataFrame:
    """Mean contribution of each word of titles, and of each phrase, in each market.

    Args:
        contributions: as `contributions.parquet`.
        units: `impression_id, unit`.
        method: whose contributions.
        confidence: level of the intervals, not corrected for how many words there are.

    Returns:
        `market, token, value, low, high, n_impressions`, over impressions that have the word, the
        largest in size first; words of fewer than `MIN_UNITS` units are not told.
    """
    own = (
        contributions.filter((pl.col("method") == method) & (pl.col("modality") == "text"))
        .filter(~pl.col("token").is_in(["(title)"]))
        .with_columns(pl.col("token").str.to_lowercase())
        .join(units.lazy(), on="impression_id")
        .group_by("market", "token", "impression_id", "unit")
        .agg(pl.col("value").sum())
    )
    by_unit = own.group_by("market", "token", "unit").agg(pl.col("value").sum(), n=pl.len())
    keys = ["market", "token"]
    mean = pl.col("value").sum().over(keys) / pl.col("n").sum().over(keys)
    residual = by_unit.with_columns(residual=pl.col("value") - mean * pl.col("n"))
    table = residual.group_by(keys).agg(
        value=pl.col("value").sum() / pl.col("n").sum(),
        error=(pl.col("residual").pow(2).sum() * pl.len() / (pl.len() - 1)).sqrt()
        / pl.col("n").sum(),
        n_impressions=pl.col("n").sum(),
        n_units=pl.len(),
    )
    found = table.filter(pl.col("n_units") >= MIN_UNITS).collect()
    reach = t.isf((1 - confidence) / 2, found["n_units"].to_numpy() - 1) * found["error"]
    return (
        found.with_columns(low=found["value"] - reach, high=found["value"] + reach)
        .sort(pl.col("value").abs(), descending=True)
        .select("market", "token", "value", "low", "high", "n_impressions")
    )
