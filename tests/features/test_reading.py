from pathlib import Path

import polars as pl
import pytest

from features.errors import DataError
from features.reading import collect, read_folder, safe_path, with_row_numbers

SHOWN = pl.DataFrame({"impression_id": ["a", "b", "c", "d"], "price": [1.0, 2.0, None, 4.0]})


def _impressions(folder: Path) -> pl.DataFrame:
    raw = read_folder(folder)
    return collect(raw.impressions, "impressions", raw.files["impressions"])


def test_reads_a_parquet_file_lazily_with_row_numbers(tmp_path: Path) -> None:
    SHOWN.write_parquet(tmp_path / "impressions.parquet")
    raw = read_folder(tmp_path)
    assert isinstance(raw.impressions, pl.LazyFrame)
    assert (raw.products, raw.events) == (None, None)
    assert raw.text["impressions"] == frozenset()
    assert _impressions(tmp_path)["row"].to_list() == [0, 1, 2, 3]
    assert _impressions(tmp_path).schema["row"] == pl.Int64


def test_csv_is_text_and_tells_missing_from_empty(tmp_path: Path) -> None:
    (tmp_path / "impressions.csv").write_bytes(
        b'\xef\xbb\xbfimpression_id,title\r\n1,""\r\n2,\r\n'
    )
    assert read_folder(tmp_path).text["impressions"] == {"impression_id", "title"}
    assert _impressions(tmp_path)["impression_id"].to_list() == ["1", "2"]
    assert _impressions(tmp_path)["title"].to_list() == ["", None]


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_partitioned_folder_adds_its_keys_and_keeps_the_order_of_names(
    tmp_path: Path, kind: str
) -> None:
    for number, market in enumerate(["KR", "US", "a%20b", "__HIVE_DEFAULT_PARTITION__"]):
        part = tmp_path / "impressions" / f"market={market}" / f"part-{number}.{kind}"
        part.parent.mkdir(parents=True)
        getattr(SHOWN[number : number + 1], f"write_{kind}")(part)
    (tmp_path / "impressions" / "_SUCCESS").touch()
    (tmp_path / "impressions" / ".part-0.parquet").write_bytes(b"not one of them")
    frame = _impressions(tmp_path)
    found = dict(zip(frame["impression_id"], frame["market"], strict=True))
    assert found == {"a": "KR", "b": "US", "c": "a b", "d": None}
    assert frame["row"].to_list() == [0, 1, 2, 3]
    assert "market" in read_folder(tmp_path).text["impressions"]


def test_files_with_other_columns_types_and_zones_are_joined_without_loss(tmp_path: Path) -> None:
    place = tmp_path / "impressions"
    place.mkdir()
    time = pl.Series("timestamp", ["2024-01-01T00:00:00.000001"]).str.to_datetime()
    utc = time.dt.replace_time_zone("UTC")
    seoul = time.dt.replace_time_zone("Asia/Seoul").dt.cast_time_unit("ns")
    pl.DataFrame({"impression_id": [1], "price": [3], "timestamp": utc}).write_parquet(
        place / "0.parquet"
    )
    pl.DataFrame(
        {"impression_id": ["x"], "price": [3.5], "timestamp": seoul, "city": ["Busan"]}
    ).write_parquet(place / "1.parquet")
    frame = _impressions(tmp_path)
    assert frame["impression_id"].to_list() == ["1", "x"]
    assert frame["price"].to_list() == [3.0, 3.5]
    assert frame["city"].to_list() == [None, "Busan"]
    assert frame.schema["timestamp"] == pl.Datetime("us", "UTC")
    assert frame["timestamp"].dt.to_string("iso").to_list() == [
        "2024-01-01 00:00:00.000001+00:00",
        "2023-12-31 15:00:00.000001+00:00",
    ]


def test_a_folder_named_like_a_parquet_file_is_a_partitioned_folder(tmp_path: Path) -> None:
    (tmp_path / "impressions.parquet").mkdir()
    SHOWN.write_parquet(tmp_path / "impressions.parquet" / "part-0.parquet")
    assert _impressions(tmp_path).height == 4


def test_a_column_called_row_keeps_its_values_under_another_name() -> None:
    frame = with_row_numbers(pl.LazyFrame({"row": [7, 8]})).collect()
    assert frame.to_dict(as_series=False) == {"row": [0, 1], "row (given)": [7, 8]}


def test_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data folder .*nowhere does not exist"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is not a folder"):
        read_folder(tmp_path / "file")


def test_missing_impressions_names_the_nearest_file(tmp_path: Path) -> None:
    SHOWN.write_parquet(tmp_path / "Impression.parquet")
    with pytest.raises(DataError, match=r"no table 'impressions'.*mean 'Impression\.parquet'"):
        read_folder(tmp_path)


def test_a_table_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    SHOWN.write_parquet(tmp_path / "impressions.parquet")
    SHOWN.write_csv(tmp_path / "impressions.csv")
    with pytest.raises(DataError, match=r"twice, as impressions\.parquet and impressions\.csv"):
        read_folder(tmp_path)


def test_a_folder_of_no_or_of_both_kinds_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "impressions"
    place.mkdir()
    with pytest.raises(DataError, match="neither Parquet nor CSV"):
        read_folder(tmp_path)
    SHOWN.write_parquet(place / "0.parquet")
    SHOWN.write_csv(place / "1.csv")
    with pytest.raises(DataError, match="mixes Parquet and CSV"):
        read_folder(tmp_path)


def test_naive_times_beside_times_with_a_zone_are_refused(tmp_path: Path) -> None:
    place = tmp_path / "impressions"
    place.mkdir()
    time = pl.Series("timestamp", ["2024-01-01T00:00:00"]).str.to_datetime()
    time.to_frame().write_parquet(place / "0.parquet")
    time.dt.replace_time_zone("UTC").to_frame().write_parquet(place / "1.parquet")
    with pytest.raises(DataError, match="do not fit together: .*same type in all of them"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: a CSV file starts with"),
        (b"\n\n", "is empty: a CSV file starts with"),
        (b"id,t\n1,2,3\n", "more fields than its first line"),
        (b'id,t\n1,"abc\n2,3\n', "quotation mark"),
        (b"id,t\n1,\xff\xfe\n", "not UTF-8 text: save it as UTF-8"),
        (b"id,t\n1,\xed\xa0\x80\n", "not UTF-8 text"),
        ("아이디,t\n1,2\n".encode("cp949"), "not UTF-8 text"),
        (b"id,id\n1,2\n", "more than one column called 'id'"),
        (b"id;t\n1;2\n", "separated by ';': save it with commas"),
    ],
)
def test_broken_csv_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "impressions.csv").write_bytes(content)
    with pytest.raises(DataError, match=rf"The file .*impressions\.csv .*{message}"):
        _impressions(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.002, 0.5, 0.999])
def test_truncated_parquet_names_the_file(tmp_path: Path, share: float) -> None:
    place = tmp_path / "impressions"
    place.mkdir()
    SHOWN.write_parquet(place / "0.parquet")
    content = (place / "0.parquet").read_bytes()
    (place / "1.parquet").write_bytes(content[: int(share * len(content))])
    with pytest.raises(DataError, match=r"The file .*1\.parquet cannot be read, .* truncated"):
        read_folder(tmp_path)


def test_parquet_damaged_inside_names_the_file(tmp_path: Path) -> None:
    place = tmp_path / "impressions"
    place.mkdir()
    SHOWN.write_parquet(place / "0.parquet")
    content = bytearray((place / "0.parquet").read_bytes())
    content[4:60] = bytes(56)
    (place / "1.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"The file .*1\.parquet cannot be read"):
        _impressions(tmp_path)


def test_file_that_vanishes_between_opening_and_reading(tmp_path: Path) -> None:
    SHOWN.write_parquet(tmp_path / "impressions.parquet")
    raw = read_folder(tmp_path)
    (tmp_path / "impressions.parquet").unlink()
    with pytest.raises(DataError, match=r"impressions\.parquet cannot be read"):
        collect(raw.impressions, "impressions", raw.files["impressions"])


def test_safe_path_resolves_inside_the_folder(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "images" / "a.png")
    assert safe_path(tmp_path, "images/a.png") == (tmp_path / "images" / "a.png").resolve()
    assert safe_path(tmp_path, "link.png") == (tmp_path / "images" / "a.png").resolve()
    assert safe_path(tmp_path, "images/..a.png").name == "..a.png"


@pytest.mark.parametrize(
    "path",
    ["", "../a.png", "images/../../a.png", "images/..", "/etc/passwd", "..\\a.png", "\\a.png",
     "C:/a.png", "C:\\a.png", "a\0.png"],
)  # fmt: skip
def test_safe_path_refuses_paths_that_leave(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="not inside the data folder|not the name of a file"):
        safe_path(tmp_path, path)


def test_safe_path_refuses_links_that_leave(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    (folder / "a.png").symlink_to(tmp_path / "secret.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    for path in ("a.png", "up/secret.png"):
        with pytest.raises(DataError, match="a link that leaves the data folder"):
            safe_path(folder, path)
    with pytest.raises(DataError, match="cannot be followed"):
        safe_path(folder, "loop")
