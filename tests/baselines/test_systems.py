"""What every baseline keeps to: the contract of systems."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from features.arrays import CALIBRATE, STOP, TEST, TRAIN, UNSEEN, EncodedMarket
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.baselines.registry import NAMES, load_baseline, make_baseline
from purchase_predictor.baselines.system import System
from purchase_predictor.errors import DataError, ModelFolderError, SettingsError
from purchase_predictor.settings import load_settings

SETTINGS = load_settings(
    overrides=[
        "baselines.lightgbm.min_child_samples=20",
        "baselines.lightgbm.learning_rate=0.1",
        "baselines.lightgbm.max_rounds=150",
        "baselines.lightgbm.patience=20",
        "baselines.lightgbm.threads=1",
        "baselines.tabnet.n_d=8",
        "baselines.tabnet.n_steps=2",
        "baselines.tabnet.max_epochs=20",
        "baselines.tabnet.batch_size=256",
        "baselines.tabnet.virtual_batch_size=64",
        "baselines.catboost.learning_rate=0.2",
        "baselines.catboost.depth=3",
        "baselines.catboost.max_rounds=60",
        "baselines.catboost.patience=20",
        "baselines.catboost.threads=1",
        "baselines.tabm.k=4",
        "baselines.tabm.d_block=32",
        "baselines.tabm.max_epochs=6",
        "baselines.tabm.batch_size=128",
    ]
).baselines
SEEDED = ("lightgbm", "catboost", "tabnet", "tabm")


def silent(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def data(market_of: Callable[..., EncodedMarket]) -> EncodedMarket:
    return market_of(n_units=400, n_events=1000)


@pytest.fixture(scope="module", params=NAMES)
def system(request: pytest.FixtureRequest, data: EncodedMarket) -> System:
    return make_baseline(request.param, SETTINGS).fit(data, seed=0, progress=silent)


def test_it_learns(system: System, data: EncodedMarket) -> None:
    test = data.select(data.part == TEST)

    p = system.predict_proba(test)

    assert p.dtype == np.float64
    assert p.shape == (len(test),)
    assert roc_auc_score(test.converted, p) > 0.75


@pytest.mark.parametrize("name", SEEDED)
def test_the_same_seed_gives_the_same_predictions(name: str, data: EncodedMarket) -> None:
    few = load_settings(
        overrides=[
            "baselines.tabnet.max_epochs=1",
            "baselines.lightgbm.max_rounds=20",
            "baselines.lightgbm.threads=1",
            "baselines.catboost.max_rounds=10",
            "baselines.catboost.threads=1",
            "baselines.tabm.k=2",
            "baselines.tabm.d_block=16",
            "baselines.tabm.max_epochs=1",
        ]
    ).baselines

    def predict(seed: int) -> np.ndarray:
        fitted = make_baseline(name, few).fit(data, seed=seed, progress=silent)
        return fitted.predict_proba(data)

    assert predict(1).tolist() == predict(1).tolist()
    assert predict(1).tolist() != predict(2).tolist()


def test_saved_and_loaded_elsewhere_it_predicts_the_same(
    system: System, data: EncodedMarket, tmp_path: Path
) -> None:
    system.save(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")

    again = load_baseline(system.name, tmp_path / "there")

    assert again.predict_proba(data).tolist() == system.predict_proba(data).tolist()
    kinds = {path.suffix for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".txt", ".cbm"}


def test_a_damaged_folder_is_refused(system: System, tmp_path: Path) -> None:
    system.save(tmp_path / "model")
    file = tmp_path / "model" / "table.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    with pytest.raises(ModelFolderError):
        load_baseline(system.name, tmp_path / "model")


def test_unseen_categories_and_missing_values_are_predicted(
    system: System, data: EncodedMarket
) -> None:
    n = len(data)
    strange = replace(
        data,
        numbers=np.full_like(data.numbers, np.nan),
        categories=np.full_like(data.categories, UNSEEN),
        market=np.full(n, UNSEEN, np.int32),
        product=np.zeros(n, np.int32),
        row_profile=np.full_like(data.row_profile, np.nan),
    )

    p = system.predict_proba(strange)

    assert np.isfinite(p).all()
    assert ((p > 0) & (p < 1)).all()


def test_labels_of_other_rows_change_nothing(system: System, data: EncodedMarket) -> None:
    converted = data.converted.copy()
    converted[data.part == TEST] = 1
    converted[data.part == CALIBRATE] = np.nan

    again = make_baseline(system.name, SETTINGS).fit(
        replace(data, converted=converted), seed=0, progress=silent
    )

    assert again.predict_proba(data).tolist() == system.predict_proba(data).tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("part", "label", "message"),
    [(TRAIN, 0, "both classes"), (STOP, np.nan, "No labelled rows to stop")],
)
def test_rows_that_nothing_can_be_learned_from_are_named(
    data: EncodedMarket, name: str, part: int, label: float, message: str
) -> None:
    converted = np.where(data.part == part, np.float32(label), data.converted)

    with pytest.raises(DataError, match=message):
        make_baseline(name, SETTINGS).fit(
            replace(data, converted=converted), seed=0, progress=silent
        )


@pytest.mark.parametrize("name", ["tabnet", "tabm", "logistic"])
def test_an_infinite_number_is_named(data: EncodedMarket, name: str) -> None:
    numbers = data.numbers.copy()
    numbers[np.flatnonzero(data.part == TRAIN)[5], 2] = np.inf

    with pytest.raises(DataError, match="column 'n2' holds an infinite"):
        make_baseline(name, SETTINGS).fit(replace(data, numbers=numbers), seed=0, progress=silent)


def test_tabnet_keeps_the_best_epoch_and_stops_when_it_is_old(
    data: EncodedMarket, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings(
        overrides=[
            "baselines.tabnet.learning_rate=0.3",
            "baselines.tabnet.max_epochs=30",
            "baselines.tabnet.patience=2",
            "baselines.tabnet.n_d=8",
            "baselines.tabnet.n_steps=2",
        ]
    ).baselines
    lines: list[str] = []

    system = make_baseline("tabnet", settings).fit(data, seed=0, progress=lines.append)

    losses = [float(line.split()[-1]) for line in lines[:-1]]
    best = int(np.argmin(losses))
    assert len(losses) == best + 1 + 2
    assert lines[-1].startswith(f"tabnet: kept epoch {best + 1},")
    stop = data.select(data.part == STOP)
    assert log_loss(stop.converted, system.predict_proba(stop)) == pytest.approx(
        losses[best], abs=1e-4
    )
    assert capsys.readouterr().out == ""


def test_an_unknown_baseline_is_named() -> None:
    with pytest.raises(SettingsError, match="did you mean 'lightgbm'"):
        make_baseline("lightgbn", SETTINGS)


def test_refitting_takes_the_rows_up_to_the_test_and_as_many_trees(data: EncodedMarket) -> None:
    system = LightGBMSystem(SETTINGS.lightgbm).fit(data, seed=0, progress=silent)
    before, n_rounds = system.predict_proba(data), system.n_rounds_
    lines: list[str] = []

    after = system.refit(data, seed=0, progress=lines.append).predict_proba(data)

    assert system.booster_.num_trees() == n_rounds
    assert f"{int((data.part != TEST).sum()):,} rows" in lines[-1]
    assert after.tolist() != before.tolist()


def test_as_many_trees_as_told_are_learned_whatever_the_stop_rows_say(data: EncodedMarket) -> None:
    none_bought = np.where(data.part == STOP, 0, data.converted).astype(np.float32)
    made = [
        LightGBMSystem(SETTINGS.lightgbm).fit_rounds(rows, 7, seed=0, progress=silent)
        for rows in (data, replace(data, converted=none_bought))
    ]

    assert [system.booster_.num_trees() for system in made] == [7, 7]
    np.testing.assert_array_equal(*(system.predict_proba(data) for system in made))


def test_gains_name_what_matters(data: EncodedMarket) -> None:
    system = LightGBMSystem(SETTINGS.lightgbm).fit(data, seed=0, progress=silent)

    gains = system.gains()

    assert next(iter(gains)) == "n0"
    assert sum(gains.values()) == pytest.approx(1)
