import json

import numpy as np
import pytest
from scipy.special import expit

from purchase_predictor.baselines.stack import Stack, cross_fitted_log_loss
from purchase_predictor.errors import DataError
from purchase_predictor.training.calibration import Calibrator, to_logit

Drawn = tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]


def drawn(n: int, weights: tuple[float, float], seed: int = 0, base: float = -2.0) -> Drawn:
    """Two systems whose logits enter the truth with the given weights, in two markets."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(base, 1, n), rng.normal(base, 1, n)
    y = (rng.random(n) < expit(weights[0] * a + weights[1] * b)).astype(float)
    return {"fusion": expit(a), "lightgbm": expit(b)}, y, 3 + rng.integers(0, 2, n)


def test_weights_are_found_where_conversions_are_many() -> None:
    p, y, market = drawn(40_000, (0.9, 0.2))

    stack = Stack.fit(p, y, market)

    assert stack.systems == ("fusion", "lightgbm")
    assert stack.weights == pytest.approx([0.9, 0.2], abs=0.06)
    assert stack.reason == ""


def test_few_conversions_leave_the_weights_near_equal() -> None:
    few = [Stack.fit(*drawn(120, (1.0, 0.0), seed, base=-1.5)).weights[0] for seed in range(20)]

    many = Stack.fit(*drawn(40_000, (1.0, 0.0), base=-1.5))
    assert np.mean(few) < many.weights[0] - 0.1
    assert many.weights[0] == pytest.approx(1.0, abs=0.05)


def test_markets_that_differ_by_chance_alone_keep_the_global_weights() -> None:
    p, y, _ = drawn(8_000, (0.7, 0.3))
    market = np.arange(8_000) % 20

    stack = Stack.fit(p, y, market)

    assert np.abs(stack.market_weights - stack.weights).max() < 0.1
    assert np.abs(stack.market_intercepts - stack.intercept).max() < 0.15


def test_markets_that_truly_differ_have_weights_of_their_own() -> None:
    first, y_first, _ = drawn(8_000, (1.0, 0.0), seed=1)
    second, y_second, _ = drawn(8_000, (0.0, 1.0), seed=2)
    p = {name: np.append(first[name], second[name]) for name in first}

    stack = Stack.fit(p, np.append(y_first, y_second), np.repeat([3, 4], 8_000))

    own = dict(zip(stack.markets.tolist(), stack.market_weights, strict=True))
    assert own[3][0] - own[3][1] > 0.8
    assert own[4][1] - own[4][0] > 0.8


def test_no_weight_is_negative_even_for_a_system_that_misleads() -> None:
    p, y, market = drawn(20_000, (1.0, -0.8))

    stack = Stack.fit(p, y, market)

    assert (stack.weights >= 0).all()
    assert (stack.market_weights >= 0).all()
    higher = {name: expit(to_logit(values) + 0.5) for name, values in p.items()}
    assert (stack.predict_proba(higher, market) >= stack.predict_proba(p, market)).all()


def test_under_twenty_conversions_logits_are_averaged_and_it_says_so() -> None:
    p, _, market = drawn(500, (1.0, 0.0))

    stack = Stack.fit(p, np.arange(500) < 19, market)

    assert "19 conversions" in stack.reason
    assert "equal" in stack.reason
    mean = (to_logit(p["fusion"]) + to_logit(p["lightgbm"])) / 2
    assert stack.predict_proba(p, market) == pytest.approx(expit(mean))


def test_an_unknown_market_takes_the_global_weights() -> None:
    p, y, market = drawn(20_000, (0.6, 0.6))
    stack = Stack.fit(p, y, market)

    predicted = stack.predict_proba(p, np.full(len(y), 99))

    logits = np.stack([to_logit(p["fusion"]), to_logit(p["lightgbm"])], axis=1)
    assert predicted == pytest.approx(expit(logits @ stack.weights + stack.intercept))


def test_a_missing_system_is_an_error_not_a_guess() -> None:
    p, y, market = drawn(2_000, (0.6, 0.6))
    stack = Stack.fit(p, y, market)

    with pytest.raises(KeyError, match="fusion"):
        stack.predict_proba({"lightgbm": p["lightgbm"]}, market)


@pytest.mark.parametrize("n", [300, 20_000])
def test_state_survives_json(n: int) -> None:
    p, y, market = drawn(n, (0.6, 0.6), base=-4.0)
    stack = Stack.fit(p, y, market)

    again = Stack.from_dict(json.loads(json.dumps(stack.to_dict())))

    assert again.predict_proba(p, market).tolist() == stack.predict_proba(p, market).tolist()
    assert again.reason == stack.reason


def test_cross_fitting_ranks_the_stack_by_what_it_adds() -> None:
    p, y, market = drawn(20_000, (0.7, 0.7))
    unit = np.arange(20_000) // 4
    copied = {"fusion": p["fusion"], "lightgbm": p["fusion"]}

    alone = cross_fitted_log_loss(Calibrator, p["fusion"], y, market, unit)
    both = cross_fitted_log_loss(Stack, p, y, market, unit)
    copies = cross_fitted_log_loss(Stack, copied, y, market, unit)

    assert both < alone - 0.005
    assert copies == pytest.approx(alone, abs=3e-4)


def test_cross_fitting_keeps_a_unit_in_one_fold() -> None:
    """Offsets of markets would tell a unit's outcome if its rows were in several folds."""
    rng = np.random.default_rng(0)
    unit = np.repeat(np.arange(400), 10)
    y = (rng.random(400) < 0.3)[unit].astype(float)
    market = 3 + unit

    loss = cross_fitted_log_loss(Calibrator, np.full(4000, 0.3), y, market, unit)

    base = -(y.mean() * np.log(y.mean()) + (1 - y.mean()) * np.log(1 - y.mean()))
    assert loss > base - 0.01


def test_cross_fitting_takes_two_units() -> None:
    p, y, market = drawn(200, (1.0, 0.0))

    with pytest.raises(DataError, match="two units"):
        cross_fitted_log_loss(Calibrator, p["fusion"], y, market, np.zeros(200, int))
