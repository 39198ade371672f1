"""Giving the columns of a table the types of the contract, without losing a value unseen.

A column whose storage type cannot hold what the contract asks for is an error of the whole table;
a single cell that cannot be read sets its row aside (`features.rules.FORGIVEN` names exceptions).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from features.errors import DataError

TIME = pl.Datetime("us", "UTC")
"""The type of every timestamp."""

_LARGEST_EXACT = 2.0**53
_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0")
_EXPECTED: Mapping[type[pl.DataType], str] = {
    pl.String: "text or whole numbers",
    pl.Float64: "numbers",
    pl.Boolean: "true or false (or 1 and 0)",
    pl.Datetime: "dates and times with a time zone",
}
_NO_ZONE = "has no time zone"
_UTC_FORM = "in UTC, as 2024-05-01T09:30:00Z"
_WITH_ZONE = "%Y-%m-%dT%H:%M:%S%.f%#z"
_NAIVE = r"^\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?$"


@dataclass(frozen=True)
class Reading:
    """How one column is read.

    Attributes:
        value: the typed value, null where the cell is missing or cannot be read.
        bad: for each reason why a cell cannot be read, where (never on a missing cell).
    """

    value: pl.Expr
    bad: Mapping[str, pl.Expr]


def read_as(name: str, dtype: pl.DataType, wanted: pl.DataType, table: str) -> Reading:
    """How to read a stored column as the type that is wanted.

    Args:
        name: the column.
        dtype: its type in storage.
        wanted: String, Float64, Boolean or Datetime.
        table: the table's name, for messages.

    Returns:
        The typed value, and where a cell cannot be read.

    Raises:
        DataError: if the storage type never holds such values.
    """
    reading = _reading(name, dtype, wanted)
    if reading is None:
        raise DataError(_wrong_type(name, dtype, wanted, table))
    return reading


def misfit(name: str, dtype: pl.DataType, wanted: pl.DataType) -> str | None:
    """Why a storage type never holds the values that are wanted.

    Args:
        name: the column.
        dtype: its type in storage.
        wanted: String, Float64, Boolean or Datetime.

    Returns:
        A clause without its subject, None where the type may hold such values.
    """
    if _reading(name, dtype, wanted) is not None:
        return None
    return f"should hold {_EXPECTED[wanted.base_type()]}, but its type is {dtype}"


def _reading(name: str, dtype: pl.DataType, wanted: pl.DataType) -> Reading | None:
    """How to read a stored column, None where its type never holds such values."""
    column = pl.col(name)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        dtype, column = pl.String(), column.cast(pl.String)
    if dtype == pl.Null:
        return Reading(column.cast(wanted), {})
    readers = {
        pl.String: _read_text,
        pl.Float64: _read_number,
        pl.Boolean: _read_flag,
        pl.Datetime: _read_time,
    }
    return readers[wanted.base_type()](name, column, dtype)


def refuse_unreadable(
    column: pl.Series, wanted: pl.DataType, counts: Mapping[str, int], table: str
) -> None:
    """Refuse a column of which not one present value can be read.

    Args:
        column: as stored.
        wanted: the type it should have.
        counts: for each reason of `Reading.bad`, how many cells it holds for.
        table: the table's name.

    Raises:
        DataError: if there are values and none can be read; the message shows one of them.
    """
    name, present = column.name, len(column) - column.null_count()
    if not counts or present == 0 or sum(counts.values()) < present:
        return
    first = str(column.drop_nulls().first())[:60]
    if counts.get(f"{name} {_NO_ZONE}") == present:
        raise DataError(
            f"The column '{name}' of {table} has no time zone (its first value is '{first}'): "
            f"write its times {_UTC_FORM}, or with their offset."
        )
    advice = f": write them {_UTC_FORM}" if wanted == TIME else ""
    raise DataError(
        f"The column '{name}' of {table} should hold {_EXPECTED[wanted.base_type()]}, but none of "
        f"its values can be read as such (the first is '{first}'){advice}."
    )


def _read_text(name: str, column: pl.Expr, dtype: pl.DataType) -> Reading | None:
    if dtype == pl.String or dtype.is_integer():
        return Reading(column.cast(pl.String).alias(name), {})
    if dtype.is_float():
        # A column of whole numbers with gaps arrives as floats from some writers.
        whole = column.is_finite() & (column == column.round(0)) & (column.abs() < _LARGEST_EXACT)
        value = pl.when(whole).then(column).cast(pl.Int64).cast(pl.String).alias(name)
        return Reading(value, {f"{name} is not a whole number below 2^53": ~whole})
    return None


def _read_number(name: str, column: pl.Expr, dtype: pl.DataType) -> Reading | None:
    if dtype.is_numeric():
        return Reading(column.cast(pl.Float64).alias(name), {})
    if dtype == pl.String:
        value = column.str.strip_chars().cast(pl.Float64, strict=False)
        bad = column.is_not_null() & (value.is_null() | value.is_nan())
        return Reading(value.alias(name), {f"{name} is not a number": bad})
    return None


def _read_flag(name: str, column: pl.Expr, dtype: pl.DataType) -> Reading | None:
    if dtype == pl.Boolean:
        return Reading(column, {})
    if dtype == pl.String:
        cell = column.str.strip_chars().str.to_lowercase()
        yes, no = cell.is_in(_TRUE), cell.is_in(_FALSE)
    elif dtype.is_integer() or dtype.is_float():
        yes, no = column == 1, column == 0
    else:
        return None
    value = pl.when(yes).then(True).when(no).then(False)
    bad = column.is_not_null() & ~yes & ~no
    return Reading(value.alias(name), {f"{name} is neither true nor false": bad})


def _read_time(name: str, column: pl.Expr, dtype: pl.DataType) -> Reading | None:
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return Reading(column.dt.convert_time_zone("UTC").dt.cast_time_unit("us"), {})
    if dtype != pl.String:
        return None
    cell = column.str.strip_chars()
    day = cell.str.extract(r"^(\d{4}-\d{1,2}-\d{1,2})").str.to_date("%Y-%m-%d", strict=False)
    naive = cell.str.contains(_NAIVE) & day.is_not_null()  # there is no 45th day to give a zone to
    value = (
        cell.str.replace(r"^(\S+) +(\d)", "${1}T${2}")
        .str.replace(r" *(Z|z|UTC)$", "+00:00")
        .str.replace(r"T(\d{1,2}:\d{2}) *([+-])", "T${1}:00${2}")
        .str.to_datetime(_WITH_ZONE, strict=False, time_unit="us")
        .dt.convert_time_zone("UTC")
    )
    bad = column.is_not_null() & value.is_null()
    reasons = {
        f"{name} is not a date and time": bad & ~naive,
        f"{name} {_NO_ZONE}": bad & naive,
    }
    return Reading(value.alias(name), reasons)


def _wrong_type(name: str, dtype: pl.DataType, wanted: pl.DataType, table: str) -> str:
    message = f"The column '{name}' of {table} {misfit(name, dtype, wanted)}"
    if wanted != TIME:
        return f"{message}."
    if isinstance(dtype, pl.Datetime):
        return (
            f"The column '{name}' of {table} has no time zone: if its times are in UTC, say so "
            f"with polars: pl.col('{name}').dt.replace_time_zone('UTC')."
        )
    if dtype.is_integer():
        return (
            f"{message}; seconds since 1970 become times with polars: "
            f"pl.from_epoch('{name}').dt.replace_time_zone('UTC')."
        )
    return f"{message}."
