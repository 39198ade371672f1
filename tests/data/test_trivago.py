import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from purchase_predictor.data.sources import trivago
from purchase_predictor.errors import UserError

REAL = Path(__file__).parents[2] / "../shared/data/trivago"
ROWS = [
    # user, session, timestamp, step, action, reference, platform, filters, impressions, prices
    ("u", "s", 1541599523, 1, "interaction item image", "12", "UK", None, None, None),
    ("u", "s", 1541599523, 2, "search for destination", "Rome, Italy", "UK", None, None, None),
    ("u", "s", 1541599530, 3, "clickout item", "12", "UK", "Hotel|Pool", "11|12|13", "50|60|70"),
    ("v", "t", 1541599540, 1, "clickout item", "99", "BR", None, "12|14", "61|80"),
    ("v", "t", 1541599541, 2, "clickout item", None, "BR", None, "15", "90"),
    ("v", "t", 1541599541, 2, "clickout item", "15", "BR", None, "15", "90"),
]


def raw_frame(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    names = (
        "user_id", "session_id", "timestamp", "step", "action_type", "reference", "platform",
        "current_filters", "impressions", "prices",
    )  # fmt: skip
    frame = pl.DataFrame(rows, schema=list(names), orient="row", infer_schema_length=None)
    return frame.with_columns(city=pl.lit("Rome, Italy"), device=pl.lit("mobile"))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    raw_frame(ROWS).write_parquet(folder / "train.parquet")
    return folder


def test_every_shown_item_becomes_an_impression_of_its_clickout(raw: Path, tmp_path: Path) -> None:
    counts = trivago.convert(raw, tmp_path / "out", drop=[])

    shown = pl.read_parquet(tmp_path / "out/impressions.parquet")
    assert counts == {
        "products": 6, "events": 6, "impressions": 7, "clickouts": 4, "clicked": 2, "unknown": 1,
    }  # fmt: skip
    assert shown["product_id"].to_list() == ["11", "12", "13", "12", "14", "15", "15"]
    assert shown["position"].to_list() == [0, 1, 2, 0, 1, 0, 0]
    assert shown["price"].to_list() == [50, 60, 70, 61, 80, 90, 90]
    # the clickout of 99 was not of a shown item: its list stays, nothing in it converted
    assert shown["converted"].to_list() == [False, True, False, False, False, None, True]
    assert shown["market"].to_list() == ["GB"] * 3 + ["BR"] * 4
    assert shown["active_filters"].to_list() == [2, 2, 2, 0, 0, 0, 0]
    assert shown["impression_id"].is_unique().all()
    assert shown["list_id"].n_unique() == 4


def test_time_carries_the_step_and_a_clickout_is_not_before_its_own_list(
    raw: Path, tmp_path: Path
) -> None:
    trivago.convert(raw, tmp_path / "out", drop=[])

    shown = pl.read_parquet(tmp_path / "out/impressions.parquet")
    events = pl.read_parquet(tmp_path / "out/events.parquet").filter(session_id="s")
    assert events["timestamp"].to_list() == [
        datetime.fromtimestamp(1541599523, UTC).replace(microsecond=1),
        datetime.fromtimestamp(1541599523, UTC).replace(microsecond=2),
        datetime.fromtimestamp(1541599530, UTC).replace(microsecond=3),
    ]
    assert (events["timestamp"] < shown["timestamp"][0]).sum() == 2
    assert events["product_id"].to_list() == ["12", None, "12"]


def test_csv_gives_the_same_tables(raw: Path, tmp_path: Path) -> None:
    raw_frame(ROWS).write_csv(tmp_path / "train.csv")

    trivago.convert(raw, tmp_path / "a", drop=[])
    trivago.convert(tmp_path / "train.csv", tmp_path / "b", drop=[])

    for table in ("products", "events", "impressions"):
        a, b = (pl.read_parquet(tmp_path / side / f"{table}.parquet") for side in "ab")
        assert a.equals(b)


def test_dropped_inputs_are_gone_and_named(raw: Path, tmp_path: Path) -> None:
    trivago.convert(raw, tmp_path / "out", drop=["city", "price"])

    columns = pl.read_parquet(tmp_path / "out/impressions.parquet").columns
    assert not {"city", "price"} & set(columns)
    assert json.loads((tmp_path / "out/source.json").read_text())["dropped"] == ["city", "price"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("prices", None, "no column 'prices'"),
        ("prices", "60|70", "has 3 impressions and 2 prices"),
        ("prices", "1|cheap|3", "does not convert"),
        ("timestamp", "soon", "differs from its layout"),
    ],
)
def test_another_layout_is_named_and_leaves_no_folder(
    tmp_path: Path, column: str, value: str | None, message: str
) -> None:
    frame = raw_frame(ROWS[2:3]).drop(column)
    if value is not None:
        frame = frame.with_columns(pl.lit(value).alias(column))
    frame.write_parquet(tmp_path / "train.parquet")

    with pytest.raises(UserError, match=message):
        trivago.convert(tmp_path / "train.parquet", tmp_path / "out", drop=[])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.parquet"]


def test_real_file_keeps_every_shown_item(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the trivago file is not here (../shared/data/trivago)")

    counts = trivago.convert(REAL, tmp_path / "out", drop=[])

    assert counts["events"] == 100_003
    assert counts["impressions"] == 312_539
    assert counts["clickouts"] == 13_597
    assert counts["clicked"] == 13_596
