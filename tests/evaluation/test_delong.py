"""Clustered DeLong against a count over all pairs, the classic form and the bootstrap."""

import numpy as np
import pytest
from numpy.typing import NDArray

from purchase_predictor.evaluation import intervals
from purchase_predictor.evaluation.delong import auc_covariance
from purchase_predictor.evaluation.intervals import MACRO, POOLED
from purchase_predictor.evaluation.metrics import auc
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.settings import EvaluationSettings


def clustered(
    n: int, n_units: int, seed: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    unit = generator.integers(0, n_units, n)
    x = generator.normal(size=n_units)[unit] + generator.normal(size=n)
    y = generator.random(n) < 1 / (1 + np.exp(1.5 - x))
    p = np.stack([np.round(x + generator.normal(size=n), 1), x + 2 * generator.normal(size=n)])
    return y, p, unit


def test_agrees_with_a_count_over_all_pairs() -> None:
    y, p, unit = clustered(60, 15, seed=0)
    kernel = np.array(
        [[[(a > b) + 0.5 * (a == b) for b in score[~y]] for a in score[y]] for score in p]
    )
    area = kernel.mean(axis=(1, 2))
    m, n = int(y.sum()), int((~y).sum())
    units = np.unique(unit)
    of_positive, of_negative = unit[y], unit[~y]
    a = np.array(
        [(kernel[:, of_positive == u].mean(axis=2) - area[:, None]).sum(axis=1) for u in units]
    )
    b = np.array(
        [(kernel[:, :, of_negative == u].mean(axis=1) - area[:, None]).sum(axis=1) for u in units]
    )
    i10, i01, i = len(np.unique(of_positive)), len(np.unique(of_negative)), len(units)
    s10 = i10 / ((i10 - 1) * m) * a.T @ a
    s01 = i01 / ((i01 - 1) * n) * b.T @ b
    s11 = i / (i - 1) * a.T @ b
    expected = s10 / m + s01 / n + (s11 + s11.T) / (m * n)

    found, covariance = auc_covariance(y, p, unit)

    np.testing.assert_allclose(found, area)
    np.testing.assert_allclose(covariance, expected)


def test_one_row_to_a_unit_is_classic_delong() -> None:
    y, p, _ = clustered(80, 80, seed=1)
    wins = (p[0][y][:, None] > p[0][~y]) + 0.5 * (p[0][y][:, None] == p[0][~y])
    classic = wins.mean(1).var(ddof=1) / y.sum() + wins.mean(0).var(ddof=1) / (~y).sum()

    found, covariance = auc_covariance(y, p, np.arange(80))

    assert found[0] == pytest.approx(auc(y, p[0]))
    assert covariance[0, 0] == pytest.approx(classic)


def test_agrees_with_the_bootstrap_also_on_the_difference() -> None:
    y, p, unit = clustered(4000, 700, seed=2)
    p = 1 / (1 + np.exp(-p))
    rows = Rows(
        systems=("a", "b"),
        p=p,
        y=y,
        unit=np.unique(unit, return_inverse=True)[1],
        lists=np.arange(4000),
        market=unit % 3,
        markets=("A", "B", "C"),
        n_units=len(np.unique(unit)),
    )
    settings = EvaluationSettings(
        resamples=1000, confidence=0.95, min_test_conversions=30, ece_bins=10
    )

    draws = intervals.draw(rows, settings=settings, seed=0)

    spread = draws.draws[:, :, 0]
    for scope in (MACRO, POOLED, 2):
        covariance = draws.auc_covariance[scope]
        difference = np.array([1, -1]) @ covariance @ np.array([1, -1])
        assert np.sqrt(covariance[0, 0]) == pytest.approx(spread[0, scope].std(), rel=0.08)
        assert np.sqrt(difference) == pytest.approx(
            (spread[0, scope] - spread[1, scope]).std(), rel=0.08
        )


def test_one_class_or_one_unit_has_no_error() -> None:
    p = np.array([[0.1, 0.2, 0.3, 0.4]])

    for y, unit in (([0, 0, 0, 0], [0, 1, 2, 3]), ([0, 1, 0, 1], [0, 0, 0, 0])):
        covariance = auc_covariance(np.array(y, bool), p, np.array(unit))[1]
        assert np.isnan(covariance).all()
