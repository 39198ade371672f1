"""Finished steps: kept, checked, never used for something else."""

from pathlib import Path

import pytest

from features.reading import read_folder
from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.scoring.work import (
    DataChangedError,
    InputFiles,
    WorkFolder,
    differences,
)

MADE_FROM = {"model": "a", "input": {"events.parquet": "b"}}


def finish(work: WorkFolder, step: str = "one", content: str = "scores") -> Path:
    """Finish a step of one file."""
    file = work.folder / f"{step}.parquet"
    file.write_text(content)
    work.finish(step, [file], {"n": 3})
    return file


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A working folder of a run that was stopped after its step `one`."""
    place = tmp_path / "work"
    with WorkFolder.opened(place, MADE_FROM, resume=False) as work:
        finish(work)
    return place


def test_a_finished_step_is_found_again(place: Path) -> None:
    with WorkFolder.opened(place, MADE_FROM, resume=True) as work:
        assert work.facts("one") == {"n": 3}
        assert work.facts("two") is None
        assert list(work.records()) == ["one"]


@pytest.mark.parametrize("harm", ["changed", "missing", "record"])
def test_a_damaged_step_is_done_again(place: Path, harm: str) -> None:
    if harm == "changed":
        (place / "one.parquet").write_text("half")
    elif harm == "missing":
        (place / "one.parquet").unlink()
    else:
        (place / "steps" / "one.json").write_text('{"facts": {"n"')

    with WorkFolder.opened(place, MADE_FROM, resume=True) as work:
        assert work.facts("one") is None


def test_without_resume_nothing_is_kept(place: Path) -> None:
    with WorkFolder.opened(place, {"model": "c"}, resume=False) as work:
        assert work.facts("one") is None
        assert not (place / "one.parquet").exists()


def test_steps_made_from_something_else_are_refused_and_stay(place: Path) -> None:
    other = {"model": "c", "input": {"events.parquet": "d"}}
    sentence = "made from other input events.parquet, model; run without --resume"
    with (
        pytest.raises(SettingsError, match=sentence),
        WorkFolder.opened(place, other, resume=True),
    ):
        pass
    with WorkFolder.opened(place, MADE_FROM, resume=True) as work:
        assert work.facts("one") == {"n": 3}


def test_steps_of_unknown_making_are_refused(place: Path) -> None:
    (place / "made-from.json").write_text("{")
    with (
        pytest.raises(SettingsError, match="does not tell what its shards were made from"),
        WorkFolder.opened(place, MADE_FROM, resume=True),
    ):
        pass


def test_a_folder_without_a_finished_step_does_not_stay(tmp_path: Path) -> None:
    with WorkFolder.opened(tmp_path / "work", MADE_FROM, resume=False) as work:
        (work.folder / "sessions").mkdir()
    assert not list(tmp_path.iterdir())


def test_two_runs_do_not_share_a_folder(place: Path) -> None:
    with (
        WorkFolder.opened(place, MADE_FROM, resume=True) as first,
        pytest.raises(SettingsError, match="another run works in"),
        WorkFolder.opened(place, MADE_FROM, resume=False),
    ):
        pass
    assert first.facts("one") == {"n": 3}


def test_differences_look_one_level_deep() -> None:
    before = {"a": 1, "input": {"x": 1, "y": 2}, "gone": 0}
    now = {"a": 1, "input": {"x": 1, "y": 3, "z": 4}}
    assert differences(before, now) == ["gone", "input y", "input z"]
    assert differences(now, now) == []


def test_input_files_tell_when_they_change(tiny_folder: Path, tmp_path: Path) -> None:
    for table in ("products", "impressions"):
        content = (tiny_folder / f"{table}.parquet").read_bytes()
        (tmp_path / f"{table}.parquet").write_bytes(content)
    raw = read_folder(tmp_path)

    before = InputFiles(raw)
    before.refuse_changed()
    (tmp_path / "products.parquet").touch()

    assert list(before.checksums) == ["products.parquet", "impressions.parquet", "pictures"]
    with pytest.raises(DataChangedError, match="products.parquet changed while it was scored"):
        before.refuse_changed()
    assert InputFiles(raw).checksums == before.checksums  # the content is what counts
    pictures = InputFiles(read_folder(tiny_folder)).checksums["pictures"]
    assert pictures != before.checksums["pictures"]  # here they are missing


def test_a_file_that_cannot_be_read_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    content = (tiny_folder / "impressions.parquet").read_bytes()
    (tmp_path / "impressions.parquet").write_bytes(content)
    raw = read_folder(tmp_path)
    (tmp_path / "impressions.parquet").unlink()
    with pytest.raises(DataError, match=r"impressions\.parquet cannot be read: No such file"):
        InputFiles(raw)
