"""The loop on a task small enough to reason about: fitting a line."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from purchase_predictor.model.inputs import TensorRecord
from purchase_predictor.training.loop import Loop, LoopSettings, rate_factor

SETTINGS = {
    "max_epochs": 6, "patience": 3, "learning_rate": 0.05, "weight_decay": 0.0, "warm_up": 0.1,
    "clip_norm": 1.0, "ema_decay": 0.5, "checkpoint_every": 3, "bfloat16": False, "seed": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Points(TensorRecord):
    x: Tensor
    y: Tensor


class LineTask:
    name = "line"

    def __init__(self, validation: list[float] | None = None, killed_at: int | None = None):
        torch.manual_seed(1)
        self.model = nn.Sequential(nn.Linear(2, 4), nn.Dropout(0.3), nn.Linear(4, 1))
        self.validation = validation
        self.killed_at = killed_at
        self.steps = 0

    def n_batches(self, world: int) -> int:
        return 4 // world

    def batches(self, epoch: int, start: int, rank: int, world: int) -> Iterator[Points]:
        for number in range(start, 4):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            x = torch.randn(16, 2, generator=generator)
            yield Points(x=x, y=x.sum(dim=1, keepdim=True))

    def loss(self, model: nn.Module, batch: Points) -> Tensor:
        if self.steps == self.killed_at:
            raise KeyboardInterrupt
        self.steps += 1
        return ((model(batch.x) - batch.y) ** 2).mean()

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        if self.validation is not None:
            return {"log_loss": self.validation.pop(0)}
        x = torch.linspace(-1, 1, 20).view(10, 2)
        return {"log_loss": ((model(x) - x.sum(1, keepdim=True)) ** 2).mean().item()}


def run(task: LineTask, folder: Path | None = None, *, resume: bool = False, **changes: object):
    loop = Loop(
        task, LoopSettings(**{**SETTINGS, **changes}), folder=folder, progress=lambda _: None
    )
    return loop, loop.fit(resume=resume)


def weights(task: LineTask) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.model.state_dict().items()}


def test_loop_learns() -> None:
    _, state = run(LineTask(), max_epochs=30)
    assert state.history[-1]["log_loss"] < 0.5 * state.history[0]["log_loss"]


def test_best_weights_are_restored_and_differ_from_the_last() -> None:
    task = LineTask(validation=[0.5, 0.1, 0.4, 0.4, 0.4])
    loop, state = run(task)
    last = loop.averaged_.module.state_dict()
    two_epochs = LineTask(validation=[0.5, 0.1])
    # the same two epochs under the same schedule
    reference = Loop(two_epochs, LoopSettings(**SETTINGS), progress=lambda _: None)
    reference.model_, reference.optimizer_ = two_epochs.model, reference.optimizer_
    reference.run_epoch()
    reference.run_epoch()

    assert (state.best_epoch, state.epoch) == (1, 5)
    for name, value in weights(task).items():
        assert torch.equal(value, reference.averaged_.module.state_dict()[name])
        assert not torch.equal(value, last[name])


def test_loop_stops_when_validation_no_longer_falls() -> None:
    _, state = run(LineTask(validation=[3.0, 2.0, 2.1, 2.2, 2.3, 1.0]))
    assert (state.epoch, state.best_epoch, state.best) == (5, 1, 2.0)


def test_without_validation_rows_the_last_epoch_is_the_best() -> None:
    _, state = run(LineTask(validation=[math.nan] * 6))
    assert state.best_epoch == 5


@pytest.mark.parametrize("killed_at", [1, 4, 7, 14, 21])
def test_killed_and_resumed_ends_as_if_uninterrupted(tmp_path: Path, killed_at: int) -> None:
    whole = LineTask()
    _, expected = run(whole)
    with pytest.raises(KeyboardInterrupt):
        run(LineTask(killed_at=killed_at), tmp_path)
    again = LineTask()
    _, state = run(again, tmp_path, resume=True)
    assert state.history == expected.history
    for name, value in weights(again).items():
        assert torch.equal(value, weights(whole)[name])


def test_resuming_a_finished_loop_trains_no_further(tmp_path: Path) -> None:
    first = LineTask()
    run(first, tmp_path)
    again = LineTask(killed_at=0)
    run(again, tmp_path, resume=True)
    for name, value in weights(again).items():
        assert torch.equal(value, weights(first)[name])


def test_loss_that_is_not_finite_stops_the_loop() -> None:
    task = LineTask()
    task.loss = lambda model, batch: (model(batch.x) * math.nan).mean()
    with pytest.raises(FloatingPointError, match="step 0"):
        run(task)


def test_rate_rises_then_falls() -> None:
    rates = [rate_factor(step, 100, 0.1) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[10] == pytest.approx(1.0)
    assert rates[-1] < 0.02
    assert rates[10:] == sorted(rates[10:], reverse=True)
