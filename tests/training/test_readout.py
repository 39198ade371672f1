from dataclasses import replace

import numpy as np
import pytest
import torch

from features.arrays import TEST, TRAIN, UNSEEN, EncodedMarket
from purchase_predictor.model.inputs import PRODUCT_GROUPS, ROW_GROUPS
from purchase_predictor.model.readout import Pieces, Readout
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.readout import read_out, solve_readout
from purchase_predictor.training.shapes import ContentSizes, number_bins, shape_of, varying_numbers
from purchase_predictor.training.weighing import weigh
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES, N_WORD_PIECES, make_market

SIZES = ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, N_WORD_PIECES)


@pytest.fixture(scope="module")
def data() -> EncodedMarket:
    market = make_market(n_units=400, n_events=2000)
    kept = varying_numbers(market)
    columns = tuple(c for c, keep in zip(market.number_columns, kept, strict=True) if keep)
    # the first number pulls one way in KR and the other in US, the second bends
    rng = np.random.default_rng(0)
    sign = np.where(market.market == 3, 1.0, -1.0)
    first, second = np.nan_to_num(market.numbers[:, :2]).T
    logit = 2 * sign * first + 2 * np.abs(second) - 1.5
    converted = (rng.random(len(market)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    return replace(
        market, numbers=market.numbers[:, kept], number_columns=columns, converted=converted
    )


def unsolved(data: EncodedMarket) -> Readout:
    bins = number_bins(data.numbers[data.part == TRAIN], 8, seed=0)
    return Readout(shape=shape_of(data, SIZES), bins=bins)


def solve(readout: Readout, data: EncodedMarket, *, keep: bool = False) -> Readout:
    learn = data.select(data.part == TRAIN)
    solve_readout(readout, learn, keep=keep, seed=0, progress=lambda _: None)
    return readout


@pytest.fixture(scope="module")
def readout(data: EncodedMarket) -> Readout:
    return solve(unsolved(data), data)


def test_a_term_has_an_effect_of_its_own_in_each_market(
    readout: Readout, data: EncodedMarket
) -> None:
    test = data.select(data.part == TEST)
    found = read_out(readout, test)
    for market, sign in ((3, 1), (4, -1)):
        rows = (test.market == market) & ~np.isnan(test.numbers[:, 0])
        assert sign * np.corrcoef(found[rows], test.numbers[rows, 0])[0, 1] > 0.7


def test_a_number_may_bend(readout: Readout, data: EncodedMarket) -> None:
    test = data.select((data.part == TEST) & ~np.isnan(data.numbers[:, 1]))
    found = read_out(readout, test)
    assert np.corrcoef(found, np.abs(test.numbers[:, 1]))[0, 1] > 0.3


def test_what_a_picture_says_has_an_effect_of_its_own_in_each_market(data: EncodedMarket) -> None:
    rng = np.random.default_rng(1)
    says = data.products.picture_phrases[data.product, 0]
    logit = 2.5 * np.where(data.market == 3, says, -says) - 1.0
    converted = (rng.random(len(data)) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    readout = solve(unsolved(data), replace(data, converted=converted))
    test = data.select((data.part == TEST) & data.products.has_image[data.product])
    found, told = read_out(readout, test), test.products.picture_phrases[test.product, 0]
    for market, sign in ((3, 1), (4, -1)):
        rows = test.market == market
        assert sign * np.corrcoef(found[rows], told[rows])[0, 1] > 0.7


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
    masked = torch.zeros(len(batch), len(ROW_GROUPS), dtype=torch.bool)
    masked[:, ROW_GROUPS.index("terms")] = True
    terms = torch.tensor([c.group == "terms" for c in data.number_columns])
    missing = batch.numbers.masked_fill(terms, float("nan"))

    told = readout.design(replace(batch, masked=masked))

    torch.testing.assert_close(told, readout.design(replace(batch, numbers=missing)))


def test_a_masked_picture_is_a_missing_one(readout: Readout, data: EncodedMarket) -> None:
    _, batch = next(Batcher(data, batch_size=50).scoring_batches())
    products = batch.products
    masked = torch.zeros(len(products.identity), len(PRODUCT_GROUPS), dtype=torch.bool)
    masked[:, PRODUCT_GROUPS.index("image")] = True
    hidden = replace(batch, products=replace(products, masked=masked))
    absent = replace(
        batch, products=replace(products, has_image=torch.zeros_like(products.has_image))
    )

    torch.testing.assert_close(readout.design(hidden), readout.design(absent))
    assert not torch.equal(readout.design(hidden), readout.design(batch))


def test_every_column_has_a_block(readout: Readout, data: EncodedMarket) -> None:
    _, batch = next(Batcher(data, batch_size=50).scoring_batches())
    assert readout.design(batch).shape == (len(batch), len(readout.blocks))


def test_a_column_belongs_to_the_block_of_what_moves_it(
    readout: Readout, data: EncodedMarket
) -> None:
    _, batch = next(Batcher(data, batch_size=50).scoring_batches())
    products, blocks = batch.products, np.array(readout.blocks)
    numbers = batch.numbers.clone()
    numbers[:, 1] = 0.123
    moved = {
        "brand": replace(batch, products=replace(products, brand=1 - products.brand.clamp_max(1))),
        "image": replace(batch, products=replace(products, image=products.image + 1)),
        "says": replace(
            batch, products=replace(products, picture_phrases=products.picture_phrases + 1)
        ),
        "device": replace(batch, categories=1 + batch.categories % 4),
        "number": replace(batch, numbers=numbers),
    }
    device, last_event = (column.name for _, column in readout.codes)
    second = data.number_columns[1]
    expected = {
        "brand": {"brand"},
        "image": {"image"},
        "says": {"picture phrases", "picture phrase 0 by market"},
        "device": {device, last_event},
        "number": {second.block, f"{second.name} in pieces", "missing"},
    }
    for name, changed in moved.items():
        differs = (readout.design(changed) != readout.design(batch)).any(dim=0).numpy()
        assert set(blocks[differs]) == expected[name]


def test_a_few_rows_hardly_move_what_is_kept(readout: Readout, data: EncodedMarket) -> None:
    one_market = np.flatnonzero((data.part == TRAIN) & (data.market == 3))
    few = data.select(np.isin(np.arange(len(data)), one_market[:60]))
    adapted, alone = unsolved(data), unsolved(data)
    adapted.load_state_dict(readout.state_dict())
    solve(adapted, few, keep=True)
    solve(alone, few)
    test = data.select((data.part == TEST) & (data.market == 3))
    known = read_out(readout, test)

    assert torch.equal(adapted.mean, readout.mean)
    moved, apart = (np.abs(read_out(one, test) - known).mean() for one in (adapted, alone))
    assert 0 < moved < apart / 2


def test_pieces_fill_up_one_bin_after_the_other() -> None:
    pieces = Pieces([torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0, 3.0])])
    x = torch.tensor([[0.3, -1.0], [0.3, 0.5], [0.3, 2.0], [0.3, float("nan")]])

    assert pieces.column == [1, 1]
    expected = torch.tensor([[0.0, 0.0], [0.5, 0.0], [1.0, 0.5], [0.5, 0.5]])
    torch.testing.assert_close(pieces(x), expected)


def test_weights_are_what_each_part_is_worth() -> None:
    rng = np.random.default_rng(0)
    signal, noise = rng.normal(size=(2, 20_000)).astype(np.float32)
    converted = (rng.random(20_000) < 1 / (1 + np.exp(1 - signal))).astype(np.float32)

    of_signal, of_noise, intercept = weigh(np.stack([2 * signal, noise], axis=1), converted)

    assert of_signal == pytest.approx(0.5, abs=0.03)
    assert 0 <= of_noise < 0.05
    assert intercept == pytest.approx(-1, abs=0.1)
    # a part that is the wrong way round is left out, not turned
    assert weigh(np.stack([np.zeros_like(signal), -signal], axis=1), converted)[1] == 0


def test_without_rows_both_count_half() -> None:
    nothing = np.zeros(0, np.float32)
    np.testing.assert_allclose(
        weigh(np.stack([nothing, nothing], axis=1), nothing), [0.5, 0.5, 0.0]
    )


def test_logits_are_those_of_the_columns_side_by_side(
    readout: Readout, data: EncodedMarket
) -> None:
    _, batch = next(Batcher(data, batch_size=50).scoring_batches())
    expected = readout.linear(readout.design(batch))
    assert expected.std() > 0.1
    torch.testing.assert_close(readout(batch), expected)
