"""What must not change a prediction, what must, and golden numbers of the forward pass.

`python tests/model/test_fusion.py` writes the golden numbers anew.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.arrays import EncodedMarket
from purchase_predictor.model.fusion import ColumnAttention, FusionTransformer
from purchase_predictor.model.inputs import FusionBatch, FusionShape
from purchase_predictor.settings import load_settings
from purchase_predictor.training.batches import Batcher, Hidden
from purchase_predictor.training.shapes import ContentSizes, number_bins, shape_of, varying_numbers
from tests.encoded_market import N_CATEGORIES, N_IDENTITIES, N_WORD_PIECES, make_market

SETTINGS = load_settings(None, ["model.history=5", "model.d_model=16", "model.n_members=3"])
SIZES = ContentSizes(N_IDENTITIES, N_CATEGORIES, N_CATEGORIES, N_WORD_PIECES)
GOLDEN = Path(__file__).parent.parent / "golden" / "fusion_forward.json"


def prepare(market: EncodedMarket) -> EncodedMarket:
    kept = varying_numbers(market)
    columns = tuple(c for c, keep in zip(market.number_columns, kept, strict=True) if keep)
    return replace(market, numbers=market.numbers[:, kept], number_columns=columns)


def build(market: EncodedMarket) -> FusionTransformer:
    shape = shape_of(market, SIZES)
    torch.manual_seed(0)
    model = FusionTransformer(
        shape=shape, bins=number_bins(market.numbers, 8, 0), settings=SETTINGS.model
    )
    with torch.no_grad():  # conditioning starts at zero: move every weight, so that all is tested
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return model.eval()


def predict(model: FusionTransformer, data: EncodedMarket, batch_size: int = 4096) -> np.ndarray:
    logits = np.full(len(data), np.nan, np.float32)
    with torch.inference_mode():
        for rows, batch in Batcher(data, batch_size=batch_size).scoring_batches():
            logits[rows] = model(batch).logits.mean(dim=1).numpy()
    return logits


@pytest.fixture(scope="module")
def data(market: EncodedMarket) -> EncodedMarket:
    return prepare(market)


@pytest.fixture(scope="module")
def model(data: EncodedMarket) -> FusionTransformer:
    return build(data)


def test_packed_path_equals_one_list_at_a_time(
    model: FusionTransformer, data: EncodedMarket
) -> None:
    packed = predict(model, data)
    alone = np.full_like(packed, np.nan)
    for number in np.unique(data.list_number):
        rows = data.list_number == number
        alone[rows] = predict(model, data.select(rows))
    np.testing.assert_allclose(packed, alone, atol=1e-5)


def test_batch_composition_changes_nothing(model: FusionTransformer, data: EncodedMarket) -> None:
    np.testing.assert_allclose(predict(model, data), predict(model, data, batch_size=7), atol=1e-5)


def test_events_at_or_after_the_cut_change_nothing(
    model: FusionTransformer, data: EncodedMarket
) -> None:
    number = data.list_number[np.flatnonzero(data.cut > data.sequence_start[data.sequence])[0]]
    rows = data.list_number == number
    cut = int(data.cut[rows][0])
    events = data.events
    later = np.arange(len(events)) >= cut
    earlier = np.arange(len(events)) == cut - 1

    def scrambled(where: np.ndarray) -> EncodedMarket:
        product = np.where(where, (events.product + 1) % len(data.products), events.product)
        return replace(data, events=replace(events, product=product.astype(np.int32)))

    as_is = predict(model, data)[rows]

    np.testing.assert_allclose(as_is, predict(model, scrambled(later))[rows], atol=1e-6)
    assert np.abs(as_is - predict(model, scrambled(earlier))[rows]).max() > 1e-5


def test_attention_weights_do_not_change_the_result_and_sum_to_one(
    model: FusionTransformer, data: EncodedMarket
) -> None:
    _, batch = next(Batcher(data, batch_size=60).scoring_batches())
    with torch.inference_mode():
        plain, told = model(batch), model(batch, need_weights=True)
    assert torch.allclose(plain.logits, told.logits, atol=1e-6)
    assert plain.attention == {}
    assert {"columns.0", "events.0", "product"} <= told.attention.keys()
    for weights in told.attention.values():
        assert len(weights) == len(batch)
        assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)


def test_everything_missing_at_once_is_finite(model: FusionTransformer) -> None:
    market = prepare(make_market(seed=1))
    n, products = len(market), market.products
    nothing = replace(
        market,
        products=replace(
            products,
            has_text=np.zeros_like(products.has_text),
            has_image=np.zeros_like(products.has_image),
            words=np.tile(np.int32([1, 0, 0, 0, 0, 0]), (len(products), 1)),
        ),
        product=np.zeros(n, np.int32),
        numbers=np.full_like(market.numbers, np.nan),
        categories=np.ones_like(market.categories),
        market=np.full(n, 2, np.int32),
        row_profile=np.full_like(market.row_profile, np.nan),
        cut=market.sequence_start[market.sequence],
    )
    _, batch = next(Batcher(nothing, batch_size=4096).scoring_batches())
    with torch.inference_mode():
        plain, told = model(batch), model(batch, need_weights=True)
    assert plain.logits.isfinite().all()
    assert torch.allclose(plain.logits, told.logits, atol=1e-6)


@pytest.mark.parametrize("titles", [True, False])
def test_market_without_events_or_titles_runs(titles: bool) -> None:
    market = prepare(make_market(n_events=0, titles=titles))
    assert np.isfinite(predict(build(market), market)).all()


def masked(batch: FusionBatch, column: int | None, product_column: int | None) -> FusionBatch:
    rows = torch.zeros(len(batch), 4, dtype=torch.bool)
    products = torch.zeros(len(batch.products.identity), 3, dtype=torch.bool)
    if column is not None:
        rows[:, column] = True
    if product_column is not None:
        products[:, product_column] = True
    return replace(batch, masked=rows, products=replace(batch.products, masked=products))


@pytest.mark.parametrize(
    ("column", "product_column"),
    [(0, None), (1, None), (2, None), (3, None), (None, 0), (None, 1), (None, 2)],
)
def test_masking_a_modality_changes_the_logits(
    model: FusionTransformer, data: EncodedMarket, column: int | None, product_column: int | None
) -> None:
    _, batch = next(Batcher(data, batch_size=4096).scoring_batches())
    with torch.inference_mode():
        full = model(masked(batch, None, None)).logits
        without = model(masked(batch, column, product_column)).logits
        assert torch.allclose(full, model(batch).logits, atol=1e-6)
    assert without.isfinite().all()
    assert (full - without).abs().max() > 1e-4


def test_masked_clickstream_equals_an_empty_history(
    model: FusionTransformer, data: EncodedMarket
) -> None:
    def with_history(events: EncodedMarket) -> torch.Tensor:
        _, batch = next(Batcher(events, batch_size=4096).scoring_batches())
        with torch.inference_mode():
            return model(masked(batch, 2, None)).logits

    events = data.events
    other = replace(events, product=((events.product + 3) % 30).astype(np.int32))
    assert torch.allclose(with_history(data), with_history(replace(data, events=other)), atol=1e-6)


def test_a_list_is_defined_by_the_data(model: FusionTransformer, data: EncodedMarket) -> None:
    lists, size = np.unique(data.list_number, return_counts=True)
    rows = np.flatnonzero(data.list_number == lists[size > 1][0])
    alone = np.zeros(len(data), bool)
    alone[rows[0]] = True
    together = predict(model, data)[rows[0]]
    assert abs(predict(model, data.select(alone))[0] - together) > 1e-6


def test_gradients_reach_every_parameter(data: EncodedMarket) -> None:
    model = build(data).train()
    batch = next(Batcher(data, batch_size=4096, hidden=Hidden(0.3, 0.3)).training_batches(0))
    output = model(batch, next_click=True)
    (output.logits.sum() + (output.clicks.queries[:, :, :-1] @ output.clicks.keys.T[:-1]).sum()
     + output.clicks.keys[:, -1].sum() + output.clicks.types[..., 0].sum()).backward()  # fmt: skip
    silent = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    # the readout is solved
    assert silent == ["readout.linear.weight", "readout.linear.bias"]


def test_shape_survives_json(data: EncodedMarket) -> None:
    shape = shape_of(data, SIZES)
    assert FusionShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape


def test_columns_are_read_head_by_head() -> None:
    """As attention is written down: each head by itself, softmax of its own scores."""
    torch.manual_seed(0)
    attend = ColumnAttention(d_model=12, d_read=8, n_heads=2)
    readers, keys, values = torch.randn(5, 2, 12), torch.randn(5, 3, 8), torch.randn(5, 3, 8)
    found, weights = attend(readers, keys, values)
    query = attend.query(readers)
    for head, part in enumerate((slice(0, 4), slice(4, 8))):
        scores = query[..., part] @ keys[..., part].transpose(1, 2) / 2
        torch.testing.assert_close(weights[:, head], scores.softmax(dim=-1))
        torch.testing.assert_close(found[..., part], scores.softmax(dim=-1) @ values[..., part])


def golden_logits() -> list[float]:
    data = prepare(make_market())
    return [round(float(value), 6) for value in predict(build(data), data)[:20]]


def test_forward_pass_is_golden() -> None:
    np.testing.assert_allclose(golden_logits(), json.loads(GOLDEN.read_text()), atol=1e-4)


def test_unknown_bins_are_refused(
    data: EncodedMarket, market_of: Callable[..., EncodedMarket]
) -> None:
    with pytest.raises(ValueError, match="lists of bins"):
        FusionTransformer(shape=shape_of(market_of(), SIZES), bins=[], settings=SETTINGS.model)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden_logits()) + "\n")
