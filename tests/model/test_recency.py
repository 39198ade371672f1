from dataclasses import replace

import numpy as np
import pytest
import torch

from features.arrays import UNSEEN, EncodedMarket
from purchase_predictor.model.inputs import ROW_GROUPS
from purchase_predictor.model.recency import (
    FADING,
    MAX_PAIRED,
    MAX_TYPES,
    MIDDLE,
    RecencyMemory,
)
from purchase_predictor.training.batches import Batcher
from tests.encoded_market import make_market


@pytest.fixture(scope="module")
def data() -> EncodedMarket:
    market = make_market(n_units=30, n_products=5, n_events=200)
    # a user's two sessions interleave; an impression belongs to one of them or to a new one
    events = market.events
    sessions = (2 * events.unit + np.arange(len(events)) % 3 // 2).astype(np.int32)
    session = np.where(market.row % 6 == 0, -7, 2 * market.unit + market.row % 2)
    return replace(
        market, session=session.astype(np.int32), events=replace(events, session=sessions)
    )


def by_hand(data: EncodedMarket, row: int) -> np.ndarray:
    """The memory of one impression, event by event."""
    n_types = data.events.n_types
    first = data.sequence_start[data.sequence[row]]
    once = np.zeros((len(FADING), n_types))
    same, pairs = once.copy(), np.zeros((n_types, n_types))
    fading = np.array(FADING)[:, None]
    for i in range(first, data.cut[row]):
        earlier = once[MIDDLE].copy()
        once, same, pairs = once * fading, same * fading, pairs * FADING[MIDDLE]
        if data.events.session[i] == data.session[row]:
            kind, product = data.events.event_type[i], data.events.product[i]
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


def test_many_types_have_no_pairs_and_rare_ones_no_column(data: EncodedMarket) -> None:
    names = [name for name, _ in RecencyMemory(n_event_types=MAX_PAIRED + 1).blocks]
    assert names == ["session events", "session events on the product"]

    memory = RecencyMemory(n_event_types=MAX_TYPES + 100)
    assert memory.blocks[0][1] == MAX_TYPES * len(FADING)
    *_, (_, batch) = Batcher(data, batch_size=40).scoring_batches()
    sessions, types = batch.sessions, batch.sessions.event_type
    rare, unseen = (
        replace(batch, sessions=replace(sessions, event_type=torch.full_like(types, code)))
        for code in (MAX_TYPES + 50, UNSEEN)
    )
    assert memory(rare).abs().sum() > 0
    assert torch.equal(memory(rare), memory(unseen))
