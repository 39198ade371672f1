from dataclasses import replace

import numpy as np
import pytest
import torch

from features.arrays import STOP, TEST, TRAIN, UNSEEN, EncodedMarket
from purchase_predictor.model.readout import Readout
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.readout import solve_readout
from purchase_predictor.training.system import ContentSizes, shape_of, varying_numbers
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES, N_WORD_PIECES, make_market

SIZES = ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, N_WORD_PIECES)


@pytest.fixture(scope="module")
def data() -> EncodedMarket:
    market = make_market(n_units=400, n_events=2000)
    kept = varying_numbers(market)
    columns = tuple(c for c, keep in zip(market.number_columns, kept, strict=True) if keep)
    # the first number pulls one way in KR and the other in US
    rng = np.random.default_rng(0)
    sign = np.where(market.market == 3, 1.0, -1.0)
    logit = 2 * sign * np.nan_to_num(market.numbers[:, 0])
    converted = (rng.random(len(market)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return replace(
        market, numbers=market.numbers[:, kept], number_columns=columns, converted=converted
    )


@pytest.fixture(scope="module")
def readout(data: EncodedMarket) -> Readout:
    readout = Readout(shape=shape_of(data, SIZES))
    learn, stop = (data.select(data.part == part) for part in (TRAIN, STOP))
    solve_readout(readout, learn, stop, seed=0, progress=lambda _: None)
    return readout


def logits(readout: Readout, data: EncodedMarket) -> np.ndarray:
    found = np.empty(len(data))
    with torch.inference_mode():
        for rows, batch in Batcher(data, batch_size=100).scoring_batches():
            found[rows] = readout(batch)[:, 0].numpy()
    return found


def test_a_term_has_an_effect_of_its_own_in_each_market(
    readout: Readout, data: EncodedMarket
) -> None:
    test = data.select(data.part == TEST)
    found = logits(readout, test)
    for market, sign in ((3, 1), (4, -1)):
        rows = (test.market == market) & ~np.isnan(test.numbers[:, 0])
        assert sign * np.corrcoef(found[rows], test.numbers[rows, 0])[0, 1] > 0.8


def test_a_market_not_in_training_has_no_effects_of_its_own(
    readout: Readout, data: EncodedMarket
) -> None:
    _, batch = next(Batcher(data, batch_size=50).scoring_batches())
    unseen = replace(batch, market=torch.full_like(batch.market, UNSEEN))
    other = replace(batch, market=torch.zeros_like(batch.market))

    assert torch.equal(readout.design(unseen), readout.design(other))
    assert not torch.equal(readout.design(unseen), readout.design(batch))


def test_masked_numbers_are_missing_ones(readout: Readout, data: EncodedMarket) -> None:
    _, batch = next(Batcher(data, batch_size=50).scoring_batches())
    masked = torch.zeros(len(batch), 4, dtype=torch.bool)
    masked[:, 0] = True  # terms
    terms = torch.tensor([c.group == "terms" for c in data.number_columns])
    missing = batch.numbers.masked_fill(terms, float("nan"))

    told = readout.design(replace(batch, masked=masked))

    torch.testing.assert_close(told, readout.design(replace(batch, numbers=missing)))
