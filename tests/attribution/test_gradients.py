"""Shapley values and gradients on a random model: exact ends, sums, and who is credited."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch

from features.arrays import EncodedMarket
from purchase_predictor.attribution import shapley
from purchase_predictor.attribution.additive import Additive, ReadoutTokens
from purchase_predictor.attribution.contributions import completeness_error
from purchase_predictor.attribution.gradients import GatedNetwork, integrated_gradients
from purchase_predictor.attribution.shapley import MODALITIES, masked_batch, shapley_weights
from purchase_predictor.attribution.tokens import (
    MARKET_ALONE,
    PICTURE,
    TokenGrid,
    events_in_sight,
)
from purchase_predictor.model.fusion import FusionTransformer
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.settings import load_settings
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.shapes import ContentSizes, number_bins, shape_of
from tests.attribution.conftest import NAMES, QUICK, SIZES
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES


@pytest.fixture(scope="module")
def additive(
    market: EncodedMarket, model: FusionTransformer, batch: FusionBatch, grid: TokenGrid
) -> Additive:
    return ReadoutTokens(model.readout, shape_of(market, SIZES), NAMES)(batch, grid)


@pytest.fixture
def network(model: FusionTransformer, batch: FusionBatch, grid: TokenGrid) -> GatedNetwork:
    return GatedNetwork(model, batch, grid, NAMES)


def logits(model: FusionTransformer, batch: FusionBatch, **options: bool) -> np.ndarray:
    return model(batch, **options).logits.mean(dim=1).numpy()


def test_shapley_values_are_means_over_all_orders() -> None:
    values = np.random.default_rng(0).normal(size=16)
    expected = np.zeros(4)
    orders = list(permutations(range(4)))
    for order in orders:
        there = 0
        for player in order:
            expected[player] += (values[there | 1 << player] - values[there]) / len(orders)
            there |= 1 << player
    np.testing.assert_allclose(shapley_weights(4) @ values, expected)


def test_subsets_go_from_everything_masked_to_the_model_itself(
    model: FusionTransformer, batch: FusionBatch
) -> None:
    subsets = shapley.subset_logits(model, batch)
    values = subsets @ shapley_weights(len(MODALITIES)).T

    np.testing.assert_allclose(subsets[:, -1], logits(model, batch), atol=1e-5)
    nothing = masked_batch(batch, [False] * len(MODALITIES))
    np.testing.assert_allclose(subsets[:, 0], logits(model, nothing), atol=1e-5)
    alone = masked_batch(batch, MARKET_ALONE)
    place = 1 << MODALITIES.index("culture")
    np.testing.assert_allclose(subsets[:, place], logits(model, alone), atol=1e-5)
    np.testing.assert_allclose(values.sum(axis=1), subsets[:, -1] - subsets[:, 0], atol=1e-4)
    assert (np.abs(values).mean(axis=0) > 1e-3).all()


def test_gates_lead_from_masked_to_the_network_itself(
    model: FusionTransformer, batch: FusionBatch, grid: TokenGrid, network: GatedNetwork
) -> None:
    ones = torch.ones(len(batch), len(grid))
    np.testing.assert_allclose(
        network(ones).numpy(), logits(model, batch, network_only=True), atol=1e-5
    )
    network.beside = None  # the whole list together
    masked = masked_batch(batch, MARKET_ALONE)
    np.testing.assert_allclose(
        network(0 * ones).numpy(), logits(model, masked, network_only=True), atol=1e-5
    )


def test_a_group_of_gates_is_the_mask_of_a_modality(
    model: FusionTransformer, batch: FusionBatch, grid: TokenGrid, network: GatedNetwork
) -> None:
    gates = torch.ones(len(batch), len(grid))
    for place, token in enumerate(grid.fixed):
        gates[:, grid.n_words + place] = float(token.modality != "terms")
    network.beside = None
    masked = masked_batch(batch, [name != "terms" for name in MODALITIES])
    np.testing.assert_allclose(
        network(gates).numpy(), logits(model, masked, network_only=True), atol=1e-5
    )


def test_a_row_s_gates_change_no_other_row(
    batch: FusionBatch, grid: TokenGrid, network: GatedNetwork
) -> None:
    assert batch.list_width > 1
    gates = torch.ones(len(batch), len(grid))
    before = network(gates)
    gates[::2] = 0.0
    after = network(gates)
    np.testing.assert_allclose(after[1::2], before[1::2], atol=1e-6)
    assert (after[::2] - before[::2]).abs().mean() > 1e-3


def test_gradients_add_up(batch: FusionBatch, grid: TokenGrid, network: GatedNetwork) -> None:
    values = integrated_gradients(network).double().numpy()
    ones = torch.ones(len(batch), len(grid))
    change = (network(ones) - network(0 * ones)).double().numpy()
    assert np.quantile(completeness_error(values, change), 0.95) < 0.01
    # an event that is not seen, a word that is not there contribute nothing
    _, _, events = grid.split(torch.from_numpy(values))
    seen = events_in_sight(batch)
    assert not events[~seen].any()
    assert events[seen].any()


def test_gradients_add_up_where_little_is_known_yet() -> None:
    """A layer norm turns within the first thousandth of the path, which even steps miss."""
    size = torch.tensor([3.0, -1.0, 2.0, 0.5])

    def network(gates: torch.Tensor) -> torch.Tensor:
        x = gates * size
        return x.sum(dim=1) / (x.square().mean(dim=1) + 1e-6).sqrt()

    network.batch, network.grid = range(3), range(len(size))
    values = integrated_gradients(network)
    ones = torch.ones(3, len(size))
    change = network(ones) - network(0 * ones)
    torch.testing.assert_close(values.sum(dim=1), change, atol=0, rtol=1e-4)


def test_the_readout_s_contributions_add_up(
    model: FusionTransformer, batch: FusionBatch, additive: Additive
) -> None:
    masked = masked_batch(batch, MARKET_ALONE)
    change = (model.readout(batch) - model.readout(masked)).flatten()
    ones = torch.ones_like(additive.alone)
    np.testing.assert_allclose(additive.contributions().sum(dim=1), change, atol=1e-5)
    np.testing.assert_allclose(additive.logit(ones), change, atol=1e-5)


def test_an_event_taken_out_of_the_readout_is_as_if_it_were_of_another_session(
    market: EncodedMarket, model: FusionTransformer, batch: FusionBatch, grid: TokenGrid
) -> None:
    own = batch.sessions.session.clone()
    own[:, 1] = -7  # the others' ages stay, and the readout reads it for nothing else
    without = replace(batch, sessions=replace(batch.sessions, session=own))
    model.readout.scale.fill_(100.0)  # far from where numbers are clipped
    found = ReadoutTokens(model.readout, shape_of(market, SIZES), NAMES)(batch, grid)
    change = (model.readout(without) - model.readout(batch)).flatten()
    model.readout.scale.fill_(1.0)
    gates = torch.ones_like(found.alone)
    gates[:, len(grid) - grid.n_events + 1] = 0.0
    assert change.abs().max() > 1e-4
    np.testing.assert_allclose(
        found.logit(gates) - found.logit(torch.ones_like(gates)), change, atol=1e-6
    )


def test_what_only_the_picture_holds_is_the_picture_s(
    market: EncodedMarket, batch: FusionBatch, grid: TokenGrid, model: FusionTransformer
) -> None:
    weight = model.readout.linear.weight
    kept = weight.clone()
    weight[0, [name != "image" for name in model.readout.blocks]] = 0.0
    found = ReadoutTokens(model.readout, shape_of(market, SIZES), NAMES)(batch, grid)
    weight.copy_(kept)
    _, fixed, events = grid.split(found.contributions())
    assert fixed.pop(PICTURE).any()
    assert not events.any()
    assert not any(values.any() for values in fixed.values())


def test_a_market_without_events_and_titles_is_explained(
    market_of: Callable[..., EncodedMarket],
) -> None:
    bare = market_of(n_events=0, titles=False)
    shape = shape_of(bare, ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, 0))
    kept = [[c.name for c in bare.number_columns].index(c.name) for c in shape.numbers]
    data = replace(bare, numbers=bare.numbers[:, kept], number_columns=shape.numbers)
    torch.manual_seed(0)
    built = FusionTransformer(
        shape=shape, bins=number_bins(data.numbers, 4, 0),
        settings=load_settings(None, QUICK).model,
    ).eval().requires_grad_(False)  # fmt: skip
    batcher = Batcher(data, batch_size=60)
    batch = batcher.build(batcher.plan(None)[0])
    grid = TokenGrid.of(shape, NAMES, batch)
    network = GatedNetwork(built, batch, grid, NAMES)
    values = integrated_gradients(network, n_steps=8)
    assert values.isfinite().all()
    assert values.abs().sum() > 0
