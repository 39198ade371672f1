"""Paired gaps: sign, Holm, power and verdicts."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from scipy.stats import false_discovery_control, norm

from purchase_predictor.evaluation import gap, intervals
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.settings import EvaluationSettings

SETTINGS = EvaluationSettings(resamples=300, confidence=0.95, min_test_conversions=30, ece_bins=10)


def compared(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    generator = np.random.default_rng(0)
    sizes = {"big": 6000, "middle": 1500, "tiny": 80}
    n = sum(sizes.values())
    x = generator.normal(-2, 1.2, n)
    frame = pl.DataFrame(
        {
            "unit": np.arange(n) // 2,
            "market": np.repeat(list(sizes), list(sizes.values())),
            "list_number": np.arange(n) // 4,
            "converted": generator.random(n) < expit(x),
            "good": expit(x),
            "poor": expit(-2 + generator.normal(0, 0.3, n)),
            "same": expit(x),
        }
    )
    draws = intervals.draw(
        Rows.from_frame(frame, ["good", "poor", "same"]), settings=SETTINGS, seed=0
    )
    return gap.paired_gaps(draws, pairs, settings=SETTINGS)


def one(gaps: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    (found,) = [g for g in gaps if all(g[key] == value for key, value in wanted.items())]
    return found


def test_a_gap_is_arm_less_against() -> None:
    gaps = compared([("good", "poor"), ("poor", "good")])

    forth = one(gaps, arm="good", market="macro", metric="auc")
    back = one(gaps, arm="poor", market="macro", metric="auc")

    assert forth["value"] > 0.1
    assert forth["value"] == pytest.approx(-back["value"])
    assert forth["low"] == pytest.approx(-back["high"])
    assert (forth["verdict"], back["verdict"]) == ("arm better", "against better")


def test_less_entropy_is_better() -> None:
    found = one(compared([("good", "poor")]), market="big", metric="normalised_entropy")

    assert found["value"] < 0
    assert found["verdict"] == "arm better"
    assert "delong_low" not in found


def test_few_conversions_get_no_verdict() -> None:
    found = one(compared([("good", "poor")]), market="tiny", metric="auc")

    assert found["n_test_positive"] < 30
    assert (found["p"], found["p_holm"]) == (None, None)
    assert found["verdict"] == "not enough data"
    assert found["smallest_detectable"] > 0


def test_identical_arms_are_the_same() -> None:
    for found in compared([("good", "same")]):
        assert found["value"] == 0.0
        if found["market"] != "tiny":
            assert (found["p"], found["verdict"]) == (1.0, "same to 4 digits")


@pytest.mark.parametrize(("shift", "verdict"), [(1e-6, "same to 4 digits"), (0.1, "arm better")])
def test_a_win_that_no_printed_digit_shows_is_none(shift: float, verdict: str) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(-2, 1.2, 6000)
    frame = pl.DataFrame(
        {
            "unit": np.arange(6000),
            "market": "KR",
            "list_number": np.arange(6000),
            "converted": generator.random(6000) < expit(x),
            "true": expit(x),
            "shifted": expit(x + 3 * shift),
        }
    )
    draws = intervals.draw(Rows.from_frame(frame, ["true", "shifted"]), settings=SETTINGS, seed=0)
    gaps = gap.paired_gaps(draws, [("true", "shifted")], settings=SETTINGS)
    found = one(gaps, metric="normalised_entropy", market="KR")
    assert found["value"] != 0
    assert found["verdict"] == verdict


def test_detectable_difference_uses_holm_level_over_tested_markets() -> None:
    gaps = compared([("good", "poor")])
    market = one(gaps, market="big", metric="auc")
    pooled = one(gaps, market="pooled", metric="auc")

    def error(found: dict[str, Any]) -> float:
        return (found["delong_high"] - found["delong_low"]) / 2 / norm.isf(0.025)

    # two of three markets are tested
    factor = norm.isf(0.05 / 2 / 2) + norm.ppf(0.8)
    assert market["smallest_detectable"] == pytest.approx(factor * error(market), rel=0.15)
    factor = norm.isf(0.05 / 2) + norm.ppf(0.8)
    assert pooled["smallest_detectable"] == pytest.approx(factor * error(pooled), rel=0.15)


def test_holm_golden() -> None:
    assert gap.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert gap.holm([0.6, 0.7]) == [1.0, 1.0]
    assert gap.holm([]) == []


def test_holm_is_never_milder_than_the_false_discovery_rate() -> None:
    p = np.random.default_rng(0).random(30) ** 3

    assert (np.array(gap.holm(list(p))) >= false_discovery_control(p) - 1e-12).all()
