"""The true logit of a conversion, its intercepts, and the labels drawn from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import Catalogue
from purchase_predictor.data.marketplace.offers import NO_LIST, Offers
from purchase_predictor.data.marketplace.shoppers import (
    CART,
    REMOVE,
    REVIEW,
    SEARCH,
    Sessions,
)
from purchase_predictor.data.marketplace.world import (
    BADGE_SHARE,
    BADGES,
    MARKETS,
    N_TASTE,
    PHRASES,
    Floats,
    World,
)

TASTE, PRICE, QUALITY = 0.66, 0.22, 0.22
PRICE_ON_DISCOUNT = 0.8
"""Log-odds that a discount of 1 adds for each unit of sensitivity to price."""

POPULARITY, LIST_PRICE, ALONE, POSITION = 0.20, 0.35, 0.30, 0.05
DEVICE = np.array([0.0, 0.2, 0.3])
SOURCE = np.array([0.0, -0.35, 0.25, 0.1])

DECAY = 0.8
MOMENTUM = np.array([-0.10, 0.02, 0.16, 0.22, 0.14, -0.10])
"""What each type of event adds, fading by `DECAY` with every later event of the session."""

CART_AFTER_REVIEW, CART_THEN_REMOVE = 0.95, -0.9
SAME_PRODUCT = np.array([0.0, 0.05, 0.20, 0.35, 0.25, -0.5])


@dataclass(frozen=True)
class Logit:
    """The logit of a conversion for every kind of shopper: `fixed + affinity + price`.

    Attributes:
        fixed: [n], all that does not hang on the kind, the market's intercept included.
        attributes: [n, N_TASTE], what the kind's taste is multiplied with.
        price: [n], what the kind's sensitivity is multiplied with.
        terms: the columns that make up `fixed`, each [n] and unscaled.
    """

    fixed: Floats
    attributes: Floats
    price: Floats
    terms: dict[str, Floats]

    def of_kinds(self, world: World, rows: NDArray[np.int64]) -> Floats:
        """Logit of some impressions for all kinds, [len(rows), N_KINDS]."""
        total = self.price[rows, None] * world.sensitivity[None, :]
        for axis in range(N_TASTE):
            total += self.attributes[rows, axis, None] * world.taste[None, :, axis]
        return total + self.fixed[rows, None]

    def of_shoppers(self, world: World, kind: NDArray[np.int64]) -> Floats:
        """Logit of each impression for its own shopper's kind, [n]."""
        total = self.price * world.sensitivity[kind] + self.fixed
        for axis in range(N_TASTE):
            total = total + self.attributes[:, axis] * world.taste[kind, axis]
        return total


def order_statistic(sessions: Sessions, offers: Offers) -> Floats:
    """What the order of the session's events so far says, [n].

    Recency-decayed weights, a bonus for a cart after a review with no search between, a malus for
    a cart that is removed, and the same for events on the product that is shown.
    """
    types = sessions.types.astype(np.int64)
    place = np.arange(types.shape[1])
    reviewed = np.maximum.accumulate(np.where(types == REVIEW, place, -1), axis=1)
    searched = np.maximum.accumulate(np.where(types == SEARCH, place, -1), axis=1)
    decided = (types == CART) & (reviewed > searched)
    added = np.append(MOMENTUM, 0.0)[types] + CART_AFTER_REVIEW * decided
    added += CART_THEN_REMOVE * (types == REMOVE)
    level = np.zeros_like(added)
    level[:, 0] = added[:, 0]
    for step in range(1, types.shape[1]):
        level[:, step] = DECAY * level[:, step - 1] + added[:, step]
    total = level[offers.session, offers.cut - 1]
    own = np.append(SAME_PRODUCT, 0.0)
    for step in range(types.shape[1]):
        age = offers.cut - 1 - step
        same = sessions.products[offers.session, step] == offers.listing
        weight = own[types[offers.session, step]] * DECAY ** np.maximum(age, 0)
        total = total + np.where((age >= 0) & same, weight, 0.0)
    return total


def make_logit(world: World, catalogue: Catalogue, sessions: Sessions, offers: Offers) -> Logit:
    """The logit of every impression, its intercepts solved for each market's rate."""
    listing, market = offers.listing, sessions.market[offers.session]
    alone = offers.list_number == NO_LIST
    terms: dict[str, Floats] = {
        "quality": QUALITY * catalogue.quality[listing],
        "popularity": POPULARITY * (np.log1p(offers.reviews) - 3.0),
        "list_price": -LIST_PRICE * offers.list_price,
        "alone": ALONE * alone,
        "position": -POSITION * offers.position.astype(np.float64),
        "device": DEVICE[offers.device],
        "source": SOURCE[offers.source],
        "order": order_statistic(sessions, offers),
        "drift": world.drift[sessions.period[offers.session]],
    }
    for name, column in lever_columns(catalogue, offers).items():
        terms[name] = lever_effects(world)[name][market] * column
    attributes = TASTE / np.sqrt(N_TASTE) * catalogue.attributes[listing]
    price = -PRICE * catalogue.relative_price[listing] + PRICE_ON_DISCOUNT * offers.discount
    fixed = np.sum(list(terms.values()), axis=0)
    logit = Logit(fixed=fixed, attributes=attributes, price=price, terms=terms)
    latent = logit.of_shoppers(world, sessions.kind[offers.session])
    intercept = np.array([
        solve_intercept(latent[market == number], country.rate)
        for number, country in enumerate(MARKETS)
    ])  # fmt: skip
    return Logit(fixed + intercept[market], attributes, price, terms)


def lever_columns(catalogue: Catalogue, offers: Offers) -> dict[str, Floats]:
    """What can be pulled: `phrase:GROUP`, `image:BADGE` and the terms, each [n], unscaled."""
    listing = offers.listing
    columns = {f"phrase:{p}": catalogue.phrases[listing, i] for i, p in enumerate(PHRASES)}
    columns |= {f"image:{b}": catalogue.badges[listing, i] for i, b in enumerate(BADGES)}
    columns |= {
        "discount_rate": offers.discount,
        "free_shipping": offers.free_shipping,
        "number_one_brand": catalogue.number_one[listing],
    }
    return {name: column.astype(np.float64) for name, column in columns.items()}


def lever_effects(world: World) -> dict[str, Floats]:
    """Log-odds of a unit of each lever for the shopper's logit, [n_markets]."""
    effects = {f"phrase:{name}": world.effects[name] for name in PHRASES}
    effects |= {f"image:{name}": BADGE_SHARE * world.effects[name] for name in BADGES}
    effects |= {
        "discount_rate": world.effects["discount_rate"] - PRICE_ON_DISCOUNT,
        "free_shipping": world.effects["free_shipping_term"],
        "number_one_brand": world.effects["number_one_brand"],
    }
    return effects


def solve_intercept(logit: Floats, rate: float) -> float:
    """The constant that, added to the logits, brings their mean probability to the rate."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        if sigmoid(logit + middle).mean() < rate:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def sigmoid(logit: Floats) -> Floats:
    """1 / (1 + exp(-logit))."""
    return 1.0 / (1.0 + np.exp(-logit))


def draw_labels(world: World, p_true: Floats) -> NDArray[np.bool_]:
    """A Bernoulli draw from each true probability."""
    return world.rng("labels").random(len(p_true)) < p_true
