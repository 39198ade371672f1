"""Platt calibration with market offsets that are shrunk by their evidence.

The calibrated logit of a row is `slope * logit(p) + intercept + offset[market]`. A temperature
alone has no intercept; a full calibration of each market would follow the noise of small ones.
So markets share slope and intercept, and their offsets come from a normal distribution whose
variance is estimated (DerSimonian and Laird's moments) from how much the markets differ beyond
chance: a market with few conversions keeps nearly none of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from purchase_predictor.counted import Counted

MIN_CONVERSIONS = 20
"""With fewer, in either class, nothing is fitted: a slope's standard error would exceed 0.2."""

SLOPE_SD = 0.5
"""Spread of the prior of the slope about 1; gone where there are some hundred conversions."""

TINY = 1e-7


def to_logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logit of probabilities, those of 0 and 1 kept finite."""
    return logit(np.clip(np.asarray(p, np.float64), TINY, 1 - TINY))


@dataclass(frozen=True)
class Calibrator:
    """Slope, intercept and market offsets; the identity where nothing could be fitted.

    Calibration keeps the order of rows within a market, for the slope is positive.

    Attributes:
        slope: of the logit.
        intercept: added to it.
        offsets: of market codes; a market without one has 0.
        offset_sd: estimated spread of the markets.
        n: rows it was fitted on.
        n_converted: conversions among them.
        reason: why it is the identity, "" where it is fitted.
    """

    slope: float = 1.0
    intercept: float = 0.0
    offsets: Mapping[int, float] = field(default_factory=dict)
    offset_sd: float = 0.0
    n: int = 0
    n_converted: int = 0
    reason: str = ""

    @classmethod
    def fit(
        cls, p: NDArray[np.float64], y: NDArray[Any], market: NDArray[np.integer]
    ) -> "Calibrator":
        """Fit on rows that neither trained nor stopped the system (CALIBRATE).

        Args:
            p: float64 [n], probabilities.
            y: [n], 1 where converted.
            market: [n], codes.
        """
        y = np.asarray(y, np.float64)
        n_converted = int(y.sum())
        unfitted = cls(n=len(y), n_converted=n_converted)
        if min(n_converted, len(y) - n_converted) < MIN_CONVERSIONS:
            reason = (
                f"{Counted(n_converted):conversion|conversions} among "
                f"{Counted(len(y)):row|rows} to calibrate on: "
                f"at least {MIN_CONVERSIONS} of each class are needed"
            )
            return replace(unfitted, reason=reason)
        x = to_logit(p)
        slope, intercept = _platt(x, y)
        if slope <= 0:
            reason = f"slope {slope:.2f}: the probabilities do not rank the rows"
            return replace(unfitted, reason=reason)
        markets, index = np.unique(market, return_inverse=True)
        z, ones = slope * x + intercept, np.ones_like(x)
        variance = spread(z, y, index, ones)
        fitted = shrunk(z, y, index, ones, variance)
        offsets = {int(code): float(o) for code, o in zip(markets, fitted, strict=True)}
        return cls(slope, intercept, offsets, math.sqrt(variance), len(y), n_converted)

    def transform(
        self, p: NDArray[np.float64], market: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Calibrated probabilities.

        Args:
            p: float64 [n].
            market: [n], codes; one unknown at fit gets no offset.

        Returns:
            float64 [n]; `p` itself where the calibrator is the identity.
        """
        if self.reason:
            return np.asarray(p, np.float64)
        codes = np.asarray(market, np.int64)
        table = np.zeros(max([*self.offsets, int(codes.max(initial=0))], default=0) + 1)
        for code, offset in self.offsets.items():
            table[code] = offset
        return expit(self.slope * to_logit(p) + self.intercept + table[codes])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return {
            "slope": self.slope,
            "intercept": self.intercept,
            "offsets": {str(code): offset for code, offset in self.offsets.items()},
            "offset_sd": self.offset_sd,
            "n": self.n,
            "n_converted": self.n_converted,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Calibrator":
        """Undo `to_dict`."""
        offsets = {int(code): float(offset) for code, offset in state["offsets"].items()}
        return cls(**{**state, "offsets": offsets})


def _platt(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the largest posterior, by Newton steps with step halving."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    prior = np.array([1 / SLOPE_SD**2, 0.0])
    centre = np.array([1.0, 0.0])
    theta = centre.copy()

    def loss(theta: NDArray[np.float64]) -> float:
        z = design @ theta
        return float(
            (np.logaddexp(0, z) - y * z).sum() + (prior * (theta - centre) ** 2).sum() / 2
        )

    current = loss(theta)
    for _ in range(100):
        p = expit(design @ theta)
        gradient = design.T @ (p - y) + prior * (theta - centre)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(prior + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        while (new := loss(theta - step)) > current and np.abs(step).max() > 1e-10:
            step = step / 2
        theta, current = theta - step, new
        if np.abs(step).max() < 1e-9:
            break
    return float(theta[0]), float(theta[1])


def spread(
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    index: NDArray[np.intp],
    column: NDArray[np.float64],
) -> float:
    """Variance beyond chance of the markets' coefficients of a column, 0 or more.

    Args:
        z: [n], logits that all markets share.
        y: [n], 1 where converted.
        index: [n], number of the market, from 0 on.
        column: [n]; of ones for offsets.

    Returns:
        The moment estimate of DerSimonian and Laird (Controlled Clinical Trials 7, 1986).
    """
    p = expit(z)
    information = np.bincount(index, p * (1 - p) * column**2)
    coefficient = np.bincount(index, (y - p) * column) / np.maximum(information, TINY)
    n_markets, total = len(information), information.sum()
    if n_markets < 2 or total < TINY:
        return 0.0
    heterogeneity = (information * coefficient**2).sum() - (n_markets - 1)
    return float(max(0.0, heterogeneity / (total - (information**2).sum() / total)))


def shrunk(
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    index: NDArray[np.intp],
    column: NDArray[np.float64],
    variance: float,
) -> NDArray[np.float64]:
    """The markets' coefficients of a column of the largest posterior, float64 [n_markets].

    Args:
        z: as for `spread`, as are the others.
        y: likewise.
        index: likewise.
        column: likewise.
        variance: of the coefficients about zero.
    """
    found = np.zeros(int(index.max()) + 1)
    if variance == 0:
        return found
    for _ in range(50):
        p = expit(z + found[index] * column)
        gradient = np.bincount(index, (y - p) * column) - found / variance
        curvature = np.bincount(index, p * (1 - p) * column**2) + 1 / variance
        step = np.clip(gradient / curvature, -1, 1)
        found += step
        if np.abs(step).max() < 1e-10:
            break
    return found
