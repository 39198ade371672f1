import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from purchase_predictor.training.evidence import LARGEST, fit_by_evidence, refit

N_ROWS, N_COLUMNS = 4000, 12


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    x = np.random.default_rng(0).normal(size=(N_ROWS, 3 * N_COLUMNS + 1)).astype(np.float32)
    x[:, -1] = 1.0
    return x


@pytest.fixture(scope="module")
def block() -> NDArray[np.int64]:
    return np.append(np.repeat([0, 1, 2], N_COLUMNS), -1)


def draw(x: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    rng = np.random.default_rng(1)
    return (rng.random(len(x)) < expit(x @ weights)).astype(np.float32)


def true_weights() -> NDArray[np.float64]:
    rng = np.random.default_rng(2)
    strong, weak = rng.normal(size=N_COLUMNS), 0.1 * rng.normal(size=N_COLUMNS)
    return np.concatenate([strong, weak, np.zeros(N_COLUMNS), [-1.0]])


def test_each_block_is_penalised_by_the_size_of_its_weights(
    x: NDArray[np.float32], block: NDArray[np.int64]
) -> None:
    weights = true_weights()
    fit = fit_by_evidence(x, draw(x, weights), block)

    strong, weak, nothing = fit.penalties
    assert 0.3 < strong * weights[:N_COLUMNS].var() < 3
    assert weak > 20 * strong
    assert nothing > 5 * weak
    assert fit.effective[0] > 11 > fit.effective[1] > fit.effective[2]


def test_it_beats_one_penalty_for_all(x: NDArray[np.float32], block: NDArray[np.int64]) -> None:
    weights = true_weights()
    few, y = x[:600], draw(x[:600], weights)
    fit = fit_by_evidence(few, y, block)

    errors = []
    for c in np.logspace(-3, 1, 9):
        ridge = LogisticRegression(C=c).fit(few[:, :-1], y)
        errors.append(np.square(ridge.coef_[0] - weights[:-1]).sum())
    assert np.square(fit.weights - weights)[:-1].sum() < min(errors)


def test_without_blocks_it_is_maximum_likelihood(
    x: NDArray[np.float32], block: NDArray[np.int64]
) -> None:
    y = draw(x, true_weights())
    fit = fit_by_evidence(x, y, np.full(len(block), -1))
    plain = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(x[:, :-1], y)

    np.testing.assert_allclose(fit.weights[:-1], plain.coef_[0], atol=5e-3)
    np.testing.assert_allclose(fit.weights[-1], plain.intercept_[0], atol=5e-3)


def test_what_the_data_do_not_tell_stays_at_the_centre(
    x: NDArray[np.float32], block: NDArray[np.int64]
) -> None:
    x = x.copy()
    x[:, 2 * N_COLUMNS : 3 * N_COLUMNS] = 0.5  # never varies
    weights = true_weights()
    y = draw(x, weights)
    fit = fit_by_evidence(x[:300], y[:300], block, centre=weights)

    assert (fit.weights[2 * N_COLUMNS : -1] == weights[2 * N_COLUMNS : -1]).all()
    assert fit.penalties[2] == LARGEST
    # few rows of the very model they are drawn to: they hardly move
    assert np.abs(fit.weights - weights)[:-1].max() < 0.5
    apart = fit_by_evidence(x[:300], y[:300], block)
    assert np.square(fit.weights - weights).sum() < np.square(apart.weights - weights).sum() / 4


def test_half_precision_gives_the_same(x: NDArray[np.float32], block: NDArray[np.int64]) -> None:
    y = draw(x, true_weights())
    fit, half = fit_by_evidence(x, y, block), fit_by_evidence(x.astype(np.float16), y, block)
    np.testing.assert_allclose(half.weights, fit.weights, atol=5e-3)


def test_more_rows_under_the_same_penalties_come_nearer_to_the_truth(
    x: NDArray[np.float32], block: NDArray[np.int64]
) -> None:
    weights = true_weights()
    y = draw(x, weights)
    few = fit_by_evidence(x[:1000], y[:1000], block)

    more = refit(x, y, block, few)

    assert np.square(more - weights).sum() < 0.8 * np.square(few.weights - weights).sum()
    # as if it had been solved on all rows from the start
    whole = fit_by_evidence(x, y, block)
    assert np.abs(more - whole.weights).max() < 0.1
    assert np.abs(few.weights - whole.weights).max() > 0.1
    again = refit(x[:1000], y[:1000], block, few)
    np.testing.assert_allclose(again, few.weights, atol=0.02)
