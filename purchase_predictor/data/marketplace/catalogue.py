"""Listings: things for sale in groups, each with a price, a seller's habits and phrases."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.world import (
    BADGES,
    CATEGORIES,
    MARKETS,
    N_PERIODS,
    PHRASES,
    Floats,
    World,
)

N_BRANDS = 40
NUMBER_ONE_BRANDS = np.array([0, 3, 7])
"""Brands, by world-wide rank, that are the first of their trade."""

N_VARIANTS = 2
"""Listings of each group that only the randomised arm shows."""

GROUP_SIZES = np.array([1, 2, 3, 4, 5, 6, 8, 10, 14, 20, 30, 50])
GROUP_WEIGHTS = np.array([35, 27, 12, 7, 5, 3, 3, 2, 2, 2, 1.2, 0.8])


@dataclass(frozen=True)
class Catalogue:
    """Columns of all listings, markets in blocks; J listings, G phrase groups.

    Attributes:
        market: int64 [J].
        group: int64 [J], number of the match group, unique over markets.
        variant: bool [J], shown by the randomised arm only.
        category: int64 [J].
        brand: int64 [J].
        number_one: bool [J], the brand is one of `NUMBER_ONE_BRANDS`.
        style: [J, 3], seen only in the picture.
        quality: [J], seen only in the picture.
        log_price: [J], log of the list price in US dollars.
        relative_price: [J], log price against the category's mean in the market, in units of .5.
        discount: [J], the listing's usual discount rate.
        popularity: [J], log weight in what shoppers look at; shown as the number of reviews.
        launch: int64 [J], first period in which it is for sale.
        phrases: bool [J, G], in the title.
        badges: bool [J, len(BADGES)], drawn on the picture.
        attributes: [J, N_TASTE], what taste is about: style and the category's place.
        variants: int64 [n_groups, N_VARIANTS], rows of the variants of each group.
        starts: int64 [n_markets + 1], first row of each market's block.
    """

    market: NDArray[np.int64]
    group: NDArray[np.int64]
    variant: NDArray[np.bool_]
    category: NDArray[np.int64]
    brand: NDArray[np.int64]
    number_one: NDArray[np.bool_]
    style: Floats
    quality: Floats
    log_price: Floats
    relative_price: Floats
    discount: Floats
    popularity: Floats
    launch: NDArray[np.int64]
    phrases: NDArray[np.bool_]
    badges: NDArray[np.bool_]
    attributes: Floats
    variants: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.market)


def make_catalogue(world: World) -> Catalogue:
    """Draw all listings of a world."""
    rng = world.rng("catalogue")
    market_of_group, sizes = _groups(world, rng)
    n_groups = len(sizes)
    group = np.repeat(np.arange(n_groups), sizes + N_VARIANTS)
    first = np.cumsum(sizes + N_VARIANTS) - (sizes + N_VARIANTS)
    variant = np.arange(len(group)) - first[group] >= sizes[group]
    market = market_of_group[group]
    n = len(group)

    category_of_group = rng.integers(len(CATEGORIES), size=n_groups)
    style = np.clip(rng.normal(size=(n_groups, 3)), -2.2, 2.2)[group]
    quality = np.clip(rng.normal(size=n_groups), -2.2, 2.2)[group]
    category = category_of_group[group]
    brand = _brands(rng, market_of_group)[group]
    number_one = np.isin(brand, NUMBER_ONE_BRANDS)

    level = (
        rng.normal(3.6, 0.7, len(CATEGORIES))[category] + rng.normal(0, 0.2, len(MARKETS))[market]
    )
    own = 0.35 * quality + rng.normal(0, 0.35, n_groups)[group] + rng.normal(0, 0.08, n)
    relative_price = own / 0.5
    habit = rng.normal(0, 0.25, len(MARKETS))
    score = 0.6 * relative_price - 0.7 * quality + habit[market] + rng.normal(0, 0.7, n)
    discount = np.clip(0.14 + 0.09 * score, 0.0, 0.5)

    group_launch = np.where(rng.random(n_groups) < 0.75, 0, rng.integers(N_PERIODS, size=n_groups))
    own_launch = np.where(rng.random(n) < 0.75, 0, rng.integers(N_PERIODS, size=n))
    launch = np.where(variant, group_launch[group], np.maximum(group_launch[group], own_launch))
    phrases, badges = _phrases(rng, market, variant, quality, discount, number_one)
    popularity = rng.normal(0, 0.6, n_groups)[group] + rng.normal(0, 0.4, n)
    return Catalogue(
        market=market,
        group=group,
        variant=variant,
        category=category,
        brand=brand,
        number_one=number_one,
        style=style,
        quality=quality,
        log_price=level + own,
        relative_price=relative_price,
        discount=discount,
        popularity=popularity,
        launch=_never_empty(launch, market, variant),
        phrases=phrases,
        badges=badges,
        attributes=np.concatenate([style, world.category_place[category]], axis=1),
        variants=np.flatnonzero(variant).reshape(n_groups, N_VARIANTS),
        starts=np.searchsorted(market, np.arange(len(MARKETS) + 1)),
    )


def _groups(world: World, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Market and number of ordinary listings of each group; totals match the size exactly."""
    weight = np.sqrt(world.quotas.sum(axis=1))
    counts = np.floor(world.size.n_listings * weight / weight.sum()).astype(np.int64)
    counts[1] += world.size.n_listings - counts.sum()
    markets, sizes = [], []
    for number, count in enumerate(counts):
        drawn = rng.choice(GROUP_SIZES, size=count, p=GROUP_WEIGHTS / GROUP_WEIGHTS.sum())
        drawn = np.minimum(drawn, max(2, count // 5))
        ends = np.cumsum(drawn + N_VARIANTS)
        kept = drawn[ends <= count]
        left = count - int((kept + N_VARIANTS).sum())
        if left > N_VARIANTS:
            kept = np.append(kept, left - N_VARIANTS)
        else:
            kept[-1] += left
        markets.append(np.full(len(kept), number))
        sizes.append(kept)
    return np.concatenate(markets), np.concatenate(sizes)


def _brands(rng: np.random.Generator, market_of_group: NDArray[np.int64]) -> NDArray[np.int64]:
    """A brand for each group: Zipf, every market ranking the world's brands in its own way."""
    brands = np.zeros(len(market_of_group), dtype=np.int64)
    for number in range(len(MARKETS)):
        rank = np.argsort(
            np.argsort(np.log(np.arange(1, N_BRANDS + 1)) + rng.normal(0, 0.3, N_BRANDS))
        )
        weight = 1.0 / (rank + 1.5)
        rows = market_of_group == number
        brands[rows] = rng.choice(N_BRANDS, size=rows.sum(), p=weight / weight.sum())
    return brands


def _phrases(
    rng: np.random.Generator,
    market: NDArray[np.int64],
    variant: NDArray[np.bool_],
    quality: Floats,
    discount: Floats,
    number_one: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What titles and badges say: confounded with discount and quality, but for the variants."""
    n = len(market)
    pull = (discount - 0.14) / 0.1
    null = np.isin(PHRASES, ("new_arrival", "gift"))
    habit = rng.normal(-1.2, 0.4, size=(len(MARKETS), len(PHRASES)))
    logit = habit[market] + pull[:, None] * np.where(null, 0.9, 0.6) - 0.4 * quality[:, None]
    logit[:, PHRASES.index("number_one")] += 1.2 * number_one
    probability = 1.0 / (1.0 + np.exp(-logit))
    probability[variant] = 0.35
    phrases = rng.random((n, len(PHRASES))) < probability
    said = phrases[:, [PHRASES.index(name) for name in BADGES]]
    badges = rng.random((n, len(BADGES))) < np.where(said & ~variant[:, None], 0.35, 0.12)
    return phrases, badges


def _never_empty(
    launch: NDArray[np.int64], market: NDArray[np.int64], variant: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """In a tiny catalogue each market sells at least half its ordinary listings from the start."""
    launch = launch.copy()
    for number in range(len(MARKETS)):
        rows = np.flatnonzero((market == number) & ~variant)
        early = np.argsort(launch[rows], kind="stable")[: (len(rows) + 1) // 2]
        launch[rows[early]] = 0
    return launch
