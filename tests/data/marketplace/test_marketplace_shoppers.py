import numpy as np
import polars as pl

from purchase_predictor.data.marketplace.shoppers import (
    CART,
    MAX_EVENTS,
    MIN_EVENTS,
    REMOVE,
    SEARCH,
    VIEW,
    Choice,
    length_probabilities,
)
from purchase_predictor.data.marketplace.simulation import Marketplace
from purchase_predictor.data.marketplace.world import SPLIT_DAYS

DAY = 86_400_000_000
DAY_ZERO = np.datetime64("2024-01-01", "us").astype(np.int64)


def test_sessions_lie_within_their_split(small: Marketplace) -> None:
    s = small.sessions
    days = np.array(SPLIT_DAYS)[s.split]
    last = s.times[np.arange(len(s)), s.length - 1]

    assert (s.times[:, 0] >= DAY_ZERO + days[:, 0] * DAY).all()
    assert (last < DAY_ZERO + days[:, 1] * DAY).all()


def test_sessions_of_a_unit_follow_one_another(small: Marketplace) -> None:
    s = small.sessions
    frame = pl.DataFrame(
        {
            "unit": s.unit,
            "rank": s.rank,
            "start": s.times[:, 0],
            "end": s.times[np.arange(len(s)), s.length - 1],
        }
    ).sort("unit", "rank")

    gap = frame.select(
        (pl.col("start") - pl.col("end").shift()).over("unit").drop_nulls().alias("gap")
    )["gap"]
    assert len(gap) > 100
    assert gap.min() > 0
    assert (frame["rank"] == frame.select(pl.int_range(pl.len()).over("unit")).to_series()).all()


def test_a_unit_keeps_its_kind_and_market(small: Marketplace) -> None:
    s = small.sessions
    first = np.unique(s.unit, return_index=True)[1][s.unit]

    assert (s.kind == s.kind[first]).all()
    assert (s.market == s.market[first]).all()
    assert (np.bincount(s.unit[s.anonymous]).max()) == 1


def test_events_obey_the_chain(small: Marketplace) -> None:
    s = small.sessions
    before, after = s.types[:, :-1], s.types[:, 1:]
    live = after >= 0

    assert s.length.min() >= MIN_EVENTS
    assert s.length.max() <= MAX_EVENTS
    assert ((s.types >= 0).sum(axis=1) == s.length).all()
    assert set(np.unique(after[live & (before == SEARCH)])) <= {SEARCH, VIEW}
    assert (before[live & (after == REMOVE)] == CART).all()
    assert ((s.products >= 0) == (s.types > SEARCH)).all()


def test_a_longer_look_keeps_the_product_at_hand(small: Marketplace) -> None:
    s = small.sessions
    same = s.products[:, 1:] == s.products[:, :-1]
    deeper = s.types[:, 1:] > VIEW

    assert same[deeper].all()


def test_probabilities_sum_to_one(choice: Choice) -> None:
    np.testing.assert_allclose(choice.chain.sum(axis=-1), 1.0)
    np.testing.assert_allclose(length_probabilities().sum(axis=1), 1.0)


def test_products_are_looked_at_as_often_as_the_kinds_would(
    small: Marketplace, choice: Choice
) -> None:
    s, catalogue = small.sessions, small.catalogue
    rows, steps = np.nonzero((s.types == VIEW) & (s.market == 0)[:, None])
    block = slice(*catalogue.starts[:2])
    sold = catalogue.launch[block][None, :] <= s.period[rows, None]
    log_weight = choice.log_weight[block].T[s.kind[rows]]
    log_total = choice.log_total[0, s.period[rows]][np.arange(len(rows)), s.kind[rows]]
    probability = np.where(sold, np.exp(log_weight - log_total[:, None]), 0.0)

    np.testing.assert_allclose(probability.sum(axis=1), 1.0, rtol=1e-4)
    expected = probability.sum(axis=0)
    spread = np.sqrt((probability * (1 - probability)).sum(axis=0))
    seen = np.bincount(s.products[rows, steps], minlength=len(expected))[: len(expected)]
    often = expected > 5
    assert often.sum() > 10
    assert np.abs((seen - expected) / np.maximum(spread, 1e-9))[often].max() < 4.5
    assert (seen[expected == 0] == 0).all()
