"""Context columns: every column of the impressions that the contract does not name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from features.coercion import Reading, read_as, refuse_unreadable
from features.reading import ROW

Kind = Literal["number", "flag", "category"]
"""What a context column holds."""

TYPES: Mapping[Kind, pl.DataType] = {
    "number": pl.Float64(),
    "flag": pl.Boolean(),
    "category": pl.String(),
}
"""The type of each kind of context column."""

_DATE = r"^\s*\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?$"
_LEADING_ZERO = r"^[+-]?0\d"


@dataclass(frozen=True)
class Context:
    """The context columns of a table.

    Attributes:
        frame: typed columns, rows as given; numbers are finite or null.
        kinds: what each column holds.
        unused: why a column is not used, by its name.
        notes: sentences for whoever gave the data.
    """

    frame: pl.DataFrame
    kinds: dict[str, Kind]
    unused: dict[str, str]
    notes: tuple[str, ...]


def usable(schema: Mapping[str, pl.DataType]) -> tuple[list[str], dict[str, str]]:
    """Tell by type alone which columns may be context.

    Args:
        schema: the columns that the contract does not name.

    Returns:
        The names of those that may be, and for the others why not.
    """
    unused = {name: why for name, dtype in schema.items() if (why := _refusal(name, dtype))}
    return [name for name in schema if name not in unused], unused


def recognise(frame: pl.DataFrame, text: frozenset[str]) -> Context:
    """Find out what each column holds, in fitting.

    Args:
        frame: columns that `usable` let through.
        text: those of them whose storage does not tell their type (CSV): their content does.

    Returns:
        The typed columns and what they are.
    """
    kinds: dict[str, Kind] = {}
    unused: dict[str, str] = {}
    for column in frame:
        if reason := _empty_or_dates(column):
            unused[column.name] = reason
        else:
            kinds[column.name] = _kind(column, by_content=column.name in text)
    typed, notes = _typed(frame.select(list(kinds)), kinds)
    return Context(typed, kinds, unused, notes)


def as_fitted(frame: pl.DataFrame, kinds: Mapping[str, Kind]) -> Context:
    """Read the columns as the kinds they had when a model was fitted.

    Args:
        frame: columns that `usable` let through, and `row`.
        kinds: from the fit; their order is kept.

    Returns:
        The typed columns; one that is absent is missing in every row, and the notes say so.

    Raises:
        DataError: if a column cannot hold its kind.
    """
    given = [name for name in frame.columns if name != ROW]
    absent = [name for name in kinds if name not in given]
    unused = {name: "the model was fitted without it" for name in given if name not in kinds}
    frame = frame.with_columns(pl.lit(None).alias(name) for name in absent).select(list(kinds))
    typed, notes = _typed(frame, kinds)
    missing = tuple(
        f"The context column '{name}' is absent: it is scored as missing." for name in absent
    )
    return Context(typed, dict(kinds), unused, missing + notes)


def _refusal(name: str, dtype: pl.DataType) -> str | None:
    """Why no column of this name and type is context, None if it may be."""
    if name == "*" or (name.startswith("^") and name.endswith("$")):
        return "polars takes its name for a pattern; rename it"
    if dtype.is_temporal():
        return "it holds dates or times; derive a number or a category, such as the weekday"
    if dtype.is_nested():
        return "it holds lists or structures; put one value in each row"
    if dtype == pl.Null:
        return "every value is missing"
    if dtype.is_numeric() or isinstance(dtype, pl.Boolean | pl.String | pl.Categorical | pl.Enum):
        return None
    return f"its type is {dtype}; numbers, booleans and strings are used"


def _empty_or_dates(column: pl.Series) -> str | None:
    """Why the content of a column is of no use as context, None if it may be."""
    if column.null_count() == len(column):
        return "every value is missing"
    if column.dtype == pl.String and column.drop_nulls().str.contains(_DATE).all():
        return "it holds dates written as text; derive a number or a category, such as the weekday"
    return None


def _kind(column: pl.Series, *, by_content: bool) -> Kind:
    if column.dtype == pl.Boolean:
        return "flag"
    if column.dtype.is_numeric():
        return "number"
    if by_content:
        cells = column.drop_nulls().str.strip_chars()
        if cells.str.to_lowercase().is_in(["true", "false"]).all():
            return "flag"
        # 007 is a code: read as a number it would meet 7.
        coded = cells.str.contains(_LEADING_ZERO).any()
        if not coded and cells.cast(pl.Float64, strict=False).is_not_null().all():
            return "number"
    return "category"


def _typed(frame: pl.DataFrame, kinds: Mapping[str, Kind]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The columns in the types of their kinds, and notes on cells that became missing."""
    readings: dict[str, Reading] = {}
    for name, kind in kinds.items():
        reading = _read(name, frame.schema[name], kind)
        counts = {why: int(frame.select(bad.sum()).item()) for why, bad in reading.bad.items()}
        refuse_unreadable(frame[name], TYPES[kind], counts, "impressions")
        readings[name] = reading
    typed = frame.select(reading.value for reading in readings.values())
    lost = {
        name: int(typed[name].null_count() - frame[name].null_count()) for name in typed.columns
    }
    endless = {
        name: typed[name].is_finite().not_().sum() or 0
        for name, kind in kinds.items()
        if kind == "number"
    }
    typed = typed.with_columns(
        pl.when(pl.col(name).is_finite()).then(name).alias(name) for name in endless
    )
    notes = [
        f"The context column '{name}' has {count + endless.get(name, 0)} values that are not "
        f"a {kinds[name]}: they count as missing."
        for name, count in lost.items()
        if count + endless.get(name, 0)
    ]
    return typed, tuple(notes)


def _read(name: str, dtype: pl.DataType, kind: Kind) -> Reading:
    """How a context column is read; a category may also be written as true and false."""
    if dtype == pl.Boolean and kind != "flag":
        return Reading(pl.col(name).cast(TYPES[kind]), {})
    return read_as(name, dtype, TYPES[kind], "impressions")
