"""Checking one table: which rows can be used, and why the others cannot."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import dataframely as dy
import polars as pl

from features.coercion import Reading, misfit, read_as, refuse_unreadable
from features.context import usable
from features.errors import DataError, nearest
from features.reading import ROW, collect, stored_schema, with_row_numbers
from features.rules import FORGIVEN, reason

KEYS = {"products": "product_id", "events": "session_id", "impressions": "impression_id"}
"""The column that a row set aside is known by."""

QUARANTINE = {"table": pl.String, "row": pl.Int64, "key": pl.String, "reason": pl.String}
"""Columns of the rows set aside; several reasons are joined by `; `."""

_MIN_PERCENTS = 3
_NO_PLACE = "only the impressions may have columns of their own"


@dataclass(frozen=True)
class RowCounts:
    """What became of a table's rows: `read = used + set_aside`."""

    read: int
    used: int
    set_aside: int


@dataclass(frozen=True)
class CheckedTable:
    """One table after its check.

    Attributes:
        used: the good rows, columns as the schema.
        other: the same rows of `row` and the columns that may be context.
        quarantine: the rows set aside, columns as `QUARANTINE`, in the order of the table.
        rows: the counts.
        unused: why a column is not used, by its name.
        lost: by column of `FORGIVEN`, in how many good rows a cell was bad and is missing now.
    """

    used: pl.DataFrame
    other: pl.DataFrame
    quarantine: pl.DataFrame
    rows: RowCounts
    unused: dict[str, str]
    lost: dict[str, int]


def check_table(
    frame: pl.LazyFrame | None,
    table: str,
    schema: type[dy.Schema],
    *,
    files: Iterable[Path] = (),
    with_context: bool = False,
    is_part: bool = False,
) -> CheckedTable:
    """Check one table.

    A bad cell of a `FORGIVEN` column is taken as missing, such a column of a wrong type as absent.

    Args:
        frame: the table, None where it is absent; rows are numbered unless it has `row`.
        table: its name.
        schema: what its rows must satisfy; a column that may not be null must be there.
        files: where it is read from, for messages.
        with_context: whether columns that the schema does not name may be context.
        is_part: whether there are more rows elsewhere, so that none of these need be of use.

    Returns:
        The rows that can be used and those that cannot.

    Raises:
        DataError: a column is missing or of the wrong type, a file cannot be read, or no row of
            some can be used (unless they are a part).
    """
    if frame is None:
        return _absent(schema)
    stored = stored_schema(frame, table, files)
    if ROW not in stored:
        frame = with_row_numbers(frame)
        stored = stored_schema(frame, table, files)
    columns = {name: column for name, column in schema.columns().items() if name != ROW}
    _require([name for name, c in columns.items() if not c.nullable], table, stored, columns)
    extra = {name: dtype for name, dtype in stored.items() if name not in {*columns, ROW}}
    kept, unused = usable(extra) if with_context else ([], dict.fromkeys(extra, _NO_PLACE))
    types = {name: column.dtype for name, column in columns.items() if name in stored}
    misfits = _misfits(table, stored, types)
    types = {name: dtype for name, dtype in types.items() if name not in misfits}
    readings = {name: read_as(name, stored[name], types[name], table) for name in types}
    rows = collect(frame.select(ROW, *types, *kept), table, files)
    read, reasons = _read(rows, table, types, readings)
    forgiven = {name: columns[name] for name in FORGIVEN.get(table, ()) if name in types}
    read, lost = _forgive(rows, read, forgiven)
    absent = {name: c.dtype for name, c in columns.items() if name not in types}
    read = read.with_columns(pl.lit(None, dtype).alias(name) for name, dtype in absent.items())
    used, quarantine = _divide(read, reasons, table, schema)
    if rows.height and not used.height and not is_part:
        raise DataError(nothing_left(table, quarantine))
    good = rows[ROW].is_in(used[ROW].implode())
    return CheckedTable(
        used=used,
        other=rows.select(ROW, *kept).filter(good),
        quarantine=quarantine,
        rows=RowCounts(rows.height, used.height, quarantine.height),
        unused=unused | misfits,
        lost={name: int(lost.filter(good)[name].sum()) for name in forgiven},
    )


def _absent(schema: type[dy.Schema]) -> CheckedTable:
    return CheckedTable(
        used=schema.create_empty(),
        other=pl.DataFrame(schema={ROW: pl.Int64}),
        quarantine=pl.DataFrame(schema=QUARANTINE),
        rows=RowCounts(0, 0, 0),
        unused={},
        lost={},
    )


def _require(
    required: list[str],
    table: str,
    stored: Mapping[str, pl.DataType],
    columns: Mapping[str, dy.Column],
) -> None:
    """Refuse a table without one of its required columns."""
    missing = [name for name in required if name not in stored]
    if not missing:
        return
    given = [name for name in stored if name != ROW]
    free = [name for name in given if name not in columns]
    shown = ", ".join(given[:12]) + (", …" if len(given) > 12 else "")
    also = f" nor {', '.join(map(repr, missing[1:]))}" if len(missing) > 1 else ""
    raise DataError(
        f"The table '{table}' has no column '{missing[0]}'{also} (its columns are {shown})"
        f"{nearest(missing[0], free)}."
    )


def _misfits(
    table: str, stored: Mapping[str, pl.DataType], types: Mapping[str, pl.DataType]
) -> dict[str, str]:
    """Why columns of `FORGIVEN` are not used: storage types that never hold such values."""
    found = {
        name: misfit(name, stored[name], types[name])
        for name in FORGIVEN.get(table, ())
        if name in types
    }
    return {name: f"it {why}" for name, why in found.items() if why is not None}


def _read(
    rows: pl.DataFrame,
    table: str,
    types: Mapping[str, pl.DataType],
    readings: Mapping[str, Reading],
) -> tuple[pl.DataFrame, pl.Series]:
    """Typed columns, and for each row why a cell cannot be read, empty where all can."""
    strict = {n: reading for n, reading in readings.items() if n not in FORGIVEN.get(table, ())}
    bad = {why: where for reading in strict.values() for why, where in reading.bad.items()}
    read = rows.select(
        ROW,
        *(reading.value for reading in readings.values()),
        *(where.alias(f"bad: {why}") for why, where in bad.items()),
    )
    counts = {why: int(read[f"bad: {why}"].sum()) for why in bad}
    for name, reading in strict.items():
        refuse_unreadable(
            rows[name], types[name], {why: counts[why] for why in reading.bad}, table
        )
    met = {why: pl.col(f"bad: {why}") for why, count in counts.items() if count}
    reasons = read.select(ROW, reason=_joined(met))["reason"]
    return read.select(ROW, *types), reasons


def _forgive(
    rows: pl.DataFrame, read: pl.DataFrame, columns: Mapping[str, dy.Column]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Take cells that break a rule of their column as missing.

    Args:
        rows: as stored.
        read: typed, rows as `rows`.
        columns: those to forgive, by name.

    Returns:
        The typed rows; and for each of the columns whether a cell was lost.
    """
    good = {
        name: pl.all_horizontal(True, *column.validation_rules(pl.col(name)).values())
        for name, column in columns.items()
    }
    read = read.with_columns(pl.when(fits).then(name).alias(name) for name, fits in good.items())
    lost = [rows[name].is_not_null() & read[name].is_null() for name in columns]
    return read, pl.DataFrame(lost)


def _divide(
    read: pl.DataFrame, reasons: pl.Series, table: str, schema: type[dy.Schema]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The good rows, and the others with their reasons.

    A row with a cell that cannot be read is not looked at further.
    """
    unread = read.with_columns(reasons).filter(pl.col("reason") != "")
    typed = read.filter(reasons == "")
    _refuse_percent(typed)
    used, failure = schema.filter(typed)
    broken: dict[str, pl.Expr] = {}
    for rule in failure.counts():
        # Several rules may share a sentence: a lower and an upper bound do.
        clause, here = reason(rule), pl.col(rule) == "invalid"
        broken[clause] = broken[clause] | here if clause in broken else here
    failed = failure.details().with_columns(reason=_joined(broken))
    key = pl.col(KEYS[table]).alias("key")
    quarantine = pl.concat(
        part.select(pl.lit(table).alias("table"), ROW, key, "reason") for part in (unread, failed)
    )
    return used, quarantine.sort(ROW)


def _joined(reasons: Mapping[str, pl.Expr]) -> pl.Expr:
    """The reasons that hold in a row, joined; empty where none does."""
    if not reasons:
        return pl.lit("")
    clauses = [pl.when(where).then(pl.lit(clause)) for clause, where in reasons.items()]
    return pl.concat_str(clauses, separator="; ", ignore_nulls=True)


def _refuse_percent(typed: pl.DataFrame) -> None:
    """Refuse discounts of which most look like percent: to set them all aside helps nobody."""
    if "discount_rate" not in typed.columns:
        return
    positive = typed["discount_rate"].drop_nulls()
    positive = positive.filter(positive > 0)
    percents = positive.is_between(1, 100, closed="right").sum()
    if percents >= _MIN_PERCENTS and 2 * percents > len(positive):
        raise DataError(
            f"The column 'discount_rate' of impressions looks like percent ({percents} of its "
            f"{len(positive)} discounts are above 1): divide it by 100."
        )


def nothing_left(table: str, quarantine: pl.DataFrame) -> str:
    """A sentence on a table whose rows are all set aside.

    Args:
        table: its name.
        quarantine: its rows, with `reason`.
    """
    most = quarantine["reason"].value_counts().sort("count", "reason", descending=[True, False])
    clause, count = most.row(0)
    n = quarantine.height
    return (
        f"None of the {n} rows of {table} can be used; the commonest reason, in {count} of them: "
        f"{clause}."
    )
