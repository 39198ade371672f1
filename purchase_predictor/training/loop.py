"""The training loop: fit → run an epoch → train a step; early stopping, averaging, resuming.

Pre-training and training are two `Task`s of one loop. Nothing random lives longer than a step:
every step seeds itself from its number, so a run that is killed and resumed takes the very steps
an uninterrupted run would have taken.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from purchase_predictor.checkpoint import has_folder, read_folder, write_folder
from purchase_predictor.model.inputs import TensorRecord
from purchase_predictor.training.processes import agreed, make_accelerator

Progress = Callable[[str], None]
Tensors = tuple[Tensor, ...] | list[Tensor]
OnEpoch = Callable[[str, int, dict[str, float]], None]


def no_epoch(_task: str, _epoch: int, _figures: dict[str, float]) -> None:
    """Take no note of an epoch."""


class Task(Protocol):
    """What a loop learns.

    Attributes:
        name: of its checkpoints and figures.
    """

    name: str

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    def n_batches(self, world: int) -> int:
        """Batches of an epoch in each of `world` processes."""

    def batches(self, epoch: int, start: int, rank: int, world: int) -> Iterator[TensorRecord]:
        """Training batches of an epoch, from number `start` on."""

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The scalar that a step lowers."""

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Figures on the stopping rows; `log_loss` decides, NaN means that nothing can."""


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast a task is learned.

    Attributes:
        max_epochs: passes at most.
        patience: epochs without a lower validation log-loss before the loop stops.
        learning_rate: at its peak.
        weight_decay: decoupled, of matrices only.
        warm_up: share of the steps in which the rate rises; a cosine falls after it.
        clip_norm: largest norm of a gradient.
        ema_decay: of the averaged weights, which are the ones validated; 0 turns them off.
        checkpoint_every: steps between checkpoints.
        bfloat16: whether matrix products run in bfloat16.
        seed: of dropout.
        slow: how the names of parameters begin that have learned before.
        slow_share: of the learning rate, which those take.
        keep_start: whether the weights it begins with may turn out to be the best.
        stops: whether the stopping rows end it and choose the best weights; if not, it runs to the
            end and keeps the last.
    """

    max_epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    warm_up: float
    clip_norm: float
    ema_decay: float
    checkpoint_every: int
    bfloat16: bool
    seed: int
    slow: tuple[str, ...] = ()
    slow_share: float = 1.0
    keep_start: bool = False
    stops: bool = True


@dataclass
class LoopState:
    """Where a loop stands; all of it goes into a checkpoint.

    Attributes:
        epoch: the one under way.
        batch: batches of it that are done.
        step: optimiser steps so far.
        best_epoch: with the lowest validation log-loss; -1 before the first, and where training
            made nothing better.
        best: that log-loss.
        losses: sum of the training losses of the epoch under way.
        finished: whether the loop is over.
        history: figures of each finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    best_epoch: int = -1
    best: float = math.inf
    losses: float = 0.0
    finished: bool = False
    history: list[dict[str, float]] = field(default_factory=list)


def rate_factor(step: int, n_steps: int, warm_up: float) -> float:
    """Share of the peak learning rate at a step: a linear rise, then a cosine down to 1 %."""
    rise = max(1, round(n_steps * warm_up))
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, n_steps - rise)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def make_optimizer(model: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW that decays matrices, not biases, norms or embeddings of missing values.

    Each group keeps the share of the learning rate it takes as `share`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            slow, decayed = name.startswith(settings.slow), parameter.ndim >= 2
            groups.setdefault((slow, decayed), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "weight_decay": settings.weight_decay if decayed else 0.0,
                "share": settings.slow_share if slow else 1.0,
            }
            for (slow, decayed), parameters in groups.items()
        ],
        lr=settings.learning_rate,
        fused=True,
    )


def default_device() -> torch.device:
    """Where models run: the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Loop:
    """Learns a task.

    Args:
        task: what is learned.
        settings: how long and how fast.
        folder: of checkpoints; None keeps none.
        progress: told a line at each epoch.
        on_epoch: told the figures of each epoch.
    """

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        *,
        folder: Path | None = None,
        progress: Progress,
        on_epoch: OnEpoch = no_epoch,
    ) -> None:
        self.task = task
        self.settings = settings
        self.folder = None if folder is None else folder / task.name
        self.progress = progress
        self.on_epoch = on_epoch
        self.accelerator = make_accelerator()
        self.state_ = LoopState()
        self.n_steps_ = settings.max_epochs * task.n_batches(self.accelerator.num_processes)
        self.optimizer_ = make_optimizer(task.model, settings)
        self.averaged_ = self._averaged(task.model)
        self.best_: dict[str, Tensor] = {}

    def fit(self, *, resume: bool = False) -> LoopState:
        """Run to the end and leave the best weights in the task's model.

        Args:
            resume: goes on from the last checkpoint, if there is one.

        Returns:
            The state at the end.
        """
        if resume and self.folder is not None and has_folder(self.folder):
            self._restore(self.folder)
        self.model_, self.optimizer_ = self.accelerator.prepare(self.task.model, self.optimizer_)
        if not self.state_.step:
            # now that all processes have the weights of the first one
            self.averaged_ = self._averaged(self.accelerator.unwrap_model(self.model_))
        self.averaged_.to(self.accelerator.device)
        if self.settings.keep_start and not self.state_.step:
            self._keep_best(self.validate()["log_loss"], epoch=-1)
        while not self.state_.finished:
            self.run_epoch()
        self.task.model.load_state_dict(self.best_)
        self.task.model.cpu().eval()
        return self.state_

    def run_epoch(self) -> None:
        """Train on every batch once, validate, keep the best, decide whether to go on."""
        state, world = self.state_, self.accelerator.num_processes
        rank = self.accelerator.process_index
        self.model_.train()
        for batch in self.task.batches(state.epoch, state.batch, rank, world):
            state.losses += self.train_step(batch.to(self.accelerator.device))
            state.batch += 1
            state.step += 1
            if state.step % self.settings.checkpoint_every == 0:
                self._save()
        figures = {"train_loss": state.losses / max(1, state.batch)}
        if self.settings.stops:
            figures |= self.validate()
        state.history.append(figures)
        self.on_epoch(self.task.name, state.epoch, figures)
        self._keep_best(figures.get("log_loss", math.nan), state.epoch)
        self._report(figures)
        state.epoch, state.batch, state.losses = state.epoch + 1, 0, 0.0
        waited = state.epoch - 1 - state.best_epoch
        state.finished = state.epoch >= self.settings.max_epochs or (
            waited >= self.settings.patience
        )
        self._save()

    def train_step(self, batch: TensorRecord) -> float:
        """One step down the gradient; returns its loss."""
        settings, state = self.settings, self.state_
        place = self.accelerator.process_index * 1_000_000_007
        torch.manual_seed(settings.seed * 1_000_003 + state.step + place)
        rate = settings.learning_rate * rate_factor(state.step, self.n_steps_, settings.warm_up)
        for group in self.optimizer_.param_groups:
            group["lr"] = rate * group["share"]
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, settings.bfloat16):
            loss = self.task.loss(self.model_, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"{self.task.name}: loss is {value} at step {state.step}")
        self.optimizer_.zero_grad(set_to_none=True)
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.model_.parameters(), settings.clip_norm)
        self.optimizer_.step()
        self.averaged_.update_parameters(self.accelerator.unwrap_model(self.model_))
        return value

    def validate(self) -> dict[str, float]:
        """Figures of the averaged weights on the stopping rows."""
        model = self.averaged_.module.eval()
        with torch.inference_mode():
            figures = self.task.validate(model, self.accelerator.device)
        return agreed(self.accelerator, figures)

    def _keep_best(self, log_loss: float, epoch: int) -> None:
        if log_loss < self.state_.best or math.isnan(log_loss):
            self.state_.best, self.state_.best_epoch = log_loss, epoch
            # clones: a reference would go on changing and "the best" would be the last
            weights = self.averaged_.module.state_dict()
            self.best_ = {name: value.detach().clone() for name, value in weights.items()}

    def _report(self, figures: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            text = ", ".join(f"{name} {value:.4f}" for name, value in figures.items())
            chosen = self.settings.stops and self.state_.best_epoch == self.state_.epoch
            best = " (best so far)" if chosen else ""
            epoch = f"{self.state_.epoch + 1}/{self.settings.max_epochs}"
            self.progress(f"{self.task.name}: epoch {epoch}: {text}{best}")

    def _averaged(self, model: nn.Module) -> AveragedModel:
        def average(old: Tensors, new: Tensors, n: Tensor | int) -> None:
            # a short run would otherwise keep its initial weights for most of its life
            decay = min(self.settings.ema_decay, (1 + int(n)) / (10 + int(n)))
            torch._foreach_lerp_(old, new, 1 - decay)

        return AveragedModel(model, multi_avg_fn=average)

    # ---- checkpoints: safetensors and JSON, as model folders are

    def _save(self) -> None:
        if self.folder is None or not self.accelerator.is_main_process:
            return
        weights = self.accelerator.unwrap_model(self.model_).state_dict()
        moments = {
            f"{number}.{name}": value
            for number, values in self.optimizer_.state_dict()["state"].items()
            for name, value in values.items()
        }
        tensors = {
            "weights": to_numpy(weights),
            "averaged": to_numpy(self.averaged_.state_dict()),
            "best": to_numpy(self.best_),
            "optimizer": to_numpy(moments),
        }
        state = {
            **vars(self.state_),
            "best": finite_or_none(self.state_.best),
            "history": [
                {name: finite_or_none(value) for name, value in figures.items()}
                for figures in self.state_.history
            ],
        }
        write_folder(self.folder, tensors=tensors, documents={"state": state})

    def _restore(self, path: Path) -> None:
        folder = read_folder(path)
        state = folder.document("state")
        if state["best"] is None:
            state["best"] = math.inf
        state["history"] = [
            {name: math.nan if value is None else value for name, value in figures.items()}
            for figures in state["history"]
        ]
        self.state_ = LoopState(**state)
        self.task.model.load_state_dict(from_numpy(folder.tensors("weights")))
        self.averaged_.load_state_dict(from_numpy(folder.tensors("averaged")))
        self.best_ = from_numpy(folder.tensors("best"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in from_numpy(folder.tensors("optimizer")).items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = value
        groups = self.optimizer_.state_dict()["param_groups"]
        self.optimizer_.load_state_dict({"state": moments, "param_groups": groups})
        self.progress(
            f"{self.task.name}: goes on at epoch {self.state_.epoch + 1}, step {self.state_.step}"
        )


def measure_precisions(task: Task, device: torch.device) -> dict[str, float]:
    """Seconds of a forward and backward pass in each precision, the best of three.

    Args:
        task: whose first batch is measured; its weights and gradients are left as they were.
        device: where training will run.
    """
    batch = next(iter(task.batches(0, 0, 0, 1))).to(device)
    model = task.model.to(device).train()
    seconds: dict[str, float] = {}
    for name in ("float32", "bfloat16"):
        times = []
        for _ in range(3):
            began = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, name == "bfloat16"):
                loss = task.loss(model, batch)
            loss.backward()
            loss.item()
            times.append(time.perf_counter() - began)
        seconds[name] = min(times)
    model.zero_grad(set_to_none=True)
    model.cpu()
    return seconds


def finite_or_none(value: float) -> float | None:
    """A number as JSON can hold it."""
    return value if math.isfinite(value) else None


def to_numpy(tensors: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """Tensors as arrays of their own, as safetensors wants them."""
    return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}


def from_numpy(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Undo `to_numpy`."""
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}
