"""ArcFace: encoders learn that listings of one match group are the same product.

Deng et al. 2019, "ArcFace: Additive Angular Margin Loss"; the recipe of the Shopee competition
(handbook: matching): pooling → BatchNorm → L2 norm → cosine with class weights → margin →
softmax cross-entropy, the margin growing as training goes on.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from purchase_predictor.errors import UserError

Batch = Tensor | dict[str, Tensor]
BatchOf = Callable[[NDArray[np.int64], torch.Generator], Batch]
Progress = Callable[[str], None]

_HEAD_RATE = 10.0
_WARM_UP = 0.2
_CLIP_NORM = 5.0
_WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class ArcFaceRecipe:
    """How an encoder is trained.

    Attributes:
        epochs: passes over the listings.
        batch_size: listings in a batch.
        learning_rate: peak rate of the encoder; the head's is ten times as large.
        margin_start: margin at the first step, in radians.
        margin_end: margin at the last step.
        scale: factor of the cosines.
        size_exponent: margins are multiplied by (class size / smallest size) to the power of
            minus this; 0 gives every class the same margin.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    margin_start: float
    margin_end: float
    scale: float = 30.0
    size_exponent: float = 0.0

    def margin(self, progress: float) -> float:
        """The margin, in radians, where a share `progress` in [0, 1] of the steps is done."""
        return self.margin_start + (self.margin_end - self.margin_start) * progress


class ArcFaceHead(nn.Module):
    """Cosine of each embedding with each class, the true class's angle enlarged by a margin.

    Shape:
        - embeddings: float32 [b, d_embedding], L2-normalised.
        - labels: int64 [b].
        - margin: a number, or [b] for margins of their own; radians.
        - output: float32 [b, n_classes], logits of a softmax.

    >>> head = ArcFaceHead(d_embedding=4, n_classes=3)
    >>> head(torch.eye(4)[:2], torch.tensor([0, 2]), 0.2).shape
    torch.Size([2, 3])
    """

    def __init__(self, *, d_embedding: int, n_classes: int, scale: float = 30.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(n_classes, d_embedding))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, embeddings: Tensor, labels: Tensor, margin: float | Tensor) -> Tensor:
        """Logits scale·cos θ, and scale·cos(θ + margin) of the true class.

        Where θ + margin would pass π, cos θ − margin·sin(margin) takes its place, so that the
        logit keeps falling.
        """
        cosine = functional.linear(embeddings, functional.normalize(self.weight))
        true = cosine.gather(1, labels[:, None])[:, 0]
        margin = torch.as_tensor(margin, dtype=true.dtype, device=true.device)
        sine = (1.0 - true.square()).clamp_min(1e-7).sqrt()
        turned = true * margin.cos() - sine * margin.sin()
        turned = torch.where(true > -margin.cos(), turned, true - margin * margin.sin())
        return self.scale * cosine.scatter(1, labels[:, None], turned[:, None])


def match_classes(groups: pl.Series, eligible: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the match groups that can teach: those with two eligible listings or more.

    Args:
        groups: match group of each product, null where unknown.
        eligible: bool [n_products], what may be learned from.

    Returns:
        int64 [n_products], classes 0, 1, …; -1 for a product that belongs to none.
    """
    labels = np.full(len(groups), -1, dtype=np.int64)
    listings = (
        pl.DataFrame({"group": groups, "row": np.arange(len(groups))})
        .filter(pl.Series(eligible) & pl.col("group").is_not_null())
        .filter(pl.len().over("group") > 1)
        .with_columns(pl.col("group").rank("dense"))
    )
    labels[listings["row"].to_numpy()] = listings["group"].to_numpy().astype(np.int64) - 1
    return labels


def epoch_batches(
    n_rows: int, batch_size: int, generator: torch.Generator
) -> Iterator[NDArray[np.int64]]:
    """Rows 0 … n_rows-1 in random order, in batches; a last one of a single row is left out."""
    order = torch.randperm(n_rows, generator=generator).numpy()
    for start in range(0, n_rows, batch_size):
        rows = order[start : start + batch_size]
        # BatchNorm has no variance to divide by where there is one row only.
        if len(rows) > 1:
            yield rows


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
) -> None:
    """Train an encoder in place; it is left in evaluation mode.

    Args:
        encoder: takes a batch, gives L2-normalised embeddings [b, d_embedding].
        batch_of: makes the batch of some rows (numbers into `labels`) on the encoder's device;
            augmentation draws from the generator given.
        labels: int64 [n], classes 0 … n_classes-1.
        recipe: epochs, rates and margins.
        d_embedding: width of the embeddings.
        seed: of the order of the rows, the head's weights and the augmentation.
        name: what is trained, for the progress line.
        progress: takes a line after each epoch.

    Raises:
        UserError: if the loss stops being a number.
    """
    device = next(encoder.parameters()).device
    sizes = np.bincount(labels)
    relative = torch.as_tensor((sizes / sizes.min()) ** -recipe.size_exponent)
    relative = relative.to(device, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed, device):
        head = ArcFaceHead(d_embedding=d_embedding, n_classes=len(sizes), scale=recipe.scale)
        learner = _Learner(encoder, head.to(device), recipe, len(labels))
        encoder.train()
        for epoch in range(recipe.epochs):
            began, losses = time.perf_counter(), []
            for rows in epoch_batches(len(labels), recipe.batch_size, generator):
                truth = torch.as_tensor(labels[rows], device=device)
                losses.append(learner.step(batch_of(rows, generator), truth, relative[truth]))
            loss, seconds = float(torch.stack(losses).mean()), time.perf_counter() - began
            if not math.isfinite(loss):
                raise UserError(
                    f"Training the {name} gave a loss that is no number: "
                    f"lower encoders.learning_rate, which is {recipe.learning_rate:g}."
                )
            progress(
                f"{name}: epoch {epoch + 1}/{recipe.epochs}, loss {loss:.2f}, {seconds:.1f} s"
            )
    encoder.eval()


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from `seed` inside the block; what is drawn outside does not notice it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


class _Learner:
    """Encoder and head with their optimiser, and how far along the recipe they are."""

    def __init__(
        self, encoder: nn.Module, head: ArcFaceHead, recipe: ArcFaceRecipe, n_rows: int
    ) -> None:
        self.encoder, self.head, self.recipe = encoder, head, recipe
        full, rest = divmod(n_rows, recipe.batch_size)
        self.n_steps = max(1, recipe.epochs * (full + (rest > 1)))
        self.n_done = 0
        # Vectors are biases and the scales of normalisation: no weight decay for them.
        matrices = [weight for weight in encoder.parameters() if weight.ndim > 1]
        vectors = [weight for weight in encoder.parameters() if weight.ndim <= 1]
        rate = recipe.learning_rate
        self.optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "lr": rate, "weight_decay": _WEIGHT_DECAY},
                {"params": vectors, "lr": rate, "weight_decay": 0.0},
                {"params": head.parameters(), "lr": rate * _HEAD_RATE, "weight_decay": 0.0},
            ]
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._rate)

    def step(self, batch: Batch, truth: Tensor, relative_margin: Tensor) -> Tensor:
        """Learn from a batch.

        Args:
            batch: what the encoder takes.
            truth: int64 [b], classes.
            relative_margin: float32 [b], factor of the margin of each row's class.

        Returns:
            The loss before the step.
        """
        margin = self.recipe.margin(self.n_done / max(1, self.n_steps - 1)) * relative_margin
        loss = functional.cross_entropy(self.head(self.encoder(batch), truth, margin), truth)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_([*self.encoder.parameters(), *self.head.parameters()], _CLIP_NORM)
        self.optimiser.step()
        self.schedule.step()
        self.n_done += 1
        return loss.detach()

    def _rate(self, step: int) -> float:
        """Share of the peak learning rate: a linear rise, then half a cosine down to 0."""
        warm = max(1.0, _WARM_UP * self.n_steps)
        if step < warm:
            return (step + 1) / (warm + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(1.0, self.n_steps - warm))
