"""Logistic regression: what it is given, and which penalty it keeps."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from features.arrays import STOP, EncodedMarket
from purchase_predictor.baselines.logistic import LogisticSystem
from purchase_predictor.settings import load_settings


@pytest.fixture(scope="module")
def data(market_of: Callable[..., EncodedMarket]) -> EncodedMarket:
    return market_of(n_units=200, n_events=400)


def system_with(*overrides: str) -> LogisticSystem:
    settings = load_settings(overrides=[f"baselines.logistic.{text}" for text in overrides])
    return LogisticSystem(settings.baselines.logistic)


def test_the_penalty_that_is_best_on_stop_rows_is_kept(data: EncodedMarket) -> None:
    lines: list[str] = []

    system = system_with("inverse_penalty=10", "n_penalties=5").fit(
        data, seed=0, progress=lines.append
    )

    tried = {line.split()[3].rstrip(","): float(line.split()[5]) for line in lines[:-1]}
    assert list(tried) == ["0.001", "0.01", "0.1", "1", "10"]
    assert f"{system.inverse_penalty_:g}" == min(tried, key=tried.__getitem__)
    stop = data.select(data.part == STOP)
    p = system.predict_proba(stop)
    loss = -np.log(np.where(stop.converted == 1, p, 1 - p)).mean()
    assert loss == pytest.approx(min(tried.values()), abs=1e-4)


def test_a_large_category_has_no_columns(data: EncodedMarket) -> None:
    narrow = system_with("largest_category=0").fit(data, seed=0, progress=lambda _: None)
    wide = system_with("largest_category=1000").fit(data, seed=0, progress=lambda _: None)

    n_codes = sum(wide.input_.n_codes)
    assert n_codes > 0
    assert len(wide.coefficients_) == len(narrow.coefficients_) + n_codes


def test_a_missing_number_counts_by_its_indicator(data: EncodedMarket) -> None:
    """Where missing numbers convert, a row is likelier to convert once its number is missing."""
    numbers = data.numbers.copy()
    missing = np.isnan(numbers[:, 0])
    told = replace(data, converted=np.where(missing, np.float32(1), data.converted))
    system = system_with().fit(told, seed=0, progress=lambda _: None)
    numbers[:, 0] = 0.0
    known = system.predict_proba(replace(data, numbers=numbers))
    numbers[:, 0] = np.nan

    unknown = system.predict_proba(replace(data, numbers=numbers))

    assert (unknown > known).all()
