import json

import numpy as np
import pytest
from scipy.special import expit

from purchase_predictor.training.calibration import Calibrator, to_logit


def drawn(
    n: int, slope: float, intercept: float, offsets: list[float], seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distorted probabilities, labels, markets from code 3 on, and the true probabilities."""
    rng = np.random.default_rng(seed)
    market = 3 + rng.integers(0, len(offsets), n)
    z = rng.normal(-2, 1.2, n)
    truth = expit(slope * z + intercept + np.array(offsets)[market - 3])
    return expit(z), (rng.random(n) < truth).astype(float), market, truth


def test_slope_and_intercept_are_repaired() -> None:
    p, y, market, truth = drawn(60_000, slope=0.6, intercept=0.8, offsets=[0.0])

    calibrator = Calibrator.fit(p, y, market)

    assert calibrator.slope == pytest.approx(0.6, abs=0.03)
    assert calibrator.intercept == pytest.approx(0.8, abs=0.06)
    assert np.abs(calibrator.transform(p, market) - truth).max() < 0.01


def test_the_mean_of_each_large_market_is_met() -> None:
    p, y, market, _ = drawn(60_000, 1.0, 0.0, [0.8, -0.8, 0.0])

    calibrated = Calibrator.fit(p, y, market).transform(p, market)

    for code in (3, 4, 5):
        assert calibrated[market == code].mean() == pytest.approx(
            y[market == code].mean(), rel=0.02
        )


def test_a_small_market_keeps_little_of_its_own_offset() -> None:
    p, y, market, _ = drawn(60_000, 1.0, 0.0, [0.6, -0.6, 0.3, -0.3])
    # a fifth market: 60 rows of which a third converted, against a tenth expected
    p, y = np.append(p, np.full(60, 0.1)), np.append(y, np.arange(60) % 3 == 0)
    market = np.append(market, np.full(60, 9))

    fitted = Calibrator.fit(p, y, market)

    raw = to_logit(np.array([1 / 3])) - (fitted.slope * to_logit(np.array([0.1])))
    assert 0 < fitted.offsets[9] < 0.8 * float(raw[0] - fitted.intercept)
    assert fitted.offsets[3] - fitted.offsets[4] == pytest.approx(1.2, abs=0.12)


def test_equal_markets_get_almost_no_offsets() -> None:
    p, y, market, _ = drawn(60_000, 1.0, 0.0, [0.0] * 20, seed=1)

    assert max(abs(o) for o in Calibrator.fit(p, y, market).offsets.values()) < 0.08


def test_order_within_a_market_is_kept() -> None:
    p, y, market, _ = drawn(3_000, 0.4, 0.3, [0.5, -0.5])

    calibrated = Calibrator.fit(p, y, market).transform(p, market)

    for code in (3, 4):
        order = np.argsort(p[market == code])
        assert (np.diff(calibrated[market == code][order]) >= 0).all()


def test_a_market_unknown_at_fit_has_no_offset() -> None:
    p, y, market, _ = drawn(20_000, 1.0, 0.0, [0.6, -0.6])
    fitted = Calibrator.fit(p, y, market)

    calibrated = fitted.transform(np.array([0.2]), np.array([77]))

    expected = expit(fitted.slope * to_logit(np.array([0.2])) + fitted.intercept)
    assert calibrated == pytest.approx(expected)


@pytest.mark.parametrize("converted", [19, 5_000 - 19])
def test_too_few_of_a_class_is_the_identity_with_a_reason(converted: int) -> None:
    p, _, market, _ = drawn(5_000, 1.0, 0.0, [0.0])

    calibrator = Calibrator.fit(p, np.arange(5_000) < converted, market)

    assert f"{converted:,} conversions" in calibrator.reason
    assert calibrator.transform(p, market).tolist() == p.tolist()


def test_probabilities_that_rank_backwards_are_left_alone() -> None:
    p, y, market, _ = drawn(20_000, -1.0, -2.0, [0.0])

    calibrator = Calibrator.fit(p, y, market)

    assert "do not rank" in calibrator.reason
    assert calibrator.slope == 1.0


def test_zero_and_one_stay_finite() -> None:
    p, y, market, _ = drawn(5_000, 1.0, 0.0, [0.0])
    fitted = Calibrator.fit(p, y, market)

    calibrated = fitted.transform(np.array([0.0, 1.0]), np.array([3, 3]))

    assert np.isfinite(calibrated).all()
    assert calibrated[0] < calibrated[1]


def test_state_survives_json() -> None:
    p, y, market, _ = drawn(5_000, 0.7, 0.2, [0.5, -0.5])
    fitted = Calibrator.fit(p, y, market)

    again = Calibrator.from_dict(json.loads(json.dumps(fitted.to_dict())))

    assert again == fitted
    assert again.transform(p, market).tolist() == fitted.transform(p, market).tolist()
