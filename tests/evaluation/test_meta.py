import numpy as np
import pytest

from purchase_predictor.evaluation.meta import left_out_coverage, random_effects, size_trend

BCG = np.array(
    [
        [4, 119, 11, 128], [6, 300, 29, 274], [3, 228, 11, 209], [62, 13536, 248, 12619],
        [33, 5036, 47, 5761], [180, 1361, 372, 1079], [8, 2537, 10, 619],
        [505, 87886, 499, 87892], [29, 7470, 45, 7232], [17, 1699, 65, 1600],
        [186, 50448, 141, 27197], [5, 2493, 3, 2338], [27, 16886, 29, 17825],
    ], float,
)  # fmt: skip
"""Thirteen trials of the BCG vaccine: ill and well when vaccinated, ill and well when not
(Colditz et al., JAMA 271, 1994), the worked example of the literature."""


def bcg() -> tuple[np.ndarray, np.ndarray]:
    a, b, c, d = BCG.T
    effects = np.log(a / (a + b)) - np.log(c / (c + d))
    return effects, 1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)


def test_the_worked_example_of_the_literature() -> None:
    """Viechtbauer (Journal of Statistical Software 36, 2010) and textbooks after it."""
    found = random_effects(*bcg(), confidence=0.95)

    assert found.mean == pytest.approx(-0.7141, abs=5e-5)
    assert found.tau2 == pytest.approx(0.3088, abs=5e-5)
    assert found.i2 == pytest.approx(0.9212, abs=5e-5)
    assert found.q == pytest.approx(152.233, abs=5e-4)
    # by Hartung and Knapp a bit wider than the usual -1.0644 to -0.3638
    assert found.low == pytest.approx(-1.108, abs=2e-3)
    assert found.high == pytest.approx(-0.320, abs=2e-3)
    assert found.new_low < found.low < found.high < found.new_high
    assert found.p_heterogeneity < 1e-20


def test_equal_markets_have_no_variance_between_them() -> None:
    found = random_effects(np.full(4, 0.02), np.full(4, 1e-4), confidence=0.95)

    assert (found.tau2, found.i2, found.q) == (0.0, 0.0, pytest.approx(0.0))
    assert found.mean == pytest.approx(0.02)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    mean, tau, n = 0.01, 0.02, 8
    inside, new_inside = [], []
    for _ in range(1000):
        variances = rng.uniform(0.5, 2, n) * 1e-4
        effects = rng.normal(mean, tau, n) + rng.normal(0, np.sqrt(variances))
        found = random_effects(effects, variances, confidence=0.95)
        inside.append(found.low <= mean <= found.high)
        new_inside.append(found.new_low <= rng.normal(mean, tau) <= found.new_high)
    assert 0.92 < np.mean(inside) < 0.98
    assert 0.91 < np.mean(new_inside) < 0.985


def test_a_gap_that_shrinks_with_size_is_seen_and_predicted() -> None:
    rng = np.random.default_rng(0)
    n = np.array([50.0, 100, 200, 400, 800, 1600, 3200, 6400])
    variances = np.full(8, 1e-6)
    effects = 0.08 - 0.02 * np.log10(n) + rng.normal(0, 1e-3, 8)

    found = size_trend(effects, variances, n, np.array([150.0, 5000.0]), confidence=0.95)

    assert found.low < -0.02 < found.high < 0
    assert found.predicted == pytest.approx(0.08 - 0.02 * np.log10([150, 5000]), abs=2e-3)
    assert (found.new_low < found.predicted).all()
    # errors are far smaller than the trend, so its interval is narrow
    assert found.above == pytest.approx((50, 6400))
    assert found.below is None
    turned = size_trend(effects - 0.02, variances, n, np.array([150.0]), confidence=0.95)
    assert turned.above is not None
    assert turned.below is not None
    assert turned.above[0] == pytest.approx(50)
    assert 800 < turned.above[1] < 1000 < turned.below[0] < 1250  # 0.06 = 0.02 log10(1000)
    assert turned.below[1] == pytest.approx(6400)
    to_and_fro = np.tile([1e-3, -1e-3], 4)
    level = size_trend(to_and_fro, variances, n, np.array([150.0]), confidence=0.95)
    assert level.above is None
    assert level.below is None
    assert left_out_coverage(effects, variances, n, confidence=0.95) >= 0.75


def test_the_trend_s_interval_of_a_new_market_covers() -> None:
    rng = np.random.default_rng(1)
    n = np.geomspace(50, 5000, 9)
    inside = []
    for _ in range(500):
        variances = rng.uniform(0.5, 2, 9) * 1e-4
        true = 0.08 - 0.02 * np.log10(n) + rng.normal(0, 0.01, 9)
        effects = true + rng.normal(0, np.sqrt(variances))
        found = size_trend(effects[1:], variances[1:], n[1:], n[:1], confidence=0.95)
        inside.append(found.new_low[0] <= true[0] <= found.new_high[0])
    assert 0.9 < np.mean(inside) < 0.99


@pytest.mark.parametrize(
    ("effects", "variances"), [([0.1, 0.2], [1.0, 1.0]), ([0.1, 0.2, 0.3], [1.0, 0.0, 1.0])]
)
def test_what_cannot_be_combined_is_refused(effects: list[float], variances: list[float]) -> None:
    with pytest.raises(ValueError, match=r"needed|positive"):
        random_effects(np.array(effects), np.array(variances), confidence=0.95)
