from pathlib import Path

import polars as pl
import pytest

from purchase_predictor.data.sources import online_shoppers
from purchase_predictor.errors import UserError

REAL = Path(__file__).parents[2] / "../shared/data/online_shoppers"
HEADER = (
    "Administrative,Administrative_Duration,Informational,Informational_Duration,ProductRelated,"
    "ProductRelated_Duration,BounceRates,ExitRates,PageValues,SpecialDay,Month,OperatingSystems,"
    "Browser,Region,TrafficType,VisitorType,Weekend,Revenue"
)
LINES = [
    "0,0,0,0,1,0,0.2,0.2,0,0,Nov,1,1,1,1,Returning_Visitor,0,1",
    "0,0,0,0,2,64.5,0,0.1,3.5,0,Feb,2,2,9,2,New_Visitor,1,0",
    "0,0,0,0,2,64,0,0.1,0,0,June,2,2,1,2,Other,FALSE,TRUE",
    "0,0,0,0,2,64,0,0.1,0,0,Sep,2,2,1,2,Other,TRUE,FALSE",
]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "online_shoppers_intention.csv").write_text("\n".join([HEADER, *LINES]) + "\n")
    return folder


def test_a_session_becomes_an_impression_dated_to_its_month(raw: Path, tmp_path: Path) -> None:
    counts = online_shoppers.convert(raw, tmp_path / "out", drop=[])

    rows = pl.read_parquet(tmp_path / "out/impressions.parquet")
    assert counts == {"impressions": 4, "train": 2, "validation": 1, "test": 1, "purchases": 2}
    assert rows["market"].to_list() == ["R1", "R9", "R1", "R1"]
    assert rows["converted"].to_list() == [True, False, True, False]
    assert rows["Weekend"].to_list() == [False, True, False, True]
    assert rows["split"].to_list() == ["test", "train", "train", "validation"]
    assert rows["timestamp"].rank().to_list() == [4, 1, 2, 3]
    # neither the day of the week nor the hour tells the month
    assert rows["timestamp"].dt.weekday().unique().to_list() == [1]
    assert rows["timestamp"].dt.hour().unique().to_list() == [0]
    assert rows["session_id"].is_unique().all()
    assert rows.schema["Browser"] == pl.String  # a code, not an amount
    assert rows.schema["PageValues"] == pl.Float64
    assert not {"Month", "Region", "Revenue"} & set(rows.columns)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "impressions.parquet", "source.json",
    ]  # fmt: skip


def test_drop_leaves_a_column_out_and_names_the_nearest(raw: Path, tmp_path: Path) -> None:
    online_shoppers.convert(raw, tmp_path / "out", drop=["PageValues"])

    assert "PageValues" not in pl.read_parquet(tmp_path / "out/impressions.parquet").columns
    with pytest.raises(UserError, match="did you mean 'PageValues'"):
        online_shoppers.convert(raw, tmp_path / "out", drop=["PageValue"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("VisitorType", "Visitor", "no column 'VisitorType'; did you mean 'Visitor'"),
        ("Nov", "Brumaire", "differs from its layout"),
        ("64.5", "long", "differs from its layout"),
    ],
)
def test_another_layout_is_named(
    raw: Path, tmp_path: Path, old: str, new: str, message: str
) -> None:
    file = raw / "online_shoppers_intention.csv"
    file.write_text(file.read_text().replace(old, new))

    with pytest.raises(UserError, match=message):
        online_shoppers.convert(file, tmp_path / "out", drop=[])

    assert not (tmp_path / "out").exists()


def test_real_file_is_split_by_month(tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the UCI file is not here (../shared/data/online_shoppers)")

    counts = online_shoppers.convert(REAL, tmp_path / "out", drop=[])

    rows = pl.read_parquet(tmp_path / "out/impressions.parquet")
    assert counts["impressions"] == 12_330
    assert counts["purchases"] == 1_908
    assert counts["validation"] == 997
    assert rows.filter(split="validation")["converted"].sum() == 201
