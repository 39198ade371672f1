"""Across markets: a random-effects meta-analysis, and what to expect of a new market.

Sources: DerSimonian and Laird, Controlled Clinical Trials 7, 1986 (variance between markets);
Hartung and Knapp, Statistics in Medicine 20, 2001 (interval of the mean with few markets);
Higgins, Thompson and Spiegelhalter, JRSS A 172, 2009 (prediction interval).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, t

Floats = NDArray[np.float64]

FEWEST = 3
"""Markets that a variance between markets, and so a prediction, needs."""

GRID = 401
"""Sizes between the smallest and the largest market at which a trend's interval is looked at.

Where it lies on one side of zero is one range of sizes: its reach is convex in their logarithm."""


@dataclass(frozen=True)
class RandomEffects:
    """What several markets say together.

    Attributes:
        mean: average effect over markets like these.
        low: of its interval, by Hartung and Knapp; likewise `high`.
        high: see `low`.
        tau2: variance of the true effects between markets, 0 or more.
        i2: share of the observed variance that is not chance, in [0, 1].
        q: Cochran's heterogeneity.
        p_heterogeneity: of q, under one effect for all.
        new_low: of the interval for the true effect in a new market; likewise `new_high`.
        new_high: see `new_low`.
        n_markets: how many there are.
    """

    mean: float
    low: float
    high: float
    tau2: float
    i2: float
    q: float
    p_heterogeneity: float
    new_low: float
    new_high: float
    n_markets: int


def random_effects(effects: Floats, variances: Floats, *, confidence: float) -> RandomEffects:
    """Combine the effects of markets.

    Args:
        effects: [k], of each market.
        variances: [k], their sampling variances, positive.
        confidence: level of both intervals.

    Raises:
        ValueError: fewer than `FEWEST` markets, or a variance that is not positive.
    """
    k = len(effects)
    if k < FEWEST:
        raise ValueError(f"{k} markets, at least {FEWEST} are needed")
    if not (variances > 0).all():
        raise ValueError("every variance must be positive")
    # 1. how much markets differ beyond chance
    fixed = 1 / variances
    q = float((fixed * (effects - np.average(effects, weights=fixed)) ** 2).sum())
    scale = fixed.sum() - (fixed**2).sum() / fixed.sum()
    tau2 = max(0.0, (q - (k - 1)) / scale)
    # 2. the mean, its error taken from how the markets scatter about it
    weights = 1 / (variances + tau2)
    mean = float(np.average(effects, weights=weights))
    # not below 1: few markets that agree by luck do not know better than their own errors say
    scatter = max(1.0, float((weights * (effects - mean) ** 2).sum() / (k - 1)))
    error = np.sqrt(scatter / weights.sum())
    reach = t.ppf((1 + confidence) / 2, k - 1) * error
    # 3. a new market is one more draw
    new = t.ppf((1 + confidence) / 2, k - 2) * np.sqrt(tau2 + error**2)
    return RandomEffects(
        mean=mean,
        low=mean - reach,
        high=mean + reach,
        tau2=tau2,
        i2=max(0.0, 1 - (k - 1) / q) if q > 0 else 0.0,
        q=q,
        p_heterogeneity=float(chi2.sf(q, k - 1)),
        new_low=mean - new,
        new_high=mean + new,
        n_markets=k,
    )


@dataclass(frozen=True)
class SizeTrend:
    """How an effect goes with the logarithm of a market's training conversions.

    Attributes:
        slope: change of the effect where conversions are ten times as many.
        low: of its interval; likewise `high`.
        high: see `low`.
        at: conversions for which a new market is predicted, [m].
        predicted: effect there, [m].
        new_low: of the interval of a new market there, [m]; likewise `new_high`.
        new_high: see `new_low`.
        above: least and most conversions, between the smallest and the largest market, at which
            the interval of a new market lies above zero, None where it does at no size.
        below: the same for below zero.
    """

    slope: float
    low: float
    high: float
    at: Floats
    predicted: Floats
    new_low: Floats
    new_high: Floats
    above: tuple[float, float] | None
    below: tuple[float, float] | None


def size_trend(
    effects: Floats, variances: Floats, n_converted: Floats, at: Floats, *, confidence: float
) -> SizeTrend:
    """Regress effects on log conversions, with a variance left between markets.

    Args:
        effects: [k].
        variances: [k].
        n_converted: [k], training conversions of each market.
        at: [m], conversions of new markets.
        confidence: level of the intervals.

    Raises:
        ValueError: fewer than `FEWEST` + 1 markets, or all of one size.
    """
    k = len(effects)
    if k < FEWEST + 1 or np.ptp(np.log(n_converted)) == 0:
        raise ValueError(f"{FEWEST + 1} markets of different sizes are needed")
    design = np.stack([np.ones(k), np.log10(n_converted)], axis=1)
    tau2 = _left_between(design, effects, variances)
    weights = 1 / (variances + tau2)
    inverse = np.linalg.inv((design.T * weights) @ design)
    theta = inverse @ (design.T * weights) @ effects
    scatter = max(1.0, float((weights * (effects - design @ theta) ** 2).sum() / (k - 2)))
    covariance = inverse * scatter
    quantile = t.ppf((1 + confidence) / 2, k - 2)

    def foreseen(sizes: Floats) -> tuple[Floats, Floats]:
        new = np.stack([np.ones(len(sizes)), np.log10(sizes)], axis=1)
        return new @ theta, quantile * np.sqrt(
            tau2 + np.einsum("ij,jk,ik->i", new, covariance, new)
        )

    predicted, reach = foreseen(at)
    seen = np.geomspace(n_converted.min(), n_converted.max(), GRID)
    middle, wide = foreseen(seen)
    slope_reach = quantile * np.sqrt(covariance[1, 1])
    return SizeTrend(
        slope=float(theta[1]),
        low=float(theta[1] - slope_reach),
        high=float(theta[1] + slope_reach),
        at=np.asarray(at, np.float64),
        predicted=predicted,
        new_low=predicted - reach,
        new_high=predicted + reach,
        above=_span(seen[middle - wide > 0]),
        below=_span(seen[middle + wide < 0]),
    )


def _span(sizes: Floats) -> tuple[float, float] | None:
    return (float(sizes[0]), float(sizes[-1])) if len(sizes) else None


def left_out_coverage(
    effects: Floats, variances: Floats, n_converted: Floats, *, confidence: float
) -> float:
    """Share of the markets whose effect lies where the others predict it, error included.

    Args:
        effects: as for `size_trend`, as are the others.
        variances: likewise.
        n_converted: likewise.
        confidence: level of the interval of a new market.
    """
    inside = []
    for place in range(len(effects)):
        kept = np.arange(len(effects)) != place
        if np.ptp(n_converted[kept]) == 0:  # no trend to predict from
            continue
        trend = size_trend(
            effects[kept], variances[kept], n_converted[kept], n_converted[~kept],
            confidence=confidence,
        )  # fmt: skip
        reach = (trend.new_high[0] - trend.new_low[0]) / 2
        quantile = t.ppf((1 + confidence) / 2, kept.sum() - 2)
        # what is observed of the market left out has an error of its own
        wide = quantile * np.sqrt((reach / quantile) ** 2 + variances[place])
        inside.append(abs(effects[place] - trend.predicted[0]) <= wide)
    return float(np.mean(inside)) if inside else float("nan")


def _left_between(design: Floats, effects: Floats, variances: Floats) -> float:
    """Variance between markets that the design leaves, by moments."""
    weights = 1 / variances
    inverse = np.linalg.inv((design.T * weights) @ design)
    theta = inverse @ (design.T * weights) @ effects
    q = (weights * (effects - design @ theta) ** 2).sum()
    scale = weights.sum() - np.trace(inverse @ (design.T * weights**2) @ design)
    return max(0.0, float((q - (len(effects) - design.shape[1])) / scale))
