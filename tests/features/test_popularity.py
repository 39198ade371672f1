import json
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from features.arrays import TRAIN, EncodedMarket
from features.encoding import FeatureEncoder
from features.popularity import Counts, Popularity
from features.schema import Tables
from features.splits import Split, event_parts, split_impressions

MakeTables = Callable[..., Tables]
FitEncoder = Callable[[Tables, Split], FeatureEncoder]

ROWS = [
    {"timestamp": 1, "split": "train", "converted": True, "session_id": "1"},
    {"timestamp": 5, "split": "train", "session_id": "2"},
    {"timestamp": 5, "split": "train", "converted": True, "session_id": "3"},
    {"timestamp": 9, "split": "train", "product_id": "b", "session_id": "4"},
    {"timestamp": 3, "split": "test", "session_id": "5"},
    {"timestamp": 20, "split": "test", "product_id": "c", "session_id": "6", "converted": True},
    {"timestamp": 30, "split": "test", "product_id": "c", "session_id": "7"},
    {"timestamp": 40, "split": "test", "product_id": None, "session_id": "8"},
]
EVENTS = [
    {"timestamp": 0.5, "session_id": "1"},
    {"timestamp": 5, "session_id": "2"},
    {"timestamp": 19, "product_id": "c", "session_id": "6"},
]


@pytest.fixture
def data(make_tables: MakeTables, fit_encoder: FitEncoder) -> EncodedMarket:
    tables = make_tables(ROWS, EVENTS)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    return fit_encoder(tables, split).transform(tables, split)


def column(data: EncodedMarket, name: str) -> np.ndarray:
    place = [column.name for column in data.number_columns].index(name)
    return data.numbers[np.argsort(data.row), place]


def test_training_rows_count_what_was_strictly_before_and_others_all_of_training(
    data: EncodedMarket,
) -> None:
    # of two products: a was shown 3 times and touched twice, b shown once
    shown = np.array([0, 1, 1, 0, 3, 0, 0, np.nan])
    events = np.array([1, 1, 1, 0, 2, 0, 0, np.nan])
    shown_in_all = np.array([0, 1, 1, 3, 4, 4, 4, 4])
    events_in_all = np.array([1, 1, 1, 2, 2, 2, 2, 2])
    for name, counts, in_all in (
        ("log_product_shown_to_average", shown, shown_in_all),
        ("log_product_events_to_average", events, events_in_all),
    ):
        expected = np.log1p(counts) - np.log1p(in_all / 2)
        np.testing.assert_allclose(column(data, name), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        column(data, "log_product_events_to_shown"),
        np.log1p(events) - np.log1p(shown),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_rate_is_pulled_to_the_base_rate(data: EncodedMarket) -> None:
    # base rate 2/4; five impressions at that rate are added
    expected = np.array([0, 1, 1, 0, 2, 0, 0, np.nan]) + 2.5
    shown = np.array([0, 1, 1, 0, 3, 0, 0, np.nan]) + 5
    np.testing.assert_allclose(
        column(data, "log_product_rate"), np.log(expected / shown / 0.5), rtol=1e-5, atol=1e-6
    )


def test_labels_of_held_out_rows_and_the_own_label_are_never_counted(
    make_tables: MakeTables, fit_encoder: FitEncoder, data: EncodedMarket
) -> None:
    # the last training row and all test rows
    rows = ROWS[:3] + [{**row, "converted": not row.get("converted")} for row in ROWS[3:]]
    tables = make_tables(rows, EVENTS)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    flipped = fit_encoder(make_tables(ROWS, EVENTS), split).transform(tables, split)
    np.testing.assert_array_equal(data.numbers, flipped.numbers)
    assert (data.converted != flipped.converted).any()


def test_counts_are_those_of_plain_loops(
    tiny_tables: Tables, tiny_split: Split, tiny_data: EncodedMarket
) -> None:
    catalogue = tiny_tables.products.select("product_id", "category")
    shown = tiny_tables.impressions.with_columns(part=pl.Series(tiny_split.part)).join(
        catalogue, on="product_id", how="left", maintain_order="left"
    )
    learned = shown.filter(pl.col("part") == TRAIN)
    events = tiny_tables.events.filter(
        pl.Series(event_parts(tiny_tables, tiny_split) == TRAIN)
    ).join(catalogue, on="product_id", how="left")
    rows = shown.to_dicts()
    for place in range(0, len(tiny_data), 23):
        row = rows[tiny_data.row[place]]
        before = pl.lit(True)
        if row["part"] == TRAIN:
            before = pl.col("timestamp") < row["timestamp"]
        same = pl.col("category") == pl.lit(row["category"], dtype=pl.String)
        past, touched = learned.filter(before & same), events.filter(before & same)
        known = row["category"] is not None
        names = [column.name for column in tiny_data.number_columns]
        np.testing.assert_allclose(
            tiny_data.numbers[place, names.index("log_category_events_to_shown")],
            np.log1p(touched.height) - np.log1p(past.height) if known else np.nan,
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_market_without_conversions_has_no_rates() -> None:
    counts = Counts(*(np.zeros(3) for _ in range(3)))
    assert Popularity(0.0, {}, {}).log_rate(counts).tolist() == [0, 0, 0]


def test_counts_survive_json(tiny_encoder: FeatureEncoder) -> None:
    fitted = tiny_encoder.popularity_
    loaded = Popularity.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert loaded.base_rate == fitted.base_rate
    assert loaded.values == fitted.values
    for level, totals in fitted.totals.items():
        np.testing.assert_array_equal(loaded.totals[level].converted, totals.converted)
        assert totals.converted.sum() > 0
