"""Partial pooling: a market's own model counts as much as its conversions warrant."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import expit

from purchase_predictor.evaluation.metrics import row_log_loss, safe_logit

Floats = NDArray[np.float64]

KAPPAS = (0.0, *np.geomspace(10, 100_000, 33), np.inf)
"""Conversions at which a market's own model counts half, that are tried."""


@dataclass(frozen=True)
class Pooling:
    """How much a market's own model counts: λ = n / (n + kappa).

    Attributes:
        kappa: training conversions at which it counts half; inf where it never counts.
        log_loss: on validation rows, of each kappa tried.
    """

    kappa: float
    log_loss: Mapping[float, float]

    def weight(self, n_converted: NDArray[np.floating]) -> Floats:
        """λ of markets with these training conversions."""
        n = np.asarray(n_converted, np.float64)
        if np.isinf(self.kappa):
            return np.zeros_like(n)
        return n / np.maximum(n + self.kappa, 1.0)


def fit_pooling(validation: pl.DataFrame, n_converted: Mapping[str, int]) -> Pooling:
    """Choose kappa by the log-loss of the validation rows that calibrated both models.

    Both were calibrated on them, and neither learned from them otherwise: a slope, an intercept
    and kappa are a few numbers from hundreds of conversions. The test rows take no part.

    Args:
        validation: market, converted, global and local: probabilities.
        n_converted: training conversions of each market.
    """
    y = validation["converted"].to_numpy()
    n = np.array([n_converted[market] for market in validation["market"]], np.float64)
    losses = {}
    for kappa in KAPPAS:
        weight = Pooling(kappa, {}).weight(n)
        losses[float(kappa)] = float(row_log_loss(y, _mixed(validation, weight)).mean())
    return Pooling(min(losses, key=losses.__getitem__), losses)


def pool(rows: pl.DataFrame, pooling: Pooling, n_converted: Mapping[str, int]) -> Floats:
    """Probabilities of the pooled model, float64 [n].

    Args:
        rows: market, global and local: probabilities.
        pooling: fitted.
        n_converted: training conversions of each market.
    """
    n = np.array([n_converted[market] for market in rows["market"]], np.float64)
    return _mixed(rows, pooling.weight(n))


def _mixed(rows: pl.DataFrame, weight: Floats) -> Floats:
    of_all, own = (safe_logit(rows[name].to_numpy()) for name in ("global", "local"))
    return expit((1 - weight) * of_all + weight * own)
