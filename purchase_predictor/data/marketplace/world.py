"""The world behind the sample: sizes, markets, kinds of shopper and what moves buyers where."""

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.culture import load_profiles
from purchase_predictor.errors import UserError, nearest

Culture = Literal["on", "off", "shuffled"]
Floats = NDArray[np.float64]

N_KINDS = 256
"""Kinds of shopper: support points of taste and price sensitivity, so the posterior is exact."""

N_TASTE = 6
CATEGORIES = (
    "shoes", "bag", "watch", "headphones", "lamp", "mug",
    "backpack", "jacket", "keyboard", "chair", "lipstick", "toy",
)  # fmt: skip
PHRASES = (
    "limited_quantity", "free_shipping", "number_one", "sale", "official", "fast_delivery",
    "new_arrival", "gift",
)  # fmt: skip
NULL_PHRASES = ("new_arrival", "gift")
BADGES = ("limited_quantity", "free_shipping", "number_one")
BADGE_SHARE = 0.5
"""Effect of a phrase drawn as a badge, as a share of its effect in the title."""

SPLITS = ("train", "validation", "test")
SPLIT_DAYS = ((0, 210), (210, 240), (240, 300))
DAYS_A_PERIOD = 30
N_PERIODS = 10
FIRST_TEST_PERIOD = 8
NEW_MARKET = "FR"
NEW_MARKET_TRAINING = 500
"""Most impressions of the nearly new market outside the test period, at any size."""


@dataclass(frozen=True)
class Market:
    """A country: its target conversion rate, share of the training rows and language."""

    name: str
    rate: float
    share: float
    language: str


MARKETS = (
    Market("KR", 0.034, 0.2400, "ko"),
    Market("US", 0.030, 0.3090, "en"),
    Market("JP", 0.025, 0.1600, "ja"),
    Market("BR", 0.019, 0.1040, "pt"),
    Market("ID", 0.027, 0.0720, "id"),
    Market("DE", 0.022, 0.0500, "de"),
    Market("VN", 0.031, 0.0320, "vi"),
    Market("TW", 0.028, 0.0225, "zh"),
    Market("FR", 0.021, 0.0105, "fr"),
)
TEST_SHARE = 0.33
VALIDATION_SHARE = 0.125

MEAN_EFFECTS = {
    "limited_quantity": 0.40, "free_shipping": 0.28, "number_one": 0.30, "sale": 0.20,
    "official": 0.25, "fast_delivery": 0.25, "new_arrival": 0.0, "gift": 0.0,
    "discount_rate": 2.2, "free_shipping_term": 0.45, "number_one_brand": 0.40,
}  # fmt: skip
"""Log-odds in the average market; the discount's for a rate from 0 to 1."""

LOADINGS: dict[str, dict[str, float]] = {
    "limited_quantity": {"UAI": 0.18, "IDV": -0.16},
    "free_shipping": {"IDV": 0.18, "LTO": -0.06},
    "number_one": {"PDI": 0.10, "IDV": -0.10},
    "sale": {"MAS": 0.10},
    "official": {"UAI": 0.14},
    "fast_delivery": {"LTO": 0.12, "IVR": -0.05},
    "discount_rate": {"IVR": 0.45},
    "free_shipping_term": {"IDV": 0.20, "LTO": -0.08},
    "number_one_brand": {"IDV": -0.12, "UAI": 0.10},
}
"""Sparse loadings of each effect on standardised cultural dimensions."""

MARKET_NOISE = 0.05
"""Standard deviation of what culture does not explain of a market's effect, in log-odds."""

UNITS = {"discount_rate": 0.15}
"""What stands for a step of 1 in the noise: discounts are small numbers with large effects."""

HEADLINES = ("limited_quantity", "free_shipping", "free_shipping_term")
"""Effects whose KR-US contrast is planted: they carry no market noise in KR and US."""


@dataclass(frozen=True)
class SampleSize:
    """How much is made: rows of `impressions` and of `products` (variant listings included)."""

    n_impressions: int
    n_listings: int


SIZES = {
    "demo": SampleSize(n_impressions=60_000, n_listings=2_000),
    "claims": SampleSize(n_impressions=480_000, n_listings=8_000),
}
SMALLEST = SampleSize(n_impressions=1_000, n_listings=150)


def sample_size(size: str | SampleSize) -> SampleSize:
    """The size of that name.

    Raises:
        UserError: unknown name, or a size too small for nine markets.
    """
    if isinstance(size, str):
        if size not in SIZES:
            raise UserError(f"there is no sample size '{size}'{nearest(size, SIZES)}")
        return SIZES[size]
    if size.n_impressions < SMALLEST.n_impressions or size.n_listings < SMALLEST.n_listings:
        raise UserError(
            f"a sample takes {SMALLEST.n_impressions} impressions and {SMALLEST.n_listings} "
            f"listings or more, got {size.n_impressions} and {size.n_listings}"
        )
    return size


@dataclass(frozen=True)
class World:
    """Everything drawn before the first shopper comes.

    Attributes:
        seed: of all that is drawn.
        size: rows to make.
        effects: log-odds of each term, [n_markets].
        taste: [N_KINDS, N_TASTE].
        sensitivity: [N_KINDS], to price; mean 1.
        category_place: [n_categories, 3], where a category lies in the space of tastes.
        drift: [N_PERIODS], log-odds of a month.
        campaign: [N_PERIODS], discount added by a month's campaign.
        quotas: [n_markets, 3], impressions in each of `SPLITS`.
    """

    seed: int
    size: SampleSize
    effects: dict[str, Floats]
    taste: Floats
    sensitivity: Floats
    category_place: Floats
    drift: Floats
    campaign: Floats
    quotas: NDArray[np.int64]

    def rng(self, name: str) -> np.random.Generator:
        """A stream of its own for each part, so that parts do not move one another."""
        return np.random.default_rng([self.seed, zlib.crc32(name.encode())])


def make_world(size: SampleSize, *, seed: int, culture: Culture) -> World:
    """Draw the world of a seed."""
    rng = np.random.default_rng([seed, zlib.crc32(b"world")])
    taste = _standardised(rng.normal(size=(N_KINDS, N_TASTE)))
    sensitivity = np.exp(0.5 * _standardised(rng.normal(size=N_KINDS)))
    drift = 0.06 * rng.normal(size=N_PERIODS)
    drift[FIRST_TEST_PERIOD:] += 0.1
    campaign = np.where(rng.random(N_PERIODS) < 0.3, 0.04, 0.0)
    campaign[FIRST_TEST_PERIOD:] = 0.05
    return World(
        seed=seed,
        size=size,
        effects=_effects(np.random.default_rng([seed, zlib.crc32(b"effects")]), culture),
        taste=taste,
        sensitivity=sensitivity / sensitivity.mean(),
        category_place=_standardised(rng.normal(size=(len(CATEGORIES), 3))),
        drift=drift,
        campaign=campaign,
        quotas=_quotas(size.n_impressions),
    )


def cultural_profiles() -> tuple[list[str], Floats]:
    """Dimensions and the markets' places on them, standardised over the sample's markets.

    Returns:
        The names of the dimensions and an array [n_markets, n_dimensions].
    """
    profiles = load_profiles(None)
    dimensions = sorted({name for loading in LOADINGS.values() for name in loading})
    values = np.array([[profiles[m.name][d] for d in dimensions] for m in MARKETS], dtype=float)
    return dimensions, _standardised(values)


def _effects(rng: np.random.Generator, culture: Culture) -> dict[str, Floats]:
    dimensions, profiles = cultural_profiles()
    n_markets = len(MARKETS)
    names = [m.name for m in MARKETS]
    anchors = [names.index("KR"), names.index("US")]
    others = [market for market in range(n_markets) if market not in anchors]
    noise = MARKET_NOISE * rng.normal(size=(len(MEAN_EFFECTS), n_markets))
    dealt = rng.permutation(n_markets)
    reversed_market = rng.choice(others, size=len(PHRASES))
    if culture == "off":
        return {name: np.full(n_markets, mean) for name, mean in MEAN_EFFECTS.items()}
    if culture == "shuffled":
        # A cycle through all markets: none keeps its own profile.
        profiles[dealt] = profiles[np.roll(dealt, 1)]
    effects = {}
    for row, (name, mean) in enumerate(MEAN_EFFECTS.items()):
        if name in NULL_PHRASES:
            effects[name] = np.zeros(n_markets)
            continue
        loading = np.array([LOADINGS[name].get(d, 0.0) for d in dimensions])
        own = noise[row] / UNITS.get(name, 1.0)
        if name in HEADLINES:
            own[anchors] = 0.0
        effects[name] = mean + profiles @ loading + own
        if name in PHRASES:
            effects[name][reversed_market[PHRASES.index(name)]] *= -1.0
    return effects


def _quotas(n: int) -> NDArray[np.int64]:
    """Impressions of each market and split: equal test sets, heavy-tailed training sets."""
    test = int(round(TEST_SHARE * n / len(MARKETS)))
    rest = n - test * len(MARKETS)
    early = np.array([int(m.share * rest) for m in MARKETS])
    new = [m.name for m in MARKETS].index(NEW_MARKET)
    early[new] = min(early[new], NEW_MARKET_TRAINING)
    early[1] += rest - early.sum()
    validation = np.round(VALIDATION_SHARE * early).astype(np.int64)
    return np.stack([early - validation, validation, np.full_like(early, test)], axis=1)


def _standardised(values: Floats) -> Floats:
    return (values - values.mean(axis=0)) / values.std(axis=0)
