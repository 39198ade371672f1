"""Golden numbers, agreement with scikit-learn, and the metrics' behaviour at the edges."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.linear_model import LogisticRegression

from purchase_predictor.evaluation import metrics

Y = np.array([0, 0, 1, 0, 1, 0, 0, 1, 0, 0])
P = np.array([0.1, 0.2, 0.2, 0.3, 0.6, 0.4, 0.05, 0.9, 0.6, 0.1])
LISTS = np.array([1, 1, 1, 2, 2, 2, 3, 3, 4, 5])


def test_golden_numbers() -> None:
    values = metrics.measure(Y, P, LISTS, n_bins=5)

    expected = {
        "auc": 17.0 / 21,  # pairs won: 3.5 at 0.2, 6.5 at 0.6, 7 at 0.9
        "log_loss": -(
            2 * math.log(0.9)
            + 2 * math.log(0.2)
            - math.log(0.2)
            + math.log(0.8)
            + math.log(0.7)
            + math.log(0.6)
            + math.log(0.6)
            + math.log(0.95)
            + math.log(0.9)
            + math.log(0.4)
        )
        / 10,
        "brier": (2 * 0.01 + 0.04 + 0.64 + 0.09 + 0.16 + 0.16 + 0.0025 + 0.01 + 0.36) / 10,
        "mean_ratio": 3.45 / 3,
        "lift_10": (1 / 3) / 0.1,
        "mrr": (1 / 1.5 + 1 + 1) / 3,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert values["normalised_entropy"] == pytest.approx(
        values["log_loss"] / -(0.3 * math.log(0.3) + 0.7 * math.log(0.7)), abs=1e-12
    )
    assert list(values) == list(metrics.METRICS)


def test_auc_counts_pairs_and_half_of_ties() -> None:
    wins = sum(
        (P[i] > P[j]) + 0.5 * (P[i] == P[j])
        for i in np.flatnonzero(Y)
        for j in np.flatnonzero(Y == 0)
    )

    assert metrics.auc(Y, P) == pytest.approx(wins / 21, abs=1e-15)


def test_ece_of_two_bins() -> None:
    y = np.array([0, 1, 1, 1])
    p = np.array([0.1, 0.3, 0.6, 0.9])

    # bins {0.1, 0.3} and {0.6, 0.9}: |1 - 0.4| / 4 + |2 - 1.5| / 4
    assert metrics.ece(y, p, n_bins=2) == pytest.approx((0.6 + 0.5) / 4)


def test_equal_mass_bins_keep_ties_together() -> None:
    p = np.array([0.1, 0.2, 0.2, 0.2, 0.3, 0.4])

    bins = metrics.equal_mass_bins(p, 3)

    assert bins.tolist() == [0, 1, 1, 1, 2, 2]


def test_lift_shares_tied_rows_at_the_border() -> None:
    y = np.array([1] * 5 + [0] * 15)
    p = np.full(20, 0.25)

    assert metrics.lift_10(y, p) == pytest.approx(1.0)


def test_lift_of_a_perfect_ranking_is_ten_at_most() -> None:
    y = np.zeros(100, bool)
    y[:5] = True

    assert metrics.lift_10(y, np.where(y, 0.9, 0.1)) == pytest.approx(10.0)


def test_mrr_takes_the_best_placed_conversion_and_skips_lists_without_choice() -> None:
    lists = np.array([7, 7, 7, 3, 3, 9, 4, 4])
    y = np.array([1, 1, 0, 0, 0, 1, 0, 1])
    p = np.array([0.2, 0.3, 0.5, 0.1, 0.2, 0.9, 0.3, 0.3])

    # list 7: rank 2; list 3: no conversion; list 9: one row; list 4: tie of two, rank 1.5
    assert metrics.mrr(y, p, lists) == pytest.approx((1 / 2 + 1 / 1.5) / 2)


def test_slope_agrees_with_logistic_regression() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(-2, 1.5, 2000)
    y = generator.random(2000) < 1 / (1 + np.exp(-(0.4 + 0.7 * x)))
    p = 1 / (1 + np.exp(-x))
    reference = LogisticRegression(C=np.inf, tol=1e-10, solver="newton-cholesky")

    reference.fit(x[:, None], y)

    intercept, slope = metrics.calibration_line(y, p)
    assert slope == pytest.approx(reference.coef_[0, 0], abs=1e-6)
    assert intercept == pytest.approx(reference.intercept_[0], abs=1e-6)


@pytest.mark.parametrize(
    ("y", "p"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]),  # separable
        ([0, 1, 0, 1], [0.2, 0.2, 0.2, 0.2]),  # one prediction
        ([0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4]),  # one class
        ([0, 1, 1, 1], [0.1, 0.1, 0.3, 0.4]),  # separable but for a tie
    ],
)
def test_slope_is_undefined_without_a_finite_maximum(y: list[int], p: list[float]) -> None:
    assert math.isnan(metrics.slope(np.array(y), np.array(p)))


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_class_leaves_ranking_metrics_undefined(outcome: int) -> None:
    y = np.full(10, outcome)

    values = metrics.measure(y, P, LISTS, n_bins=5)

    for name in ("auc", "average_precision", "normalised_entropy", "slope"):
        assert math.isnan(values[name])
    for name in ("log_loss", "brier", "ece"):
        assert math.isfinite(values[name])


def test_no_rows_leave_everything_undefined() -> None:
    nothing = np.empty(0)

    values = metrics.measure(nothing, nothing, nothing, n_bins=5)

    assert all(math.isnan(value) for value in values.values())


def test_certain_predictions_stay_finite() -> None:
    y = np.array([0, 1, 1, 0])
    p = np.array([0.0, 1.0, 0.0, 1.0])

    values = metrics.measure(y, p, np.zeros(4), n_bins=2)

    assert values["log_loss"] == pytest.approx(sk.log_loss(y, p))
    assert all(math.isfinite(value) for value in values.values())


outcomes = st.integers(0, 2**31).map(np.random.default_rng)


@settings(deadline=None, max_examples=60)
@given(outcomes, st.integers(4, 80), st.integers(1, 30))
def test_agrees_with_scikit_learn_on_ties_and_weights(
    generator: np.random.Generator, n: int, distinct: int
) -> None:
    y = generator.random(n) < 0.4
    y[:2] = [False, True]
    p = np.round(generator.random(n) * distinct) / (distinct + 1)
    w = generator.integers(1, 4, n)

    assert metrics.auc(y, p, w) == sk.roc_auc_score(y, p, sample_weight=w)
    assert metrics.average_precision(y, p, w) == sk.average_precision_score(y, p, sample_weight=w)
    assert metrics.log_loss(y, p, w) == sk.log_loss(y, p, sample_weight=w)
    assert metrics.brier(y, p, w) == sk.brier_score_loss(y, p, sample_weight=w)


@settings(deadline=None, max_examples=40)
@given(outcomes, st.integers(5, 60))
def test_order_of_rows_changes_nothing(generator: np.random.Generator, n: int) -> None:
    y = generator.random(n) < 0.4
    p = np.round(generator.random(n), 1)
    lists = generator.integers(0, 8, n)
    order = generator.permutation(n)

    values = metrics.measure(y, p, lists, n_bins=4)

    shuffled = metrics.measure(y[order], p[order], lists[order], n_bins=4)
    assert shuffled == pytest.approx(values, nan_ok=True, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(outcomes, st.integers(5, 40))
def test_weights_count_rows(generator: np.random.Generator, n: int) -> None:
    y = generator.random(n) < 0.4
    p = np.round(generator.random(n), 1)
    w = generator.integers(0, 4, n)
    again = np.repeat(np.arange(n), w)

    for metric in (metrics.auc, metrics.average_precision, metrics.lift_10, metrics.slope):
        assert metric(y, p, w) == pytest.approx(metric(y[again], p[again]), nan_ok=True, abs=1e-8)
    shares = np.array([0.05, 0.3, 1.0])
    if y[again].any():
        np.testing.assert_allclose(
            metrics.gains(y, p, shares, w), metrics.gains(y[again], p[again], shares)
        )
