from pathlib import Path

import polars as pl
import pytest

from purchase_predictor.data.sources.folder import raw_file, scan, write_folder
from purchase_predictor.errors import UserError

TABLE = pl.LazyFrame({"a": ["1", "2"]})


def test_the_raw_file_may_be_given_as_its_folder(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a\n1\n")
    (tmp_path / "notes.txt").write_text("")

    assert raw_file(tmp_path, (".csv",)) == raw_file(tmp_path / "x.csv", (".csv",))


@pytest.mark.parametrize(
    ("files", "given", "message"),
    [
        ([], "absent", "neither a file nor a folder"),
        ([], "", "holds no"),
        (["a.csv", "b.csv"], "", "several files"),
        (["a.txt"], "a.txt", "must be"),
    ],
)
def test_a_raw_file_that_is_not_one_is_refused(
    tmp_path: Path, files: list[str], given: str, message: str
) -> None:
    for name in files:
        (tmp_path / name).write_text("a\n1\n")

    with pytest.raises(UserError, match=message):
        raw_file(tmp_path / given, (".csv",))


def test_a_damaged_raw_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no more")

    with pytest.raises(UserError, match="cannot be read"):
        scan(tmp_path / "x.parquet", ["a"])


def test_an_earlier_conversion_is_replaced_anything_else_is_kept(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", {"impressions": TABLE, "events": TABLE}, {})
    write_folder(tmp_path / "out", {"impressions": TABLE}, {})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")

    with pytest.raises(UserError, match="not empty"):
        write_folder(tmp_path / "mine", {"impressions": TABLE}, {})

    assert not (tmp_path / "out/events.parquet").exists()
    assert (tmp_path / "mine/thesis.tex").exists()


def test_a_failure_leaves_the_earlier_folder_whole(tmp_path: Path) -> None:
    write_folder(tmp_path / "out", {"impressions": TABLE}, {})
    broken = pl.LazyFrame({"a": ["x"]}).with_columns(pl.col("a").cast(pl.Int64))

    with pytest.raises(UserError, match="does not convert"):
        write_folder(tmp_path / "out", {"impressions": TABLE, "events": broken}, {})

    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert pl.read_parquet(tmp_path / "out/impressions.parquet").equals(TABLE.collect())
