import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features import storage
from features.clickstream import build_clickstream
from features.columns import ColumnSet
from features.errors import UserError
from features.schema import Tables
from features.storage import (
    BLOCK_ROWS,
    IN_MEMORY,
    KEPT_BYTES,
    ArrayStore,
    column_by_column,
    return_pages,
)


def mapped_files(folder: Path) -> int:
    """Mappings of this process whose file was in a folder."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        pytest.skip("needs /proc")
    return maps.read_text("utf-8").count(str(folder.resolve()))


def test_an_array_on_disk_is_a_mapped_file_of_zeros_that_has_no_name(tmp_path: Path) -> None:
    x = ArrayStore(tmp_path).zeros((300, 7), np.float32)
    assert x.dtype == np.float32
    assert not x.any()
    assert mapped_files(tmp_path) == 1
    assert not list(tmp_path.iterdir())
    del x
    assert not mapped_files(tmp_path)


def test_an_array_in_memory_has_no_file(tmp_path: Path) -> None:
    assert IN_MEMORY.zeros((3, 2), np.int32).shape == (3, 2)
    assert ArrayStore(tmp_path / "unused").zeros((0, 4), np.int32).shape == (0, 4)
    assert not (tmp_path / "unused").exists()


def test_pages_of_a_mapped_array_are_given_back_and_read_again(tmp_path: Path) -> None:
    def resident() -> int:
        told = Path("/proc/self/statm").read_text("ascii").split()
        return (int(told[2]) * os.sysconf("SC_PAGE_SIZE")) // 2**20  # of files

    if not Path("/proc/self/statm").is_file():
        pytest.skip("needs /proc")
    x, kept = ArrayStore(tmp_path).zeros((64, 2**17), np.float64), np.ones(3)
    before = resident()
    x += 1
    assert resident() > before + 50
    return_pages(x[3:])  # a view has the pages of its array
    return_pages(kept)
    assert resident() < before + 10
    assert x.all()
    assert kept.all()


def test_large_arrays_are_kept_in_one_file_and_others_as_they_are(tmp_path: Path) -> None:
    n = KEPT_BYTES + 3
    large = {
        "times": np.arange(n), "flags": np.arange(n) % 3 == 0, "codes": np.arange(n, dtype="i2"),
        "profile": np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32),
    }  # fmt: skip
    small = {"few": large["times"][:5], "objects": np.full(n, None)}
    kept = ArrayStore(tmp_path).keep(large | small)
    assert mapped_files(tmp_path) == 1
    assert list(kept) == [*large, *small]
    for name, x in large.items():
        assert kept[name].dtype == x.dtype
        np.testing.assert_array_equal(kept[name], x)
        assert kept[name].ctypes.data % 64 == 0
    assert all(kept[name] is x for name, x in small.items())
    assert IN_MEMORY.keep(large)["times"] is large["times"]
    del kept
    assert not mapped_files(tmp_path)


def test_rows_events_and_the_clickstream_lie_where_they_are_told(
    tiny_tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "KEPT_BYTES", 1)
    store = ArrayStore(tmp_path)
    tables = tiny_tables.stored(store)
    assert mapped_files(tmp_path) == 3
    places = tables.products.select("product_id").with_row_index("product", offset=1)
    stream = build_clickstream(tables, places, history=6)
    stored = stream.stored(store)
    assert mapped_files(tmp_path) == 5
    for part in ("events", "shown"):
        for name, x in vars(getattr(stream, part)).items():
            np.testing.assert_array_equal(getattr(getattr(stored, part), name), x)


def test_a_table_on_disk_is_the_same_table(tmp_path: Path) -> None:
    n = 40_000
    frame = pl.DataFrame(
        {
            "id": [f"product-{i % 97} 한정 수량" if i % 5 else None for i in range(n)],
            "time": pl.Series(range(n)).cast(pl.Datetime("us", "UTC")),
            "price": [None if i % 7 == 0 else i / 3 for i in range(n)],
            "shipping": [i % 2 == 0 for i in range(n)],
        }
    )
    stored = ArrayStore(tmp_path).table(pl.concat([frame[:9], frame[9:]], rechunk=False))
    assert_frame_equal(stored, frame)
    assert stored.n_chunks() == 1
    assert mapped_files(tmp_path) == 1
    assert not list(tmp_path.iterdir())
    assert ArrayStore(tmp_path).table(frame[:5]).n_chunks() == 1
    assert IN_MEMORY.table(frame) is frame


def test_a_folder_that_cannot_hold_a_table_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    frame = pl.DataFrame({"x": np.zeros(KEPT_BYTES)})
    with pytest.raises(UserError, match=r"cannot keep 0.01 GB .*storage_folder"):
        ArrayStore(tmp_path / "file").table(frame)


@pytest.mark.parametrize("rows", [None, "some"])
@pytest.mark.parametrize("columns", [None, np.array([4, 0])])
def test_rows_and_columns_are_taken_over_blocks(
    tmp_path: Path, rows: str | None, columns: np.ndarray | None
) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2 * BLOCK_ROWS + 5, 6))
    mask = None if rows is None else rng.random(len(x)) < 0.7
    wanted = x if mask is None else x[mask]
    wanted = wanted if columns is None else wanted[:, columns]
    for store in (IN_MEMORY, ArrayStore(tmp_path)):
        np.testing.assert_array_equal(store.take(x, mask, columns), wanted)


def test_columns_come_one_by_one_in_order() -> None:
    x = np.random.default_rng(0).normal(size=(5, 40))
    np.testing.assert_array_equal(list(column_by_column(x)), x.T)
    assert not list(column_by_column(x[:, :0]))


def test_columns_are_gathered_in_blocks(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(9, 130)).astype(np.float32)
    columns = ColumnSet(store=ArrayStore(tmp_path))
    for place, column in enumerate(x.T):
        columns.number(f"x{place}", "context", "context", column)
    assert mapped_files(tmp_path) == 3
    np.testing.assert_array_equal(columns.number_matrix(9), x)


def test_no_room_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"8\.00 GB of arrays in .*storage_folder.*directory"):
        ArrayStore(tmp_path / "file" / "folder").zeros((10**9,), np.float64)


def test_a_full_disk_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(UserError, match="No space left on device"):
        ArrayStore(tmp_path).zeros((4, 4), np.float64)
