"""Impressions: which product is shown when, at which terms, and what was left to chance."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import N_VARIANTS, Catalogue
from purchase_predictor.data.marketplace.shoppers import SEARCH, Sessions
from purchase_predictor.data.marketplace.world import (
    MARKETS,
    PHRASES,
    SPLITS,
    Floats,
    World,
)

LIST_SHARE = 0.5
LIST_SIZES = (4, 12)
RANDOMISED_SHARE = 0.10
RANDOM_DISCOUNTS = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
DEVICES = ("mobile", "desktop", "app")
SOURCES = ("search", "ad", "email", "direct")
DEVICE_SHARE = np.array([0.5, 0.28, 0.22])
SOURCE_SHARE = np.array([0.42, 0.24, 0.12, 0.22])
NO_LIST = -1


@dataclass(frozen=True)
class Offers:
    """Impressions in order of time; n of them.

    Attributes:
        session: int64 [n], row of `Sessions`.
        cut: int64 [n], events of the session that come before.
        list_number: int64 [n], `NO_LIST` for an offer on its own.
        position: int64 [n], place in the list from 0; 0 for an offer on its own.
        time: int64 [n], microseconds since 1970.
        listing: int64 [n], row of the catalogue.
        randomised: bool [n].
        propensity: [n], NaN where the offer was not randomised.
        discount: [n].
        free_shipping: bool [n].
        list_price: [n], log price against the mean of the list; 0 for an offer on its own.
        device: int64 [n], of the session.
        source: int64 [n], of the session.
        reviews: int64 [n], number shown.
    """

    session: NDArray[np.int64]
    cut: NDArray[np.int64]
    list_number: NDArray[np.int64]
    position: NDArray[np.int64]
    time: NDArray[np.int64]
    listing: NDArray[np.int64]
    randomised: NDArray[np.bool_]
    propensity: Floats
    discount: Floats
    free_shipping: NDArray[np.bool_]
    list_price: Floats
    device: NDArray[np.int64]
    source: NDArray[np.int64]
    reviews: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.session)


def make_offers(world: World, catalogue: Catalogue, sessions: Sessions) -> Offers:
    """Show products: lists after searches, single offers for the product at hand.

    When and what is shown depends on nothing hidden: the events before, and chance.
    """
    rng = world.rng("offers")
    session, step, size = _slots(world, rng, catalogue, sessions)
    order = np.argsort(sessions.times[session, step], kind="stable")
    session, step, size = session[order], step[order], size[order]
    listed = size > 1
    listing = sessions.at_hand[session, step].astype(np.int64)
    shown = _shown(rng, catalogue, sessions, session[listed], step[listed])
    slot = np.repeat(np.arange(len(size)), size)
    position = np.arange(len(slot)) - (np.cumsum(size) - size)[slot]
    in_list = listed[slot]
    product = listing[slot]
    place_of_list = np.cumsum(listed) - 1
    product[in_list] = shown[place_of_list[slot[in_list]], position[in_list]]
    session, cut = session[slot], step[slot] + 1

    product, randomised, discount, free, propensity = _terms(
        world, rng, catalogue, product, sessions.period[session], sessions.market[session]
    )
    n_sessions = len(sessions)
    device = rng.choice(len(DEVICES), size=n_sessions, p=DEVICE_SHARE)
    source = rng.choice(len(SOURCES), size=n_sessions, p=SOURCE_SHARE)
    reviews = np.exp(3.0 + 1.2 * catalogue.popularity[product])
    reviews *= 1.0 + 0.1 * (sessions.period[session] - catalogue.launch[product]).clip(0)
    return Offers(
        session=session,
        cut=cut,
        list_number=np.where(in_list, slot, NO_LIST),
        position=position,
        # A second later, and events are two or more apart: the time tells nothing of what follows.
        time=sessions.times[session, cut - 1] + 1_000_000,
        listing=product,
        randomised=randomised,
        propensity=propensity,
        discount=discount,
        free_shipping=free,
        list_price=_against_list(catalogue.log_price[product], slot, in_list),
        device=device[session],
        source=source[session],
        reviews=reviews.astype(np.int64),
    )


def _slots(
    world: World, rng: np.random.Generator, catalogue: Catalogue, sessions: Sessions
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Moments at which something is shown: session, step and number of products; fills quotas."""
    session, step = np.nonzero(sessions.types >= 0)
    searched = sessions.types[session, step] == SEARCH
    held = sessions.at_hand[session, step] >= 0
    # Moments are drawn without regard to what follows them, or being shown something would tell.
    draw = rng.random(len(session))
    parts = []
    for market in range(len(MARKETS)):
        block = slice(*catalogue.starts[market : market + 2])
        most = min(LIST_SIZES[1], int((~catalogue.variant[block]).sum()) // 2)
        for split in range(len(SPLITS)):
            quota = int(world.quotas[market, split])
            mine = (sessions.market[session] == market) & (sessions.split[session] == split)
            lists = np.flatnonzero(mine & searched)
            lists = lists[np.argsort(draw[lists])]
            sizes = rng.integers(LIST_SIZES[0], LIST_SIZES[1] + 1, size=len(lists)).clip(max=most)
            n_lists = int(np.searchsorted(np.cumsum(sizes), LIST_SHARE * quota, side="right"))
            alone = np.flatnonzero(mine & held)
            alone = alone[np.argsort(draw[alone])]
            n_alone = quota - int(sizes[:n_lists].sum())
            if n_alone > len(alone):
                raise AssertionError(f"{MARKETS[market].name}: too few events for {quota} offers")
            chosen = np.concatenate([lists[:n_lists], alone[:n_alone]])
            size = np.concatenate([sizes[:n_lists], np.ones(n_alone, dtype=np.int64)])
            parts.append((session[chosen], step[chosen], size))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return columns[0], columns[1], columns[2]


def _shown(
    rng: np.random.Generator,
    catalogue: Catalogue,
    sessions: Sessions,
    session: NDArray[np.int64],
    step: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Products of each list: popular ones and ones like the last looked at (Gumbel top-k)."""
    shown = np.zeros((len(session), LIST_SIZES[1]), dtype=np.int64)
    last = np.full(len(session), -1, dtype=np.int64)
    for earlier in range(int(step.max(initial=0))):
        hand = sessions.at_hand[session, earlier]
        last = np.where((earlier < step) & (hand >= 0), hand, last)
    market, period = sessions.market[session], sessions.period[session]
    for number in range(len(MARKETS)):
        start, stop = catalogue.starts[number : number + 2]
        for rows in np.array_split(np.flatnonzero(market == number), 1 + len(session) // 2000):
            alike = catalogue.category[None, start:stop] == catalogue.category[last[rows], None]
            weight = 0.7 * catalogue.popularity[None, start:stop]
            weight = weight + 1.5 * (alike & (last[rows, None] >= 0))
            weight = weight + rng.gumbel(size=weight.shape)
            absent = catalogue.launch[None, start:stop] > period[rows, None]
            weight[absent | catalogue.variant[None, start:stop]] = -np.inf
            best = np.argsort(-weight, axis=1)[:, : LIST_SIZES[1]]
            shown[rows, : best.shape[1]] = start + best
    return shown


def _terms(
    world: World,
    rng: np.random.Generator,
    catalogue: Catalogue,
    listing: NDArray[np.int64],
    period: NDArray[np.int64],
    market: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_], Floats, NDArray[np.bool_], Floats]:
    """Terms as sellers set them, and the randomised tenth: variant listings and random terms."""
    n = len(listing)
    usual = catalogue.discount[listing] + world.campaign[period] + rng.normal(0, 0.04, n)
    usual = np.where(rng.random(n) < 0.12, 0.0, usual).clip(0.0, 0.6)
    habit = rng.normal(-0.6, 0.4, len(MARKETS))
    said = catalogue.phrases[listing, PHRASES.index("free_shipping")]
    logit = habit[market] + 0.5 * catalogue.relative_price[listing] + 1.6 * said
    free = rng.random(n) < 1.0 / (1.0 + np.exp(-logit))

    randomised = rng.random(n) < RANDOMISED_SHARE
    variant = catalogue.variants[catalogue.group[listing], rng.integers(N_VARIANTS, size=n)]
    at_random = RANDOM_DISCOUNTS[rng.integers(len(RANDOM_DISCOUNTS), size=n)]
    coin = rng.random(n) < 0.5
    chance = 1.0 / (N_VARIANTS * len(RANDOM_DISCOUNTS) * 2)
    return (
        np.where(randomised, variant, listing),
        randomised,
        np.where(randomised, at_random, usual).round(2).astype(np.float64),
        np.where(randomised, coin, free),
        np.where(randomised, chance, np.nan),
    )


def _against_list(
    log_price: Floats, slot: NDArray[np.int64], in_list: NDArray[np.bool_]
) -> Floats:
    count = np.bincount(slot)
    mean = np.bincount(slot, weights=log_price) / np.maximum(count, 1)
    return np.where(in_list, log_price - mean[slot], 0.0)
