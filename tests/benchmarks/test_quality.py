"""The quality benchmark on a tiny data folder: the package's numbers, and nothing made twice."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks import quality
from features.schema import Tables
from purchase_predictor.errors import SettingsError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import load_settings

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=1", "pretraining.batch_events=200", "pretraining.n_folds=2",
    "pretraining.n_negatives=16",
    "training.max_epochs=1", "training.precision=float32", "encoders.epochs=0",
    "encoders.n_word_pieces=300", "baselines.lightgbm.max_rounds=20",
    "baselines.lightgbm.threads=1", "evaluation.resamples=20", "data.min_conversions=5",
    "data.validation_fraction=0.2", "evaluation.min_test_conversions=5",
]  # fmt: skip


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def command(tiny_folder: Path, cache: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    output = tmp_path_factory.mktemp("quality") / "tiny.json"
    settings = [part for text in [*QUICK, f"encoders.cache={cache}"] for part in ("--set", text)]
    return [
        "--data", str(tiny_folder), "--output", str(output), "--quiet", *settings,
        "--systems", "lightgbm,stack,fusion", "--drop", "text", "--drop", "clickstream",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def document(command: list[str]) -> dict:
    assert quality.main(command) == 0
    return json.loads(Path(command[3]).read_text())


def test_predictions_are_those_of_the_package(
    command: list[str], document: dict, tiny_tables: Tables, cache: str
) -> None:
    fitted = PurchasePredictor(load_settings(None, [*QUICK, f"encoders.cache={cache}"])).fit(
        tiny_tables
    )
    expected = fitted.predict_test()

    file = next(Path(command[3]).with_suffix("").glob("*-all-seed0.parquet"))
    found = pl.read_parquet(file)

    assert found["impression_id"].to_list() == expected["impression_id"].to_list()
    for name in ("fusion", "lightgbm", "stack"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    assert document["runs"][0]["validation_log_loss"] == pytest.approx(
        fitted.facts_.validation_log_loss, abs=1e-6
    )


def test_every_system_has_figures_costs_and_gaps(document: dict) -> None:
    (run,) = document["runs"]
    assert list(run["systems"]) == ["lightgbm", "fusion", "stack"]
    assert {gap["arm"] for gap in run["gaps"]} == {"fusion", "stack"}
    assert {gap["metric"] for gap in run["gaps"]} >= {"auc", "normalised_entropy", "mrr"}
    costs = run["costs"]
    assert costs["stack"]["fit_s"] == pytest.approx(
        costs["fusion"]["fit_s"] + costs["lightgbm"]["fit_s"]
    )
    assert costs["stack"]["rows_per_s"] < costs["fusion"]["rows_per_s"]


def test_dropped_modalities_are_held_against_the_whole(command: list[str], document: dict) -> None:
    gaps = [gap for gap in document["runs"][0]["drops"] if gap["metric"] == "log_loss"]
    arms = ["no text", "no clickstream"]
    assert list(dict.fromkeys(gap["arm"] for gap in gaps)) == arms
    assert {gap["against"] for gap in gaps} == {"fusion"}
    predicted = pl.read_parquet(next(Path(command[3]).with_suffix("").glob("*-drops.parquet")))
    for arm in arms:
        assert np.abs(predicted[arm].to_numpy() - predicted["fusion"].to_numpy()).max() > 0


def test_nothing_is_made_twice(
    command: list[str],
    document: dict,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(quality, "fit_system", refused)
    monkeypatch.setattr(quality, "prepare", refused)
    monkeypatch.setattr(quality, "evaluate", refused)

    assert quality.main(command) == 0

    assert json.loads(Path(command[3]).read_text()) == document
    printed = capsys.readouterr().out
    assert "fusion − lightgbm, AUC" in printed
    assert "fusion without text − fusion, log-loss" in printed


def test_other_settings_are_fitted_anew(
    command: list[str], document: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def noted(name: str, *_args: object, **_kwargs: object) -> None:
        asked.append(name)
        raise SettingsError("noted")

    monkeypatch.setattr(quality, "fit_system", noted)

    code = quality.main([*command, "--set", "baselines.lightgbm.num_leaves=7"])

    assert (code, asked) == (2, ["lightgbm"])


@pytest.mark.parametrize(
    ("systems", "dropped", "sentence"),
    [
        (["fusion", "lightgbn"], [], "did you mean 'lightgbm'"),
        (["fusion", "stack"], [], "the stack needs lightgbm"),
        (["lightgbm"], ["text"], "--drop needs fusion"),
    ],
)
def test_what_cannot_be_is_named(systems: list[str], dropped: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        quality.check_systems(systems, dropped)
