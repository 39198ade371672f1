"""Checks of raw files that name the file, the row and the column that differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from purchase_predictor.data.sources.folder import first_line
from purchase_predictor.errors import DataError, nearest

_SHOWN = 60
_ROW, _WRONG = "number of the row", "column that is wrong"


@dataclass(frozen=True)
class Rule:
    """What the cells of a column must be.

    Attributes:
        good: true where a cell is; null counts as false.
        expected: in words, to follow "not".
    """

    good: pl.Expr
    expected: str


def named_files(raw: Path, names: Iterable[str]) -> dict[str, Path]:
    """Raw files that have to have their publisher's names.

    Args:
        raw: the folder that holds them, or one of them.
        names: of the files.

    Returns:
        Where each lies, by name.

    Raises:
        DataError: if one is not there; names the nearest.
    """
    if not raw.exists():
        raise DataError(f"There is neither a file nor a folder {raw}.")
    folder = raw if raw.is_dir() else raw.parent
    files = {name: folder / name for name in names}
    for name, file in files.items():
        if not file.is_file():
            others = sorted(path.name for path in folder.iterdir() if path.name not in files)
            raise DataError(f"The folder {folder} has no file '{name}'{nearest(name, others)}.")
    return files


def check_rows(frame: pl.LazyFrame, rules: Mapping[str, Rule], file: Path, unit: str) -> None:
    """Refuse a raw file at its first row that differs from the publisher's layout.

    Args:
        frame: its rows.
        rules: by column.
        file: where they come from, for the message.
        unit: what a row is.

    Raises:
        DataError: names the row, from 1, and the column.
    """
    wrong = pl.coalesce(
        pl.when(~rule.good.fill_null(False)).then(pl.lit(column)) for column, rule in rules.items()
    )
    found = (
        frame.with_row_index(_ROW)
        .with_columns(wrong.alias(_WRONG))
        .filter(pl.col(_WRONG).is_not_null())
        .select(_ROW, _WRONG, *rules)
        .head(1)
    )
    try:
        rows = found.collect().rows(named=True)
    except (PolarsError, OSError) as error:
        raise DataError(f"The raw file {file} cannot be read: {first_line(error)}.") from error
    for row in rows:
        column = row[_WRONG]
        value = "" if row[column] is None else str(row[column])
        said = f"the {column} '{value[:_SHOWN]}{'…' * (len(value) > _SHOWN)}'"
        raise DataError(
            f"The raw file {file} differs from its layout: {unit} {row[_ROW] + 1} has "
            f"{said if value else f'no {column}'}, not {rules[column].expected}."
        )
