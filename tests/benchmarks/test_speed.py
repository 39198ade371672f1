from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.copied import CopyingBatcher
from benchmarks.speed import same_logits
from features.arrays import EncodedMarket
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.settings import load_settings
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.conversion import FusionTask
from purchase_predictor.training.shapes import ContentSizes
from purchase_predictor.training.system import FusionSystem

SETTINGS = load_settings(
    overrides=["model.d_model=16", "model.n_layers=1", "training.max_epochs=1",
               "training.precision=float32"]
)  # fmt: skip


@pytest.fixture(scope="module")
def task(market: EncodedMarket) -> FusionTask:
    system = FusionSystem(SETTINGS, ContentSizes(12, 7, 7, 40))
    system.fit(market, seed=0, progress=lambda _: None)
    torch.manual_seed(0)
    with torch.no_grad():  # a model that has learned little would not tell a wrong copy
        for parameter in system.model_.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return FusionTask(
        system.model_, system.columns_of(market), SETTINGS, auxiliary_weight=0.0, seed=0
    )


def copying(task: FusionTask) -> FusionTask:
    copied = FusionTask.__new__(FusionTask)
    copied.model = task.model
    copied.learn = CopyingBatcher(task.learn.data, batch_size=task.learn.batch_size)
    return copied


def test_copies_give_the_logits_of_what_is_shared(task: FusionTask) -> None:
    assert same_logits(task, copying(task)) < 1e-5


@pytest.mark.parametrize("field", ["product", "cut", "time"])
def test_a_wrong_copy_is_refused(
    task: FusionTask, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = copying(task)
    build = copied.learn.build

    def wrong(sequences: np.ndarray) -> FusionBatch:
        batch = build(sequences)
        values = getattr(batch, field)
        bad = {"product": values.roll(1), "cut": values * 0, "time": values + 1e6}
        return replace(batch, **{field: bad[field]})

    monkeypatch.setattr(copied.learn, "build", wrong)

    with pytest.raises(ValueError, match="differ by"):
        same_logits(task, copied)


def test_every_event_of_every_impression_has_a_product_of_its_own(market: EncodedMarket) -> None:
    shared, copied = Batcher(market, batch_size=30), CopyingBatcher(market, batch_size=30)
    sequences = shared.plan(0)[0]

    one, other = shared.build(sequences), copied.build(sequences)

    seen = torch.arange(int(other.cut.max())) < other.cut[:, None]
    touched = other.sessions.product[seen]
    assert len(other.sessions.length) == len(other) == len(one)
    assert torch.equal(other.sessions.length, other.cut)
    assert len(other.products.identity) == 1 + (touched > 0).sum() + (other.product > 0).sum()
    assert len(other.products.identity) > 2 * len(one.products.identity)
    assert len(set(other.product[other.product > 0].tolist())) == (other.product > 0).sum()
