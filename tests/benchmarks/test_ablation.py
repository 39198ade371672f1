"""The ablation benchmark on a tiny data folder."""

import json
from pathlib import Path

import pytest

from benchmarks import ablation
from benchmarks.ablation import VARIANTS, load_variants
from purchase_predictor.errors import SettingsError
from purchase_predictor.settings import load_settings
from tests.benchmarks.test_quality import QUICK

ONLY = ["readout alone", "network alone", "no pre-training", "no text"]


@pytest.fixture(scope="module")
def command(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("ablation")
    settings = [part for text in [*QUICK, f"encoders.cache={folder}"] for part in ("--set", text)]
    return [
        "--data", str(tiny_folder), "--output", str(folder / "ablation.json"),
        "--page", str(folder / "ablation.md"), "--quiet", *settings, "--only", *ONLY,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def document(command: list[str]) -> dict:
    assert ablation.main(command) == 0
    return json.loads(Path(command[3]).read_text())


def test_every_variant_is_held_against_the_whole(document: dict) -> None:
    (run,) = document["runs"]
    assert sorted(run["variants"]) == sorted(ONLY)
    gaps = [g for g in run["gaps"] if g["metric"] == "log_loss" and g["market"] == "pooled"]
    assert sorted(gap["arm"] for gap in gaps) == sorted(ONLY)
    assert {gap["against"] for gap in gaps} == {"fusion"}
    assert all(gap["value"] != 0 for gap in gaps)


def test_the_page_has_a_row_for_each(command: list[str], document: dict) -> None:
    page = Path(command[5]).read_text()
    for name in ONLY:
        assert page.count(f"| {name} |") == 1
    assert "`model.parts=readout`" in page


def test_earlier_results_stand_on_the_same_page(command: list[str], document: dict) -> None:
    (run,) = document["runs"]
    earlier = {**run, "data": "another", "set": ["training.max_epochs=3"]}
    page = ablation.page([earlier, run])
    assert page.index("## another, seed 0") < page.index(f"## {run['data']}, seed 0")
    assert "The whole: `training.max_epochs=3`." in page


def test_what_is_finished_is_not_fitted_again(
    command: list[str], document: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr("benchmarks.quality.fit_system", refuse)
    assert ablation.main(command) == 0
    assert json.loads(Path(command[3]).read_text()) == document


def test_every_variant_is_a_valid_setting() -> None:
    for one in load_variants(VARIANTS, []):
        settings = load_settings(None, one.get("set", []))
        assert ("drop" in one) == (settings == load_settings(None, []))


def test_an_unknown_variant_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="readout alone"):
        load_variants(VARIANTS, ["readout alon"])


def test_an_unknown_modality_is_told_before_the_work(tmp_path: Path) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text("- name: no pictures\n  drop: imagee\n")
    with pytest.raises(SettingsError, match="did you mean 'image'"):
        load_variants(file, [])
