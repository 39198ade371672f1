"""From the gaps of single markets to markets like these, and to one not served yet."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from purchase_predictor.comparison.verdicts import NOT_ENOUGH_CONVERSIONS
from purchase_predictor.counted import Counted
from purchase_predictor.evaluation.intervals import Draws
from purchase_predictor.evaluation.meta import (
    FEWEST,
    left_out_coverage,
    random_effects,
    size_trend,
)
from purchase_predictor.settings import Settings

N_SIZES = 4
"""Sizes at which a new market's gap is predicted, none beyond those of the markets seen."""


def across_markets(
    draws: Draws,
    gaps: Sequence[Mapping[str, Any]],
    pair: tuple[str, str],
    settings: Settings,
) -> dict[str, Any]:
    """Meta-analysis of one contrast in AUC over markets with enough conversions.

    Args:
        draws: of the arms.
        gaps: of `compare_arms`.
        pair: arm and against.
        settings: level.

    Returns:
        `pair`, `markets`, and either `mean` and its kin (see `RandomEffects`), `trend` (see
        `SizeTrend`) where there are markets enough, or `reason`.
    """
    rows = [
        gap
        for gap in gaps
        if (gap["arm"], gap["against"], gap["metric"], gap["scope"]) == (*pair, "auc", "market")
        and gap["reason"] != NOT_ENOUGH_CONVERSIONS
        and gap["low"] is not None
    ]
    markets = [gap["market"] for gap in rows]
    found: dict[str, Any] = {"pair": list(pair), "markets": markets}
    if len(rows) < FEWEST:
        can = f"{Counted(len(rows)):market|markets}"
        return {**found, "reason": f"{can} can be judged, {FEWEST} are needed"}
    effects = np.array([gap["value"] for gap in rows])
    variances = np.array([_variance(draws, pair, market) for market in markets])
    if not (variances > 0).all():  # pooling that takes one of the two alone, for example
        return {**found, "reason": "the two arms are the same"}
    confidence = settings.evaluation.confidence
    found |= asdict(random_effects(effects, variances, confidence=confidence))
    n = np.array([gap["n_train_positive"] for gap in rows], np.float64)
    if len(rows) > FEWEST + 1 and np.ptp(n) > 0:
        sizes = np.geomspace(max(1.0, n.min()), n.max(), N_SIZES)
        trend = size_trend(effects, variances, n, sizes, confidence=confidence)
        told = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(trend).items()
        }
        coverage = left_out_coverage(effects, variances, n, confidence=confidence)
        found["trend"] = {**told, "left_out_coverage": coverage}
    return found


def _variance(draws: Draws, pair: tuple[str, str], market: str) -> float:
    scope = 2 + draws.markets.index(market)
    arm, against = (draws.of(name, "auc")[1][scope] for name in pair)
    return float(np.nanvar(arm - against, ddof=1))
