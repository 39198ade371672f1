"""ArcFace: what an encoder is taught, that listings of one match group are the same product.

Deng et al. 2019, "ArcFace: Additive Angular Margin Loss"; the recipe of the Shopee
competition: pooling → BatchNorm → L2 norm → cosine with class weights → margin → softmax
cross-entropy, the margin growing as training goes on.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

PRECISIONS = ("float32", "bfloat16")
"""What an encoder's matrix products may be computed in while it is trained."""


@dataclass(frozen=True)
class ArcFaceRecipe:
    """How an encoder is trained.

    Attributes:
        epochs: passes over the listings.
        batch_size: listings in a batch, 2 or more.
        learning_rate: peak rate of the encoder.
        margin_start: margin at the first step, in radians.
        margin_end: margin at the last step.
        scale: factor of the cosines.
        size_exponent: margins are multiplied by (class size / smallest size) to the power of
            minus this; 0 gives every class the same margin.
        head_factor: the head's learning rate divided by the encoder's.
        warm_up: share of the steps in which the rate rises; half a cosine falls after it.
        clip_norm: largest norm of a gradient.
        weight_decay: decoupled, of the encoder's matrices alone.
        cutmix: probability that a batch is mixed; pictures only.
        precision: `float32`, or `bfloat16` for the encoder's matrix products; the loss, the head
            and the weights stay in float32.

    Raises:
        ValueError: if a batch could hold one listing only, which BatchNorm has no variance of, or
            if there is no such precision.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    margin_start: float
    margin_end: float
    scale: float = 30.0
    size_exponent: float = 0.0
    head_factor: float = 10.0
    warm_up: float = 0.2
    clip_norm: float = 5.0
    weight_decay: float = 0.01
    cutmix: float = 0.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.batch_size < 2:
            raise ValueError(f"a batch needs two listings at least, got {self.batch_size}")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {PRECISIONS}, got '{self.precision}'")

    def margin(self, progress: float) -> float:
        """The margin, in radians, where a share `progress` in [0, 1] of the steps is done."""
        return self.margin_start + (self.margin_end - self.margin_start) * progress

    def rate(self, step: int, n_steps: int) -> float:
        """Learning rate of the encoder at a step: a linear rise, half a cosine down to 0."""
        warm = max(1.0, self.warm_up * n_steps)
        if step < warm:
            return self.learning_rate * (step + 1) / (warm + 1)
        done = (step - warm) / max(1.0, n_steps - warm)
        return self.learning_rate * (0.5 + 0.5 * math.cos(math.pi * done))


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


def relative_margins(labels: NDArray[np.int64], size_exponent: float) -> Tensor:
    """Factor of each class's margin: less for a class of many listings, 1 for the smallest.

    Args:
        labels: int64 [n], classes 0 … n_classes-1, each of them there.
        size_exponent: see `ArcFaceRecipe`.

    Returns:
        float32 [n_classes], (size / smallest size) to the power of minus the exponent.
    """
    sizes = np.bincount(labels)
    return torch.as_tensor((sizes / sizes.min()) ** -size_exponent, dtype=torch.float32)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from `seed` inside the block; what is drawn outside does not notice it."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
