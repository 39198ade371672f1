from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from features.arrays import EncodedMarket
from features.encoding import FeatureEncoder
from features.schema import Tables
from features.splits import Split, split_impressions

NAN = float("nan")
MakeTables = Callable[..., Tables]
Values = Callable[..., dict[str, list[float]]]


@pytest.fixture
def values(
    make_tables: MakeTables, fit_encoder: Callable[[Tables, Split], FeatureEncoder]
) -> Values:
    """Number columns of impressions, by name, in the order in which they were given."""

    def encode(impressions: list[dict], events: list[dict] | None = None, **options: Any) -> dict:
        rows = [{"split": "train", **row} for row in impressions]
        tables = make_tables(rows, events or [], **options)
        split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
        data = fit_encoder(tables, split).transform(tables, split)
        return in_order(data)

    return encode


def in_order(data: EncodedMarket) -> dict[str, list[float]]:
    order = np.argsort(data.row)
    return {
        column.name: np.round(data.numbers[order, place], 5).tolist()
        for place, column in enumerate(data.number_columns)
    }


def shown(*rows: dict, at: float = 10) -> list[dict]:
    return [{"timestamp": at, **row} for row in rows]


def check(found: dict[str, list[float]], name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_price_is_compared_with_those_shown_beside_it(values: Values) -> None:
    found = values(
        shown(
            {"price": 9.0, "product_id": "a"},
            {"price": 99.0, "product_id": "b"},
            {"price": None, "product_id": "c"},
            {"price": 9.0, "product_id": "d"},
        )
    )
    log10 = np.log(10)
    check(found, "log_price", [log10, 2 * log10, NAN, log10])
    check(found, "price_rank_in_list", [0, 2, NAN, 0])
    check(found, "price_rank_share_in_list", [0, 1, NAN, 0])
    check(found, "log_price_to_list_min", [0, log10, NAN, 0])
    check(found, "log_price_to_list_max", [-log10, 0, NAN, -log10])
    check(found, "log_price_to_list_median", [0, log10, NAN, 0])
    check(found, "log_price_to_one_above", [NAN, log10, NAN, NAN])
    check(found, "log_price_to_one_below", [-log10, NAN, NAN, NAN])


def test_neighbours_of_another_list_are_no_neighbours(values: Values) -> None:
    rows = shown({"price": 1.0, "list_id": "x"}, {"price": 5.0, "list_id": "y"})
    found = values(rows)
    check(found, "log_price_to_one_above", [NAN, NAN])
    check(found, "log_price_to_one_below", [NAN, NAN])
    check(found, "list_size", [1, 1])


def test_a_greater_discount_ranks_first(values: Values) -> None:
    rows = shown(
        {"discount_rate": 0.1, "free_shipping": True},
        {"discount_rate": 0.5, "free_shipping": None},
        {"discount_rate": 0.3, "free_shipping": False},
    )
    found = values(rows)
    check(found, "discount_rank_in_list", [2, 0, 1])
    check(found, "discount_to_list_mean", [-0.2, 0.2, 0])
    check(found, "free_shipping", [1, NAN, 0])
    check(found, "share_free_shipping_in_list", [0.5, 0.5, 0.5])


def test_the_position_is_the_column_of_that_name_else_the_place(values: Values) -> None:
    given = values(shown({"position": 20}, {"position": 25}, {"position": 22}))
    check(given, "position", [20, 25, 22])
    check(given, "position_from_list_top", [0, 5, 2])
    check(given, "place_in_list", [0, 1, 2])
    check(given, "places_to_list_end", [2, 1, 0])
    check(values(shown({}, {}, {})), "position_from_list_top", [0, 1, 2])


def test_places_are_told_relative_to_the_product_touched_last(values: Values) -> None:
    events = [
        {"timestamp": 1, "product_id": "d"},
        {"timestamp": 2, "product_id": "b"},
        {"timestamp": 3, "product_id": "b"},
        {"timestamp": 10, "product_id": "c"},  # not before
    ]
    found = values(shown(*({"product_id": name} for name in "abcd")), events)
    check(found, "n_list_products_touched", [2, 2, 2, 2])
    check(found, "is_list_latest_touched", [0, 1, 0, 0])
    check(found, "is_product_last_touched", [0, 1, 0, 0])
    check(found, "position_from_latest_touched", [-1, 0, 1, 2])
    check(found, "distance_from_latest_touched", [1, 0, 1, 2])
    check(found, "recency_rank_in_list", [NAN, 0, NAN, 1])
    check(found, "positions_to_touched_above", [NAN, NAN, 1, 2])
    check(found, "positions_to_touched_below", [1, 2, 1, NAN])
    check(found, "share_of_list_touches", [0, 2 / 3, 0, 1 / 3])
    check(found, "touch_rank_in_list", [2, 0, 2, 1])


def test_nothing_is_near_where_nothing_was_touched(values: Values) -> None:
    found = values(shown({"product_id": "a"}, {"product_id": "b"}), [{"timestamp": 99}])
    for name in ("position_from_latest_touched", "positions_to_touched_above"):
        check(found, name, [NAN, NAN])
    check(found, "is_list_latest_touched", [0, 0])
    check(found, "share_of_list_touches", [NAN, NAN])


def test_what_was_shown_before_is_remembered(values: Values) -> None:
    rows = [
        *shown({"product_id": "a", "price": 9.0}, {"product_id": "b", "price": 9.0}, at=0),
        *shown({"product_id": "c"}, {"product_id": "a", "price": 99.0}, at=20),
        *shown({"product_id": "a", "price": 9.0}, {"product_id": "b"}, at=50),
    ]
    found = values(rows, [{"timestamp": 10, "product_id": "a"}])
    log2, log3 = np.log(2), np.log(3)
    check(found, "log_lists_before", [0, 0, log2, log2, log3, log3])
    check(found, "log_times_shown", [0, 0, 0, log2, log3, log2])
    check(found, "was_in_list_before", [NAN, NAN, 0, 1, 1, 0])
    check(
        found, "log_seconds_since_list", [NAN, NAN, np.log(21), np.log(21), np.log(31), np.log(31)]
    )
    check(found, "log_seconds_since_shown", [NAN, NAN, NAN, np.log(21), np.log(31), np.log(51)])
    check(found, "position_change", [NAN, NAN, NAN, 1, -1, 0])
    check(found, "log_price_change", [NAN, NAN, NAN, np.log(10), -np.log(10), NAN])
    check(found, "share_of_list_shown_before", [NAN, NAN, 0.5, 0.5, 1, 1])
    # a was touched at 10, after it was first shown, and passed over since
    check(found, "log_times_shown_since_touch", [0, 0, 0, 0, log2, log2])


def test_lists_of_one_moment_were_not_shown_before_each_other(values: Values) -> None:
    rows = shown({"list_id": "x"}, {"list_id": "y"}) + shown({"list_id": "z"}, at=11)
    found = values(rows)
    check(found, "log_lists_before", [0, 0, np.log(3)])
    check(found, "log_times_shown", [0, 0, np.log(3)])


def test_another_user_was_shown_nothing(values: Values) -> None:
    rows = [{"timestamp": 1, "user_id": "u"}, {"timestamp": 2, "user_id": "v", "session_id": "t"}]
    check(values(rows), "log_times_shown", [0, 0])


def test_earlier_labels_are_no_part_of_what_was_shown_before(values: Values) -> None:
    rows = [{"timestamp": 1}, {"timestamp": 2}]
    plain, bought = values(rows), values([{**rows[0], "converted": True}, rows[1]])
    labelled = {"log_product_rate", "rate_rank_in_list", "log_rate_to_list_mean"}
    for name in set(plain) - labelled:
        check(bought, name, plain[name])
