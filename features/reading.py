"""Reading a data folder lazily: Parquet, CSV or partitioned folders of either.

A table `NAME` is `NAME.parquet`, `NAME.csv` or a folder `NAME/` of files of one of the two kinds,
where folders called `key=value` (hive) add the column `key`.
"""

import csv
import errno
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from urllib.parse import unquote

import polars as pl
from polars.exceptions import PanicException, PolarsError

from features.errors import DataError, nearest

TABLES = ("products", "events", "impressions")
"""The tables of a data folder; impressions must be there, or products where they are matched."""

ROW = "row"
"""The number of a row in its table as given, files in order of their names; from 0."""

_KINDS = (".parquet", ".csv")

_FAILURES = (PolarsError, PanicException, OSError, csv.Error)
"""What is raised on a broken file; some damage inside a Parquet page makes polars panic."""

_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class RawTables:
    """Tables as they lie on disk, not yet read or checked; each frame has the column `row`.

    Attributes:
        products: the catalogue, None where there is none.
        events: the clickstream, None where there is none.
        impressions: what was shown, and whether it converted.
        folder: where the pictures of `products` are looked for.
        text: for each table, the columns whose type the storage does not tell (all of a CSV file,
            the keys of a partitioned folder); they are text here and get their type by content.
        files: for each table, the files it is read from.
    """

    products: pl.LazyFrame | None
    events: pl.LazyFrame | None
    impressions: pl.LazyFrame
    folder: Path
    text: Mapping[str, frozenset[str]] = field(default_factory=dict)
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)


def read_folder(folder: Path) -> RawTables:
    """Find the tables of a data folder and open them lazily.

    Args:
        folder: the data folder.

    Returns:
        The tables, of which nothing but schemas has been read.

    Raises:
        DataError: if the folder or its impressions do not exist, if a table is there twice, or
            if a file cannot be opened.
    """
    places = _places(folder, TABLES, required="impressions")
    files = {table: _table_files(place) for table, place in places.items()}
    scans = {table: _scan(places[table], found) for table, found in files.items()}
    frames = {table: with_row_numbers(frame) for table, (frame, _) in scans.items()}
    return RawTables(
        products=frames.get("products"),
        events=frames.get("events"),
        impressions=frames["impressions"],
        folder=folder,
        text={table: text for table, (_, text) in scans.items()},
        files=files,
    )


def read_products(folder: Path) -> tuple[pl.LazyFrame, tuple[Path, ...]]:
    """Open the catalogue of a data folder alone; other tables may be absent or broken.

    Args:
        folder: the data folder.

    Returns:
        The table with the column `row`, not yet read or checked, and its files.

    Raises:
        DataError: if the folder or its products do not exist, if the table is there twice, or if
            a file cannot be opened.
    """
    place = _places(folder, ("products",), required="products")["products"]
    files = _table_files(place)
    frame, _ = _scan(place, files)
    return with_row_numbers(frame), files


def has_table(folder: Path, table: str) -> bool:
    """Whether a data folder has a table, as a file or as a partitioned folder."""
    return _place(folder, table) is not None


def with_row_numbers(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The frame with the column `row`, Int64 from 0; a `row` of its own becomes `row (given)`."""
    frame = frame.rename({ROW: f"{ROW} (given)"}, strict=False)
    return frame.with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))


def collect(frame: pl.LazyFrame, table: str, files: Iterable[Path] = ()) -> pl.DataFrame:
    """Read a lazy table.

    Args:
        frame: the table.
        table: its name.
        files: the files it comes from, to tell which of them is broken.

    Returns:
        The rows.

    Raises:
        DataError: if a file cannot be read; the message names it.
        OSError, PolarsError: the disk is full, where the frame ends in a sink.
    """
    try:
        return frame.collect()
    except _FAILURES as error:
        if _no_room(error):
            raise
        for file in files:
            _read_through(file)
        raise DataError(f"The table '{table}' cannot be read: {_first_line(error)}.") from error


def stored_schema(frame: pl.LazyFrame, table: str, files: Iterable[Path] = ()) -> pl.Schema:
    """Names and types of the columns of a lazy table; arguments and errors as `collect`."""
    try:
        return frame.collect_schema()
    except _FAILURES as error:
        for file in files:
            _read_through(file)
        raise DataError(f"The table '{table}' cannot be read: {_first_line(error)}.") from error


def safe_path(folder: Path, relative: str) -> Path:
    """Resolve a path that came with the data, and never leave the data folder.

    Args:
        folder: the data folder.
        relative: a path inside it, as written in `products.image`.

    Returns:
        The resolved path; whether a file is there is not checked.

    Raises:
        DataError: if the path is empty, absolute, has a part `..`, holds a null character or is
            a link that leads out of the folder.
    """
    parts = relative.replace("\\", "/").split("/")
    if not relative or "\0" in relative:
        raise DataError(f"The path {relative!r} is not the name of a file.")
    if ".." in parts or parts[0] == "" or (len(parts[0]) == 2 and parts[0][1] == ":"):
        raise DataError(f"The path {relative!r} is not inside the data folder.")
    root = folder.resolve()
    try:
        path = (root / relative).resolve()
    except (OSError, RuntimeError) as error:
        raise DataError(f"The path {relative!r} cannot be followed.") from error
    if not path.is_relative_to(root):
        raise DataError(f"The path {relative!r} is a link that leaves the data folder.")
    return path


def _places(folder: Path, tables: Iterable[str], *, required: str) -> dict[str, Path]:
    """Where each table that is there lies."""
    if not folder.is_dir():
        kind = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"The data folder {folder} {kind}.")
    places = {table: place for table in tables if (place := _place(folder, table))}
    if required not in places:
        names = sorted(entry.name for entry in folder.iterdir())
        raise DataError(
            f"The data folder {folder} has no table '{required}' ({required}.parquet, "
            f"{required}.csv or a folder {required}/){nearest(f'{required}.parquet', names)}."
        )
    return places


def _place(folder: Path, table: str) -> Path | None:
    """The file or folder of a table, None if it is absent."""
    places = [folder / f"{table}{kind}" for kind in _KINDS] + [folder / table]
    found = [place for place in places if place.exists()]
    if len(found) > 1:
        names = " and ".join(place.name for place in found)
        raise DataError(f"The table '{table}' is in {folder} twice, as {names}: keep one of them.")
    return found[0] if found else None


def _table_files(place: Path) -> tuple[Path, ...]:
    """The files of a table in the order of their names."""
    if place.is_file():
        return (place,)
    files = sorted(
        path
        for path in place.rglob("*")
        if path.suffix in _KINDS
        and path.is_file()
        and not any(part[0] in "._" for part in path.relative_to(place).parts)
    )
    if not files:
        raise DataError(f"The folder {place} holds neither Parquet nor CSV files.")
    if len({path.suffix for path in files}) > 1:
        raise DataError(f"The folder {place} mixes Parquet and CSV files: keep one kind.")
    return tuple(files)


def _scan(place: Path, files: tuple[Path, ...]) -> tuple[pl.LazyFrame, frozenset[str]]:
    """One frame over all files of a table, and the names of its text columns."""
    described = [(path, _schema(path), _hive_values(place, path)) for path in files]
    frames, text = [], set()
    for (schema, hive), group in groupby(described, key=lambda item: item[1:]):
        paths = [path for path, _, _ in group]
        if paths[0].suffix == ".csv":
            frame = pl.scan_csv(paths, infer_schema=False)
            text |= set(schema)
        else:
            frame = pl.scan_parquet(paths, hive_partitioning=False)
        keys = {key: value for key, value in hive if key not in schema}
        text |= set(keys)
        frames.append(
            frame.with_columns(
                *_times_in_utc(schema),
                *(pl.lit(value, dtype=pl.String).alias(key) for key, value in keys.items()),
            )
        )
    if len(frames) == 1:
        return frames[0], frozenset(text)
    try:
        joined = pl.concat(frames, how="diagonal_relaxed")
        joined.collect_schema()
    except PolarsError as error:
        raise DataError(
            f"The files of {place} do not fit together: {_first_line(error)}; give a column the "
            "same type in all of them."
        ) from error
    return joined, frozenset(text)


def _times_in_utc(schema: pl.Schema) -> list[pl.Expr]:
    """Times in UTC and microseconds, so that files of several zones and units agree."""
    return [
        pl.col(name).dt.convert_time_zone("UTC").dt.cast_time_unit("us")
        for name, dtype in schema.items()
        if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    ]


def _schema(path: Path) -> pl.Schema:
    """Columns of one file; opens the file, and so finds most that are broken."""
    try:
        if path.suffix == ".parquet":
            return pl.Schema(pl.read_parquet_schema(path))
        return _csv_schema(path)
    except _FAILURES as error:
        raise DataError(_unreadable(path, error)) from error


def _csv_schema(path: Path) -> pl.Schema:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        names = next(csv.reader(file), [])
    if len(names) == 1 and (mark := next((mark for mark in ";\t|" if mark in names[0]), None)):
        raise DataError(f"The file {path} is separated by {mark!r}: save it with commas.")
    if any("\ufffd" in name for name in names):
        raise DataError(f"The file {path} is not UTF-8 text: save it as UTF-8.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"The file {path} has more than one column called '{twice[0]}'.")
    return pl.scan_csv(path, infer_schema=False).collect_schema()


def _hive_values(place: Path, path: Path) -> tuple[tuple[str, str | None], ...]:
    """Key and value of each folder `key=value` between the table's folder and the file."""
    parts = path.relative_to(place).parts[:-1]
    pairs = (part.split("=", 1) for part in parts if "=" in part)
    return tuple((k, None if v == _HIVE_NULL else unquote(v)) for k, v in pairs)


def _read_through(path: Path) -> None:
    """Read one whole file, only to learn whether it can be read."""
    csv_file = path.suffix == ".csv"
    scan = pl.scan_csv(path, infer_schema=False) if csv_file else pl.scan_parquet(path)
    try:
        scan.collect()
    except _FAILURES as error:
        raise DataError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: BaseException) -> str:
    reason = _first_line(error)
    if path.suffix == ".csv":
        if "utf-8" in reason.lower():
            return f"The file {path} is not UTF-8 text: save it as UTF-8."
        if "empty CSV" in reason:
            return f"The file {path} is empty: a CSV file starts with the names of its columns."
        if "more fields" in reason:
            return f"The file {path} has a line with more fields than its first line has names."
        if reason.startswith("could not parse"):
            return f"The file {path} has a quotation mark that is never closed or out of place."
    return f"The file {path} cannot be read, it may be truncated or damaged: {reason}."


def _no_room(error: BaseException) -> bool:
    """Whether a disk is full; polars tells it in words."""
    full = (errno.ENOSPC, errno.EDQUOT)
    told = any(f"os error {code})" in str(error) for code in full)
    return told or getattr(error, "errno", None) in full


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")
