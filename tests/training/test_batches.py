import numpy as np
import pytest
from numpy.typing import NDArray

from features.arrays import TRAIN, EncodedMarket
from purchase_predictor.training import batches
from purchase_predictor.training.batches import Batcher, Hidden, ranges, side_by_side
from purchase_predictor.training.pretraining import event_stretches
from tests.encoded_market import make_market


def test_ranges_run_one_after_the_other() -> None:
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


def test_memory_is_given_back_after_every_few_scoring_batches(
    market: EncodedMarket, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    monkeypatch.setattr(batches, "return_memory", lambda: calls.append(1))
    n = sum(1 for _ in Batcher(market, batch_size=5).scoring_batches())
    assert n > batches.BATCHES_BEFORE_RETURN
    assert len(calls) == n // batches.BATCHES_BEFORE_RETURN


def test_scoring_batches_hold_every_row_once(market: EncodedMarket) -> None:
    rows = np.concatenate([rows for rows, _ in Batcher(market, batch_size=20).scoring_batches()])
    assert sorted(rows.tolist()) == list(range(len(market)))


def test_a_scoring_batch_has_no_more_cells_than_its_rows_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batcher = Batcher(make_market(n_units=400, n_events=2000), batch_size=100)
    lengths = batcher.stretches.stop - batcher.stretches.start + 1

    def cells(part: NDArray[np.int64]) -> int:
        events, rows = int(lengths[part].max()), int(batcher.count[part].max())
        return len(part) * events * max(events, rows)

    whole = batcher.plan(None)
    assert max(map(cells, whole)) > 50

    monkeypatch.setattr(batches, "CELLS_A_ROW", 0.5)
    plan = batcher.plan(None)

    assert max(cells(part) for part in plan if len(part) > 1) <= 50
    # what is too large by itself comes alone, and what is small enough stays together
    assert any(len(part) == 1 and cells(part) > 50 for part in plan)
    assert {tuple(part) for part in whole if cells(part) <= 50} <= {tuple(p) for p in plan}
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(batcher.count)))


def test_training_batches_hold_every_row_once_in_another_order_each_epoch(
    market: EncodedMarket,
) -> None:
    batcher = Batcher(market, batch_size=20, seed=3)

    def sizes_and_sums(epoch: int) -> tuple[int, list[float]]:
        batches = list(batcher.training_batches(epoch))
        return sum(map(len, batches)), [round(float(b.time.sum()), 3) for b in batches]

    first, again, second = sizes_and_sums(0), sizes_and_sums(0), sizes_and_sums(1)

    assert first == again
    assert first[0] == second[0] == len(market)
    assert first[1] != second[1]


def test_resuming_skips_exactly_the_batches_that_are_done(market: EncodedMarket) -> None:
    batcher = Batcher(market, batch_size=20, hidden=Hidden(0.3, 0.3))
    whole, rest = list(batcher.training_batches(2)), list(batcher.training_batches(2, start=3))
    assert len(rest) == len(whole) - 3
    for one, other in zip(whole[3:], rest, strict=True):
        assert one.numbers.nan_to_num().equal(other.numbers.nan_to_num())
        assert one.masked.equal(other.masked)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_batches_evenly(market: EncodedMarket, world: int) -> None:
    batcher = Batcher(market, batch_size=20)
    shares = [list(batcher.training_batches(0, rank=r, world=world)) for r in range(world)]
    assert len({len(share) for share in shares}) == 1
    starts = {
        float(batch.time[0]) + float(batch.numbers[0].nansum()) for s in shares for batch in s
    }
    assert len(starts) == sum(map(len, shares))


def test_lists_stay_whole(market: EncodedMarket) -> None:
    for rows, batch in Batcher(market, batch_size=10).scoring_batches():
        lists = market.list_number[rows]
        assert np.isin(market.list_number, lists).sum() == len(rows)
        slot, number = batch.list_slot.numpy(), batch.list_number.numpy()
        assert len(set(slot)) == len(rows)
        assert slot.max() < batch.n_list_rows * batch.list_width
        row = slot // batch.list_width
        placed = np.unique(np.stack([lists, number, row]), axis=1)
        assert placed.shape[1] == len(np.unique(lists)) == len(np.unique(number))


def test_short_lists_lie_side_by_side() -> None:
    start, n_rows = side_by_side(np.array([1, 4, 1, 2, 2, 3]))
    assert start.tolist() == [0, 4, 8, 9, 12, 16]
    assert n_rows == 5


def test_an_impression_sees_at_least_the_last_history_events(market: EncodedMarket) -> None:
    first = np.searchsorted(market.events.unit, market.unit)
    for rows, batch in Batcher(market, batch_size=50).scoring_batches():
        exist = market.cut[rows] - first[rows]
        seen = batch.cut.numpy()
        assert (seen >= np.minimum(exist, 5)).all()
        assert (seen <= 10).all()


def test_stretches_learn_every_training_event_once(market: EncodedMarket) -> None:
    units = np.ones(60, bool)
    units[:10] = False
    wanted = (market.events.part == TRAIN) & units[market.events.unit]
    stretches = event_stretches(market, wanted, 5)
    learned = ranges(stretches.learn_from, stretches.stop - stretches.learn_from)
    assert learned.tolist() == np.flatnonzero(wanted).tolist()
    assert (stretches.stop - stretches.start <= 10).all()
    same_unit = market.events.unit[stretches.start] == market.events.unit[stretches.stop - 1]
    assert same_unit.all()
