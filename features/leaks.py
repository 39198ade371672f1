"""A column that alone tells the label was probably written after it."""

import numpy as np
from numpy.typing import NDArray

from features.arrays import TRAIN, EncodedMarket

LEAK_AUC = 0.95
"""From here on a column draws a warning."""

_BLOCKS = ("context", "place")
"""What the data bring themselves: their own columns, and the order of their rows."""


def leaky_columns(data: EncodedMarket) -> list[tuple[str, float]]:
    """Context columns that alone separate the conversions among the training rows.

    A number may also lead downwards; a category is ranked by how often each value converts in the
    other rows; whether a value is missing counts as a value.

    Returns:
        Name and AUC (of the better direction) of those that reach `LEAK_AUC`, the highest first.
    """
    rows = data.part == TRAIN
    converted = data.converted[rows] > 0
    if converted.all() or not converted.any():
        return []
    found = []
    for place, column in enumerate(data.number_columns):
        if column.block in _BLOCKS:
            found.append((column.name, _separation(data.numbers[rows, place], converted)))
    for place, column in enumerate(data.category_columns):
        if column.block in _BLOCKS:
            score = _rate_of_others(data.categories[rows, place], converted)
            found.append((column.name, rank_auc(score, converted)))
    leaks = [(name, auc) for name, auc in found if auc >= LEAK_AUC]
    return sorted(leaks, key=lambda leak: -leak[1])


def rank_auc(score: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """Probability that a positive outranks a negative, ties counting half; NaN for one class."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, which, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2
    below = rank[which][positive].sum() - n_positive * (n_positive + 1) / 2
    return float(below / (n_positive * n_negative))


def _separation(values: NDArray[np.floating], converted: NDArray[np.bool_]) -> float:
    """AUC of the better direction, missing values put at the better end."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0)
    low, high = filled.min(initial=0) - 1, filled.max(initial=0) + 1
    aucs = (rank_auc(np.where(known, values, end), converted) for end in (low, high))
    return max(max(auc, 1 - auc) for auc in aucs)


def _rate_of_others(codes: NDArray[np.int32], converted: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How often a row's value converts in the other rows, smoothed.

    The row itself is left out, or a value that appears once would tell its own label; so the
    score of a value that tells nothing leans downwards, and only the upward direction counts.
    """
    n = np.bincount(codes)[codes] - 1.0
    positive = np.bincount(codes, converted)[codes] - converted
    return (positive + converted.mean()) / (n + 1)
