"""A run that was killed, or met a full disk, goes on and gives the same bytes."""

import copy
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features import storage
from purchase_predictor import score
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scoring import job as scoring_job
from purchase_predictor.scoring.scorer import ShardScorer
from purchase_predictor.scoring.shards import _Shards
from purchase_predictor.scoring.work import WorkFolder
from purchase_predictor.training.preparation import Preparation

KILLED_AT = """
import os, signal, sys
from purchase_predictor import score
from purchase_predictor.scoring import job as scoring_job
from purchase_predictor.scoring import shards
from purchase_predictor.scoring.work import WorkFolder

moment, arguments = sys.argv[1], sys.argv[2:]

def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "end":
    scoring_job.ScoringJob._describe = die
elif moment == "by unit":
    shards._Shards._by_unit = die
else:
    finish = WorkFolder.finish
    def finish_or_die(self, step, *args, **options):
        die() if step == moment else finish(self, step, *args, **options)
    WorkFolder.finish = finish_or_die
score.main(arguments)
"""


Command = Callable[..., list[str]]


@pytest.fixture
def data(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny folder with a few rows that cannot be used."""
    return some_unusable(tiny_folder, tmp_path / "data")


def some_unusable(tiny_folder: Path, folder: Path) -> Path:
    folder.mkdir()
    for table in ("products", "events", "impressions"):
        rows = pl.read_parquet(tiny_folder / f"{table}.parquet")
        if table == "impressions":
            negative = pl.when(pl.int_range(pl.len()) % 50 == 0).then(-1.0).otherwise("price")
            rows = rows.drop("converted").with_columns(price=negative)
        rows.write_parquet(folder / f"{table}.parquet")
    (folder / "images").symlink_to(tiny_folder / "images")
    return folder


def line(model: Path, data: Path, output: Path, *more: str) -> list[str]:
    """The command line that scores a folder in four shards."""
    source = ["--model", str(model), "--input", str(data), "--output", str(output)]
    return [*source, "--shard-rows", "400", "--quiet", *more]


@pytest.fixture
def command(small_model_folder: Path, data: Path) -> Command:
    """`line` of the model and the data."""
    return partial(line, small_model_folder, data)


@pytest.fixture(scope="module")
def whole(
    small_model_folder: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What an uninterrupted run writes."""
    place = tmp_path_factory.mktemp("whole")
    data = some_unusable(tiny_folder, place / "data")
    assert score.main(line(small_model_folder, data, place / "out" / "scores.parquet")) == 0
    files = written(place / "out")
    assert len(files) == 4
    return files


def written(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


SLOW = [pytest.param(moment, marks=pytest.mark.slow) for moment in ("laid-out", "scores-0", "end")]


@pytest.mark.parametrize("moment", ["by unit", "scores-2", *SLOW])
def test_killed_and_resumed_the_files_are_those_of_an_uninterrupted_run(
    command: Command, whole: dict[str, bytes], tmp_path: Path, moment: str
) -> None:
    output = tmp_path / "out" / "scores.parquet"
    python = [sys.executable, "-W", "ignore", "-c", KILLED_AT]

    ended = subprocess.run([*python, moment, *command(output)], check=False)

    assert ended.returncode == -signal.SIGKILL
    assert not output.with_name("scores.manifest.json").exists()
    assert score.main(command(output, "--resume")) == 0
    assert written(output.parent) == whole


def refuse_to_compute(*_: Any, **__: Any) -> None:
    raise AssertionError("computed again")


def test_finished_shards_are_not_computed_again(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out" / "scores.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(scoring_job.ScoringJob, "_commit", refuse_to_compute)
        with pytest.raises(AssertionError):
            score.main(command(output))
    assert [file.name for file in output.parent.iterdir()] == [".scores.work"]

    with monkeypatch.context() as patch:
        patch.setattr(ShardScorer, "_score", refuse_to_compute)
        assert score.main(command(output, "--resume")) == 0
        finished = written(output.parent)
        assert len(finished) == 4
        # and when all is finished, nothing is done at all
        patch.setattr(scoring_job, "score_shards", refuse_to_compute)
        assert score.main(command(output, "--resume")) == 0
    assert written(output.parent) == finished


def finish_or_fail(error: OSError, at: str) -> Callable[..., None]:
    finish = WorkFolder.finish

    def finish_before(
        self: WorkFolder, step: str, files: Iterable[Path], *args: Any, **options: Any
    ) -> None:
        if step == at:
            raise error
        finish(self, step, files, *args, **options)

    return finish_before


def test_a_run_that_only_commits_tells_what_the_one_before_it_could_not_read(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out" / "scores.parquet"
    encode = Preparation.catalogue

    def without_a_picture(self: Preparation, *args: Any) -> Any:
        encoded = encode(self, *args)
        self.failures_ = [("p0", "lost.png", "there is no such file")]
        return encoded

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Preparation, "catalogue", without_a_picture)
        patch.setattr(scoring_job.ScoringJob, "_describe", full)
        assert score.main(command(output)) == 2
    assert score.main(command(output, "--resume")) == 0

    told = json.loads(output.with_name("scores.manifest.json").read_text())["warnings"]
    assert "picture lost.png of product p0 is not read: there is no such file" in told


def test_a_working_folder_that_could_not_be_removed_is_no_unfinished_run(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out" / "scores.parquet"
    assert score.main(command(output)) == 0
    before = written(output.parent)
    (output.parent / ".scores.work").mkdir()

    assert score.main([part for part in command(output, "--resume") if part != "--quiet"]) == 0

    assert "nothing is left to do" in " ".join(capsys.readouterr().err.split())
    (output.parent / ".scores.work").rmdir()
    assert written(output.parent) == before


def test_a_full_disk_ends_in_a_sentence_and_resume_goes_on(
    command: Command, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out" / "scores.parquet"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(WorkFolder, "finish", finish_or_fail(full, "scores-3"))
        assert score.main(command(output)) == 2
    told = capsys.readouterr().err
    assert "the disk is full" in told
    assert "is kept in" in told
    assert "Traceback" not in told
    assert [file.name for file in output.parent.iterdir()] == [".scores.work"]

    assert score.main(command(output, "--resume")) == 0

    assert written(output.parent) == whole


def test_a_disk_without_room_for_the_catalogue_ends_in_a_sentence_and_resume_goes_on(
    command: Command, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out" / "scores.parquet"

    def no_room(descriptor: int, n_bytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(storage, "_reserve", no_room)
        assert score.main(command(output)) == 2
    told = capsys.readouterr().err
    assert "(beside the scores): No space left on device; free some space" in told
    assert "Traceback" not in told
    assert [file.name for file in output.parent.iterdir()] == [".scores.work"]

    assert score.main(command(output, "--resume")) == 0

    assert written(output.parent) == whole


def test_input_truncated_midway_ends_in_a_sentence_and_resume_works_when_it_is_back(
    command: Command, data: Path, whole: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    events = data / "events.parquet"
    content = events.read_bytes()
    output = tmp_path / "out" / "scores.parquet"
    spill = _Shards.spill

    def truncate_then_spill(self: _Shards, *args: Any) -> int:
        events.write_bytes(content[: len(content) // 2])
        return spill(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(_Shards, "spill", truncate_then_spill)
        assert score.main(command(output)) == 2
    told = capsys.readouterr().err
    assert "events.parquet cannot be read, it may be truncated" in told
    assert not output.parent.exists()

    events.write_bytes(content)
    assert score.main(command(output, "--resume")) == 0
    assert written(output.parent) == whole


def test_what_is_thrown_away_for_want_of_resume_is_told(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "out" / "scores.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(scoring_job.ScoringJob, "_commit", refuse_to_compute)
        for told in (False, True):
            with pytest.raises(AssertionError):
                score.main(command(output))
            assert ("is thrown away: --resume goes on" in capsys.readouterr().err) == told


def test_impressions_that_are_all_set_aside_leave_nothing_to_go_on_with(
    command: Command, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = pl.read_parquet(data / "impressions.parquet")
    shown.with_columns(market=pl.lit(None, pl.String)).write_parquet(data / "impressions.parquet")

    assert score.main(command(tmp_path / "out" / "scores.parquet")) == 2

    told = capsys.readouterr().err
    assert f"None of the {len(shown)} rows of impressions can be used" in told
    assert "market is missing" in told
    assert "--resume" not in told
    assert not list(tmp_path.glob("out/*"))


def test_shards_of_other_rows_are_not_gone_on_with(
    command: Command, data: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "scores.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(scoring_job.ScoringJob, "_commit", refuse_to_compute)
        with pytest.raises(AssertionError):
            score.main(command(output))
    rows = pl.read_parquet(data / "impressions.parquet")
    rows.head(600).write_parquet(data / "impressions.parquet")

    assert score.main(command(output, "--resume", "--system", "lightgbm")) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "made from other input impressions.parquet, system; run without --resume" in told
    assert not output.exists()

    assert score.main(command(output, "--system", "lightgbm")) == 0
    assert not output.with_name(".scores.work").exists()
    manifest = json.loads(output.with_name("scores.manifest.json").read_text())
    assert manifest["rows"] == {"read": 600, "scored": 588, "set_aside": 12}


def test_a_model_without_reference_says_so(
    small_model: PurchasePredictor, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = copy.copy(small_model)
    old.reference_ = None
    old.save(tmp_path / "old")
    output = tmp_path / "out" / "scores.parquet"

    command = ["--model", str(tmp_path / "old"), "--input", str(data), "--output", str(output)]
    assert score.main([*command, "--system", "lightgbm"]) == 0

    assert "no drift report: the model folder has no reference.json" in capsys.readouterr().err
    assert not output.with_name("scores.drift.json").exists()
