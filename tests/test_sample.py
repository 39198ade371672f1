import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from purchase_predictor import sample
from purchase_predictor.data.marketplace import SampleSize, world

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(world.SIZES, "demo", SampleSize(1_000, 150))


def test_it_writes_the_sample_and_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = sample.main(["--output", str(tmp_path / "s"), "--seed", "2", "--culture", "off"])

    printed = capsys.readouterr().out
    assert code == 0
    assert len(pl.read_parquet(tmp_path / "s" / "impressions.parquet")) == 1_000
    assert "KR" in printed
    assert "1,000 impressions" in printed


def test_quiet_prints_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample.main(["--output", str(tmp_path / "s"), "--quiet"]) == 0
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_taken_folder_is_a_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "x").touch()

    assert sample.main(["--output", str(tmp_path / "s")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_unknown_setting_is_a_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sample.main(["--output", str(tmp_path / "s"), "--set", "sead=1"]) == 2
    assert "did you mean 'seed'" in capsys.readouterr().err


def test_help_is_quick() -> None:
    begin = time.perf_counter()
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-X", "importtime", "-m", "purchase_predictor.sample", "--help"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )

    assert "--size" in done.stdout
    assert "polars" not in done.stderr
    assert "sklearn" not in done.stderr
    assert time.perf_counter() - begin < 20  # 0.2 s on a machine with nothing else to do
