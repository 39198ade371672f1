from pathlib import Path

import polars as pl
import pytest

from purchase_predictor.data.sources.folder import (
    find_pictures,
    raw_file,
    scan,
    write_folder,
)
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


def test_pictures_come_along_and_go_with_the_conversion_they_belong_to(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "m").mkdir(parents=True)
    (raw / "m/a.JPG").write_bytes(b"a")
    (raw / "b.png").write_bytes(b"b")
    (raw / "notes.txt").write_text("")
    found = find_pictures(raw)

    write_folder(
        tmp_path / "out", {"products": TABLE}, {}, pictures={"images/a.jpg": found["m/a.JPG"]}
    )
    first = (tmp_path / "out/images/a.jpg").read_bytes()
    write_folder(tmp_path / "out", {"products": TABLE}, {}, pictures={"b.png": found["b.png"]})

    assert list(found) == ["b.png", "m/a.JPG"]
    assert list(find_pictures(raw, below=False)) == ["b.png"]
    assert find_pictures(tmp_path / "absent") == {}
    assert first == b"a"
    assert not (tmp_path / "out/images").exists()
    # the raw pictures outlive the conversion
    assert [path.read_bytes() for path in found.values()] == [b"b", b"a"]


def test_pictures_are_copied_where_they_cannot_be_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*names: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    (tmp_path / "a.jpg").write_bytes(b"a")
    monkeypatch.setattr("os.link", refuse)

    write_folder(tmp_path / "out", {"products": TABLE}, {}, pictures={"a.jpg": tmp_path / "a.jpg"})

    assert (tmp_path / "out/a.jpg").read_bytes() == b"a"


def test_a_picture_that_is_gone_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be written.*gone\.jpg"):
        write_folder(
            tmp_path / "out", {"products": TABLE}, {}, pictures={"a.jpg": tmp_path / "gone.jpg"}
        )

    assert list(tmp_path.iterdir()) == []
