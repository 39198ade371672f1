"""Attention in tokens: as the model has it, rolled out by hand, and what it agrees with."""

import numpy as np
import polars as pl
import pytest
import torch

from features.arrays import EncodedMarket
from purchase_predictor.attribution.attending import HEADS, agreements, mean_heads
from purchase_predictor.attribution.attention import (
    GRADIENT_WEIGHTED,
    ROLLOUT,
    AttentionGrid,
    attention_of,
    rollout,
)
from purchase_predictor.attribution.gradients import GatedNetwork
from purchase_predictor.attribution.tokens import Token, TokenGrid
from purchase_predictor.model.fusion import FusionTransformer
from purchase_predictor.model.history import of_impressions
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.training.shapes import shape_of
from tests.attribution.conftest import NAMES, SIZES


@pytest.fixture(scope="module")
def network(model: FusionTransformer, batch: FusionBatch, grid: TokenGrid) -> GatedNetwork:
    return GatedNetwork(model, batch, grid, NAMES)


def test_weights_are_those_of_the_model(
    model: FusionTransformer, batch: FusionBatch, network: GatedNetwork
) -> None:
    with torch.inference_mode():
        told = model(batch, need_weights=True).attention
    weights, gradients = network.attention()
    assert weights.keys() == gradients.keys() == told.keys()
    for name, found in weights.items():
        own = of_impressions(found, network.batch) if name.startswith("events.") else found
        if name == "product":  # between parts and words is "no title", absent where there is one
            n_parts = len(network.part_names)
            own = torch.cat([own[..., :n_parts], own[..., n_parts + 1 :]], dim=-1)
            titled = network.has_title
            torch.testing.assert_close(own[titled], told[name][titled], atol=1e-5, rtol=0)
        else:
            torch.testing.assert_close(own, told[name], atol=1e-5, rtol=0)


def test_gradients_by_attention_are_those_of_finite_differences(
    model: FusionTransformer, network: GatedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the columns in the last layer, moved a little by hand."""
    name = "columns.1"
    weights, gradients = network.attention()
    direction = torch.randn(weights[name].shape, generator=torch.Generator().manual_seed(0))
    attend, step, sign = model.layers[1].columns, 1e-2, 1.0

    def moved(
        readers: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        changed = weights[name] + sign * step * direction
        by_head = values.unflatten(2, (changed.shape[1], -1)).transpose(1, 2)
        return (changed @ by_head).transpose(1, 2).flatten(2), changed

    monkeypatch.setattr(attend, "forward", moved)
    ones = torch.ones(len(network.batch), len(network.grid))
    above = network(ones)
    sign = -1.0
    slope = (above - network(ones)) / (2 * step)
    expected = (gradients[name] * direction).flatten(1).sum(dim=1)
    torch.testing.assert_close(slope, expected, atol=2e-3, rtol=2e-2)


def test_attention_in_tokens_has_no_sign_and_hides_padding(
    market: EncodedMarket, network: GatedNetwork
) -> None:
    found = attention_of(network, shape_of(market, SIZES))
    grid = found.tokens.grid
    for method in (ROLLOUT, GRADIENT_WEIGHTED):
        values = found.values[method]
        assert values.min() >= 0
        assert (values[:, : grid.n_words][~network.words.numpy()] == 0).all()
        events = values[:, grid.n_words + len(grid.fixed) :]
        assert (events[~network.in_sight.numpy()] == 0).all()
        assert (events[network.in_sight.numpy()] > 0).mean() > 0.3
    totals = found.values[ROLLOUT].sum(axis=1)
    assert ((totals > 0.3) & (totals < 1 + 1e-6)).all()
    # contributions fall into the same tokens, none of them twice
    values = np.arange(float(len(network.grid)))[None]
    path = [token.name for token in network.grid.fixed].index("(path so far)")
    assert found.tokens.sizes_of(values).sum() == values.sum() - values[0, grid.n_words + path]


def test_rollout_by_hand() -> None:
    """A word and a part, then one layer that looks at one event with half of its weight."""
    tokens = AttentionGrid(
        TokenGrid(1, (Token("part", "text"), Token("block", "terms")), 1), 1, ((0,), (1,))
    )
    product, layer = torch.zeros(2, 4), torch.zeros(2, 4)
    product[1] = torch.tensor([0.6, 0.4, 0.0, 0.0])
    layer[:] = torch.tensor([0.0, 0.0, 1.0, 0.5])
    found = rollout(torch.stack([product, layer])[None], tokens)[0]
    candidate = torch.tensor([0.3, 0.7, 0.0, 0.0])  # half of it the part itself
    # of both readers: itself half and an eighth, the other reader an eighth
    expected = candidate * (0.5 + 0.125 + 0.125) / 2 + layer[0] / 8
    torch.testing.assert_close(found, expected)


def test_agreement_is_of_ranks_and_of_sizes() -> None:
    n, rng = 240, np.random.default_rng(0)
    market, names = np.repeat(["KR", "US"], n // 2), ("a", "b", "c")
    logit = {("KR", "a"): -0.9, ("KR", "b"): 0.5, ("KR", "c"): 0.1,
             ("US", "a"): 0.3, ("US", "b"): -0.2, ("US", "c"): 0.7}  # fmt: skip
    effects = pl.DataFrame(
        [("phrase", *key, value) for key, value in logit.items()],
        schema=["lever", "market", "phrase", "logit"], orient="row",
    )  # fmt: skip
    on = np.array([[abs(logit[m, p]) for p in names] for m in market])
    on[rng.random(on.shape) < 0.5] = np.nan
    like = np.full(n, 0.25)
    like[:10] = np.nan
    first, second = agreements(
        {ROLLOUT: like, GRADIENT_WEIGHTED: like}, {ROLLOUT: on, GRADIENT_WEIGHTED: 1 - on}, names,
        effects, market, np.arange(n) // 2, 0.95,
    )  # fmt: skip
    assert (first.n, first.n_effects) == (n - 10, 6)
    assert first.with_contributions[0] == pytest.approx(0.25)
    assert first.with_effects == pytest.approx(1.0)
    assert second.with_effects == pytest.approx(-1.0)


def test_heads_are_means_over_all_batches() -> None:
    def part(value: float, n: int, tokens: list[str]) -> pl.DataFrame:
        rows = [("KR", 0, 1, token, value, n) for token in tokens]
        return pl.DataFrame(rows, schema=HEADS, orient="row")

    found = mean_heads([part(3.0, 4, ["x", "y"]), part(1.0, 4, ["x"])])
    assert found.schema == HEADS
    assert dict(found.select("token", "value").iter_rows()) == {"x": 0.5, "y": 0.375}
    assert set(found["n_impressions"]) == {8}
