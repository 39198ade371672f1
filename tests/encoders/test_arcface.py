import math

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from torch.nn import functional

from purchase_predictor.encoders.arcface import (
    ArcFaceHead,
    ArcFaceRecipe,
    match_classes,
)
from purchase_predictor.encoders.learning import epoch_batches, train_arcface
from purchase_predictor.errors import UserError

RECIPE = ArcFaceRecipe(
    epochs=8, batch_size=16, learning_rate=0.02, margin_start=0.1, margin_end=0.4
)


def head_of_axes(scale: float = 30.0) -> ArcFaceHead:
    head = ArcFaceHead(d_embedding=2, n_classes=2, scale=scale)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    return head


def test_the_margin_turns_the_true_class_away() -> None:
    angle = 0.7
    embedding = torch.tensor([[math.cos(angle), math.sin(angle)]])

    logits = head_of_axes()(embedding, torch.tensor([0]), 0.3)

    assert logits[0].tolist() == pytest.approx(
        [30 * math.cos(angle + 0.3), 30 * math.sin(angle)], rel=1e-5
    )


def test_past_half_a_turn_the_logit_goes_on_falling() -> None:
    margin = 0.5
    angles = torch.linspace(0.0, math.pi, 50)
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)

    true = head_of_axes(1.0)(embeddings, torch.zeros(50, dtype=torch.int64), margin)[:, 0]

    assert (true.diff() < 0).all()
    assert true[-1].item() == pytest.approx(-1 - margin * math.sin(margin), abs=1e-3)


def test_margins_may_differ_from_row_to_row() -> None:
    embeddings = functional.normalize(torch.randn(2, 2, generator=torch.Generator()), dim=1)
    labels, head = torch.tensor([0, 1]), head_of_axes()

    both = head(embeddings, labels, torch.tensor([0.2, 0.0]))

    assert torch.allclose(both[0], head(embeddings, labels, 0.2)[0])
    assert torch.allclose(both[1], head(embeddings, labels, 0.0)[1])


def test_the_margin_grows_from_its_first_to_its_last_value() -> None:
    assert RECIPE.margin(0.0) == pytest.approx(0.1)
    assert RECIPE.margin(0.5) == pytest.approx(0.25)
    assert RECIPE.margin(1.0) == pytest.approx(0.4)


def test_only_groups_of_two_eligible_listings_are_classes() -> None:
    groups = pl.Series(["b", "b", "a", "a", "c", None, None, "a"])
    eligible = np.array([True, True, True, True, True, True, True, False])

    assert match_classes(groups, eligible).tolist() == [1, 1, 0, 0, -1, -1, -1, -1]
    assert match_classes(groups, np.zeros(8, dtype=bool)).tolist() == [-1] * 8


def test_batches_hold_every_row_once_and_never_a_single_one() -> None:
    generator = torch.Generator().manual_seed(0)

    even = list(epoch_batches(12, 4, generator))
    odd = list(epoch_batches(13, 4, generator))

    assert sorted(np.concatenate(even)) == list(range(12))
    assert [len(rows) for rows in odd] == [4, 4, 4]


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(6, 4)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.map(rows))


def trained(seed: int, rate: float = 0.02) -> tuple[Line, list[str]]:
    lines: list[str] = []
    points = np.random.default_rng(3).normal(size=(60, 6)).astype(np.float32)
    labels = np.arange(60) % 3
    points[:, :3] += 4 * np.eye(3, dtype=np.float32)[labels]
    torch.manual_seed(1)
    encoder = Line()
    recipe = ArcFaceRecipe(8, 16, rate, 0.1, 0.4, size_exponent=0.1)
    train_arcface(
        encoder,
        lambda rows, _: torch.from_numpy(points[rows]),
        labels,
        recipe,
        d_embedding=4,
        seed=seed,
        name="line",
        progress=lines.append,
    )
    return encoder, lines


def test_training_lowers_the_loss_and_tells_each_epoch() -> None:
    encoder, lines = trained(0)

    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert len(losses) == 8
    assert losses[-1] < 0.5 * losses[0]
    assert not encoder.training


def test_the_seed_alone_decides_and_nothing_outside_notices() -> None:
    first, _ = trained(5)
    after_one = torch.rand(3)
    second, _ = trained(5)
    after_two = torch.rand(3)
    other, _ = trained(6)

    assert torch.equal(first.map.weight, second.map.weight)
    assert torch.equal(after_one, after_two)
    assert not torch.equal(first.map.weight, other.map.weight)


def test_a_loss_that_is_no_number_is_a_clear_error() -> None:
    with pytest.raises(UserError, match="lower its learning rate"):
        trained(0, rate=math.inf)
