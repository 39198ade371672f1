"""How much of one month's level of conversion is expected of the next."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit

from features.arrays import CALIBRATE, TEST, TRAIN, EncodedMarket
from purchase_predictor.panel import Panel
from purchase_predictor.training.level import (
    MODEL_SD,
    kept_share,
    level_change,
    stretch_variance,
)
from tests.encoded_market import make_market

N_MONTHS = 40


def months(moves: float, seed: int = 0) -> EncodedMarket:
    """Many months, the last of which calibrates; their log-odds differ by `moves`."""
    market = make_market(n_units=12_000, n_events=100)
    rng = np.random.default_rng(seed)
    time = np.sort(rng.random(len(market))) * (N_MONTHS + 1)
    month = time.astype(int)
    level = rng.normal(0, moves, N_MONTHS + 1)[month] - 1.0
    part = np.where(month == N_MONTHS, CALIBRATE, TRAIN).astype(np.int8)
    converted = (rng.random(len(market)) < expit(level)).astype(np.float32)
    return replace(market, time=time, part=part, converted=converted)


@pytest.mark.parametrize(("moves", "low", "high"), [(0.0, 0.0, 0.06), (0.4, 0.3, 0.5)])
def test_the_spread_of_months_is_told_from_chance(moves: float, low: float, high: float) -> None:
    assert low <= np.sqrt(stretch_variance(months(moves))) <= high


def test_short_training_time_says_nothing_of_months() -> None:
    market = months(0.4)
    part = np.where(market.time > N_MONTHS / 3, CALIBRATE, TRAIN).astype(np.int8)
    assert stretch_variance(replace(market, part=part)) == 0.0
    assert stretch_variance(replace(market, part=np.full_like(part, TEST))) == 0.0


def test_less_is_kept_of_a_level_that_moves_or_that_few_conversions_tell() -> None:
    many, few = np.arange(10_000) % 4 == 0, np.arange(100) % 4 == 0
    still, moving = kept_share(0.0, many, 0.0), kept_share(0.0, many, 0.1**2)
    own = MODEL_SD**2
    assert still == pytest.approx(own / (own + 1 / 1875), rel=1e-6)
    assert moving == pytest.approx(own / (own + 0.01 + 1 / 1875), rel=1e-6)
    assert kept_share(0.0, few, 0.0) < 0.1 < moving < still


def test_what_no_chance_explains_is_kept() -> None:
    y = np.arange(10_000) % 4 == 0
    small, large = (kept_share(change, y, 0.1**2) for change in (0.1, -0.6))
    assert small == pytest.approx(kept_share(0.0, y, 0.1**2))
    assert large == pytest.approx(1 - (0.01 + 1 / 1875) / 0.36)


def test_the_change_of_level_is_found_whatever_the_spread() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-2, 1, 5000)
    raw = expit(logits)
    assert level_change(logits + 0.5, raw) == pytest.approx(0.5, abs=1e-6)
    assert level_change(logits, raw) == pytest.approx(0.0, abs=1e-6)
    moved = 1.4 * logits - level_change(1.4 * logits, raw)
    assert expit(moved).mean() == pytest.approx(raw.mean(), abs=1e-9)


class Told:
    """A system that says what it was told."""

    def __init__(self, name: str, p: dict[str, float]) -> None:
        self.name, self.p = name, p

    def predict_proba(self, data: EncodedMarket) -> np.ndarray:
        return np.array([self.p[name] for name in data.impression_id.astype(str)])


def test_systems_and_stack_keep_the_same_share_of_a_months_level() -> None:
    market = months(0.0)
    rng = np.random.default_rng(1)
    ids = market.impression_id.astype(str)
    p = expit(rng.normal(-1.0, 0.6, len(market)))
    fresh = market.part == CALIBRATE
    converted = np.where(fresh, rng.random(len(p)) < expit(np.log(p / (1 - p)) + 0.7), 0)
    market = replace(market, converted=converted.astype(np.float32))
    systems = {name: Told(name, dict(zip(ids, p, strict=True))) for name in ("fusion", "lightgbm")}
    rows = market.select(fresh)

    means = {
        variance: {
            name: found.mean()
            for name, found in Panel.fit(systems, market, variance=variance)
            .predict_proba(rows)
            .items()
        }
        for variance in (0.0, 100.0)
    }

    rate, raw = rows.converted.mean(), p[fresh].mean()
    for name in ("fusion", "lightgbm", "stack"):
        assert means[100.0][name] == pytest.approx(raw, abs=0.002)
        # 0.7 log-odds are no chance, unless months are known to move by ten
        assert means[0.0][name] == pytest.approx(rate, abs=0.01)
