"""Tuning: trials that go on where they were left, the best settings as a file."""

import json
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
import yaml

from features.arrays import EncodedMarket
from purchase_predictor.errors import SettingsError
from purchase_predictor.settings import load_settings
from purchase_predictor.training.search import Range
from purchase_predictor.training.shapes import ContentSizes
from purchase_predictor.tuning import chosen, job, trials
from purchase_predictor.tuning.prepared import Prepared, clicks_key

SPACE = {
    "model.n_layers": Range(low=1, high=3),
    "training.learning_rate": Range(low=0.0003, high=0.003, log=True),
}
SIZES = ContentSizes(n_identities=12, n_categories=7, n_brands=7, n_word_pieces=40)


class Counted(trials.Trials):
    """Trials whose loss is a function of the values; killed after so many."""

    killed_after = 99

    def try_out(self, name: str, values: Mapping[str, object], on_epoch: object) -> float:
        if len(self.tried) == self.killed_after:
            raise KeyboardInterrupt
        self.tried.append(dict(values))
        return abs(float(str(values["training.learning_rate"])) - 0.002)


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def make(
    market: EncodedMarket, journal: Path, *, identity: str = "data", seed: int = 0
) -> Counted:
    prepared = Prepared(data=market, sizes=SIZES, clicks=None, click_auc={}, seconds=1.0)
    counted = Counted(
        prepared, None, [], storage=trials.open_storage(None, journal),
        identity=identity, seed=seed, step=silent,
    )  # fmt: skip
    counted.tried = []
    return counted


def silent(_line: str) -> None:
    pass


def test_the_settings_started_from_are_the_first_trial(
    market: EncodedMarket, tmp_path: Path
) -> None:
    made = make(market, tmp_path / "j")

    study = made.run("fusion", SPACE, 6)

    default = load_settings()
    assert made.tried[0] == {
        "model.n_layers": default.model.n_layers,
        "training.learning_rate": default.training.learning_rate,
    }
    assert len({json.dumps(values, default=str) for values in made.tried}) == 6
    found = trials.describe(study)
    assert found["n_trials"] == 6
    assert found["log_loss"] == min(trial["log_loss"] for trial in found["trials"])
    assert found["start_log_loss"] == found["trials"][0]["log_loss"]


@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_a_killed_run_draws_what_it_would_have(
    market: EncodedMarket, tmp_path: Path, n_before: int
) -> None:
    whole = make(market, tmp_path / "whole")
    whole.run("fusion", SPACE, 5)
    killed = make(market, tmp_path / "killed")
    killed.killed_after = n_before
    with pytest.raises(KeyboardInterrupt):
        killed.run("fusion", SPACE, 5)

    again = make(market, tmp_path / "killed")
    study = again.run("fusion", SPACE, 5)

    assert killed.tried + again.tried == whole.tried
    assert trials.best_of(study).params in whole.tried


def test_trials_of_other_data_or_another_space_are_not_taken_up(
    market: EncodedMarket, tmp_path: Path
) -> None:
    make(market, tmp_path / "j").run("fusion", SPACE, 2)

    same, other = make(market, tmp_path / "j"), make(market, tmp_path / "j", identity="other")
    wider = make(market, tmp_path / "j")
    same.run("fusion", SPACE, 3)
    other.run("fusion", SPACE, 3)
    wider.run("fusion", {**SPACE, "model.n_layers": Range(low=1, high=9)}, 3)

    assert [len(made.tried) for made in (same, other, wider)] == [1, 3, 3]


def test_a_baseline_is_ranked_by_its_log_loss_on_stop_rows(
    market: EncodedMarket, tmp_path: Path
) -> None:
    made = make(market, tmp_path / "j")
    lines: list[str] = []
    made.step = lines.append

    values = {"baselines.logistic.inverse_penalty": 0.1}
    loss = trials.Trials.try_out(made, "logistic", values, lambda *_: None)

    assert loss == pytest.approx(float(lines[-1].split()[-1]), abs=1e-5)


@pytest.mark.parametrize(
    ("override", "shared"),
    [
        ("model.n_layers=3", True),
        ("model.dropout=0.2", False),
        ("training.learning_rate=0.0005", True),
        ("model.d_model=96", False),
        ("model.n_session_layers=3", False),
        ("pretraining.epochs=3", False),
        ("model.parts=readout", True),
        ("training.max_epochs=2", True),
        ("training.ema_decay=0", False),
        ("seed=1", False),
    ],
)
def test_trials_of_one_size_share_a_click_encoder(override: str, shared: bool) -> None:
    same = clicks_key(load_settings()) == clicks_key(load_settings(None, [override]))

    assert same == shared


def test_settings_files_are_laid_over_one_another() -> None:
    below = {"model": {"d_model": 32, "n_layers": 1}, "seed": 3}

    merged = chosen.laid_over(below, chosen.nested({"model.d_model": 64, "training.clip_norm": 2}))

    assert merged == {
        "model": {"d_model": 64, "n_layers": 1}, "seed": 3, "training": {"clip_norm": 2},
    }  # fmt: skip
    assert below["model"] == {"d_model": 32, "n_layers": 1}


def test_the_file_written_is_taken_by_config(tmp_path: Path) -> None:
    told = {"n_trials": 2, "seconds": 1.0, "start_log_loss": 0.3, "log_loss": 0.2}
    document = {"data": "world", "systems": {"lightgbm": told}}
    values = chosen.nested({"baselines.lightgbm.extra_trees": True, "model.dropout": 1e-05})

    chosen.write_chosen(document, values, tmp_path)

    settings = load_settings(tmp_path / "best.yaml")
    assert settings.baselines.lightgbm.extra_trees
    assert settings.model.dropout == 1e-05
    assert json.loads((tmp_path / "trials.json").read_text()) == document
    assert (tmp_path / "best.yaml").read_text().startswith("# Made by the tune command")


@pytest.mark.parametrize(
    ("key", "values", "sentence"),
    [
        ("model.history", {"low": 10, "high": 80}, "cannot be tuned here"),
        ("data.min_identity_count", {"low": 1, "high": 9}, "cannot be tuned here"),
    ],
)
def test_what_is_encoded_before_cannot_be_tuned(
    tmp_path: Path, key: str, values: dict, sentence: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"fusion": {key: values}}))

    with pytest.raises(SettingsError, match=sentence):
        job.spaces_of(["fusion"], file)


def test_a_system_without_a_space_is_named() -> None:
    with pytest.raises(SettingsError, match="no space for system 'stack'"):
        job.spaces_of(["stack"], None)
