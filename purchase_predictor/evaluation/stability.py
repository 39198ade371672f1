"""How far a distribution has moved: the population stability index (PSI)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

PSI_BINS = 10


def quantile_edges(first: Floats, n_bins: int = PSI_BINS) -> Floats:
    """Inner edges of bins that hold equal shares of values; fewer where they are tied.

    Args:
        first: values [n], n > 0, none of them NaN.
        n_bins: bins.

    Returns:
        float64 [n_edges], increasing; n_edges + 1 bins.
    """
    return np.unique(np.quantile(first, np.arange(1, n_bins) / n_bins))


def bin_counts(edges: Floats, values: Floats) -> Ints:
    """How many values each bin holds; an edge belongs to the bin above it.

    Args:
        edges: of `quantile_edges`.
        values: [n], none of them NaN.

    Returns:
        int64 [n_edges + 1].
    """
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def psi_of_counts(before: ArrayLike, after: ArrayLike) -> float:
    """Population stability index of counts in bins.

    The sum over bins of (share after − share before) · ln(share after / share before). An empty
    bin counts as half a row, or the index were infinite.

    Source: Siddiqi 2006, Credit risk scorecards.

    Args:
        before: counts [n_bins], not all zero.
        after: counts [n_bins], not all zero.
    """
    old, new = (
        np.maximum(counts, 0.5) / np.sum(counts)
        for counts in (np.asarray(before), np.asarray(after))
    )
    return float(((new - old) * np.log(new / old)).sum())


def psi(first: Floats, now: Floats, *, n_bins: int = PSI_BINS) -> tuple[float, int]:
    """Population stability index of scores against earlier ones, in bins of equal shares of these.

    Args:
        first: earlier scores [n].
        now: scores [m].
        n_bins: bins; fewer where the first scores are tied.

    Returns:
        The index and the number of bins.
    """
    edges = quantile_edges(first, n_bins)
    counts = (bin_counts(edges, scores) for scores in (first, now))
    return psi_of_counts(*counts), len(edges) + 1


def psi_by_chance(n_first: int, n_now: int, n_bins: int, confidence: float) -> float:
    """The index that chance alone exceeds with probability 1 − `confidence`.

    Rows are taken as independent; where users have many, chance reaches further.

    Source: Yurdakul and Naranjo 2020, Statistical properties of the population stability index:
    without drift the index is about (1/n + 1/m) times a chi-squared with bins − 1 degrees.

    Args:
        n_first: rows of the first period.
        n_now: rows of this one.
        n_bins: bins of the index.
        confidence: level.
    """
    if n_bins < 2:
        return 0.0
    return float(chi2.ppf(confidence, n_bins - 1) * (1 / n_first + 1 / n_now))
