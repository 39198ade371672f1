"""Metrics of a probability against an outcome, one system at a time.

Every function takes `y` (bool or 0/1, [n]), `p` (probabilities, [n]) and optional weights of the
rows [n], and returns a float, NaN where the metric is not defined (one class only, no rows).
scikit-learn computes what it has; `intervals.py` computes the same under many weights at once.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, xlogy
from scipy.stats import rankdata
from sklearn import metrics as sk

Array = NDArray[Any]

LIFT_SHARE = 0.1

HIGHER_IS_BETTER = {
    "auc": True,
    "average_precision": True,
    "normalised_entropy": False,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "lift_10": True,
    "mrr": True,
}
"""Direction of the metrics that have one: slope and mean_ratio are best at 1."""


def auc(y: Array, p: Array, weights: Array | None = None) -> float:
    """Area under the ROC curve; tied rows count one half."""
    return float(sk.roc_auc_score(y, p, sample_weight=weights)) if _both(y, weights) else np.nan


def average_precision(y: Array, p: Array, weights: Array | None = None) -> float:
    """Average precision: the step-wise area under the precision-recall curve."""
    if not _both(y, weights):
        return np.nan
    return float(sk.average_precision_score(y, p, sample_weight=weights))


def log_loss(y: Array, p: Array, weights: Array | None = None) -> float:
    """Mean negative log-likelihood, in nats."""
    if not _any(y, weights):
        return np.nan
    return float(sk.log_loss(y, np.asarray(p, float), labels=[0, 1], sample_weight=weights))


def normalised_entropy(y: Array, p: Array, weights: Array | None = None) -> float:
    """Log-loss divided by the log-loss of the rows' own base rate.

    Source: He et al. 2014, Practical lessons from predicting clicks on ads at Facebook.
    """
    if not _both(y, weights):
        return np.nan
    rate = np.average(np.asarray(y, float), weights=weights)
    return log_loss(y, p, weights) / float(entropy(rate))


def brier(y: Array, p: Array, weights: Array | None = None) -> float:
    """Mean squared difference between probability and outcome."""
    if not _any(y, weights):
        return np.nan
    return float(sk.brier_score_loss(y, p, labels=[0, 1], sample_weight=weights))


def ece(y: Array, p: Array, weights: Array | None = None, *, n_bins: int) -> float:
    """Expected calibration error over equal-mass bins.

    The bins hold equal numbers of rows, whatever the weights: weights only enter the sums, as in
    the bootstrap. The plug-in value is biased upwards where rows are few.

    Source: Nixon et al. 2019, Measuring calibration in deep learning.
    """
    if not _any(y, weights):
        return np.nan
    w = _weights(y, weights)
    residual = np.bincount(equal_mass_bins(p, n_bins), weights=w * (np.asarray(y, float) - p))
    return float(np.abs(residual).sum() / w.sum())


def equal_mass_bins(p: Array, n_bins: int) -> NDArray[np.int64]:
    """Bin of each row, by rank; tied rows share the bin of their middle rank.

    Args:
        p: probabilities [n].
        n_bins: number of bins; ties may leave some of them empty.
    """
    middle = rankdata(p, method="average") - 0.5
    return np.floor(middle * n_bins / len(p)).astype(np.int64)


def slope(y: Array, p: Array, weights: Array | None = None) -> float:
    """Calibration slope: the coefficient of logit(p) in a logistic regression of the outcome.

    1 is right, below 1 the predictions are too extreme. NaN where the outcome is separable.

    Source: Cox 1958; Van Calster et al. 2019, Calibration: the Achilles heel.
    """
    return calibration_line(y, p, weights)[1]


def calibration_line(y: Array, p: Array, weights: Array | None = None) -> tuple[float, float]:
    """Intercept and slope of the outcome's logistic regression on logit(p), by Newton's method.

    Returns:
        (NaN, NaN) where there is no finite maximum: one class, one prediction, or separation.
    """
    w = _weights(y, weights)
    x = safe_logit(p)
    kept = w > 0
    x, w, outcome = x[kept], w[kept], np.asarray(y, float)[kept]
    positive, negative = x[outcome == 1], x[outcome == 0]
    if not len(positive) or not len(negative):
        return np.nan, np.nan
    if positive.min() >= negative.max() or positive.max() <= negative.min():
        return np.nan, np.nan
    design = np.stack([np.ones_like(x), x])
    line = np.array([0.0, 1.0])
    fit = _log_likelihood(line, design, outcome, w)
    for _ in range(100):
        mu = expit(line @ design)
        step = np.linalg.solve(
            (design * (w * mu * (1 - mu) + 1e-12)) @ design.T, design @ (w * (outcome - mu))
        )
        while (new := _log_likelihood(line + step, design, outcome, w)) < fit - 1e-12 * abs(fit):
            step = step / 2  # a full step from far away can overshoot the maximum
        line, fit = line + step, new
        if np.abs(step).max() < 1e-10:
            break
    return float(line[0]), float(line[1])


def mean_ratio(y: Array, p: Array, weights: Array | None = None) -> float:
    """Mean prediction over the rate of the outcome: calibration in the large, best at 1."""
    w = _weights(y, weights)
    positive = float(w @ np.asarray(y, float))
    return float(w @ p) / positive if positive > 0 else np.nan


def lift_10(y: Array, p: Array, weights: Array | None = None) -> float:
    """Rate of the outcome in the tenth of rows predicted highest, over the rate of all rows.

    Rows tied at the border enter in part, as if ties were broken at random.
    """
    if not _any(y, weights) or not _weights(y, weights) @ np.asarray(y, float) > 0:
        return np.nan
    return float(gains(y, p, np.array([LIFT_SHARE]), weights)[0]) / LIFT_SHARE


def gains(y: Array, p: Array, shares: Array, weights: Array | None = None) -> NDArray[np.float64]:
    """Share of conversions that lies among the rows predicted highest.

    Args:
        y: outcomes [n].
        p: probabilities [n].
        shares: shares of rows [k], in [0, 1].
        weights: of the rows [n].

    Returns:
        float64 [k], linear within tied rows.
    """
    w = _weights(y, weights)
    _, tie = np.unique(-np.asarray(p), return_inverse=True)
    rows = np.concatenate([[0.0], np.cumsum(np.bincount(tie, weights=w))])
    found = np.concatenate([[0.0], np.cumsum(np.bincount(tie, weights=w * np.asarray(y)))])
    return np.interp(shares, rows / rows[-1], found / found[-1])


def mrr(y: Array, p: Array, lists: Array, weights: Array | None = None) -> float:
    """Mean reciprocal rank of the converted item among the impressions shown together.

    Lists of one row, and lists without a conversion, do not count; a list's weight is that of its
    first row. Ties get their mean rank; of several converted items the best placed counts.

    Args:
        y: outcomes [n].
        p: probabilities [n].
        lists: the list of each row [n], any labels.
        weights: of the rows [n].
    """
    first, reciprocal = reciprocal_ranks(y, p, lists)
    if not len(first) or not _weights(y, weights)[first].sum() > 0:
        return np.nan
    return float(np.average(reciprocal, weights=_weights(y, weights)[first]))


def reciprocal_ranks(
    y: Array, p: Array, lists: Array
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The lists that count for the mean reciprocal rank.

    Returns:
        The first row of each such list [k] and its reciprocal rank [k].
    """
    if not len(lists):
        return np.empty(0, np.int64), np.empty(0)
    _, first, lists, size = np.unique(
        lists, return_index=True, return_inverse=True, return_counts=True
    )
    order = np.lexsort((-np.asarray(p, float), lists))
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    place = np.arange(len(order)) - start[lists[order]] + 1
    score, owner = np.asarray(p, float)[order], lists[order]
    new_tie = np.concatenate([[True], (np.diff(score) != 0) | (np.diff(owner) != 0)])
    tie = np.cumsum(new_tie) - 1
    rank = (np.bincount(tie, weights=place) / np.bincount(tie))[tie]
    best = np.full(len(size), np.inf)
    converted = np.asarray(y)[order] > 0
    np.minimum.at(best, owner[converted], rank[converted])
    counted = (size >= 2) & np.isfinite(best)
    return first[counted].astype(np.int64), 1 / best[counted]


def measure(
    y: Array, p: Array, lists: Array, weights: Array | None = None, *, n_bins: int
) -> dict[str, float]:
    """All metrics of one system, by name.

    Args:
        y: outcomes [n].
        p: probabilities [n].
        lists: the list of each row [n].
        weights: of the rows [n].
        n_bins: equal-mass bins of the expected calibration error.
    """
    simple: dict[str, Callable[..., float]] = {
        "auc": auc,
        "average_precision": average_precision,
        "normalised_entropy": normalised_entropy,
        "log_loss": log_loss,
        "brier": brier,
        "slope": slope,
        "mean_ratio": mean_ratio,
        "lift_10": lift_10,
    }
    values = {name: metric(y, p, weights) for name, metric in simple.items()}
    values["ece"] = ece(y, p, weights, n_bins=n_bins)
    values["mrr"] = mrr(y, p, lists, weights)
    return {name: values[name] for name in METRICS}


METRICS = (
    "auc",
    "average_precision",
    "normalised_entropy",
    "log_loss",
    "brier",
    "ece",
    "slope",
    "mean_ratio",
    "lift_10",
    "mrr",
)
"""Names of the metrics, in the order in which they are written."""


def safe_logit(p: Array) -> NDArray[np.float64]:
    """Log-odds, finite at 0 and 1: probabilities are cut as scikit-learn's log-loss cuts them."""
    eps = np.finfo(np.float64).eps
    return logit(np.clip(np.asarray(p, np.float64), eps, 1 - eps))


def row_log_loss(y: Array, p: Array) -> NDArray[np.float64]:
    """Negative log-likelihood of each row [n], in nats."""
    eps = np.finfo(np.float64).eps
    p = np.clip(np.asarray(p, np.float64), eps, 1 - eps)
    return -np.where(np.asarray(y) > 0, np.log(p), np.log1p(-p))


def entropy(rate: Array | float) -> NDArray[np.float64]:
    """Log-loss of a constant prediction at the base rate, in nats."""
    rate = np.asarray(rate, np.float64)
    return -(xlogy(rate, rate) + xlogy(1 - rate, 1 - rate))


def _log_likelihood(line: Array, design: Array, y: Array, w: Array) -> float:
    linear = line @ design
    return float(w @ (y * linear - np.logaddexp(0, linear)))


def _weights(y: Array, weights: Array | None) -> NDArray[np.float64]:
    return np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)


def _any(y: Array, weights: Array | None) -> bool:
    return bool(_weights(y, weights).sum() > 0)


def _both(y: Array, weights: Array | None) -> bool:
    w = _weights(y, weights)
    positive = w @ (np.asarray(y) > 0)
    return bool(0 < positive < w.sum())
