from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import norm

from features.arrays import TRAIN, EncodedMarket
from purchase_predictor.model.readout import Readout
from purchase_predictor.training.evidence import Columns, EvidenceFit, refit
from purchase_predictor.training.lever_errors import (
    RELAXED,
    LeverAnswer,
    LeverErrors,
    lever_columns,
    measure_errors,
)
from purchase_predictor.training.readout import _columns, _set, block_numbers, solve_readout
from purchase_predictor.training.shapes import ContentSizes, number_bins, shape_of, varying_numbers
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES, N_WORD_PIECES, make_market

SIZES = ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, N_WORD_PIECES)


def rows(seed: int = 0, n_units: int = 300) -> EncodedMarket:
    market = make_market(n_units=n_units, n_events=1500)
    kept = varying_numbers(market)
    columns = tuple(c for c, keep in zip(market.number_columns, kept, strict=True) if keep)
    rng = np.random.default_rng(seed)
    converted = (rng.random(len(market)) < 0.3).astype(np.float32)
    data = replace(
        market, numbers=market.numbers[:, kept], number_columns=columns, converted=converted
    )
    return data.select(data.part == TRAIN)


def solved(data: EncodedMarket) -> tuple[Readout, EvidenceFit]:
    bins = number_bins(data.numbers, 8, seed=0)
    readout = Readout(shape=shape_of(data, SIZES), bins=bins)
    return readout, solve_readout(readout, data, seed=0, progress=lambda _: None)


def measured(data: EncodedMarket, penalty: float | None = None) -> tuple[Readout, LeverErrors]:
    readout, fit = solved(data)
    if penalty is not None:
        fit = replace(fit, penalties=np.full_like(fit.penalties, penalty))
    return readout, measure_errors(readout, data, fit)


@pytest.fixture(scope="module")
def data() -> EncodedMarket:
    return rows()


def phrase(errors: LeverErrors, readout: Readout, number: int) -> NDArray[np.float64]:
    names = np.array(readout.blocks)[errors.columns]
    direction = np.zeros((1, len(names)))
    direction[0, np.flatnonzero(names == "phrases")[number]] = 1.0
    return direction


def test_levers_are_terms_and_phrases_and_nothing_else(data: EncodedMarket) -> None:
    readout, errors = measured(data)
    names = np.array(readout.blocks)[lever_columns(readout)]
    assert {name.split(" ")[0] for name in names} >= {"phrases", "phrase"}
    assert not {"market", "brand", "category", "image", "text"} & set(names)
    np.testing.assert_array_equal(errors.columns, lever_columns(readout))
    for answer in (errors.solved, errors.relaxed):
        assert np.linalg.eigvalsh(answer.posterior).min() > 0
    weights = readout.linear.weight[0].double().numpy()
    np.testing.assert_array_equal(errors.solved.weights, weights[errors.columns])


def test_rows_said_twice_by_one_user_are_no_more_sure(data: EncodedMarket) -> None:
    twice = data.select(np.ones(len(data), bool))
    index = np.repeat(np.arange(len(data)), 2)
    names = ("cut", "time", "session", "unit", "list_number", "product", "market", "sequence",
             "row_profile", "numbers", "categories", "converted", "part", "market_label",
             "impression_id", "row")  # fmt: skip
    twice = replace(twice, flags={}, **{name: getattr(twice, name)[index] for name in names})
    readout, once = measured(data, penalty=0.01)
    _, doubled = measured(twice, penalty=0.01)
    direction = phrase(once, readout, 0)
    naive = (direction @ doubled.solved.posterior @ direction.T).item()

    assert naive < 0.75 * (direction @ once.solved.posterior @ direction.T).item()
    assert doubled.solved.variance(direction)[0] > 1.3 * naive


def answer(weights: list[float], variance: float) -> LeverAnswer:
    k = len(weights)
    return LeverAnswer(np.array(weights), variance * np.eye(k), np.zeros((k, k)))


def test_what_clustering_takes_off_does_not_count() -> None:
    less = replace(answer([0.0, 0.0], 1.0), shared=-0.5 * np.eye(2))
    np.testing.assert_allclose(less.variance(np.eye(2)), [1.0, 1.0])
    more = replace(less, shared=np.diag([1.0, -1.0]))
    np.testing.assert_allclose(more.variance(np.eye(2)), [2.0, 1.0])


def test_an_interval_spans_both_answers_and_p_is_of_the_less_sure_one() -> None:
    errors = LeverErrors(np.arange(2), answer([0.2, -0.1], 0.01), answer([0.3, 0.1], 0.04))
    low, high = errors.interval(np.eye(2), 0.95)
    np.testing.assert_allclose(low, [0.3 - 1.96 * 0.2, -0.1 - 1.96 * 0.1], atol=1e-4)
    np.testing.assert_allclose(high, [0.3 + 1.96 * 0.2, 0.1 + 1.96 * 0.2], atol=1e-4)
    # z is 2 and 1.5; the second weight's answers differ in sign
    np.testing.assert_allclose(errors.p(np.eye(2)), [2 * norm.sf(1.5), 1.0])
    np.testing.assert_array_equal(errors.p(np.zeros((1, 2))), [1.0])
    again = LeverErrors.of(errors.tensors())
    np.testing.assert_array_equal(again.interval(np.eye(2), 0.95), (low, high))


def test_the_relaxed_answer_is_what_solving_under_smaller_penalties_gives(
    data: EncodedMarket,
) -> None:
    """Two steps of Newton's method against as many as there have to be."""
    readout, fit = solved(data)
    fit = replace(fit, penalties=np.full_like(fit.penalties, 40.0))
    x, y = _columns(readout, data, np.random.default_rng(0))
    block = block_numbers(readout)
    fit = replace(fit, weights=to_the_end(x, y, block, fit))
    _set(readout, fit.weights)

    errors = measure_errors(readout, data, fit)
    less = fit.penalties.copy()
    less[np.unique(block[errors.columns])] *= RELAXED
    expected = to_the_end(x, y, block, replace(fit, penalties=less))[errors.columns]
    apart = np.abs(expected - errors.solved.weights).max()
    assert apart > 0.1
    assert np.abs(errors.relaxed.weights - expected).max() < 0.05 * apart


def to_the_end(
    x: Columns, y: NDArray[np.float32], block: NDArray[np.int64], fit: EvidenceFit
) -> NDArray[np.float64]:
    for _ in range(12):
        fit = replace(fit, weights=refit(x, y, block, fit))
    return fit.weights


def test_an_effect_that_is_not_there_is_seldom_seen() -> None:
    """Labels are drawn at random: a 95 % interval leaves zero out once in twenty or less."""
    seen = []
    for seed in range(12):
        data = rows(seed + 1)
        readout, errors = measured(data)
        names = np.array(readout.blocks)[errors.columns]
        direction = np.eye(len(names))[names == "phrases"]
        low, high = errors.interval(direction, 0.95)
        assert (high - low).max() < 1.5  # an interval of anything would hold zero as well
        out = (low > 0) | (high < 0)
        np.testing.assert_array_equal(out, errors.p(direction) < 0.05)
        seen += out.tolist()
    assert np.mean(seen) <= 0.1
