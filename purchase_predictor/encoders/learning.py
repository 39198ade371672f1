"""The training of an encoder by ArcFace: step by step, in batches, resumable.

Nothing random lives longer than a step: an epoch's order comes from the seed and its number, a
step's dropout and augmentation from the seed and the step. So a training that is killed and
started again takes the very steps that it would have taken.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from purchase_predictor.encoders.arcface import (
    ArcFaceHead,
    ArcFaceRecipe,
    relative_margins,
    seeded,
)
from purchase_predictor.encoders.augmentation import Mixture, cutmix
from purchase_predictor.encoders.resuming import Checkpoint
from purchase_predictor.errors import UserError

Batch = Tensor | dict[str, Tensor]
BatchOf = Callable[[NDArray[np.int64], torch.Generator], Batch]
Progress = Callable[[str], None]

SECONDS_BETWEEN_LINES = 15.0
SECONDS_BETWEEN_CHECKPOINTS = 300.0
"""What a killed training loses at most; the end of an epoch is a checkpoint as well."""

_BATCHES_IN_WINDOW = 32


def epoch_batches(
    n_rows: int,
    batch_size: int,
    generator: torch.Generator,
    *,
    lengths: NDArray[np.int64] | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Rows 0 … n_rows-1 in random order, in batches; a last one of a single row is left out.

    Args:
        n_rows: how many rows there are.
        batch_size: rows of a batch.
        generator: of the order.
        lengths: int64 [n_rows]; rows of like length share a batch, within a window of some
            batches, so that little padding is computed. The batches still come in random order.

    Yields:
        int64 [b], rows.
    """
    order = torch.randperm(n_rows, generator=generator).numpy()
    if lengths is not None:
        window = np.arange(n_rows) // (batch_size * _BATCHES_IN_WINDOW)
        order = order[np.lexsort((lengths[order], window))]
    batches = [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]
    if lengths is not None:
        turns = torch.randperm(len(batches), generator=generator).tolist()
        batches = [batches[turn] for turn in turns]
    # BatchNorm has no variance to divide by where there is one row only.
    yield from (rows for rows in batches if len(rows) > 1)


def train_arcface(
    encoder: nn.Module,
    batch_of: BatchOf,
    labels: NDArray[np.int64],
    recipe: ArcFaceRecipe,
    *,
    d_embedding: int,
    seed: int,
    name: str,
    progress: Progress,
    lengths: NDArray[np.int64] | None = None,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train an encoder in place; it is left in evaluation mode.

    Args:
        encoder: takes a batch, gives L2-normalised embeddings [b, d_embedding]; weights that
            need no gradient stay as they are.
        batch_of: makes the batch of some rows (numbers into `labels`) on the encoder's device;
            augmentation draws from the generator given.
        labels: int64 [n], classes 0 … n_classes-1, each of them there.
        recipe: epochs, rates and margins.
        d_embedding: width of the embeddings.
        seed: of the order of the rows, the head's weights and the augmentation.
        name: what is trained, for the progress line.
        progress: takes a line after each epoch and every 15 seconds within a long one.
        lengths: int64 [n], of what is padded in a batch; None where nothing is.
        checkpoint: where the training can be taken up again; None keeps nothing.

    Raises:
        UserError: if the loss stops being a number, or if a checkpoint cannot be written.
    """
    device = next(encoder.parameters()).device
    with seeded(seed, device):
        head = ArcFaceHead(
            d_embedding=d_embedding, n_classes=int(labels.max()) + 1, scale=recipe.scale
        )
        learner = _Learner(encoder, head.to(device), labels, recipe, seed)
        diary = _Diary(name, recipe.epochs, progress)
        training = _Training(learner, batch_of, lengths, diary, checkpoint)
        encoder.train()
        training.run()
    encoder.eval()


@dataclass
class _Stand:
    """Where a training stands; all of it but the weights.

    Attributes:
        step: steps that are done.
        epoch: the epoch under way.
        batch: batches of it that are done.
        loss: sum of their losses.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    loss: float = 0.0


class _Training:
    """Epochs of steps, with progress lines and checkpoints between them."""

    def __init__(
        self,
        learner: "_Learner",
        batch_of: BatchOf,
        lengths: NDArray[np.int64] | None,
        diary: "_Diary",
        checkpoint: Checkpoint | None,
    ) -> None:
        self.learner, self.batch_of, self.lengths = learner, batch_of, lengths
        self.diary, self.checkpoint = diary, checkpoint
        self.stand = _Stand()
        self.saved_at = time.monotonic()

    def run(self) -> None:
        """Go on from the checkpoint, if there is one, to the last step."""
        epochs = self.learner.recipe.epochs
        if self.checkpoint is not None:
            kept = self.checkpoint.restore(
                self.learner.networks, self.learner.optimiser, self.diary.progress
            )
            if kept is not None:
                self.stand = _Stand(**kept)
                self.diary.goes_on(self.stand)
        while self.stand.epoch < epochs:
            self.run_epoch()
            # The last epoch's end needs none: the weights themselves are kept at once.
            if self.stand.epoch < epochs:
                self._save()

    def run_epoch(self) -> None:
        """Take the steps of an epoch that are left."""
        stand, learner = self.stand, self.learner
        self.diary.begin(stand, learner.n_steps)
        for number, rows in enumerate(learner.batches(stand.epoch, self.lengths)):
            if number < stand.batch:
                continue
            stand.loss += self._step(rows)
            stand.step, stand.batch = stand.step + 1, stand.batch + 1
            self.diary.note(stand)
            if time.monotonic() - self.saved_at >= SECONDS_BETWEEN_CHECKPOINTS:
                self._save()
        self.diary.end(stand)
        stand.epoch, stand.batch, stand.loss = stand.epoch + 1, 0, 0.0

    def _step(self, rows: NDArray[np.int64]) -> float:
        generator = self.learner.begin_step(self.stand.step)
        loss = self.learner.step(rows, self.batch_of(rows, generator), generator)
        if not math.isfinite(loss):
            rate = self.learner.recipe.learning_rate
            raise UserError(
                f"Training the {self.diary.name} gave a loss that is no number: "
                f"lower its learning rate, which is {rate:g}."
            )
        return loss

    def _save(self) -> None:
        if self.checkpoint is not None:
            self.checkpoint.save(self.learner.networks, self.learner.optimiser, asdict(self.stand))
        self.saved_at = time.monotonic()


class _Learner:
    """Encoder and head with their optimiser."""

    def __init__(
        self,
        encoder: nn.Module,
        head: ArcFaceHead,
        labels: NDArray[np.int64],
        recipe: ArcFaceRecipe,
        seed: int,
    ) -> None:
        self.encoder, self.head, self.recipe, self.seed = encoder, head, recipe, seed
        self.networks = {"encoder": encoder, "head": head}
        self.device = head.weight.device
        self.labels = torch.as_tensor(labels, device=self.device)
        self.relative = relative_margins(labels, recipe.size_exponent).to(self.device)
        full, rest = divmod(len(labels), recipe.batch_size)
        self.n_steps = recipe.epochs * (full + (rest > 1))
        learned = [weight for weight in encoder.parameters() if weight.requires_grad]
        self.weights = [*learned, *head.parameters()]
        matrices = [weight for weight in learned if _is_matrix(weight)]
        others = [weight for weight in learned if not _is_matrix(weight)]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": recipe.weight_decay, "factor": 1.0},
                {"params": others, "weight_decay": 0.0, "factor": 1.0},
                {"params": head.parameters(), "weight_decay": 0.0, "factor": recipe.head_factor},
            ]
        )

    def batches(
        self, epoch: int, lengths: NDArray[np.int64] | None
    ) -> Iterator[NDArray[np.int64]]:
        """Rows of each batch of an epoch."""
        generator = torch.Generator().manual_seed(_mixed(self.seed, -1 - epoch))
        return epoch_batches(len(self.labels), self.recipe.batch_size, generator, lengths=lengths)

    def begin_step(self, number: int) -> torch.Generator:
        """Set rates and seeds of a step.

        Args:
            number: steps that are done.

        Returns:
            What the augmentation of the step draws from.
        """
        self.margin = self.recipe.margin(number / max(1, self.n_steps - 1))
        rate = self.recipe.rate(number, self.n_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        torch.manual_seed(_mixed(self.seed, number))
        # Not the seed of the dropout: equal streams would tie what is mirrored to what is dropped.
        return torch.Generator().manual_seed(_mixed(-1 - self.seed, number))

    def step(self, rows: NDArray[np.int64], batch: Batch, generator: torch.Generator) -> float:
        """Learn from a batch.

        Args:
            rows: int64 [b], numbers into the labels.
            batch: what the encoder takes.
            generator: of the mixing.

        Returns:
            The loss before the step.
        """
        truth, mixture = self.labels[torch.as_tensor(rows, device=self.device)], None
        if isinstance(batch, Tensor) and self.recipe.cutmix > _drawn(generator):
            batch, mixture = cutmix(batch, generator)
        loss = self._loss(batch, truth, mixture)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.recipe.clip_norm)
        self.optimiser.step()
        return loss.item()

    def _loss(self, batch: Batch, truth: Tensor, mixture: Mixture | None) -> Tensor:
        half = torch.autocast(self.device.type, torch.bfloat16)
        with half if self.recipe.precision == "bfloat16" else nullcontext():
            embeddings = self.encoder(batch)
        loss = self._arcface(embeddings, truth)
        if mixture is None:
            return loss
        other = self._arcface(embeddings, truth[mixture.partner])
        return mixture.share * loss + (1.0 - mixture.share) * other

    def _arcface(self, embeddings: Tensor, truth: Tensor) -> Tensor:
        logits = self.head(embeddings, truth, self.margin * self.relative[truth])
        return functional.cross_entropy(logits, truth)


class _Diary:
    """Tells how a training gets on."""

    def __init__(self, name: str, epochs: int, progress: Progress) -> None:
        self.name, self.epochs, self.progress = name, epochs, progress

    def goes_on(self, stand: _Stand) -> None:
        """Say where a killed training is taken up."""
        self.progress(f"{self.name}: goes on at epoch {stand.epoch + 1}, step {stand.step}")

    def begin(self, stand: _Stand, n_steps: int) -> None:
        """Note when an epoch, or what is left of it, begins."""
        self.n_steps, self.first = n_steps, stand.step
        self.began = self.told_at = time.monotonic()

    def note(self, stand: _Stand) -> None:
        """Say every 15 seconds how many steps are done and how long the rest will take."""
        now = time.monotonic()
        if now - self.told_at < SECONDS_BETWEEN_LINES:
            return
        self.told_at = now
        left = (self.n_steps - stand.step) * (now - self.began) / (stand.step - self.first)
        self.progress(
            f"{self.name}: step {stand.step:,} of {self.n_steps:,}, "
            f"loss {stand.loss / stand.batch:.2f}, {_duration(left)} left"
        )

    def end(self, stand: _Stand) -> None:
        """Say what came of an epoch."""
        seconds = time.monotonic() - self.began
        self.progress(
            f"{self.name}: epoch {stand.epoch + 1}/{self.epochs}, "
            f"loss {stand.loss / max(1, stand.batch):.2f}, {seconds:.1f} s"
        )


def _is_matrix(weight: Any) -> bool:
    """Whether weight decay is for it: not for biases, BatchNorm and the gains of a filter."""
    return sum(length > 1 for length in weight.shape) > 1


def _drawn(generator: torch.Generator) -> float:
    """A number in [0, 1)."""
    return torch.rand((), generator=generator).item()


def _mixed(seed: int, number: int) -> int:
    """A seed of its own for a step (0, 1, …) or for an epoch (-1, -2, …)."""
    return (seed * 1_000_003 + number) % 2**63


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    if minutes < 1.5:
        return f"{seconds:.0f} s"
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
