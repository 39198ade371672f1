from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.arrays import LEFT_OUT, TRAIN
from features.schema import Tables
from purchase_predictor.comparison.curves import (
    break_evens,
    crossing_point,
    learning_curves,
)
from purchase_predictor.comparison.flat import FlatModels
from purchase_predictor.settings import load_settings
from purchase_predictor.training.selection import split_by

SETTINGS = load_settings(
    None,
    [
        "data.validation_fraction=0.2", "baselines.lightgbm.max_rounds=10",
        "baselines.lightgbm.min_child_samples=5", "baselines.lightgbm.threads=1",
        "comparison.curve_conversions=[10, 20]", "comparison.curve_repeats=2",
    ],
)  # fmt: skip


def test_a_curve_crosses_where_it_stays_below_zero() -> None:
    n = np.array([100.0, 200.0, 400.0, 800.0])
    assert crossing_point(n, np.array([0.2, 0.1, -0.1, -0.2])) == pytest.approx(np.sqrt(2) * 200)
    assert crossing_point(n, np.array([0.2, -0.1, 0.1, -0.1])) == pytest.approx(np.sqrt(2) * 400)
    assert crossing_point(n, np.array([-0.1, -0.1, -0.1, -0.1])) == 100
    assert crossing_point(n, np.array([0.2, 0.1, 0.1, 0.05])) == np.inf


def test_break_even_has_an_interval_and_may_lie_beyond_what_was_measured() -> None:
    rng = np.random.default_rng(0)
    points = [
        {
            "market": market, "size": size, "repeat": repeat, "conversions": size,
            "everyone": 0.8,
            "local": 0.8 + slope * np.log10(size / 200) - lag + 0.003 * rng.normal(),
        }
        for market, slope, lag in (("KR", 0.05, 0.0), ("MX", 0.05, 0.2))
        for size in (50, 100, 200, 400, 800)
        for repeat in range(10)
    ]  # fmt: skip
    kr, mx = break_evens(pl.DataFrame(points), confidence=0.95)

    assert kr.conversions == pytest.approx(200, rel=0.15)
    assert kr.low is not None
    assert kr.high is not None
    assert kr.low < kr.conversions < kr.high < 400
    assert (mx.conversions, mx.high, mx.largest) == (None, None, 800)


def test_curves_learn_from_subsets_of_users(tiny_tables: Tables) -> None:
    models = FlatModels(tiny_tables, split_by(tiny_tables, SETTINGS), SETTINGS)
    lines: list[str] = []
    curves = learning_curves(models, ["KR", "US"], settings=SETTINGS, progress=lines.append)

    assert set(curves["market"]) == {"KR", "US"}
    for market in ("KR", "US"):
        part = curves.filter(pl.col("market") == market)
        n = tiny_tables.impressions.filter(
            pl.Series(models.split.part == TRAIN), pl.col("market") == market
        )["converted"].sum()
        assert part["size"].max() == part["conversions"].max() == n
        small = part.filter(pl.col("size") == 10)
        assert small["conversions"].max() < n
        assert len(small) == 2
        assert small["conversions"].n_unique() + small["local"].n_unique() > 2
    assert any("KR" in line for line in lines)


def test_a_market_without_training_conversions_has_no_curve(tiny_tables: Tables) -> None:
    split = split_by(tiny_tables, SETTINGS)
    here = (tiny_tables.impressions["market"] == "KR").to_numpy() & (split.part == TRAIN)
    part = np.where(here, LEFT_OUT, split.part).astype(np.int8)
    models = FlatModels(tiny_tables, replace(split, part=part), SETTINGS)
    curves = learning_curves(models, ["KR", "US"], settings=SETTINGS, progress=lambda _: None)
    assert set(curves["market"]) == {"US"}
