"""Where large arrays lie: in memory, or in mapped files, whose pages the kernel may take back."""

import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import DTypeLike, NDArray

from features.errors import UserError
from features.heap import map_large_arrays, return_memory

BLOCK_ROWS = 16_384
"""Rows that are copied at a time."""

KEPT_BYTES = 2**20
"""What is smaller is not worth a file."""

ALIGNED = 64
"""Arrays of one file begin at multiples of so many bytes."""

BLOCK_COLUMNS = 16
"""Columns that are read at a time: one alone touches as many pages of a file as all of them."""


@dataclass(frozen=True)
class ArrayStore:
    """Makes, and keeps, the arrays and tables that grow with rows.

    On disk every array is a file of its own that has no name (its space is free again when the
    array is gone or the process has died, however it died), mapped shared: its pages are not
    anonymous memory. What is computed is the same, bit for bit, wherever arrays lie.

    Attributes:
        folder: of the files; None keeps arrays in memory.
        chosen_by: how the folder was chosen, for messages.
    """

    folder: Path | None = None
    chosen_by: str = "setting training.storage_folder"

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray:
        """An array of zeros, to be written.

        Args:
            shape: of the array.
            dtype: of its values.

        Raises:
            UserError: the folder cannot be written, or its disk has no room.
        """
        n_bytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if self.folder is None or not n_bytes:
            return np.zeros(shape, dtype)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                _reserve(file.fileno(), n_bytes)
                mapped = np.memmap(file, dtype, mode="r+", shape=shape)
        except OSError as error:
            raise self._refused(n_bytes, error) from error
        return np.asarray(mapped)

    def keep(self, arrays: Mapping[str, NDArray]) -> dict[str, Any]:
        """Arrays where arrays lie: on disk copies in one file, as each file takes a descriptor.

        Args:
            arrays: by name, of any shape; small ones and those of Python objects stay as they are.

        Raises:
            UserError: as `zeros`.
        """
        kept = dict(arrays)
        if self.folder is None:
            return kept
        large = {
            name: x
            for name, x in arrays.items()
            if not x.dtype.hasobject and x.nbytes >= KEPT_BYTES
        }
        stops = np.cumsum([-(-x.nbytes // ALIGNED) * ALIGNED for x in large.values()], dtype=int)
        room = self.zeros((stops[-1] if len(stops) else 0,), np.uint8)
        for (name, x), start in zip(large.items(), [0, *stops], strict=False):
            kept[name] = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
            kept[name][:] = x
        return kept

    def table(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The same table where arrays lie: on disk its columns are those of a mapped file.

        Args:
            frame: with columns of numbers, texts and times.

        Raises:
            UserError: as `zeros`.
        """
        import pyarrow as pa  # only here: every command reads settings, and they know this class

        n_bytes = int(frame.estimated_size())
        if self.folder is None or n_bytes < KEPT_BYTES:
            return frame
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder) as file:
                # one batch, in the layout that polars has in memory: it is mapped as it lies there
                frame.rechunk().write_ipc(
                    file,
                    compression="uncompressed",
                    compat_level=pl.CompatLevel.newest(),
                    record_batch_size=len(frame),
                )
                file.flush()
                buffer = pa.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            mapped = pa.ipc.open_file(pa.BufferReader(buffer)).read_all()
        except OSError as error:
            raise self._refused(n_bytes, error) from error
        return pl.DataFrame(pl.from_arrow(mapped, rechunk=False))

    def settle(self) -> None:
        """On disk: give back what was freed, of which the heap keeps more the longer it runs."""
        if self.folder is not None:
            map_large_arrays()
            return_memory()

    def _refused(self, n_bytes: int, error: OSError) -> UserError:
        return UserError(
            f"cannot keep {n_bytes / 1e9:.2f} GB of arrays in {self.folder} ({self.chosen_by}): "
            f"{error.strerror or error}; free some space or choose another folder"
        )

    def take(
        self,
        x: NDArray,
        rows: NDArray[np.bool_] | None = None,
        columns: NDArray[np.int64] | None = None,
    ) -> NDArray:
        """A copy of some rows and columns of a matrix, made a block at a time.

        Args:
            x: [n, n_columns].
            rows: bool [n]; None takes all.
            columns: places, in the order wanted; None takes all.
        """
        places = np.arange(len(x)) if rows is None else np.flatnonzero(rows)
        width = x.shape[1] if columns is None else len(columns)
        taken = self.zeros((len(places), width), x.dtype)
        for start in range(0, len(places), BLOCK_ROWS):
            part = x[places[start : start + BLOCK_ROWS]]
            taken[start : start + len(part)] = part if columns is None else part[:, columns]
        return taken


IN_MEMORY = ArrayStore()


def column_by_column(x: NDArray) -> Iterator[NDArray]:
    """The columns of a matrix, each contiguous; the matrix is read a block of them at a time."""
    for start in range(0, x.shape[1], BLOCK_COLUMNS):
        yield from np.ascontiguousarray(x[:, start : start + BLOCK_COLUMNS].T)


def return_pages(array: NDArray) -> None:
    """Let go of what is mapped of an array's file: no page is memory until it is read again.

    The whole file goes, also where the array is a part of it. Where the system does not know how,
    nothing happens.

    Args:
        array: of `ArrayStore`, whose files are mapped shared (of a private mapping what was
            written would be lost); an array in memory stays as it is.
    """
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)  # shared, so what was written is in the file


def _reserve(descriptor: int, n_bytes: int) -> None:
    """Room on the disk before it is written: a full one would kill a process that maps it."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, n_bytes)
        return
    zeros = bytes(min(n_bytes, KEPT_BYTES))
    with os.fdopen(os.dup(descriptor), "wb") as file:
        for start in range(0, n_bytes, len(zeros)):
            file.write(zeros[: n_bytes - start])
