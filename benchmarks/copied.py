"""The path in which nothing is shared: every impression with its own history and products."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.training.batches import (
    Batcher,
    event_grid,
    product_batch,
    products_touched,
    ranges,
    session_batch,
)


class CopyingBatcher(Batcher):
    """Makes the batches of `Batcher` with the same impressions, each carrying all of its own.

    An impression is a sequence by itself, its events up to its cut; the product batch holds a row
    for each event of each impression and one for each impression. Padding holds no products.
    """

    def build(
        self, sequences: NDArray[np.int64], generator: np.random.Generator | None = None
    ) -> FusionBatch:
        """The batch of these sequences."""
        data, shared = self.data, super().build(sequences, generator)
        count = self.count[sequences]
        rows = ranges(self.first[sequences], count)
        start = np.repeat(self.stretches.start[sequences], count)
        grid = event_grid(start, data.cut[rows])
        touched = products_touched(data, grid)
        candidate = data.product[rows]
        # the missing product stays row 0, as the model knows it
        kept = np.concatenate([touched, candidate])
        place = np.where(kept > 0, np.cumsum(kept > 0), 0)
        events, own = place[: len(touched)], place[len(touched) :]
        # sameness is told by equal rows: an event on the candidate looks at the candidate's copy,
        # and its own copy is encoded all the same
        width = grid.index.shape[1]
        same = touched == np.repeat(candidate, width)
        events = np.where(same, np.repeat(own, width), events)
        origin = np.zeros(len(rows))
        if len(data.events):
            origin = data.events.time[np.minimum(start, len(data.events) - 1)]
        products = np.concatenate([[0], kept[kept > 0]]).astype(np.int64)
        return replace(
            shared,
            products=product_batch(data.products, products, generator, self.hidden),
            # nothing to learn from clicks: a click would be learned from in each of its copies
            sessions=session_batch(
                data, grid, events, origin, data.market[rows], learn_from=data.cut[rows]
            ),
            slot=torch.arange(len(rows)),
            n_slots=1,
            cut=torch.from_numpy(data.cut[rows] - start),
            time=torch.from_numpy((data.time[rows] - origin).astype(np.float32)),
            product=torch.from_numpy(own),
        )
