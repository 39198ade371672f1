"""The taste of a shopper for a product, as columns, by fitted choice models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.arrays import EncodedMarket, ProductArrays
from features.heap import return_memory
from purchase_predictor.model.choice import ChoiceModel, sum_between
from purchase_predictor.training.batches import product_batch, ranges

ROWS_AT_ONCE = 8_192

EVENTS_AT_ONCE = 8_192
"""Events and impressions whose classes are told together: each takes some kilobytes."""


@torch.inference_mode()
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
    # those of the whole catalogue would be made anew with every shard of a large data set
    touched = np.unique(np.concatenate([data.events.product, data.product])).astype(np.int64)
    vectors = _vectors(models, data.products, touched)
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
            shoppers = _Shoppers.of(data, part, touched)
            told = [
                _tastes_in(model, own, int(code), shoppers)
                for model, own in zip(models, vectors, strict=True)
            ]
            found[part] = np.mean(told, axis=0)
        return_memory()  # no two blocks are of a size, and a market has few of them
    return found


def _vectors(
    models: Sequence[ChoiceModel], products: ProductArrays, touched: NDArray[np.int64]
) -> list[Tensor]:
    """Each model's vectors of these rows of the catalogue (int64 [P]), float [P, rank]."""
    parts: list[list[Tensor]] = [[] for _ in models]
    n_parts = 1 + len(touched) // ROWS_AT_ONCE
    for rows in np.array_split(touched, n_parts):
        batch = product_batch(products, rows)
        for own, model in zip(parts, models, strict=True):
            own.append(model.vectors(batch))
    return [torch.cat(own) for own in parts]


@dataclass(frozen=True)
class _Shoppers:
    """Impressions of whole shoppers, and what these turned to.

    Attributes:
        product: int64 [E], of each event, among the products touched.
        event_type: int64 [E].
        turned: float32 [E], 1 where the event before was on another product.
        begins: int64 [N], the first event of each impression's shopper.
        cut: int64 [N], one past the last event before the impression.
        shown: int64 [N], product of each impression, likewise.
    """

    product: Tensor
    event_type: Tensor
    turned: Tensor
    begins: Tensor
    cut: Tensor
    shown: Tensor

    @classmethod
    def of(
        cls, data: EncodedMarket, rows: NDArray[np.int64], touched: NDArray[np.int64]
    ) -> "_Shoppers":
        """Those of some rows (int64 [N]); events without a product say nothing.

        Args:
            data: n impressions.
            rows: int64 [N], of whole shoppers.
            touched: int64 [P], ascending, rows of the catalogue that have a vector.
        """
        events = data.events
        units = np.unique(data.unit[rows])
        start = np.searchsorted(events.unit, units)
        place = ranges(start, np.searchsorted(events.unit, units, side="right") - start)
        place = place[events.product[place] > 0]
        product, unit = events.product[place], events.unit[place]
        turned = (np.diff(unit, prepend=-1) != 0) | (np.diff(product, prepend=-1) != 0)
        # a unit's events are those between its first one and the cut, all of them in `place`
        begins = np.searchsorted(place, np.searchsorted(events.unit, data.unit[rows]))
        cut = np.searchsorted(place, data.cut[rows])
        return cls(
            product=torch.from_numpy(np.searchsorted(touched, product)),
            event_type=torch.from_numpy(events.event_type[place].astype(np.int64)),
            turned=torch.from_numpy(turned.astype(np.float32)),
            begins=torch.from_numpy(np.minimum(begins, cut)),
            cut=torch.from_numpy(cut),
            shown=torch.from_numpy(np.searchsorted(touched, data.product[rows])),
        )


def _tastes_in(
    model: ChoiceModel, vectors: Tensor, market: int, shoppers: _Shoppers
) -> NDArray[np.float32]:
    """Tastes of rows of one market, which all that their shoppers turned to decides.

    Whatever market it was in: a service that scores one list does not know where its shopper's
    earlier events were. What was turned to is held against all that training saw the market sell,
    in training against what it sold by then.
    """
    centre = model.centre[market]
    utility = vectors[shoppers.product] @ model.tastes.T
    evidence = model.evidence(
        # that a product is popular says the same of every class
        utility - model.log_total[market],
        utility - centre,
        shoppers.event_type,
        shoppers.turned,
    )
    before = sum_between(evidence, shoppers.begins, shoppers.cut)
    beyond = (before + model.log_share).softmax(dim=1) - model.log_share.exp()
    shown = vectors[shoppers.shown] @ model.tastes.T
    of_product = (beyond * (shown - centre)).sum(dim=1)
    of_price = beyond @ (model.tastes @ model.price)
    if not model.priced:  # its direction was never learned
        of_price = torch.full_like(of_price, torch.nan)
    return torch.stack([of_product, of_price], dim=1).numpy()
