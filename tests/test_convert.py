import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from purchase_predictor.convert import main

HEADER = (
    "Administrative,Administrative_Duration,Informational,Informational_Duration,ProductRelated,"
    "ProductRelated_Duration,BounceRates,ExitRates,PageValues,SpecialDay,Month,OperatingSystems,"
    "Browser,Region,TrafficType,VisitorType,Weekend,Revenue"
)
LINE = "0,0,0,0,1,0,0.2,0.2,0,0,Nov,1,1,1,1,Returning_Visitor,0,1"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "online_shoppers_intention.csv").write_text(f"{HEADER}\n{LINE}\n")
    return tmp_path


def test_a_source_is_converted_and_counted(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    arguments = ["online-shoppers", "--raw", str(raw), "--output", str(output)]

    code = main([*arguments, "--drop", "PageValues", "--drop", "Weekend"])

    assert code == 0
    assert "impressions" in capsys.readouterr().out
    columns = pl.read_parquet(output / "impressions.parquet").columns
    assert not {"PageValues", "Weekend"} & set(columns)


def test_a_source_with_pictures_is_converted_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "posting_id,image,image_phash,title,label_group"
    (tmp_path / "train.csv").write_text(f"{header}\nt1,a.jpg,94974f937d4c2433,Paper Bag,30\n")
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(b"")

    code = main(["shopee", "--raw", str(tmp_path), "--output", str(tmp_path / "out")])

    assert code == 0
    assert "with_picture" in capsys.readouterr().out
    assert (tmp_path / "out/images/a.jpg").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shopee", "--raw", "."], "no column 'posting_id'"),
        (["magento", "--raw", "."], "no folder images with photos"),
        (["online-shoppers", "--raw", "absent"], "neither a file nor a folder"),
        (["trivago", "--raw", "."], "no column 'user_id'"),
        (["online-shoppers", "--raw", ".", "--drop", "PageValue"], "did you mean 'PageValues'"),
    ],
)
def test_a_mistake_is_one_sentence_and_two(
    raw: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(raw)

    code = main([*arguments, "--output", "out"])

    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from purchase_predictor.convert import main; main(['trivago', '--help']); "
        "print({'polars', 'numpy', 'torch', 'mlflow', 'lightgbm'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "--drop" in done.stdout
    assert done.stdout.strip().endswith("set()")
