from datetime import UTC, datetime

import polars as pl
import pytest
from dataframely.exc import SchemaError, ValidationError

from features.rules import (
    FORGIVEN,
    TABLES,
    Events,
    Impressions,
    LabelledImpressions,
    Products,
    reason,
)


def _impressions() -> pl.DataFrame:
    return Impressions.create_empty().clear(2).with_columns(
        row=pl.Series([0, 1]),
        impression_id=pl.Series(["a", "b"]),
        session_id=pl.lit("s"),
        timestamp=pl.lit(datetime(2024, 5, 1, tzinfo=UTC)).cast(pl.Datetime("us", "UTC")),
        market=pl.lit("KR"),
    )  # fmt: skip


@pytest.mark.parametrize("schema", [*TABLES.values(), LabelledImpressions])
def test_every_rule_has_a_sentence_that_names_a_column(schema: type) -> None:
    for rule in schema._validation_rules(with_cast=False):
        column = reason(rule).split(" ")[0]
        assert column in schema.column_names()


def test_only_columns_that_may_be_missing_are_forgiven() -> None:
    for table, names in FORGIVEN.items():
        columns = TABLES[table].columns()
        assert all(columns[name].nullable for name in names)


def test_good_rows_validate() -> None:
    assert Impressions.validate(_impressions()).height == 2


def test_validate_raises_on_a_bad_row_and_on_a_missing_column() -> None:
    with pytest.raises(ValidationError, match="impression_id_repeats"):
        Impressions.validate(_impressions().with_columns(impression_id=pl.lit("a")))
    with pytest.raises(ValidationError, match="converted"):
        LabelledImpressions.validate(_impressions())
    with pytest.raises(SchemaError, match="'market'"):
        Impressions.validate(_impressions().drop("market"))


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("impression_id", None, "impression_id is missing"),
        ("impression_id", "", "impression_id is empty (leave out what is unknown)"),
        ("impression_id", "a", "impression_id repeats an earlier row"),
        ("session_id", None, "session_id is missing"),
        ("session_id", "", "session_id is empty (leave out what is unknown)"),
        ("user_id", "", "user_id is empty (leave out what is unknown)"),
        ("market", None, "market is missing"),
        ("market", "", "market is empty (leave out what is unknown)"),
        ("list_id", "", "list_id is empty (leave out what is unknown)"),
        ("timestamp", None, "timestamp is missing"),
        ("price", -0.01, "price is negative"),
        ("price", float("inf"), "price is infinite"),
        ("price", float("nan"), "price is not a number"),
        ("discount_rate", 1.01, "discount_rate is no number in [0, 1] (20 % is 0.2)"),
        ("discount_rate", -0.1, "discount_rate is no number in [0, 1] (20 % is 0.2)"),
        ("discount_rate", float("nan"), "discount_rate is no number in [0, 1] (20 % is 0.2)"),
        ("propensity", 0.0, "propensity is no number in (0, 1]"),
        ("propensity", 1.5, "propensity is no number in (0, 1]"),
        ("split", "Train", "split is none of train, validation, test"),
    ],
)
def test_a_broken_rule_sets_its_row_aside(column: str, value: object, sentence: str) -> None:
    frame = _impressions()
    bad = frame.with_columns(
        pl.when(pl.col("row") == 1)
        .then(pl.lit(value, dtype=frame.schema[column]))
        .otherwise(column)
        .alias(column)
    )
    good, failure = Impressions.filter(bad)
    assert good["row"].to_list() == [0]
    assert {reason(rule) for rule in failure.counts()} == {sentence}


@pytest.mark.parametrize(
    ("column", "value"),
    [("price", 0.0), ("discount_rate", 0.0), ("discount_rate", 1.0), ("propensity", 1.0),
     ("product_id", ""), ("split", "test"), ("user_id", None)],
)  # fmt: skip
def test_values_on_the_edge_are_good(column: str, value: object) -> None:
    frame = _impressions()
    edge = frame.with_columns(pl.lit(value, dtype=frame.schema[column]).alias(column))
    assert Impressions.is_valid(edge)


def test_only_later_rows_repeat_and_missing_ids_do_not() -> None:
    ids = ["a", None, "b", "a", None, "a"]
    frame = Products.create_empty().clear(6).with_columns(
        row=pl.int_range(6), product_id=pl.Series(ids)
    )  # fmt: skip
    _, failure = Products.filter(frame)
    details = failure.details()
    repeated = details.filter(pl.col("product_id_repeats") == "invalid")
    assert repeated["row"].to_list() == [3, 5]
    assert details["row"].to_list() == [1, 3, 4, 5]


def test_years_beyond_the_calendar_of_python_are_set_aside() -> None:
    year_0 = pl.Series([-62_200_000_000_000_000]).cast(pl.Datetime("us", "UTC"))
    frame = Events.create_empty().clear(1).with_columns(
        row=pl.Series([0]), session_id=pl.lit("s"), event_type=pl.lit(""), timestamp=year_0
    )  # fmt: skip
    _, failure = Events.filter(frame)
    assert list(failure.counts()) == ["timestamp_beyond_calendar"]
