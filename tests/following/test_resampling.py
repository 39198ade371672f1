import numpy as np
import pytest

from purchase_predictor.evaluation.intervals import resample
from purchase_predictor.following.resampling import Sums, judged, resampled_sums
from tests.following.cases import evaluation


def test_sums_are_those_of_the_drawn_units() -> None:
    rng = np.random.default_rng(0)
    columns, unit = rng.normal(size=(2, 50)), rng.integers(0, 12, 50)
    group = rng.integers(0, 3, 50)
    settings = evaluation(resamples=20)

    found = resampled_sums(columns, unit, settings=settings, seed=4, group=group, n_groups=3)

    units, code = np.unique(unit, return_inverse=True)
    (_, weights), *_ = resample(len(units), 20, 64, 4)
    for g in range(3):
        own = group == g
        assert found.value[:, g] == pytest.approx(columns[:, own].sum(1))
        assert found.draws[:, g] == pytest.approx(columns[:, own] @ weights[code[own]])


def test_a_ratio_by_nothing_is_not_defined() -> None:
    sums = Sums(np.array([1.0, 0.0]), np.array([[1.0, 2.0], [0.0, 4.0]]))
    ratio = sums.ratio(0, 1)
    assert np.isnan(ratio.value)
    assert np.isnan(ratio.draws[0])
    assert ratio.draws[1] == 0.5
    assert ratio.figure(0.95) == {"value": None, "low": None, "high": None}


def test_the_interval_of_a_rate_of_few_conversions_does_not_lie_too_low() -> None:
    rng = np.random.default_rng(0)
    n, truth = 1400, 0.018
    below = {"rate": 0, "figure": 0}
    for _ in range(2000):
        value = rng.binomial(n, truth) / n
        sums = Sums(np.array(value), rng.binomial(n, value, 200) / n)
        for name in below:
            high = getattr(sums, name)(0.95)["high"]
            below[name] += high is None or high < truth
    # 2.5 % is what each side of the interval may miss
    assert below["rate"] < 2000 * 0.035
    assert below["figure"] > 2000 * 0.035


def test_a_rate_of_nothing_or_of_everything_has_no_log_odds() -> None:
    for value in (0.0, 1.0, 1.2):
        sums = Sums(np.array(value), np.linspace(0.5, 1.5, 50) * value)
        assert sums.rate(0.95) == sums.figure(0.95)
    rate = Sums(np.array(0.02), np.linspace(0.01, 0.03, 50)).rate(0.95)
    assert rate["value"] == 0.02
    assert rate["high"] - 0.02 > 0.02 - rate["low"] > 0


@pytest.mark.parametrize(
    ("mean", "positive", "verdict"),
    [
        (5.0, (9, 9), "arm better"),
        (-5.0, (9, 9), "against better"),
        (0.1, (9, 9), "undecided"),
        (5.0, (9, 4), "not enough data"),
        (5.0, (0, 0), "not enough data"),
    ],
)
def test_verdicts(mean: float, positive: tuple[int, int], verdict: str) -> None:
    draws = np.random.default_rng(0).normal(mean, 1, 200)
    found = judged(Sums(np.array(mean), draws), positive, evaluation())
    assert found["verdict"] == verdict
    known = sum(positive) > 0
    assert (found["low"] is None) == (found["smallest_detectable"] is None) == (not known)
    if known:
        assert found["smallest_detectable"] == pytest.approx(2.8, abs=0.4)
