"""The working folder of a scoring run: finished steps with checksums, to go on after a kill.

A step writes its files, then a record with their SHA-256, whole or not at all; a step whose record
is missing, or whose files are not those of the record, is done again. What all steps were made
from lies beside them, and steps made from something else are never used.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from features.errors import DataError
from features.reading import RawTables, collect, safe_path, stored_schema
from purchase_predictor.checkpoint import sync, write_json
from purchase_predictor.errors import SettingsError

MADE_FROM = "made-from.json"
LOCK = ".lock"
RECORDS = "steps"


class DataChangedError(DataError):
    """The input is not what it was when scoring began."""


class WorkFolder:
    """Finished steps in a folder.

    Args:
        folder: that exists.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextmanager
    def opened(
        cls, folder: Path, made_from: Mapping[str, Any], *, resume: bool
    ) -> Iterator["WorkFolder"]:
        """Hold a working folder, alone; it stays where a step was finished and an error ends it.

        Args:
            folder: made where it is not there.
            made_from: what the steps are made from, as JSON holds it.
            resume: keeps the steps of an earlier run; else they are removed.

        Raises:
            SettingsError: another run holds the folder, or its steps were made from something
                else.
        """
        folder.mkdir(parents=True, exist_ok=True)
        work = cls(folder)
        try:
            with FileLock(folder / LOCK, timeout=0):
                if resume:
                    work._refuse_other(made_from)
                else:
                    work.empty()
                write_json(folder / MADE_FROM, made_from)
                try:
                    yield work
                finally:
                    unused = not any(work.records())
                    if unused:  # nothing to go on from, and a full disk needs the room
                        work.remove()
        except Timeout as error:
            raise SettingsError(f"another run works in {folder}: wait for its end") from error

    def records(self) -> Iterator[str]:
        """Names of the steps that have a record."""
        return (path.stem for path in sorted((self.folder / RECORDS).glob("*.json")))

    def facts(self, step: str) -> dict[str, Any] | None:
        """What was noted when a step was finished; None where it is to be done, or done again.

        Args:
            step: its name.
        """
        try:
            record = json.loads((self.folder / RECORDS / f"{step}.json").read_text("utf-8"))
            whole = all(
                sha256(self.folder / name) == digest for name, digest in record["files"].items()
            )
        except (FileNotFoundError, ValueError, KeyError):
            return None
        return record["facts"] if whole else None

    def finish(
        self, step: str, files: Iterable[Path], facts: Mapping[str, Any], *, flush: bool = True
    ) -> None:
        """Record a step as finished.

        Args:
            step: its name.
            files: in the folder.
            facts: to note, as JSON holds them.
            flush: brings the files to the disk first. Many small ones may do without: what a
                power failure takes of them, their checksums tell.
        """
        digests = {}
        for file in sorted(files):
            if flush:
                sync(file)
            digests[file.relative_to(self.folder).as_posix()] = sha256(file)
        record = {"facts": dict(facts), "files": digests}
        write_json(self.folder / RECORDS / f"{step}.json", record)

    def clear(self, *names: str) -> None:
        """Remove files and folders of the folder, if they are there."""
        for name in names:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def empty(self) -> None:
        """Remove all but the lock, records first: none may outlive what it vouches for."""
        self.clear(RECORDS, *(path.name for path in self.folder.iterdir() if path.name != LOCK))

    def remove(self) -> None:
        """Remove the folder, its steps being used or of no use."""
        if self.folder.is_dir():
            self.clear(RECORDS)  # first: none may outlive what it vouches for
            # Windows keeps the lock while held, NFS what a worker that is about to end has open
            shutil.rmtree(self.folder, ignore_errors=True)

    def made_from(self) -> dict[str, Any] | None:
        """What the steps were made from, where that can be read."""
        try:
            return json.loads((self.folder / MADE_FROM).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def _refuse_other(self, made_from: Mapping[str, Any]) -> None:
        if not any(self.records()):
            return
        before = self.made_from()
        if before is None:
            raise SettingsError(
                f"cannot resume in {self.folder}: it does not tell what its shards were made "
                "from; run without --resume"
            )
        changed = differences(before, made_from)
        if changed:
            raise SettingsError(
                f"cannot resume in {self.folder}: its shards were made from other "
                f"{', '.join(changed)}; run without --resume to score anew"
            )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two accounts of what something was made from.

    Args:
        before: an account; one level of mappings is looked into.
        now: another.

    Returns:
        Names of keys, `input products.parquet` where a key of a mapping differs.
    """
    changed = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inner = sorted(
                name for name in old.keys() | new.keys() if old.get(name) != new.get(name)
            )
            changed += [f"{key} {name}" for name in inner]
        elif old != new:
            changed.append(key)
    return changed


class InputFiles:
    """The files of a data folder as they were when scoring began.

    Args:
        raw: the tables.

    Attributes:
        checksums: SHA-256 of each file of the tables by its path in the data folder, and one of
            sizes and times of the pictures that the catalogue names.

    Raises:
        DataError: a file cannot be read.
    """

    def __init__(self, raw: RawTables) -> None:
        self.files = [file for files in raw.files.values() for file in files]
        self.places = [self._place(raw, file) for file in self.files]
        self.states = self._states()
        try:
            digests = [sha256(file) for file in self.files]
        except OSError as error:
            raise DataError(
                f"The file {error.filename} cannot be read: {error.strerror}."
            ) from error
        self.checksums = {
            **dict(zip(self.places, digests, strict=True)),
            "pictures": _pictures(raw),
        }

    def refuse_changed(self) -> None:
        """See that nobody changed the files of the tables since.

        Raises:
            DataChangedError: a file changed while it was read.
        """
        for place, before, now in zip(self.places, self.states, self._states(), strict=True):
            if before != now:
                raise DataChangedError(f"{place} changed while it was scored: run again")

    @staticmethod
    def _place(raw: RawTables, file: Path) -> str:
        return file.relative_to(raw.folder).as_posix()

    def _states(self) -> list[tuple[int, int] | None]:
        return [_state(file) for file in self.files]


def sha256(file: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _pictures(raw: RawTables) -> str:
    """A hash of names, sizes and times of the pictures: to read them all would take too long."""
    digest = hashlib.sha256()
    products, files = raw.products, raw.files.get("products", ())
    if (
        products is not None
        and stored_schema(products, "products", files).get("image") == pl.String
    ):
        found = collect(products.select("image").unique().sort("image"), "products", files)
        for image in found["image"].drop_nulls():
            digest.update(f"{image}\0{_picture_state(raw.folder, image)}\n".encode())
    return digest.hexdigest()


def _picture_state(folder: Path, image: str) -> tuple[int, int] | None:
    try:
        return _state(safe_path(folder, image))
    except DataError:
        return None  # such a path is never read


def _state(file: Path) -> tuple[int, int] | None:
    """Size and time of change; None where there is no such file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns
