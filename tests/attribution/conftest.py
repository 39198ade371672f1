"""A random model, a batch and its tokens."""

from dataclasses import replace

import pytest
import torch

from features.arrays import EncodedMarket
from purchase_predictor.attribution.tokens import TokenGrid
from purchase_predictor.model.fusion import FusionTransformer
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.settings import load_settings
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.shapes import ContentSizes, number_bins, shape_of
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES, N_WORD_PIECES

QUICK = ["model.d_model=16", "model.n_layers=2", "model.n_members=2"]
SIZES = ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, N_WORD_PIECES)
NAMES = ("sale", "gift")


@pytest.fixture(scope="module")
def model(market: EncodedMarket) -> FusionTransformer:
    """Random weights everywhere, those that start at zero too."""
    shape = shape_of(market, SIZES)
    kept = [[c.name for c in market.number_columns].index(c.name) for c in shape.numbers]
    bins = number_bins(market.numbers[:, kept], 4, 0)
    torch.manual_seed(0)
    built = FusionTransformer(shape=shape, bins=bins, settings=load_settings(None, QUICK).model)
    for weight in built.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    built.weights.copy_(torch.tensor([0.6, 0.4, -0.1]))
    return built.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batch(market: EncodedMarket) -> FusionBatch:
    shape = shape_of(market, SIZES)
    kept = [[c.name for c in market.number_columns].index(c.name) for c in shape.numbers]
    data = replace(market, numbers=market.numbers[:, kept], number_columns=shape.numbers)
    built = Batcher(data, batch_size=60)
    return built.build(built.plan(None)[1])


@pytest.fixture(scope="module")
def grid(market: EncodedMarket, batch: FusionBatch) -> TokenGrid:
    return TokenGrid.of(shape_of(market, SIZES), NAMES, batch)
