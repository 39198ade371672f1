"""The taste of a shopper for a product, as columns, by fitted choice models."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.arrays import EncodedMarket
from purchase_predictor.model.choice import ChoiceModel, sum_between
from purchase_predictor.training.batches import product_batch, ranges

ROWS_AT_ONCE = 8_192

EVENTS_AT_ONCE = 8_192
"""Events and impressions whose classes are told together: each takes some kilobytes."""


def tastes(models: Sequence[ChoiceModel], data: EncodedMarket) -> NDArray[np.float32]:
    """How far each impression's product suits what its shopper turned to before.

    Args:
        models: fitted; their mean is told.
        data: n impressions.

    Returns:
        float32 [n, 2], NaN without a product. Utility beyond that of the market's average product
        for the market's average shopper, who are both at zero; and what a price dearer by a
        spread of the market adds to it, NaN where training knew no prices.
    """
    total = _tastes_of(models[0], data)
    for model in models[1:]:
        total += _tastes_of(model, data)
    return total / np.float32(len(models))


@torch.inference_mode()
def _tastes_of(model: ChoiceModel, data: EncodedMarket) -> NDArray[np.float32]:
    """`tastes` of one model."""
    vectors = torch.cat([
        model.vectors(product_batch(data.products, rows))
        for rows in np.array_split(
            np.arange(len(data.products)), 1 + len(data.products) // ROWS_AT_ONCE
        )
    ])  # fmt: skip
    found = np.full((len(data), 2), np.nan, np.float32)
    for code in np.unique(data.market):
        rows = np.flatnonzero((data.market == code) & (data.product > 0))
        units, number = np.unique(data.unit[rows], return_inverse=True)
        start = np.searchsorted(data.events.unit, units)
        stop = np.searchsorted(data.events.unit, units, side="right")
        # whole shoppers, as many as have about so many events and rows together
        block = (np.cumsum(stop - start + np.bincount(number)) // EVENTS_AT_ONCE)[number]
        order = np.argsort(block, kind="stable")
        for part in np.split(rows[order], np.flatnonzero(np.diff(block[order])) + 1):
            found[part] = _tastes_in(model, data, vectors, int(code), part)
    return found


def _tastes_in(
    model: ChoiceModel, data: EncodedMarket, vectors: Tensor, market: int, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Tastes of rows of one market, which all that their shoppers turned to decides.

    Whatever market it was in: a service that scores one list does not know where its shopper's
    earlier events were. What was turned to is held against all that training saw the market sell,
    in training against what it sold by then.
    """
    events, centre = data.events, model.centre[market]
    units = np.unique(data.unit[rows])
    start = np.searchsorted(events.unit, units)
    place = ranges(start, np.searchsorted(events.unit, units, side="right") - start)
    place = place[events.product[place] > 0]
    product, unit = events.product[place], events.unit[place]
    turned = (np.diff(unit, prepend=-1) != 0) | (np.diff(product, prepend=-1) != 0)
    utility = vectors[torch.from_numpy(product.astype(np.int64))] @ model.tastes.T
    evidence = model.evidence(
        # that a product is popular says the same of every class
        utility - model.log_total[market],
        utility - centre,
        torch.from_numpy(events.event_type[place].astype(np.int64)),
        torch.from_numpy(turned.astype(np.float32)),
    )
    # a unit's events are those between its first one and the cut, all of them in `place`
    begins = np.searchsorted(place, np.searchsorted(events.unit, data.unit[rows]))
    cut = np.searchsorted(place, data.cut[rows])
    before = sum_between(
        evidence, torch.from_numpy(np.minimum(begins, cut)), torch.from_numpy(cut)
    )
    beyond = (before + model.log_share).softmax(dim=1) - model.log_share.exp()
    shown = vectors[torch.from_numpy(data.product[rows].astype(np.int64))] @ model.tastes.T
    of_product = (beyond * (shown - centre)).sum(dim=1)
    of_price = beyond @ (model.tastes @ model.price)
    if not model.priced:  # its direction was never learned
        of_price = torch.full_like(of_price, torch.nan)
    return torch.stack([of_product, of_price], dim=1).numpy()
