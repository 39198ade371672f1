"""Numbers behind the charts: curves of a system on average over markets, calibration by bins."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import roc_curve

from purchase_predictor.evaluation.metrics import equal_mass_bins, gains
from purchase_predictor.report.figures import quoted_scope

Floats = NDArray[np.float64]

FALSE_POSITIVE_RATES = np.linspace(0, 1, 101) ** 2  # closer together where curves bend
SHARES = np.geomspace(0.01, 1, 81)


def roc_points(predictions: pl.DataFrame, result: dict[str, Any]) -> pl.DataFrame:
    """ROC curve of each system, averaged over markets at equal false positive rates.

    Returns:
        system, false_positive_rate, true_positive_rate. The area under a curve is the quoted AUC.
    """
    return _averaged(
        predictions,
        result,
        ("false_positive_rate", FALSE_POSITIVE_RATES),
        "true_positive_rate",
        lambda y, p: np.interp(FALSE_POSITIVE_RATES, *roc_curve(y, p)[:2]),
    )


def lift_points(predictions: pl.DataFrame, result: dict[str, Any]) -> pl.DataFrame:
    """Lift of each system against the share of impressions chosen, averaged over markets.

    Returns:
        system, share, lift.
    """
    return _averaged(
        predictions, result, ("share", SHARES), "lift", lambda y, p: gains(y, p, SHARES) / SHARES
    )


def calibration_points(
    predictions: pl.DataFrame, systems: Sequence[str], *, n_bins: int, confidence: float
) -> pl.DataFrame:
    """Mean prediction and conversion rate in equal-mass bins of all rows.

    Returns:
        system, bin, n, predicted, rate, low, high (Wilson's interval, rows taken as independent).
    """
    parts = []
    for system in systems:
        p = predictions[system].cast(pl.Float64).to_numpy()
        y = predictions["converted"].cast(pl.Float64).to_numpy()
        if not len(p):
            continue
        code = equal_mass_bins(p, n_bins)
        n = np.bincount(code, minlength=n_bins)
        kept = np.flatnonzero(n)
        converted = np.bincount(code, weights=y, minlength=n_bins)[kept]
        tests = [binomtest(int(c), int(m)) for c, m in zip(converted, n[kept], strict=True)]
        bounds = [test.proportion_ci(confidence, method="wilson") for test in tests]
        parts.append(
            pl.DataFrame(
                {
                    "system": [system] * len(kept),
                    "bin": np.arange(1, len(kept) + 1),
                    "n": n[kept],
                    "predicted": np.bincount(code, weights=p, minlength=n_bins)[kept] / n[kept],
                    "rate": converted / n[kept],
                    "low": [float(bound.low) for bound in bounds],
                    "high": [float(bound.high) for bound in bounds],
                }
            )
        )
    schema: dict[str, type[pl.DataType]] = {"system": pl.String, "bin": pl.Int64, "n": pl.Int64}
    schema |= dict.fromkeys(("predicted", "rate", "low", "high"), pl.Float64)
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def _averaged(
    predictions: pl.DataFrame,
    result: dict[str, Any],
    grid: tuple[str, Floats],
    name: str,
    curve: Callable[[NDArray[np.bool_], Floats], Floats],
) -> pl.DataFrame:
    parts = []
    for system in result["systems"]:
        curves = [curve(y, p) for y, p in _groups(predictions, result, system)]
        if curves:
            values = {grid[0]: grid[1], name: np.mean(curves, axis=0)}
            parts.append(pl.DataFrame({"system": [system] * len(grid[1]), **values}))
    schema = {"system": pl.String, grid[0]: pl.Float64, name: pl.Float64}
    return pl.concat(parts) if parts else pl.DataFrame(schema=schema)


def _groups(
    predictions: pl.DataFrame, result: dict[str, Any], system: str
) -> Iterator[tuple[NDArray[np.bool_], Floats]]:
    """Outcomes and predictions of what the quoted scope averages, where both classes are there."""
    frames = [predictions]
    if quoted_scope(result) == "macro":
        markets = result["markets_averaged"]
        frames = predictions.filter(pl.col("market").is_in(markets)).partition_by("market")
    for frame in frames:
        y = frame["converted"].cast(pl.Float64).to_numpy() == 1
        if 0 < y.sum() < len(y):
            yield y, frame[system].cast(pl.Float64).to_numpy()
