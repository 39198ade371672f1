from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from features.coercion import TIME, read_as, refuse_unreadable
from features.errors import DataError


def _read(column: pl.Series, wanted: Any) -> tuple[list[Any], list[str | None]]:
    frame = column.alias("x").to_frame()
    reading = read_as("x", column.dtype, wanted, "events")
    counts = {reason: frame.select(bad.sum()).item() for reason, bad in reading.bad.items()}
    refuse_unreadable(column.alias("x"), wanted, counts, "events")
    reasons = frame.select(
        pl.coalesce(
            *(pl.when(bad).then(pl.lit(reason)) for reason, bad in reading.bad.items()),
            pl.lit(None, dtype=pl.String),
        ).alias("reason"),
        "x",
    )["reason"]
    return frame.select(reading.value)["x"].to_list(), reasons.to_list()


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pl.Series([7, None]), ["7", None]),
        (pl.Series([7.0, None]), ["7", None]),
        (pl.Series(["007", ""]), ["007", ""]),
        (pl.Series(["a"], dtype=pl.Categorical), ["a"]),
        (pl.Series(["a"], dtype=pl.Enum(["a", "b"])), ["a"]),
        (pl.Series([None, None]), [None, None]),
    ],
)
def test_ids_become_text(column: pl.Series, values: list[str | None]) -> None:
    assert _read(column, pl.String()) == (values, [None] * len(values))


def test_fractions_and_numbers_too_large_for_a_float_are_no_ids() -> None:
    values, reasons = _read(pl.Series([1.0, 1.5, float("nan"), 2.0**53, None]), pl.String())
    assert values == ["1", None, None, None, None]
    reason = "x is not a whole number below 2^53"
    assert reasons == [None, reason, reason, reason, None]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (pl.Series([3, None]), [3.0, None]),
        (pl.Series([Decimal("1.25")]), [1.25]),
        (pl.Series([" 2.5", "1e2", None]), [2.5, 100.0, None]),
    ],
)
def test_numbers(column: pl.Series, values: list[float | None]) -> None:
    assert _read(column, pl.Float64()) == (values, [None] * len(values))


def test_text_that_is_no_number_is_told_by_row() -> None:
    values, reasons = _read(pl.Series(["1,5", "2", "", "nan", None]), pl.Float64())
    assert values[:2] == [None, 2.0]
    assert [reason is not None for reason in reasons] == [True, False, True, True, False]
    assert reasons[0] == "x is not a number"


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([True, False, None]),
        pl.Series([1, 0, None]),
        pl.Series([1.0, 0.0, None]),
        pl.Series(["TRUE", " false", None]),
        pl.Series(["1", "0", None]),
        pl.Series(["1.0", "0.0", None]),
    ],
)
def test_flags(column: pl.Series) -> None:
    assert _read(column, pl.Boolean()) == ([True, False, None], [None] * 3)


@pytest.mark.parametrize(
    "column", [pl.Series([1, 2]), pl.Series([1.0, 0.5]), pl.Series(["1", "yes"])]
)
def test_what_is_neither_true_nor_false_is_told_by_row(column: pl.Series) -> None:
    assert _read(column, pl.Boolean()) == ([True, None], [None, "x is neither true nor false"])


@pytest.mark.parametrize(
    "cell",
    [
        "2024-05-01T09:30:00Z",
        "2024-05-01 09:30:00 UTC",
        "2024-05-01T09:30Z",
        "2024-05-01 18:30:00.000+09:00",
        "2024-05-01T18:30:00 +0900",
        "2024-05-01T18:30+09",
        " 2024-05-01T05:00:00-04:30 ",
    ],
)
def test_written_times_with_an_offset_are_read_in_utc(cell: str) -> None:
    values, reasons = _read(pl.Series([cell]), TIME)
    assert values == [datetime(2024, 5, 1, 9, 30, tzinfo=UTC)]
    assert reasons == [None]


def test_written_times_mixed_with_naive_and_broken_ones_are_told_by_row() -> None:
    column = pl.Series(
        ["2024-05-01T09:30:00Z", "2024-05-01 09:30:00", "2024-05-01", "noon", "2026-13-45", None]
    )
    values, reasons = _read(column, TIME)
    assert values[1:] == [None] * 5
    naive, bad = "x has no time zone", "x is not a date and time"
    assert reasons == [None, naive, naive, bad, bad, None]


def test_stored_times_of_other_zones_and_units_become_utc_microseconds() -> None:
    time = datetime(2024, 5, 1, 9, 30, tzinfo=UTC)
    column = pl.Series([time]).dt.convert_time_zone("Asia/Seoul").dt.cast_time_unit("ms")
    assert _read(column, TIME) == ([time], [None])


@pytest.mark.parametrize(
    ("column", "wanted", "message"),
    [
        (pl.Series([[1]]), pl.String(), r"'x' of events should hold text.*type is List"),
        (pl.Series([True]), pl.String(), "should hold text or whole numbers, .* Boolean"),
        (pl.Series([True]), pl.Float64(), "should hold numbers, but its type is Boolean"),
        (pl.Series([datetime(2024, 1, 1)]), pl.Float64(), "should hold numbers"),
        (pl.Series([b"1"]), pl.Boolean(), "should hold true or false"),
        (pl.Series(["abc", None]), pl.Float64(), r"should hold numbers.*the first is 'abc'"),
        (pl.Series(["yes"]), pl.Boolean(), "should hold true or false.*'yes'"),
        (pl.Series([5]), pl.Boolean(), "should hold true or false.*'5'"),
        (
            pl.Series(["noon"]),
            TIME,
            "should hold dates and times with a time zone.*'noon'.*2024-05-01T09:30:00Z",
        ),
        (pl.Series([datetime(2024, 1, 1)]), TIME, r"no time zone.*replace_time_zone\('UTC'\)"),
        (pl.Series(["2024-05-01 09:30:00"]), TIME, "no time zone .*2024-05-01T09:30:00Z"),
        (pl.Series([1714555800]), TIME, r"pl\.from_epoch\('x'\)"),
        (pl.Series([datetime(2024, 1, 1).date()]), TIME, "its type is Date"),
    ],
)
def test_wrong_types_are_refused_in_one_sentence(
    column: pl.Series, wanted: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        _read(column, wanted)
