import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from features.arrays import STOP, TEST, EncodedMarket
from purchase_predictor.errors import ModelFolderError
from purchase_predictor.settings import load_settings
from purchase_predictor.training import system
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.conversion import FusionTask, mean_logits
from purchase_predictor.training.loop import Loop
from purchase_predictor.training.readout import read_out
from purchase_predictor.training.system import FusionSystem
from purchase_predictor.training.weighing import weigh
from tests.encoded_market import make_market
from tests.training.quick import QUICK, SETTINGS, SIZES, quiet


@pytest.fixture(scope="module")
def big() -> EncodedMarket:
    return make_market(n_units=300, n_events=1500)


@pytest.fixture(scope="module")
def fitted(big: EncodedMarket) -> FusionSystem:
    return FusionSystem(SETTINGS, SIZES).fit(big, seed=0, progress=quiet)


def test_readout_and_network_are_weighed_by_the_stop_rows(
    fitted: FusionSystem, big: EncodedMarket
) -> None:
    stop = fitted.columns_of(big.select(big.part == STOP))
    network = mean_logits(
        fitted.model_, Batcher(stop, batch_size=500), torch.device("cpu"), network_only=True
    )
    linear = read_out(fitted.model_.readout, stop)
    weights = weigh(np.stack([linear, network], axis=1), stop.converted)

    np.testing.assert_allclose(fitted.model_.weights.numpy(), weights, atol=1e-4)
    assert not np.allclose(weights, [0.5, 0.5, 0.0])
    both = weights[0] * linear + weights[1] * network + weights[2]
    np.testing.assert_allclose(
        fitted.predict_proba(big.select(big.part == STOP)), 1 / (1 + np.exp(-both)), atol=1e-4
    )


def test_weights_outlive_buffers_that_are_replaced(
    big: EncodedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def weights(self: FusionSystem, *_: object) -> tuple[float, ...]:
        self.model_.weights = self.model_.weights.clone()  # as moving to a GPU and back does
        return 0.1, 0.2, 0.3

    monkeypatch.setattr(FusionSystem, "_weights", weights)
    settings = load_settings(None, [*QUICK, "training.max_epochs=1"])
    system = FusionSystem(settings, SIZES).fit(big, seed=0, progress=quiet)
    np.testing.assert_allclose(system.model_.weights.numpy(), [0.1, 0.2, 0.3])


def test_a_readout_alone_learns_without_epochs(big: EncodedMarket) -> None:
    settings = load_settings(None, [*QUICK, "model.parts=readout"])
    system = FusionSystem(settings, SIZES).fit(big, seed=0, progress=quiet)
    test = big.select(big.part == TEST)
    logits = read_out(system.model_.readout, system.columns_of(test))

    assert system.state_.history == []
    np.testing.assert_allclose(system.predict_proba(test), 1 / (1 + np.exp(-logits)), atol=1e-6)
    assert auc(system, big, TEST) > 0.7
    # as the network would have it, had it been asked
    system.model_.weights[1] = 1e-30
    slowly = system.predict_proba(test)
    np.testing.assert_allclose(slowly, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_a_network_alone_has_no_readout(big: EncodedMarket) -> None:
    settings = load_settings(None, [*QUICK, "model.parts=network"])
    system = FusionSystem(settings, SIZES).fit(big, seed=0, progress=quiet)

    assert system.model_.weights.tolist() == [0.0, 1.0, 0.0]
    assert not system.model_.readout.linear.weight.any()


def test_refitting_solves_the_readout_on_every_row_before_the_test(big: EncodedMarket) -> None:
    settings = load_settings(None, [*QUICK, "training.max_epochs=1"])
    system = FusionSystem(settings, SIZES).fit(big, seed=0, progress=quiet)
    before = {name: value.clone() for name, value in system.model_.state_dict().items()}
    lines: list[str] = []

    system.refit(big, seed=0, progress=lines.append)

    changed = {
        name
        for name, value in system.model_.state_dict().items()
        if not torch.equal(value.cpu(), before[name].cpu())
    }
    assert changed == {"readout.linear.weight", "readout.linear.bias"}
    assert f"{int((big.part != TEST).sum()):,} rows" in lines[-1]
    # rows of the test do not matter
    flipped = replace(big, converted=np.where(big.part == TEST, 1 - big.converted, big.converted))
    other = FusionSystem(settings, SIZES).fit(flipped, seed=0, progress=quiet)
    other.refit(flipped, seed=0, progress=quiet)
    assert torch.equal(other.model_.readout.linear.weight, system.model_.readout.linear.weight)


def test_an_adapted_network_that_got_worse_is_not_kept(
    fitted: FusionSystem, big: EncodedMarket
) -> None:
    settings = load_settings(None, [*QUICK, "training.learning_rate=1.0"])
    adapted = FusionSystem(settings, SIZES, start_from=fitted)
    adapted.fit(big.select(big.market == 3), seed=0, progress=quiet)

    assert adapted.state_.best_epoch == -1
    before = fitted.model_.state_dict()
    for name, value in adapted.model_.state_dict().items():
        if not name.startswith(("readout.", "weights")):
            assert torch.equal(value, before[name]), name


def auc(system: FusionSystem, data: EncodedMarket, part: int) -> float:
    rows = data.part == part
    return float(roc_auc_score(data.converted[rows], system.predict_proba(data)[rows]))


def test_fusion_learns_what_drives_conversion(fitted: FusionSystem, big: EncodedMarket) -> None:
    assert auc(fitted, big, TEST) > 0.7


def test_shuffled_training_labels_teach_nothing(big: EncodedMarket) -> None:
    rng = np.random.default_rng(0)
    converted = big.converted.copy()
    training = np.flatnonzero(big.part != TEST)
    converted[training] = rng.permutation(converted[training])
    system = FusionSystem(SETTINGS, SIZES).fit(
        replace(big, converted=converted), seed=0, progress=quiet
    )
    n = int((big.part == TEST).sum())
    assert abs(auc(system, big, TEST) - 0.5) < 3 * (1 / (3 * n)) ** 0.5 * 1.5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_a_gpu_predicts_what_the_processor_predicts(
    fitted: FusionSystem, big: EncodedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpu = fitted.predict_proba(big)
    assert next(fitted.model_.parameters()).device.type == "cuda"
    monkeypatch.setattr(system, "default_device", lambda: torch.device("cpu"))

    np.testing.assert_allclose(on_gpu, fitted.predict_proba(big), atol=1e-5)


def test_saved_and_loaded_predicts_the_same(
    fitted: FusionSystem, big: EncodedMarket, tmp_path: Path
) -> None:
    fitted.save(tmp_path / "fusion")
    loaded = FusionSystem.load(tmp_path / "fusion", SETTINGS)
    np.testing.assert_array_equal(loaded.predict_proba(big), fitted.predict_proba(big))
    names = {path.suffix for path in (tmp_path / "fusion").rglob("*") if path.is_file()}
    assert names <= {".safetensors", ".json"}


def test_a_network_of_another_layout_is_refused(
    fitted: FusionSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted.save(tmp_path)
    monkeypatch.setattr(system, "LAYOUT", system.LAYOUT + 1)

    with pytest.raises(ModelFolderError, match="network of another version: train it again"):
        FusionSystem.load(tmp_path, SETTINGS)


def test_same_seed_same_model_other_seed_other_model(big: EncodedMarket) -> None:
    settings = SETTINGS.model_copy(
        update={"training": SETTINGS.training.model_copy(update={"max_epochs": 1})}
    )

    def predictions(seed: int) -> np.ndarray:
        system = FusionSystem(settings, SIZES).fit(big, seed=seed, progress=quiet)
        return system.predict_proba(big)

    one = predictions(1)
    np.testing.assert_array_equal(one, predictions(1))
    assert np.abs(one - predictions(2)).max() > 1e-4


def test_killed_and_resumed_gives_the_same_predictions(
    fitted: FusionSystem,
    big: EncodedMarket,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step = Loop.train_step

    def killed(self: Loop, batch: object) -> float:
        if self.state_.step == 17:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Loop, "train_step", killed)
    with pytest.raises(KeyboardInterrupt):
        FusionSystem(SETTINGS, SIZES, folder=tmp_path).fit(big, seed=0, progress=quiet)
    monkeypatch.setattr(Loop, "train_step", step)
    system = FusionSystem(SETTINGS, SIZES, folder=tmp_path, resume=True)
    system.fit(big, seed=0, progress=quiet)

    assert system.state_.history == fitted.state_.history
    np.testing.assert_array_equal(system.predict_proba(big), fitted.predict_proba(big))


def test_what_cannot_be_stopped_learns_to_the_end_whatever_the_stop_rows_say(
    big: EncodedMarket, tmp_path: Path
) -> None:
    settings = load_settings(None, [*QUICK, "training.max_epochs=2"])
    none_bought = np.where(big.part == STOP, 0, big.converted).astype(np.float32)
    made = [
        FusionSystem(settings, SIZES, stops=False).fit(rows, seed=0, progress=quiet)
        for rows in (big, replace(big, converted=none_bought))
    ]

    system = made[0]
    assert [epoch.keys() for epoch in system.state_.history] == [{"train_loss"}] * 2
    assert system.model_.weights.tolist() == [0, 1, 0]
    # no label of a STOP row counts
    np.testing.assert_array_equal(*(one.predict_proba(big) for one in made))
    # the last weights are kept, as a training has them whose last epoch was the best
    stopping = FusionSystem(settings, SIZES).fit(big, seed=0, progress=quiet)
    assert stopping.state_.best_epoch == 1
    for name, weight in stopping.model_.state_dict().items():
        if name != "weights":
            assert torch.equal(weight, system.model_.state_dict()[name])
    system.save(tmp_path / "fusion")
    loaded = FusionSystem.load(tmp_path / "fusion", settings)
    np.testing.assert_array_equal(loaded.predict_proba(big), system.predict_proba(big))


def test_what_cannot_be_stopped_keeps_the_network_it_was_to_be_adapted_from(
    fitted: FusionSystem, big: EncodedMarket
) -> None:
    local = big.select(big.market == 3)
    adapted = FusionSystem(SETTINGS, SIZES, start_from=fitted, stops=False)
    adapted.fit(local, seed=0, progress=quiet)

    assert adapted.model_.weights.tolist() == fitted.model_.weights.tolist()
    kept = {
        name for name, w in fitted.model_.state_dict().items() if not name.startswith("readout")
    }
    for name in kept:
        assert torch.equal(adapted.model_.state_dict()[name], fitted.model_.state_dict()[name])
    # the readout is drawn to the common one and learns from the market
    assert not torch.equal(
        adapted.model_.readout.linear.weight, fitted.model_.readout.linear.weight
    )


def test_adapted_system_starts_from_the_global_one(
    fitted: FusionSystem, big: EncodedMarket
) -> None:
    local = big.select(big.market == 3)
    adapted = FusionSystem(SETTINGS, SIZES, start_from=fitted)
    adapted.fit(local, seed=0, progress=quiet)
    task = FusionTask(
        fitted.model_, fitted.columns_of(local), SETTINGS, auxiliary_weight=0.0, seed=0
    )
    before = task.validate(fitted.model_, torch.device("cpu"))["log_loss"]

    # an epoch at a fifth of the rate leaves the network near where it began, never kept worse
    assert adapted.state_.history[0]["log_loss"] == pytest.approx(before, abs=0.02)
    assert adapted.state_.best <= before
    # and the readout was drawn to the global one
    test = fitted.columns_of(local.select(local.part == TEST))
    known = read_out(fitted.model_.readout, test)
    assert 0 < np.abs(read_out(adapted.model_.readout, test) - known).mean() < 0.5
    assert adapted.shape_ == fitted.shape_


def test_constant_columns_are_left_out(fitted: FusionSystem) -> None:
    assert "n6" not in {column.name for column in fitted.shape_.numbers}
    assert "n0" in {column.name for column in fitted.shape_.numbers}


def test_document_of_the_folder_is_json(fitted: FusionSystem, tmp_path: Path) -> None:
    fitted.save(tmp_path / "fusion")
    document = json.loads((tmp_path / "fusion" / "fusion.json").read_text())
    assert document["precision"] == "float32"
    assert len(document["history"]) == fitted.state_.epoch
