import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from purchase_predictor.encoders import learning
from purchase_predictor.encoders.arcface import ArcFaceHead, ArcFaceRecipe, relative_margins
from purchase_predictor.encoders.augmentation import Mixture
from purchase_predictor.encoders.learning import epoch_batches, train_arcface

LABELS = np.array([0, 0, 1, 1, 1, 1, 1, 1])
PIXELS = torch.randint(
    0, 256, (8, 4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2)
)
RECIPE = ArcFaceRecipe(
    epochs=2, batch_size=4, learning_rate=0.01, margin_start=0.2, margin_end=0.8, size_exponent=0.5
)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(48, 4)
        self.neck = nn.BatchNorm1d(4)
        self.kinds: set[torch.dtype] = set()

    def forward(self, pixels: Tensor) -> Tensor:
        mapped = self.map(pixels.flatten(1) / 255.0)
        self.kinds.add(mapped.dtype)
        return functional.normalize(self.neck(mapped.float()))


def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network()


def train(recipe: ArcFaceRecipe, *, frozen: bool = False) -> tuple[Network, list[str]]:
    encoder, lines = network(), []
    encoder.map.weight.requires_grad_(not frozen)
    train_arcface(
        encoder,
        lambda rows, _generator: PIXELS[torch.as_tensor(rows)],
        LABELS,
        recipe,
        d_embedding=4,
        seed=0,
        name="it",
        progress=lines.append,
    )
    return encoder, lines


def learner(recipe: ArcFaceRecipe) -> learning._Learner:
    head = ArcFaceHead(d_embedding=4, n_classes=2)
    return learning._Learner(network().eval(), head, LABELS, recipe, seed=0)


def changed(**values: object) -> ArcFaceRecipe:
    fields = {name: getattr(RECIPE, name) for name in ArcFaceRecipe.__dataclass_fields__}
    return ArcFaceRecipe(**{**fields, **values})


@pytest.mark.parametrize(
    ("values", "message"),
    [({"batch_size": 1}, "two listings"), ({"precision": "float16"}, "precision must be one of")],
)
def test_a_recipe_that_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        changed(**values)


def test_titles_of_like_length_share_a_batch_and_none_is_lost() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 1001)

    alike = list(epoch_batches(1001, 20, torch.Generator().manual_seed(1), lengths=lengths))
    mixed = list(epoch_batches(1001, 20, torch.Generator().manual_seed(1)))

    def padded(batches: list[np.ndarray]) -> float:
        return sum(len(rows) * lengths[rows].max() for rows in batches) / lengths.sum()

    # Two windows; of 1,001 rows the last would be a batch of its own.
    assert len(np.unique(np.concatenate(alike))) == 1000
    assert padded(alike) < 1.1
    assert padded(mixed) > 1.7
    means = [lengths[rows].mean() for rows in alike]
    assert means != sorted(means)


def test_the_margin_of_a_class_shrinks_with_its_size() -> None:
    assert relative_margins(LABELS, 0.5).tolist() == pytest.approx([1.0, 3**-0.5])
    assert relative_margins(LABELS, 0.0).tolist() == [1.0, 1.0]


def test_the_rate_rises_then_falls_and_the_heads_is_larger() -> None:
    it = learner(changed(warm_up=0.5, head_factor=7.0, epochs=10))

    rates = []
    for step in range(it.n_steps):
        it.begin_step(step)
        rates.append([group["lr"] for group in it.optimiser.param_groups])

    assert it.n_steps == 20
    encoder, _, head = np.array(rates).T
    assert (np.diff(encoder[:11]) > 0).all()
    assert (np.diff(encoder[10:]) < 0).all()
    assert encoder.max() == pytest.approx(RECIPE.learning_rate)
    assert head == pytest.approx(7 * encoder)


def test_margins_of_first_and_last_step_are_the_ends_of_the_schedule() -> None:
    it = learner(RECIPE)

    it.begin_step(0)
    first = it.margin
    it.begin_step(it.n_steps - 1)

    assert (first, it.margin) == pytest.approx((0.2, 0.8))


def test_weight_decay_is_for_matrices_alone() -> None:
    it = learner(changed(weight_decay=0.3))

    decays = [
        (group["weight_decay"], [tuple(weight.shape) for weight in group["params"]])
        for group in it.optimiser.param_groups
    ]

    assert decays == [(0.3, [(4, 48)]), (0.0, [(4,), (4,), (4,)]), (0.0, [(2, 4)])]
    assert not learning._is_matrix(torch.zeros(8, 1, 1, 1))


def test_a_mixed_batch_has_the_mean_of_the_losses_of_both_labels() -> None:
    it = learner(RECIPE)
    it.begin_step(0)
    pixels, truth = PIXELS[1:4], it.labels[1:4]
    partner = torch.tensor([2, 0, 1])

    mixed = it._loss(pixels, truth, Mixture(partner, 0.7))

    own, other = it._loss(pixels, truth, None), it._arcface(it.encoder(pixels), truth[partner])
    assert mixed.item() == pytest.approx(0.7 * own.item() + 0.3 * other.item())
    assert own.item() != pytest.approx(other.item())


@pytest.mark.parametrize(("probability", "expected"), [(0.0, 0), (0.5, 20), (1.0, 40)])
def test_cutmix_mixes_as_many_batches_as_it_says(
    monkeypatch: pytest.MonkeyPatch, probability: float, expected: int
) -> None:
    mixed = []
    real = learning.cutmix

    def counted(pixels: Tensor, generator: torch.Generator) -> tuple[Tensor, Mixture]:
        mixed.append(1)
        return real(pixels, generator)

    monkeypatch.setattr(learning, "cutmix", counted)
    train(changed(cutmix=probability, epochs=20))

    assert abs(len(mixed) - expected) <= (8 if expected == 20 else 0)


def test_bfloat16_is_for_the_encoder_alone() -> None:
    encoder, _ = train(changed(precision="bfloat16"))
    exact, _ = train(RECIPE)

    assert encoder.kinds == {torch.bfloat16}
    assert exact.kinds == {torch.float32}
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    assert torch.allclose(encoder.map.weight, exact.map.weight, atol=0.03)


def test_weights_that_need_no_gradient_stay_as_they_are() -> None:
    encoder, _ = train(RECIPE, frozen=True)

    assert torch.equal(encoder.map.weight, network().map.weight)
    assert not torch.equal(encoder.map.bias, network().map.bias)


def test_a_long_epoch_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "SECONDS_BETWEEN_LINES", 0.0)

    _, lines = train(RECIPE)

    assert lines[0].startswith("it: step 1 of 4, loss ")
    assert lines[1].startswith("it: step 2 of 4, loss ")
    assert lines[2].startswith("it: epoch 1/2, loss ")
    assert lines[0].endswith(" s left")
    assert lines[4].endswith(" 0 s left")
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("seconds", "text"), [(40, "40 s"), (89, "89 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_are_told_in_their_unit(seconds: float, text: str) -> None:
    assert learning._duration(seconds) == text
