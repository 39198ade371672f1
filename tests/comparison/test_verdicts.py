from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit, logit

from purchase_predictor.comparison.across import across_markets
from purchase_predictor.comparison.arms import ARMS, POOLED, PRIMARY
from purchase_predictor.comparison.verdicts import (
    EQUIVALENT,
    NOT_ENOUGH_CONVERSIONS,
    beside_chance,
    compare_arms,
    compare_chance,
    draw_seeds,
    side_by_side,
    with_pooled,
)
from purchase_predictor.evaluation.gap import NOT_ENOUGH, SAME
from purchase_predictor.report.comparing_data import CHANCE
from purchase_predictor.settings import Settings, load_settings

SETTINGS = load_settings(None, ["evaluation.resamples=300"])
NAMES = [*(arm.name for arm in ARMS), POOLED]


def rows(noise: dict[str, float], n: int = 6000, seed: int = 0) -> pl.DataFrame:
    """Test rows of markets whose local model sees the truth through so much noise."""
    rng = np.random.default_rng(seed)
    parts = []
    for market, amount in noise.items():
        z = rng.normal(-2, 1, n)
        own = expit(z + amount * rng.normal(size=n))
        of_all = expit(z + 0.3 * rng.normal(size=n))
        parts.append(
            pl.DataFrame(
                {
                    "impression_id": [f"{market}{i}" for i in range(n)],
                    "market": market,
                    "converted": rng.random(n) < expit(z),
                    "unit": np.arange(n) // 2 + 10_000 * len(parts),
                    "list_number": np.arange(n),
                    **dict.fromkeys(NAMES, of_all),
                    "local": own,
                }
            )
        )
    return pl.concat(parts)


def primary(frame: pl.DataFrame, settings: Settings = SETTINGS) -> dict[str, dict[str, Any]]:
    draws = draw_seeds([frame], NAMES, settings)
    n_train = dict.fromkeys(draws.markets, (1000, 100))
    return {gap["market"]: gap for gap in compare_arms(draws, settings, n_train) if gap["primary"]}


def test_verdicts_name_the_better_arm_and_say_equivalent_only_where_it_is_shown() -> None:
    frame = rows({"KR": 1.5, "US": 0.0})
    rng = np.random.default_rng(1)
    logits = logit(frame.filter(pl.col("market") == "KR")["global"].to_numpy())
    same = frame.filter(pl.col("market") == "KR").with_columns(
        pl.lit("DE").alias("market"),
        (pl.col("unit") + 500_000).alias("unit"),
        # other predictions, of which hardly any changes place
        pl.Series("local", expit(logits + 0.02 * rng.normal(size=len(logits)))),
    )
    few = (
        frame.filter(pl.col("market") == "KR").head(60).with_columns(pl.lit("FR").alias("market"))
    )
    found = primary(pl.concat([frame, same, few]))

    assert found["KR"]["verdict"] == "global"
    assert found["US"]["verdict"] == "local"
    assert found["DE"]["verdict"] == EQUIVALENT
    assert found["FR"]["verdict"] == NOT_ENOUGH
    assert found["KR"]["n_train_positive"] == 100
    assert found["KR"]["low"] > 0 > found["US"]["high"]


def test_pooling_that_takes_the_global_model_alone_is_no_win() -> None:
    frame = rows({"KR": 1.5})
    # alone but for a millionth, which is better in every resample, and so has a small p: the
    # global model promises too much and the pooled one that much less
    too_much = logit(frame["global"].to_numpy()) + 0.5
    arms = {"global": expit(too_much), POOLED: expit(too_much - 1e-6)}
    nearly = frame.with_columns(**{name: pl.Series(p) for name, p in arms.items()})
    draws = draw_seeds([nearly], NAMES, SETTINGS)
    gaps = [
        gap
        for gap in compare_arms(draws, SETTINGS, {"KR": (1000, 100)})
        if (gap["arm"], gap["against"]) == (POOLED, PRIMARY[0])
    ]

    assert {gap["metric"] for gap in gaps} == {"auc", "normalised_entropy"}
    assert any(gap["value"] != 0 and gap["p"] < 0.05 for gap in gaps)
    assert {(gap["verdict"], gap["reason"]) for gap in gaps} == {(SAME, "")}


def test_markets_whose_rows_train_no_model_are_held_against_chance() -> None:
    frame = rows(dict.fromkeys(["FR", "TW", "VN", "MX"], 0.0), n=3000)
    market, rng = pl.col("market"), np.random.default_rng(3)
    predicted = (
        pl.when(market == "TW").then(pl.Series(rng.random(len(frame))))  # knows nothing
        .when(market == "VN").then(1 - pl.col("global"))  # the wrong way round
        .otherwise("global")
    )  # fmt: skip
    held = frame.with_columns(
        fusion=predicted,
        # as few test rows as tell nothing
        part=pl.when((market == "MX") & (pl.int_range(pl.len()).over("market") > 60))
        .then(pl.lit("validation"))
        .otherwise(pl.lit("test")),
    )
    draws = draw_seeds([beside_chance(held, "fusion")], (PRIMARY[0], CHANCE), SETTINGS)
    gaps = compare_chance(draws, SETTINGS, {"FR": (100, 0), "TW": (100, 5)})
    found = {gap["market"]: gap for gap in gaps}

    assert set(found) == {"FR", "TW", "VN", "MX"}
    assert {(gap["arm"], gap["against"], gap["primary"]) for gap in gaps} == {
        ("global", CHANCE, False)
    }
    verdicts = {name: gap["verdict"] for name, gap in found.items()}
    assert verdicts == {"FR": "global", "TW": NOT_ENOUGH, "VN": CHANCE, "MX": NOT_ENOUGH}
    assert found["MX"]["reason"] == NOT_ENOUGH_CONVERSIONS
    auc = draws.of("global", "auc")[0][2 + draws.markets.index("FR")]
    assert found["FR"]["value"] == pytest.approx(auc - 0.5)
    assert found["VN"]["value"] == pytest.approx(0.5 - auc, abs=0.05)
    assert (found["FR"]["n_train"], found["TW"]["n_train_positive"]) == (100, 5)
    # one family of the three that can be judged
    assert found["TW"]["p_holm"] == pytest.approx(found["TW"]["p"], rel=1e-9)
    assert found["FR"]["p_holm"] >= 2 * found["FR"]["p"] > 0


def test_what_cannot_be_told_is_neither_equal_nor_different() -> None:
    found = primary(rows({"KR": 0.35}, n=700))
    assert found["KR"]["n_test_positive"] >= 30
    assert found["KR"]["verdict"] == NOT_ENOUGH
    assert found["KR"]["smallest_detectable"] > SETTINGS.comparison.margin


def test_several_seeds_widen_the_interval_by_what_models_differ() -> None:
    one = rows({"KR": 0.8})
    rng = np.random.default_rng(1)
    tests = []
    for shift in rng.normal(0, 0.6, 5):
        noise = np.abs(0.8 + shift) * rng.normal(size=len(one))
        z = np.log(one["global"] / (1 - one["global"]))
        tests.append(one.with_columns(pl.Series("local", expit(z + noise))))
    several = draw_seeds(tests, NAMES, SETTINGS)
    single = [draw_seeds([test], NAMES, SETTINGS) for test in tests]

    value, spread = several.of("local", "auc")
    values = [draws.of("local", "auc")[0][2] for draws in single]
    assert value[2] == pytest.approx(np.mean(values))
    within = np.mean([draws.of("local", "auc")[1][2].std() for draws in single])
    between = np.std(values) / np.sqrt(5)
    assert spread[2].std() == pytest.approx(np.hypot(within, between), rel=0.25)


def test_arms_are_joined_by_impression() -> None:
    frame = rows({"KR": 1.0}, n=50)
    base = ["impression_id", "market", "converted", "unit", "list_number"]
    held = {
        name: frame.select(*base, pl.col(name).alias("fusion"), pl.lit("test").alias("part"))
        for name in NAMES[:-1]
    }
    held["local"] = held["local"].reverse().with_columns(unit=pl.lit(0))
    wide = side_by_side(held, "fusion", "test", ["KR"])
    np.testing.assert_array_equal(wide["local"], frame["local"])
    np.testing.assert_array_equal(wide["unit"], frame["unit"])

    held["local"] = held["local"].head(10)
    with pytest.raises(ValueError, match="local lacks 40 of 50 rows"):
        side_by_side(held, "fusion", "test", ["KR"])


def test_the_pooled_arm_is_made_of_global_and_local() -> None:
    frame = rows({"KR": 1.0})
    base = ["impression_id", "market", "converted", "unit", "list_number"]
    half = pl.Series("part", np.where(np.arange(len(frame)) % 2, "test", "validation"))
    held = {name: frame.select(*base, pl.col(name).alias("fusion"), half) for name in NAMES[:-1]}
    test, pooling = with_pooled(held, "fusion", ["KR"], {"KR": 100})
    assert len(test) == len(frame) // 2
    assert pooling.kappa > 100  # the global model is the better one
    found = primary(test)
    assert found["KR"]["verdict"] == "global"


def test_markets_are_combined_with_the_interval_of_a_new_one() -> None:
    noise = {"KR": 1.2, "US": 1.0, "JP": 0.9, "DE": 1.1, "FR": 0.8}
    frame = rows(noise, n=3000)
    draws = draw_seeds([frame], NAMES, SETTINGS)
    n_train = {market: (1000, 50 * 2**i) for i, market in enumerate(noise)}
    gaps = compare_arms(draws, SETTINGS, n_train)

    found = across_markets(draws, gaps, PRIMARY, SETTINGS)

    values = [gap["value"] for gap in gaps if gap["primary"] and gap["scope"] == "market"]
    assert min(values) < found["mean"] < max(values)
    assert found["low"] < found["mean"] < found["high"]
    assert found["new_low"] <= found["low"]
    assert len(found["trend"]["at"]) == 4
    assert {"above", "below", "left_out_coverage"} <= found["trend"].keys()
    # pooling that takes the global model alone is the global model
    same = across_markets(draws, gaps, (POOLED, PRIMARY[0]), SETTINGS)
    assert same["reason"] == "the two arms are the same"
    alone = across_markets(draws, gaps[:1], PRIMARY, SETTINGS)
    assert "3 are needed" in alone["reason"]
