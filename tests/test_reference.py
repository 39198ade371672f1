"""Histograms of test rows, and the report on how far scored rows are from them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.arrays import TEST, EncodedMarket
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.reference import Counts, Reference
from purchase_predictor.scoring.drift import drift_report, table_rows

SYSTEM = "fusion"


@pytest.fixture(scope="module")
def tested(small_model: PurchasePredictor) -> EncodedMarket:
    data = small_model.data_
    return data.select(data.part == TEST)


@pytest.fixture(scope="module")
def scores(tested: EncodedMarket) -> np.ndarray:
    return np.random.default_rng(0).beta(1, 8, len(tested.row))


@pytest.fixture(scope="module")
def reference(tested: EncodedMarket, scores: np.ndarray) -> Reference:
    return Reference.fit(tested, {SYSTEM: scores})


def report_on(
    reference: Reference, data: EncodedMarket, scores: np.ndarray
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    report = drift_report(reference, reference.count(data, {SYSTEM: scores}), SYSTEM)
    return report, {row["input"]: row for row in report["inputs"]}


def moved(data: EncodedMarket, name: str, values: np.ndarray | float) -> EncodedMarket:
    numbers = data.numbers.copy()
    numbers[:, [column.name for column in data.number_columns].index(name)] = values
    return replace(data, numbers=numbers)


def test_the_same_rows_have_not_moved(
    reference: Reference, tested: EncodedMarket, scores: np.ndarray
) -> None:
    report, inputs = report_on(reference, tested, scores)

    assert report["n"] == report["n_before"] == len(tested.row)
    assert report["scores"]["psi"] == 0
    assert {row["psi"] for row in report["inputs"]} <= {0.0, None}
    assert report["warnings"] == []
    assert {"market", "product category", "device"} <= inputs.keys()
    assert all(flag["share"] == flag["share_before"] for flag in report["flags"])


def test_every_row_is_counted_once(reference: Reference, tested: EncodedMarket) -> None:
    for histogram in reference.counts.inputs.values():
        assert sum(histogram[:-1]) == len(tested.row)  # bins and missing; unseen is in a bin
    for counts in reference.counts.scores.values():
        assert sum(counts) == len(tested.row)


def test_what_moved_is_told(
    reference: Reference, tested: EncodedMarket, scores: np.ndarray
) -> None:
    data = moved(tested, "discount_rate", 0.9)
    data = moved(data, "log_price", np.nan)
    codes = data.categories.copy()
    codes[: len(codes) // 2] = 2  # a value never seen
    report, inputs = report_on(reference, replace(data, categories=codes), scores / 3)

    assert inputs["discount_rate"]["psi"] > 0.25
    assert inputs["log_price"]["psi"] is None
    assert inputs["log_price"]["missing"] == 1
    assert inputs["device"]["unseen"] >= 0.5
    told = "\n".join(report["warnings"])
    assert f"the scores of {SYSTEM} have moved" in told
    assert "discount_rate" in told
    assert "more rows are missing than when the model was tested: log_price 100%" in told
    assert "more rows are unseen than when the model was tested: " in told
    assert "device 50% (0%)" in told
    assert told.index("100%") < told.index("50%")
    assert len(table_rows(report)) == 6


def test_another_mix_of_markets_is_one_warning_not_many(
    tested: EncodedMarket, scores: np.ndarray
) -> None:
    market = 3 + np.arange(len(tested)) % 2
    reference = Reference.fit(replace(tested, market=market), {SYSTEM: scores})
    rows = replace(moved(tested, "discount_rate", 0.9), market=np.full_like(market, 4))
    report, inputs = report_on(reference, rows, scores / 3)

    assert inputs["market"]["psi"] > 0.25
    assert inputs["discount_rate"]["psi"] > 0.25
    assert len(report["warnings"]) == 1
    assert "the mix of markets is another one" in report["warnings"][0]


def test_few_rows_are_no_reason_to_warn(
    reference: Reference, tested: EncodedMarket, scores: np.ndarray
) -> None:
    few = tested.select(np.arange(len(tested.row)) < 5)
    report, inputs = report_on(reference, few, scores[:5])
    assert inputs["hour_of_day"]["psi"] > 0.25
    assert report["warnings"] == []


def test_shards_add_up_to_the_whole(
    reference: Reference, tested: EncodedMarket, scores: np.ndarray
) -> None:
    first = np.arange(len(tested.row)) < 100
    total = Counts()
    for part in (first, ~first):
        total.add(reference.count(tested.select(part), {SYSTEM: scores[part]}))
    assert total == reference.count(tested, {SYSTEM: scores})


def test_travels_as_json_and_with_the_model(
    reference: Reference, small_model: PurchasePredictor
) -> None:
    assert Reference.from_dict(reference.to_dict()) == reference
    known = small_model.reference_
    assert known is not None
    assert known.counts.scores.keys() == {"fusion", "lightgbm", "stack"}
    test = small_model.data_.part == TEST
    assert known.counts.n == test.sum()


def test_the_model_folder_holds_it(
    small_model: PurchasePredictor, small_model_folder: Any
) -> None:
    assert PurchasePredictor.load(small_model_folder).reference_ == small_model.reference_
