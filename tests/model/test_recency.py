from dataclasses import replace

import numpy as np
import pytest
import torch

from features.arrays import EncodedMarket
from purchase_predictor.model.inputs import ROW_GROUPS
from purchase_predictor.model.recency import FADING, MAX_TYPES, MIDDLE, RecencyMemory
from purchase_predictor.training.batches import Batcher
from tests.encoded_market import make_market


@pytest.fixture(scope="module")
def data() -> EncodedMarket:
    market = make_market(n_units=30, n_products=5, n_events=200)
    # the session is that of the last event before the impression, now and then a new one
    last = np.maximum(market.cut - 1, 0)
    session = np.where(market.row % 6 == 0, -7, market.events.session[last])
    return replace(market, session=session.astype(np.int32))


def by_hand(data: EncodedMarket, row: int) -> np.ndarray:
    """The memory of one impression, event by event."""
    n_types = data.events.n_types
    first = data.sequence_start[data.sequence[row]]
    seen = [
        (data.events.event_type[i], data.events.product[i])
        for i in range(first, data.cut[row])
        if data.events.session[i] == data.session[row]
    ]
    if not len(seen) or data.events.session[data.cut[row] - 1] != data.session[row]:
        seen = []
    once = np.zeros((len(FADING), n_types))
    same, pairs = once.copy(), np.zeros((n_types, n_types))
    fading = np.array(FADING)[:, None]
    for kind, product in seen:
        earlier = once[MIDDLE].copy()
        once, same, pairs = once * fading, same * fading, pairs * FADING[MIDDLE]
        once[:, kind] += 1
        same[:, kind] += product == data.product[row] and product > 0
        pairs[:, kind] += earlier
    return np.concatenate([once.ravel(), same.ravel(), pairs.ravel()])


def test_memory_is_what_a_loop_over_events_adds_up(data: EncodedMarket) -> None:
    memory = RecencyMemory(n_event_types=data.events.n_types)
    n_known = 0
    for rows, batch in Batcher(data, batch_size=40).scoring_batches():
        expected = np.stack([by_hand(data, row) for row in rows])
        np.testing.assert_allclose(memory(batch).numpy(), expected, atol=1e-5)
        n_known += int((expected != 0).any(axis=1).sum())
    assert n_known > 20
    assert sum(width for _, width in memory.blocks) == expected.shape[1]


def test_a_masked_history_leaves_nothing(data: EncodedMarket) -> None:
    memory = RecencyMemory(n_event_types=data.events.n_types)
    *_, (_, batch) = Batcher(data, batch_size=40).scoring_batches()  # the longest histories
    masked = torch.zeros(len(batch), len(ROW_GROUPS), dtype=torch.bool)
    masked[:, ROW_GROUPS.index("clickstream")] = True

    assert memory(batch).abs().sum() > 0
    assert memory(replace(batch, masked=masked)).abs().sum() == 0


def test_many_types_have_no_pairs() -> None:
    names = [name for name, _ in RecencyMemory(n_event_types=MAX_TYPES + 1).blocks]
    assert names == ["session events", "session events on the product"]
