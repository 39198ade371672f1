"""DeLong's standard error of the AUC, for clustered rows: the check beside the bootstrap.

Source: DeLong, DeLong & Clarke-Pearson 1988; Obuchowski 1997, Nonparametric analysis of clustered
ROC curve data (rows of one unit are not independent). With one row to a unit the two agree.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from purchase_predictor.evaluation.rows import Rows

Floats = NDArray[np.float64]


def auc_covariance(
    y: NDArray[np.bool_], p: Floats, unit: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """AUC of several systems on the same rows, and the covariance of those AUCs.

    Args:
        y: outcomes [n].
        p: probabilities [n_systems, n].
        unit: the cluster of each row [n], any labels.

    Returns:
        AUCs [n_systems] and covariance [n_systems, n_systems]; NaN where only one class, or only
        one unit with rows of a class, is there.
    """
    auc, positive, negative = _unit_sums(y, p, unit)
    n_systems = len(p)
    n_positive, n_negative = y.sum(), len(y) - y.sum()
    units = np.unique(unit, return_inverse=True)[1]
    with_positive, with_negative = len(np.unique(units[y])), len(np.unique(units[~y]))
    if with_positive < 2 or with_negative < 2:
        return auc, np.full((n_systems, n_systems), np.nan)
    n_units = positive.shape[1]
    a = positive @ positive.T * with_positive / (with_positive - 1) / n_positive**2
    b = negative @ negative.T * with_negative / (with_negative - 1) / n_negative**2
    both = positive @ negative.T * n_units / (n_units - 1) / (n_positive * n_negative)
    return auc, a + b + both + both.T


def scope_covariances(rows: Rows, averaged: NDArray[np.bool_]) -> Floats:
    """Covariance of the systems' AUCs on average over markets, pooled, and in each market.

    Args:
        rows: predictions.
        averaged: bool [n_markets], markets in the macro average.

    Returns:
        float64 [2 + n_markets, n_systems, n_systems], NaN where undefined.
    """
    groups = rows.groups()
    markets = [auc_covariance(rows.y[g], rows.p[:, g], rows.unit[g])[1] for g in groups]
    pooled = auc_covariance(rows.y, rows.p, rows.unit)[1]
    kept = [group for group, use in zip(groups, averaged, strict=True) if use]
    return np.stack([_macro_covariance(rows, kept), pooled, *markets])


def _macro_covariance(rows: Rows, groups: list[NDArray[np.int64]]) -> Floats:
    """Covariance of the AUCs averaged over groups; a unit may have rows in several of them."""
    groups = [group for group in groups if 0 < rows.y[group].sum() < len(group)]
    influence = np.zeros((len(rows.systems), rows.n_units))
    for group in groups:
        y, unit = rows.y[group], rows.unit[group]
        _, positive, negative = _unit_sums(y, rows.p[:, group], unit)
        share = positive / y.sum() + negative / (~y).sum()
        influence[:, np.unique(unit)] += share / len(groups)
    present = len(np.unique(rows.unit[np.concatenate(groups)])) if groups else 0
    if present < 2:
        return np.full((len(rows.systems), len(rows.systems)), np.nan)
    return influence @ influence.T * present / (present - 1)


def _unit_sums(
    y: NDArray[np.bool_], p: Floats, unit: NDArray[np.int64]
) -> tuple[Floats, Floats, Floats]:
    """AUCs, and sums by unit of the structural components of rows, less the AUC."""
    units, code = np.unique(unit, return_inverse=True)
    n_systems, n_positive, n_negative = len(p), int(y.sum()), int((~y).sum())
    auc = np.full(n_systems, np.nan)
    positive = np.full((n_systems, len(units)), np.nan)
    negative = np.full((n_systems, len(units)), np.nan)
    if n_positive == 0 or n_negative == 0:
        return auc, positive, negative
    for s, score in enumerate(p):
        rank = rankdata(score)
        beaten = (rank[y] - rankdata(score[y])) / n_negative
        unbeaten = 1 - (rank[~y] - rankdata(score[~y])) / n_positive
        auc[s] = beaten.mean()
        positive[s] = np.bincount(code[y], weights=beaten - auc[s], minlength=len(units))
        negative[s] = np.bincount(code[~y], weights=unbeaten - auc[s], minlength=len(units))
    return auc, positive, negative
