"""Paired gaps between systems: every difference is *arm − against*, on the same rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm

from purchase_predictor.evaluation.intervals import (
    MACRO,
    POOLED,
    Draws,
    percentile_interval,
)
from purchase_predictor.evaluation.metrics import HIGHER_IS_BETTER, METRICS
from purchase_predictor.settings import EvaluationSettings

POWER = 0.8
GAP_METRICS = ("auc", "normalised_entropy")

DIGITS = 4
"""Decimals with which gaps are printed beside their verdicts."""

NOT_ENOUGH, UNDECIDED = "not enough data", "undecided"
SAME = f"same to {DIGITS} digits"
ARM, AGAINST = "arm better", "against better"


def paired_gaps(
    draws: Draws,
    pairs: Sequence[tuple[str, str]],
    *,
    settings: EvaluationSettings,
    metrics: Sequence[str] = GAP_METRICS,
) -> list[dict[str, Any]]:
    """Differences between systems: on average over markets, pooled, and in each market.

    Intervals are percentiles of the paired bootstrap. p and the smallest detectable difference
    use its standard error and the normal distribution, since the share of resamples beyond zero
    cannot fall under the level that Holm asks of fifty markets. Holm runs over the markets of one
    pair and metric that have enough conversions; others get no p and no verdict. "Undecided" is
    not "equal": compare `smallest_detectable`. Where the gap and its whole interval round to zero
    neither is called better, whatever p says: the two are the same to the digits printed.

    Args:
        draws: what `intervals.draw` made of the predictions.
        pairs: (arm, against).
        settings: level, and the conversions below which there is no verdict.
        metrics: metrics with a direction.

    Returns:
        A dictionary for each pair, metric and scope: `scope` (macro, pooled, market), `market`
        (the scope's name where it is no market), `metric`, `arm`, `against`, `value`, `low`,
        `high`, `p`, `p_holm`, `smallest_detectable` (80 % power at Holm's first level),
        `delong_low`, `delong_high` (AUC only), `n_test`, `n_test_positive`, `verdict`.
    """
    return [
        gap
        for arm, against in pairs
        for metric in metrics
        for gap in _gaps_of(draws, arm, against, metric, settings)
    ]


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    steps = values[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


def smallest_detectable(error: float, alpha: float, family: int) -> float:
    """The difference that 80 % of tests find at Holm's first level.

    Args:
        error: standard error of the difference.
        alpha: level of the family.
        family: tests in it.
    """
    return float((norm.isf(alpha / family / 2) + norm.ppf(POWER)) * error)


def _gaps_of(
    draws: Draws, arm: str, against: str, metric: str, settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """One pair and metric in every scope."""
    value_a, draws_a = draws.of(arm, metric)
    value_b, draws_b = draws.of(against, metric)
    value, spread = value_a - value_b, draws_a - draws_b
    alpha = 1 - settings.confidence
    enough = (draws.n_positive >= settings.min_test_conversions) & np.isfinite(value)
    n_tested = max(int(enough[POOLED + 1 :].sum()), 1)
    gaps: list[dict[str, Any]] = []
    for scope, name in enumerate(["macro", "pooled", *draws.markets]):
        is_market = scope not in (MACRO, POOLED)
        gap: dict[str, Any] = {"scope": "market" if is_market else name, "market": name}
        gap |= {"metric": metric, "arm": arm, "against": against}
        gap |= percentile_interval(float(value[scope]), spread[scope], settings.confidence)
        error = None if gap["low"] is None else float(np.nanstd(spread[scope], ddof=1))
        family = n_tested if is_market else 1
        gap |= _test(gap["value"], error, alpha, family, bool(enough[scope]))
        if metric == "auc":
            gap |= _delong(draws, arm, against, scope, alpha)
        gap |= {"n_test": int(draws.n[scope]), "n_test_positive": int(draws.n_positive[scope])}
        gaps.append(gap)
    tested = [gap for gap in gaps if gap["scope"] == "market" and gap["p"] is not None]
    for gap, adjusted in zip(tested, holm([gap["p"] for gap in tested]), strict=True):
        gap["p_holm"] = adjusted
    for gap in gaps:
        gap["verdict"] = _verdict(gap, alpha)
    return gaps


def _test(
    value: float | None, error: float | None, alpha: float, family: int, enough: bool
) -> dict[str, float | None]:
    if value is None or error is None or (error == 0 and value != 0):
        return {"p": None, "p_holm": None, "smallest_detectable": None}
    p = float(2 * norm.sf(abs(value) / error)) if error > 0 else 1.0
    return {
        "p": p if enough else None,
        "p_holm": p if enough else None,
        "smallest_detectable": smallest_detectable(error, alpha, family),
    }


def _verdict(gap: dict[str, Any], alpha: float) -> str:
    if gap["p_holm"] is None:
        return NOT_ENOUGH
    # a win that no printed digit shows is none: p knows no size, and systems that predict the same
    # up to rounding may differ by that rounding in every resample
    if all(round(gap[name], DIGITS) == 0 for name in ("value", "low", "high")):
        return SAME
    if gap["p_holm"] >= alpha:
        return UNDECIDED
    return ARM if (gap["value"] > 0) == HIGHER_IS_BETTER[gap["metric"]] else AGAINST


def _delong(
    draws: Draws, arm: str, against: str, scope: int, alpha: float
) -> dict[str, float | None]:
    """DeLong's interval of a difference of AUCs."""
    contrast = np.zeros(len(draws.systems))
    contrast[draws.systems.index(arm)] += 1
    contrast[draws.systems.index(against)] -= 1
    value = float(contrast @ draws.value[:, scope, METRICS.index("auc")])
    variance = float(contrast @ draws.auc_covariance[scope] @ contrast)
    return normal_interval(value, variance, alpha)


def normal_interval(value: float, variance: float, alpha: float) -> dict[str, float | None]:
    """DeLong's interval, from a figure and its variance; None where either is undefined."""
    if not np.isfinite(value) or not np.isfinite(variance):
        return {"delong_low": None, "delong_high": None}
    reach = float(norm.isf(alpha / 2) * np.sqrt(max(variance, 0.0)))
    return {"delong_low": value - reach, "delong_high": value + reach}
