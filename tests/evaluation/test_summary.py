"""The contents of metrics.json."""

import json

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.metrics import METRICS
from purchase_predictor.evaluation.summary import evaluate
from purchase_predictor.settings import EvaluationSettings

SETTINGS = EvaluationSettings(resamples=100, confidence=0.95, min_test_conversions=30, ece_bins=10)
SYSTEMS = ["fusion", "lightgbm"]


def example(n: int = 3000) -> tuple[pl.DataFrame, pl.DataFrame]:
    generator = np.random.default_rng(0)
    x = generator.normal(-2, 1.2, n)
    market = np.array(["KR", "US", "JP"])[np.minimum(np.arange(n) // 1400, 2)]
    market[-3:] = "MY"
    converted = generator.random(n) < expit(x)
    converted[-3:] = False
    predictions = pl.DataFrame(
        {
            "impression_id": [f"i{k}" for k in range(n)],
            "unit": np.arange(n) // 2,
            "market": market,
            "list_number": np.arange(n) // 4,
            "converted": converted,
            "fusion": expit(x + generator.normal(0, 0.4, n)),
            "lightgbm": expit(x + generator.normal(0, 0.6, n)),
        }
    )
    truth = pl.DataFrame(
        {
            "impression_id": predictions["impression_id"].reverse(),
            "p_true": expit(x)[::-1],
            "p_observable": expit(x + 0.01)[::-1],
        }
    )
    return predictions, truth


def test_holds_every_figure_with_its_interval_as_json() -> None:
    predictions, _ = example()

    result = evaluate(predictions, systems=SYSTEMS, settings=SETTINGS, seed=0)

    again = json.loads(json.dumps(result, allow_nan=False))
    assert again == result
    assert list(result["systems"]) == SYSTEMS
    for system in result["systems"].values():
        assert set(system["markets"]) == {"KR", "US", "JP", "MY"}
        for scope in (system["macro"], system["pooled"], *system["markets"].values()):
            assert set(METRICS) <= set(scope)
            assert {"value", "low", "high"} <= set(scope["auc"])
        auc = system["macro"]["auc"]
        assert auc["low"] < auc["value"] < auc["high"]
        assert auc["delong_low"] == pytest.approx(auc["low"], abs=0.01)
    assert result["ceilings"] == {}
    assert set(result["markets_averaged"]) | set(result["markets_left_out"]) == set(
        result["systems"]["fusion"]["markets"]
    )


def test_a_market_with_one_class_is_null_and_listed() -> None:
    predictions, _ = example()

    result = evaluate(predictions, systems=SYSTEMS, settings=SETTINGS, seed=0)

    market = result["systems"]["fusion"]["markets"]["MY"]
    assert market["auc"]["value"] is None
    assert market["mrr"]["value"] is None
    assert market["log_loss"]["value"] is not None
    assert (market["n"], market["n_positive"]) == (3, 0)
    assert result["markets_left_out"]["MY"]["n_positive"] == 0
    gap = [g for g in result["gaps"] if g["market"] == "MY" and g["metric"] == "auc"]
    assert gap[0]["verdict"] == "not enough data"


def test_no_rows_are_no_crash() -> None:
    predictions, truth = example()

    result = evaluate(predictions.head(0), systems=SYSTEMS, settings=SETTINGS, seed=0, truth=truth)

    assert result["systems"]["fusion"]["macro"]["auc"]["value"] is None
    assert result["systems"]["fusion"]["markets"] == {}


def test_ceilings_are_joined_by_id_and_share_closed_is_relative_to_them() -> None:
    predictions, truth = example()

    result = evaluate(predictions, systems=SYSTEMS, settings=SETTINGS, seed=0, truth=truth)

    best = result["ceilings"]["observable"]["macro"]["normalised_entropy"]["value"]
    assert set(result["ceilings"]) == {"true", "observable"}
    for system in result["systems"].values():
        own = system["macro"]["normalised_entropy"]["value"]
        share = system["macro"]["share_closed"]
        assert own > best
        assert share["value"] == pytest.approx((1 - own) / (1 - best))
        assert 0 < share["low"] < share["value"] < share["high"] < 1.05


def test_the_observable_ceiling_is_closed_by_itself() -> None:
    predictions, truth = example()
    predictions = predictions.join(truth, on="impression_id").with_columns(
        fusion=pl.col("p_observable")
    )

    result = evaluate(
        predictions.drop("p_true", "p_observable"),
        systems=SYSTEMS,
        settings=SETTINGS,
        seed=0,
        truth=truth,
    )

    share = result["systems"]["fusion"]["pooled"]["share_closed"]
    assert share == {"value": 1.0, "low": 1.0, "high": 1.0}


def test_truth_of_other_data_is_refused() -> None:
    predictions, truth = example()

    with pytest.raises(DataError, match="for 1000 of 3000 impressions"):
        evaluate(predictions, systems=SYSTEMS, settings=SETTINGS, seed=0, truth=truth.head(2000))


def test_gaps_hold_every_system_against_lightgbm() -> None:
    predictions, truth = example()

    result = evaluate(predictions, systems=SYSTEMS, settings=SETTINGS, seed=0, truth=truth)

    assert {(g["arm"], g["against"]) for g in result["gaps"]} == {("fusion", "lightgbm")}
    assert {g["metric"] for g in result["gaps"]} == {"auc", "normalised_entropy"}
    assert {g["market"] for g in result["gaps"]} == {"macro", "pooled", "KR", "US", "JP", "MY"}
    alone = evaluate(predictions, systems=["fusion"], settings=SETTINGS, seed=0)
    assert alone["gaps"] == []


def test_same_seed_same_figures() -> None:
    predictions, _ = example(1000)

    first, second = (
        evaluate(predictions, systems=SYSTEMS, settings=SETTINGS, seed=3) for _ in range(2)
    )

    assert first == second
