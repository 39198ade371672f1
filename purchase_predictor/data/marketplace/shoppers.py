"""Shoppers, their sessions and what they do in them.

A shopper is of one of `N_KINDS` kinds (taste and price sensitivity). A new product is looked at
with the probability of a multinomial logit over everything the market sells that month; the next
event is drawn from a Markov chain that depends on the session's intent and on how far the product
at hand attracts this kind of shopper. All of it is discrete, so `truth.py` can turn the same
tables round and say what the events tell of the kind.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import Catalogue
from purchase_predictor.data.marketplace.world import (
    DAYS_A_PERIOD,
    MARKETS,
    N_KINDS,
    N_PERIODS,
    N_TASTE,
    NEW_MARKET,
    SPLIT_DAYS,
    Floats,
    World,
)

EVENTS = ("search", "view", "review", "cart", "wish", "remove")
SEARCH, VIEW, REVIEW, CART, WISH, REMOVE = range(6)
MAX_EVENTS = 30
MIN_EVENTS = 3
INTENT_SHARE = np.array([0.45, 0.33, 0.22])
"""Shares of browsing, comparing and buying sessions."""

INTENT_EVENTS = np.array([5.5, 11.0, 9.0])
"""Mean events beyond `MIN_EVENTS` of each intent."""

START_WITH_SEARCH = np.array([0.35, 0.5, 0.45])
ATTRACTION_EDGES = np.array([-0.7, 0.0, 0.7])
ATTRACTION = np.array([-1.5, -0.5, 0.5, 1.5])
"""Levels of attraction, in standard deviations of the utility, and their edges."""

SLOPE = np.array([-0.1, 0.0, 0.2, 0.45, 0.3, -0.6])
"""What a unit of attraction adds to the logit of each next event."""

NEVER = -np.inf
# Rows: the event before (search, view, review, cart, wish, remove); columns: the next one.
CHAIN = np.array(
    [
        [-1.8, 0.0, NEVER, NEVER, NEVER, NEVER],
        [-1.0, 0.6, -0.4, -1.5, -1.5, NEVER],
        [-1.2, 0.4, -1.2, -0.9, -1.2, NEVER],
        [-0.9, 0.3, -1.0, NEVER, -2.0, -0.6],
        [-0.9, 0.5, -1.2, -0.9, NEVER, NEVER],
        [-0.3, 0.5, -1.5, NEVER, -1.5, NEVER],
    ]
)
# What each intent adds to the logit of the next event.
INTENT_PULL = np.array(
    [
        [0.0, 0.4, -0.5, -0.6, 0.2, 0.0],
        [0.3, 0.0, 0.6, -0.2, 0.3, 0.4],
        [-0.2, 0.0, 0.3, 0.9, 0.0, -0.2],
    ]
)
TASTE_IN_CHOICE, QUALITY_IN_CHOICE, PRICE_IN_CHOICE = 0.8, 0.25, 0.4
SESSIONS_A_USER = 2.8
IMPRESSIONS_A_SESSION = 4.6
ANONYMOUS = 0.1


@dataclass(frozen=True)
class Choice:
    """How each kind of shopper (K of them) sees each listing (J of them).

    Attributes:
        log_weight: float32 [J, K], log of the weight in what is looked at.
        log_total: float32 [n_markets, N_PERIODS, K], log of the sum over what is for sale.
        level: uint8 [J, K], level of attraction.
        chain: float64 [n_intents, n_levels, n_events, n_events], probability of the next event.
    """

    log_weight: NDArray[np.float32]
    log_total: NDArray[np.float32]
    level: NDArray[np.uint8]
    chain: Floats


@dataclass(frozen=True)
class Sessions:
    """Sessions, ordered by start; S sessions, T = MAX_EVENTS.

    Attributes:
        market: int64 [S].
        split: int64 [S], index into `SPLITS`.
        period: int64 [S], month.
        unit: int64 [S], the user, or the session alone where it is anonymous.
        anonymous: bool [S].
        kind: int64 [S], the shopper's kind.
        rank: int64 [S], number of earlier sessions of the same unit.
        length: int64 [S], events.
        types: int8 [S, T], -1 beyond the length.
        products: int32 [S, T], listing, -1 where the event has none.
        at_hand: int32 [S, T], the product at hand after the event, -1 after a search.
        times: int64 [S, T], microseconds since 1970.
    """

    market: NDArray[np.int64]
    split: NDArray[np.int64]
    period: NDArray[np.int64]
    unit: NDArray[np.int64]
    anonymous: NDArray[np.bool_]
    kind: NDArray[np.int64]
    rank: NDArray[np.int64]
    length: NDArray[np.int64]
    types: NDArray[np.int8]
    products: NDArray[np.int32]
    at_hand: NDArray[np.int32]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.market)


def affinity(world: World, attributes: Floats) -> Floats:
    """How far each listing suits each kind's taste, float64 [n, K], about standard normal."""
    total = np.zeros((len(attributes), N_KINDS))
    # A sum in a fixed order, not a BLAS product: the same bytes at any number of threads.
    for axis in range(N_TASTE):
        total += attributes[:, axis, None] * world.taste[None, :, axis]
    return total / np.sqrt(N_TASTE)


def make_choice(world: World, catalogue: Catalogue) -> Choice:
    """Tables of what each kind looks at and does."""
    utility = TASTE_IN_CHOICE * affinity(world, catalogue.attributes)
    utility += QUALITY_IN_CHOICE * catalogue.quality[:, None]
    utility -= PRICE_IN_CHOICE * catalogue.relative_price[:, None] * world.sensitivity
    scaled = (utility - utility.mean(axis=0)) / utility.std(axis=0)
    log_weight = utility + catalogue.popularity[:, None]
    log_weight[catalogue.variant] = -np.inf
    log_total = np.empty((len(MARKETS), N_PERIODS, N_KINDS))
    for market, (start, stop) in enumerate(
        zip(catalogue.starts, catalogue.starts[1:], strict=False)
    ):
        weight = np.exp(log_weight[start:stop])
        for period in range(N_PERIODS):
            sold = catalogue.launch[start:stop] <= period
            log_total[market, period] = np.log(weight[sold].sum(axis=0))
    return Choice(
        log_weight=log_weight.astype(np.float32),
        log_total=log_total.astype(np.float32),
        level=np.searchsorted(ATTRACTION_EDGES, scaled).astype(np.uint8),
        chain=_chain(),
    )


def _chain() -> Floats:
    logit = (
        CHAIN[None, None]
        + INTENT_PULL[:, None, None, :]
        + (SLOPE * ATTRACTION[:, None])[None, :, None, :]
    )
    # After a search there is no product at hand: attraction plays no part.
    logit[:, :, SEARCH] = (CHAIN[SEARCH] + INTENT_PULL)[:, None, :]
    weight = np.exp(logit)
    return weight / weight.sum(axis=-1, keepdims=True)


def length_probabilities() -> Floats:
    """Probability of each number of events given the intent, [n_intents, MAX_EVENTS + 1]."""
    extra = np.arange(MAX_EVENTS + 1 - MIN_EVENTS)
    factorial = np.cumsum(np.log(np.maximum(extra, 1)))
    mean = INTENT_EVENTS[:, None]
    weight = np.exp(extra * np.log(mean) - mean - factorial)
    table = np.zeros((len(INTENT_SHARE), MAX_EVENTS + 1))
    table[:, MIN_EVENTS:] = weight / weight.sum(axis=1, keepdims=True)
    return table


def make_sessions(world: World, catalogue: Catalogue, choice: Choice) -> Sessions:
    """Let shoppers come and act."""
    rng = world.rng("sessions")
    market, split, unit, anonymous = _visits(world, rng)
    kind = rng.integers(N_KINDS, size=int(unit.max()) + 1)[unit]
    intent = rng.choice(len(INTENT_SHARE), size=len(market), p=INTENT_SHARE)
    cumulative = np.cumsum(length_probabilities(), axis=1)
    drawn = rng.random(len(market))[:, None] > cumulative[intent]
    length = np.minimum(drawn.sum(axis=1), MAX_EVENTS)
    day, start = _starts(rng, market, split)
    period = day // DAYS_A_PERIOD
    looked = _looks(rng, catalogue, choice, market, period, kind)
    types, products, at_hand = _walk(rng, choice, kind, intent, length, looked)
    gaps = np.exp(rng.normal(np.log(22.0), 0.9, size=types.shape))
    gaps = (np.clip(gaps, 2.0, 600.0) * 1e3).astype(np.int64) * 1000
    gaps[:, 0] = 0
    offsets = np.cumsum(gaps, axis=1)
    ends = offsets[np.arange(len(length)), length - 1]
    start, rank = _apart(unit, start, ends)
    order = np.lexsort((unit, start))
    times = start[:, None] + offsets
    return Sessions(
        market=market[order],
        split=split[order],
        period=period[order],
        unit=unit[order],
        anonymous=anonymous[order],
        kind=kind[order],
        rank=rank[order],
        length=length[order],
        types=types[order],
        products=products[order],
        at_hand=at_hand[order],
        times=times[order],
    )


def _visits(
    world: World, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Market, split and unit of each session: some users come often, some once."""
    parts = []
    first_unit = 0
    for market, quota in enumerate(world.quotas):
        counts = np.ceil(quota / IMPRESSIONS_A_SESSION).astype(np.int64) + 4
        n = int(counts.sum())
        n_users = max(3, round(n / SESSIONS_A_USER))
        activity = rng.gamma(1.5, size=n_users) + 0.1
        user = rng.choice(n_users, size=n, p=activity / activity.sum())
        anonymous = rng.random(n) < ANONYMOUS
        unit = np.where(anonymous, n_users + np.arange(n), user)
        unit = np.unique(unit, return_inverse=True)[1] + first_unit
        first_unit = int(unit.max()) + 1
        parts.append((np.full(n, market), np.repeat(np.arange(3), counts), unit, anonymous))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return columns[0], columns[1], columns[2], columns[3]


def _starts(
    rng: np.random.Generator, market: NDArray[np.int64], split: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Day and time of start (microseconds since 1970); no session begins near a cut's midnight."""
    days = np.array(SPLIT_DAYS)
    low, high = days[split, 0].copy(), days[split, 1]
    new = market == [m.name for m in MARKETS].index(NEW_MARKET)
    low[new & (split == 0)] = SPLIT_DAYS[0][1] - 14
    day = low + (rng.random(len(market)) * (high - low)).astype(np.int64)
    hour = np.clip(rng.normal(14.0, 4.5, size=len(market)), 0.0, 20.0)
    day_zero = np.datetime64("2024-01-01", "us").astype(np.int64)
    seconds = day * 86_400 + (hour * 3600).astype(np.int64)
    return day, day_zero + seconds * 1_000_000


def _looks(
    rng: np.random.Generator,
    catalogue: Catalogue,
    choice: Choice,
    market: NDArray[np.int64],
    period: NDArray[np.int64],
    kind: NDArray[np.int64],
) -> NDArray[np.int32]:
    """The products that each session would look at, in order, int32 [S, MAX_EVENTS]."""
    looked = np.zeros((len(market), MAX_EVENTS), dtype=np.int32)
    uniform = rng.random(looked.shape)
    for number in range(len(MARKETS)):
        start, stop = catalogue.starts[number : number + 2]
        weight = np.exp(choice.log_weight[start:stop].astype(np.float64)).T
        for month in range(N_PERIODS):
            rows = np.flatnonzero((market == number) & (period == month))
            sold = np.flatnonzero(catalogue.launch[start:stop] <= month)
            cumulative = np.cumsum(weight[:, sold], axis=1)
            cumulative /= cumulative[:, -1:]
            # One sorted array for all kinds: kind k lives in [k, k + 1).
            shelf = (cumulative + np.arange(N_KINDS)[:, None]).ravel()
            place = np.searchsorted(shelf, uniform[rows] + kind[rows, None], side="right")
            looked[rows] = (
                start + sold[np.minimum(place - kind[rows, None] * len(sold), len(sold) - 1)]
            )
    return looked


def _walk(
    rng: np.random.Generator,
    choice: Choice,
    kind: NDArray[np.int64],
    intent: NDArray[np.int64],
    length: NDArray[np.int64],
    looked: NDArray[np.int32],
) -> tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.int32]]:
    """Step all sessions through the Markov chain together."""
    n = len(kind)
    cumulative = np.cumsum(choice.chain, axis=-1)
    cumulative[..., -1] = 1.0
    types = np.full((n, MAX_EVENTS), -1, dtype=np.int8)
    products = np.full((n, MAX_EVENTS), -1, dtype=np.int32)
    at_hand = np.full((n, MAX_EVENTS), -1, dtype=np.int32)
    event = np.where(rng.random(n) < START_WITH_SEARCH[intent], SEARCH, VIEW)
    hand = np.full(n, -1, dtype=np.int32)
    for step in range(MAX_EVENTS):
        if step:
            level = choice.level[hand, kind]
            row = cumulative[intent, level, event]
            event = (rng.random(n)[:, None] > row).sum(axis=1)
        hand = np.where(event == VIEW, looked[:, step], np.where(event == SEARCH, -1, hand))
        hand = hand.astype(np.int32)
        live = step < length
        types[live, step] = event[live]
        products[live, step] = hand[live]
        at_hand[live, step] = hand[live]
    return types, products, at_hand


def _apart(
    unit: NDArray[np.int64], start: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Move sessions of one unit so that they do not overlap; starts and ranks in the unit."""
    order = np.lexsort((start, unit))
    first = np.r_[True, np.diff(unit[order]) != 0]
    begin = np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))
    rank = np.arange(len(order)) - begin
    # Milliseconds, which all times are multiples of, leave room for the floors below.
    span = ends[order] // 1000 + 60_000
    before = np.cumsum(span) - span
    before -= before[begin]
    free = start[order] // 1000 - before
    # A running maximum within each unit: units are lifted onto separate floors first.
    floor = np.cumsum(first) * np.int64(10**11)
    latest = np.maximum.accumulate(free + floor) - floor
    moved, ranks = np.empty_like(start), np.empty_like(rank)
    moved[order], ranks[order] = (latest + before) * 1000, rank
    return moved, ranks
