from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.arrays import LEFT_OUT, TEST
from features.schema import Tables
from purchase_predictor.comparison.flat import FlatModels
from purchase_predictor.comparison.transfer import (
    DIMENSIONS,
    EVERY,
    ID_ALONE,
    measure_transfer,
    profile_choices,
)
from purchase_predictor.settings import load_settings
from purchase_predictor.training.selection import split_by

SETTINGS = load_settings(
    None,
    [
        "data.validation_fraction=0.2", "baselines.lightgbm.max_rounds=10",
        "baselines.lightgbm.min_child_samples=5", "baselines.lightgbm.threads=1",
        "comparison.random_profiles=2", "evaluation.resamples=30",
    ],
)  # fmt: skip
MARKETS = ["JP", "KR", "US"]


@pytest.fixture(scope="module")
def models(tiny_tables: Tables) -> FlatModels:
    return FlatModels(tiny_tables, split_by(tiny_tables, SETTINGS), SETTINGS)


def test_every_market_is_served_by_every_other(models: FlatModels) -> None:
    found = measure_transfer(models, MARKETS, settings=SETTINGS, progress=lambda _: None)

    cells = found.matrix.select("trained_on", "market").rows()
    assert sorted(cells) == sorted((a, b) for a in [EVERY, *MARKETS] for b in MARKETS)
    assert {gap["market"] for gap in found.gaps} == {"macro", "pooled", *MARKETS}
    assert {gap["against"] for gap in found.culture} == {ID_ALONE}
    assert len({gap["arm"] for gap in found.culture}) == 3
    beyond = {(gap["arm"], gap["against"]) for gap in found.beyond}
    assert beyond == {(DIMENSIONS, f"random vectors {number}") for number in (1, 2)}
    values = {gap["arm"]: gap["value"] for gap in found.culture if gap["market"] == "KR"}
    last = next(gap for gap in reversed(found.beyond) if gap["market"] == "KR")
    assert last["value"] == pytest.approx(values[DIMENSIONS] - values["random vectors 2"])


def test_a_market_left_out_is_left_out_of_all_that_is_learned(
    tiny_tables: Tables, models: FlatModels
) -> None:
    """Whatever its training rows hold, a model of the others predicts it the same."""
    data = models.encode(["KR", "US"], ["JP"])
    changed = tiny_tables.impressions.with_columns(
        price=pl.when(pl.col("market") == "JP").then(pl.col("price") * 7).otherwise("price"),
        converted=pl.when(pl.col("market") == "JP").then(~pl.col("converted")).otherwise(
            "converted"
        ),
    )  # fmt: skip
    other = FlatModels(replace(tiny_tables, impressions=changed), models.split, SETTINGS)
    again = other.encode(["KR", "US"], ["JP"])

    assert set(data.part[data.market_label == "JP"]) == {TEST, LEFT_OUT}
    own = data.market_label != "JP"
    np.testing.assert_array_equal(data.numbers[own], again.numbers[own])
    test = own & (data.part == TEST)
    assert test.any()
    first, second = (models.fit(rows, seed=0).predict_proba(rows) for rows in (data, again))
    np.testing.assert_array_equal(first[own], second[own])


def test_random_profiles_are_as_wide_as_the_published_ones_and_differ() -> None:
    choices = profile_choices(MARKETS, SETTINGS)
    random = [profiles for name, profiles in choices.items() if name.startswith("random")]
    published = choices["cultural dimensions"]

    assert choices[ID_ALONE] == {}
    assert len(random) == 2
    assert random[0] != random[1]
    assert all(set(profiles) == set(MARKETS) for profiles in random)
    assert set(random[0]["KR"]) == set(published["KR"])
    # a market of which nothing is published is told nothing either way
    other = profile_choices([*MARKETS, "ZZ"], SETTINGS)
    assert all("ZZ" not in profiles for profiles in other.values())
