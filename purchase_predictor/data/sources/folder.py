"""What all converters share: finding the raw file, checking its columns, writing the folder."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from purchase_predictor.errors import DataError, UserError, nearest

MANIFEST = "source.json"
"""Written beside the tables: what was converted from what; marks a folder as replaceable."""


def raw_file(raw: Path, suffixes: tuple[str, ...]) -> Path:
    """The one raw file of a data set.

    Args:
        raw: the file itself or the folder that holds it.
        suffixes: endings that the file may have, the dot included.

    Raises:
        DataError: if there is no such file, or if the folder holds several.
    """
    kinds = " or ".join(f"*{suffix}" for suffix in suffixes)
    if raw.is_file():
        if raw.suffix.lower() not in suffixes:
            raise DataError(f"The raw file {raw} must be {kinds}.")
        return raw
    if not raw.is_dir():
        raise DataError(f"There is neither a file nor a folder {raw}.")
    found = sorted(path for path in raw.iterdir() if path.suffix.lower() in suffixes)
    if not found:
        raise DataError(f"The folder {raw} holds no {kinds} file.")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"The folder {raw} holds several files ({names}): give one with --raw.")
    return found[0]


def scan(file: Path, columns: Iterable[str]) -> pl.LazyFrame:
    """Open a raw file lazily, after a check that it has the columns of its publisher.

    Args:
        file: Parquet or CSV; columns of a CSV file are read as text.
        columns: names that must be there.

    Raises:
        DataError: if the file cannot be read or a column is missing; names the nearest.
    """
    try:
        frame = (
            pl.scan_parquet(file)
            if file.suffix.lower() == ".parquet"
            else pl.scan_csv(file, infer_schema=False)
        )
        found = frame.collect_schema().names()
    except (PolarsError, OSError) as error:
        raise DataError(f"The raw file {file} cannot be read: {first_line(error)}.") from error
    for name in columns:
        if name not in found:
            raise DataError(f"The raw file {file} has no column '{name}'{nearest(name, found)}.")
    return frame


def check_drop(drop: Iterable[str], known: Iterable[str]) -> None:
    """Refuse to leave out a column that is not an input.

    Raises:
        UserError: if a name is not among the inputs; names the nearest.
    """
    known = sorted(known)
    for name in drop:
        if name not in known:
            raise UserError(
                f"--drop: there is no input '{name}'{nearest(name, known)} "
                f"(inputs: {', '.join(known)})."
            )


def write_folder(
    output: Path, tables: Mapping[str, pl.LazyFrame], description: Mapping[str, object]
) -> None:
    """Write a data folder whole or not at all: into a folder beside it, then renamed.

    Args:
        output: the folder; it may be absent, empty or an earlier conversion, which is replaced.
        tables: name of each table and its rows.
        description: what `source.json` says.

    Raises:
        UserError: if the folder holds something else, or cannot be written.
        DataError: if the raw rows do not have the types of their publisher.
    """
    _check_replaceable(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise UserError(f"The folder {output} cannot be made: {error.strerror}.") from error
    try:
        for name, frame in tables.items():
            frame.sink_parquet(temporary / f"{name}.parquet")
        text = json.dumps(description, indent=2, ensure_ascii=False) + "\n"
        (temporary / MANIFEST).write_text(text, "utf-8")
        temporary.chmod(0o755)  # mkdtemp makes it private
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
    except PolarsError as error:
        raise DataError(f"The raw file does not convert: {first_line(error)}.") from error
    except OSError as error:
        raise UserError(f"The folder {output} cannot be written: {error}.") from error
    finally:
        _remove(temporary)


def _remove(folder: Path) -> None:
    """Remove a folder into which polars may still be writing in the background after a failure."""
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.02)


def first_line(error: Exception) -> str:
    """The first line of an error's message, without the full stop."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")


def _check_replaceable(output: Path) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise UserError(f"The output {output} is a file: give a folder.")
    if any(output.iterdir()) and not (output / MANIFEST).is_file():
        raise UserError(f"The folder {output} is not empty: give a new one with --output.")
