"""Where tuning looks: the file, its mistakes, and what a trial draws."""

from importlib import resources
from pathlib import Path

import optuna
import pytest

from purchase_predictor.errors import SettingsError
from purchase_predictor.settings import load_settings, value_of
from purchase_predictor.training.search import (
    Range,
    as_overrides,
    load_spaces,
    starting_values,
    suggest,
)

SYSTEMS = ("fusion", "lightgbm", "catboost", "tabnet", "tabm", "logistic")


def test_every_system_has_a_space_and_the_defaults_lie_inside() -> None:
    spaces = load_spaces()

    assert tuple(spaces) == SYSTEMS
    for space in spaces.values():
        assert starting_values(load_settings(), space).keys() == space.keys()


def test_every_key_has_a_sentence() -> None:
    lines = (resources.files("configs") / "tune.yaml").read_text("utf-8").splitlines()
    keys = [number for number, line in enumerate(lines) if line.startswith("  ") and "{" in line]
    assert len(keys) == sum(len(space) for space in load_spaces().values())
    assert all(lines[number - 1].startswith("  # ") for number in keys)


@pytest.mark.parametrize("name", SYSTEMS)
def test_both_ends_of_every_range_are_possible_settings(name: str) -> None:
    space = load_spaces()[name]
    for end in (0, -1):
        values = {
            key: found.choices[end] if found.choices else (found.low, found.high)[end]
            for key, found in space.items()
        }

        settings = load_settings(overrides=as_overrides(values))

        assert {key: value_of(settings, key) for key in space} == values


def test_a_trial_draws_inside_and_whole_numbers_stay_whole() -> None:
    space = {
        "model.n_layers": Range(low=1, high=3),
        "training.learning_rate": Range(low=0.001, high=0.01, log=True),
        "model.d_model": Range(choices=(64, 128)),
    }
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    drawn = [suggest(study.ask(), space) for _ in range(50)]

    assert {values["model.n_layers"] for values in drawn} == {1, 2, 3}
    assert {values["model.d_model"] for values in drawn} == {64, 128}
    rates = [float(values["training.learning_rate"]) for values in drawn]
    assert all(0.001 <= rate <= 0.01 for rate in rates)
    # the geometric middle halves a logarithmic range
    assert 15 <= sum(rate < 0.00316 for rate in rates) <= 35


def test_overrides_are_read_back_as_they_are() -> None:
    values = {
        "training.learning_rate": 1e-05,
        "baselines.lightgbm.extra_trees": True,
        "encoders.text_encoder": "null",
        "model.n_layers": 2,
    }

    settings = load_settings(overrides=as_overrides(values))

    assert {key: value_of(settings, key) for key in values} == values


def test_a_start_outside_is_named() -> None:
    settings = load_settings(overrides=["model.n_layers=5"])

    with pytest.raises(SettingsError, match=r"model\.n_layers is 5, outside"):
        starting_values(settings, {"model.n_layers": Range(low=1, high=3)})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("fusion: {model.n_layer: {low: 1, high: 2}}", "did you mean 'model.n_layers'"),
        ("fusion: {model.n_layers: {low: 2, high: 2}}", "low 2 must be under high 2"),
        ("fusion: {model.n_layers: {low: 1}}", "low and high are needed"),
        ("fusion: {model.n_layers: {low: 1, hihg: 2}}", "hihg"),
        ("fusion: {model.n_layers: {choices: [1]}}", "two or more"),
        ("fusion: {model.n_layers: {choices: [1, 2], low: 1}}", "stand alone"),
        ("fusion: {model.dropout: {low: 0.0, high: 1.0, log: true}}", "must be positive"),
        ("fusion: {model.dropout: {low: zero, high: 1.0}}", "low"),
        ("fusion: {model.dropout: 3}", "range of 'model.dropout'"),
        ("fusion: []", "must hold settings"),
        ("- fusion", "must hold systems"),
        ("fusion: [", "not a YAML file"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)

    with pytest.raises(SettingsError, match=sentence):
        load_spaces(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_spaces(tmp_path / "none.yaml")
