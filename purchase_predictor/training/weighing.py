"""How much each of several predictions of the same rows counts in their sum."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

WEIGHT_SD = 0.5
"""Spread of the weights, and of the constant, about their centre."""


def weigh(
    logits: NDArray[np.floating],
    converted: NDArray[np.floating],
    centre: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Weights and a constant of the largest posterior: a ridge logistic regression.

    Weights are never negative, so that a row which every prediction ranks higher is ranked higher
    by their sum.

    Args:
        logits: [n, k], of rows that nothing has learned from.
        converted: [n], 1 where converted.
        centre: [k + 1], what weights and constant are drawn to where conversions are few; equal
            weights if None.

    Returns:
        float64 [k + 1], the constant last.
    """
    n_weights = logits.shape[1]
    if centre is None:
        centre = np.append(np.full(n_weights, 1 / n_weights), 0.0)
    x = np.concatenate([logits, np.ones((len(logits), 1))], axis=1, dtype=np.float64)

    def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        away = (theta - centre) / WEIGHT_SD**2
        z = x @ theta
        loss = (np.logaddexp(0.0, z) - converted * z).sum() + away @ (theta - centre) / 2
        return loss, x.T @ (expit(z) - converted) + away

    bounds = [(0.0, None)] * n_weights + [(None, None)]
    return minimize(objective, centre, jac=True, method="L-BFGS-B", bounds=bounds).x
