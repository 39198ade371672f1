"""Model folders: what goes in comes out; nothing half-written or changed is taken for whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from purchase_predictor import checkpoint
from purchase_predictor.checkpoint import has_folder, read_folder, write_file, write_folder
from purchase_predictor.errors import ModelFolderError


def write_example(folder: Path, value: float = 1.0) -> None:
    def write_trees(place: Path) -> None:
        (place / "trees.txt").write_text("tree\n", "utf-8")

    write_folder(
        folder,
        tensors={
            "weights": {"scalar": np.float32(value), "matrix": np.arange(6.0).reshape(2, 3).T}
        },
        documents={"settings": {"seed": 3, "name": "한정 수량"}},
        texts={"notes.txt": "one\r\ntwo\n"},
        folders={"lightgbm": write_trees},
        metadata={"seed": 3},
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "deep" / "model"
    write_example(place)
    return place


def test_everything_comes_back(folder: Path) -> None:
    saved = read_folder(folder)

    weights = saved.tensors("weights")
    assert weights["scalar"].shape == ()
    assert weights["scalar"] == np.float32(1.0)
    np.testing.assert_array_equal(weights["matrix"], np.arange(6.0).reshape(2, 3).T)
    assert saved.document("settings") == {"seed": 3, "name": "한정 수량"}
    assert saved.text("notes.txt") == "one\r\ntwo\n"
    assert (saved.path("lightgbm") / "trees.txt").read_text("utf-8") == "tree\n"
    assert saved.metadata == {"seed": 3}


def test_manifest_tells_versions_and_fingerprints(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))

    assert manifest["format_version"] == checkpoint.FORMAT_VERSION
    assert manifest["versions"]["numpy"] == np.__version__
    assert set(manifest["files"]) == {
        "weights.safetensors", "settings.json", "notes.txt", "lightgbm/trees.txt",
    }  # fmt: skip
    assert manifest["files"]["notes.txt"]["size"] == 9


def test_moved_folder_is_the_same(folder: Path, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "elsewhere")

    assert read_folder(moved).document("settings")["seed"] == 3


def test_the_same_state_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    write_example(tmp_path / "again")

    assert (
        read_folder(tmp_path / "again").manifest["files"] == read_folder(folder).manifest["files"]
    )


def test_replacing_leaves_only_the_new(folder: Path) -> None:
    write_folder(folder, documents={"other": {"a": 1}})

    assert read_folder(folder).manifest["files"].keys() == {"other.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_replacing_follows_a_link(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)

    write_example(link, 2.0)

    assert link.is_symlink()
    assert read_folder(folder).tensors("weights")["scalar"] == 2.0


@pytest.mark.parametrize("name", ["weights", "settings"])
def test_unknown_part_is_named(folder: Path, name: str) -> None:
    read = read_folder(folder).document if name == "weights" else read_folder(folder).tensors

    with pytest.raises(ModelFolderError, match=f"has no part '{name}"):
        read(name)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def raise_version(path: Path) -> None:
    manifest = json.loads(path.read_text("utf-8"))
    manifest["format_version"] = 99
    path.write_text(json.dumps(manifest), "utf-8")


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("weights.safetensors", flip, "weights.safetensors in model folder .* is not the file"),
        ("lightgbm/trees.txt", Path.unlink, "incomplete: lightgbm/trees.txt is missing"),
        ("settings.json", dangle, "settings.json in model folder .* is not a file"),
        ("settings.json", make_pipe, "settings.json in model folder .* is not a file"),
        ("manifest.json", make_pipe, "it has no manifest.json"),
        ("more.json", lambda path: path.write_text("{}"), "holds more.json, which was not saved"),
        ("manifest.json", Path.unlink, "it has no manifest.json"),
        ("manifest.json", lambda path: path.write_text('{"format'), "cannot be read"),
        ("manifest.json", lambda path: path.write_text("[1]"), "of another kind"),
        ("manifest.json", raise_version, "has format 99, written by purchase-predictor 0"),
    ],
)
def test_damage_is_told_in_a_sentence(folder: Path, name: str, damage, message: str) -> None:
    damage(folder / name)

    with pytest.raises(ModelFolderError, match=message):
        read_folder(folder)


def test_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="there is no model folder"):
        read_folder(tmp_path / "nowhere")


def test_what_file_managers_leave_is_ignored(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"x")

    assert read_folder(folder).document("settings")["seed"] == 3


def test_a_folder_of_the_user_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_bytes(b"years of work")

    with pytest.raises(ModelFolderError, match=r"holds thesis.docx, .* nothing was replaced"):
        write_example(tmp_path)

    assert (tmp_path / "thesis.docx").read_bytes() == b"years of work"


def test_a_file_of_the_user_in_a_model_folder_is_never_deleted(folder: Path) -> None:
    (folder / "notes of mine.md").write_text("keep", "utf-8")

    with pytest.raises(ModelFolderError, match="holds notes of mine.md"):
        write_example(folder)

    assert (folder / "notes of mine.md").exists()


def test_a_failing_writer_leaves_what_was_there(folder: Path) -> None:
    def full(place: Path) -> None:
        raise OSError(28, "No space left on device", str(place))

    with pytest.raises(OSError, match="No space left"):
        write_folder(folder, folders={"lightgbm": full})

    assert read_folder(folder).tensors("weights")["scalar"] == 1.0
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


KILLED = """
import os, sys
from pathlib import Path
from purchase_predictor import checkpoint

if sys.argv[2] == "writing":
    checkpoint._write_manifest = lambda *_: os._exit(9)
else:
    rename = Path.rename
    def once(path, target):
        rename(path, target)
        os._exit(9)
    Path.rename = once
checkpoint.write_folder(Path(sys.argv[1]), documents={"settings": {"seed": 4}})
"""


@pytest.mark.parametrize("moment", ["writing", "between the renames"])
def test_a_killed_run_leaves_what_was_there(folder: Path, moment: str) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, folder, moment], check=False)

    assert killed.returncode == 9
    assert has_folder(folder)
    assert read_folder(folder).document("settings")["seed"] == 3
    write_example(folder, 2.0)
    assert read_folder(folder).tensors("weights")["scalar"] == 2.0
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_values_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_folder(tmp_path / "model", documents={"settings": {"seed": float("nan")}})

    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    def half(place: Path) -> None:
        place.write_text("ha", "utf-8")
        raise OSError(28, "No space left on device", str(place))

    write_file(tmp_path / "deep" / "metrics.json", lambda place: place.write_text("{}") and None)
    with pytest.raises(OSError, match="No space left"):
        write_file(tmp_path / "deep" / "metrics.json", half)

    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["metrics.json"]
    assert (tmp_path / "deep" / "metrics.json").read_text("utf-8") == "{}"
