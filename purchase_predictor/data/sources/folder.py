"""What all converters share: finding the raw file, checking its columns, writing the folder."""

import json
import os
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

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")
"""Endings of picture files."""


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
            raise DataError(f"The raw file {file} has no column '{name}'{nearest(name, found)}")
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


def find_pictures(folder: Path, *, below: bool = True) -> dict[str, Path]:
    """The picture files of a folder, by their path inside it.

    A name that comes with the data is looked up here and never followed, so that it cannot lead
    out of the folder.

    Args:
        folder: where they lie; may be absent.
        below: whether folders inside it are searched too.

    Returns:
        Files by path with forward slashes, in the order of their names.

    Raises:
        DataError: if the folder cannot be listed.
    """
    if not folder.is_dir():
        return {}
    try:
        files = sorted(folder.rglob("*") if below else folder.iterdir())
    except OSError as error:
        raise DataError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    return {
        file.relative_to(folder).as_posix(): file
        for file in files
        if file.suffix.lower() in PICTURES and file.is_file()
    }


def write_folder(
    output: Path,
    tables: Mapping[str, pl.LazyFrame],
    description: Mapping[str, object],
    *,
    pictures: Mapping[str, Path] | None = None,
) -> None:
    """Write a data folder whole or not at all: into a folder beside it, then renamed.

    Args:
        output: the folder; it may be absent, empty or an earlier conversion, which is replaced.
        tables: name of each table and its rows.
        description: what `source.json` says.
        pictures: raw file of each picture, by its path in the data folder; hard-linked where
            the file system allows it, else copied.

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
        for name, source in (pictures or {}).items():
            _link(source, temporary / name)
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


def _link(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), place)
    except OSError:  # another file system, or one that may not or cannot link
        shutil.copyfile(source, place)


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
