from dataclasses import replace

import numpy as np
import pytest

from purchase_predictor.data.marketplace.labels import (
    CART_AFTER_REVIEW,
    CART_THEN_REMOVE,
    DECAY,
    MOMENTUM,
    SAME_PRODUCT,
    order_statistic,
    sigmoid,
    solve_intercept,
)
from purchase_predictor.data.marketplace.shoppers import (
    CART,
    MAX_EVENTS,
    REMOVE,
    REVIEW,
    SEARCH,
    VIEW,
)
from purchase_predictor.data.marketplace.simulation import Marketplace
from purchase_predictor.data.marketplace.world import MARKETS

SHOWN, OTHER = 3, 4


def statistic(small: Marketplace, types: list[int], product: int = OTHER) -> float:
    """Order statistic of a session with these events, when `SHOWN` is shown after the last."""
    padded = np.full((1, MAX_EVENTS), -1, dtype=np.int8)
    padded[0, : len(types)] = types
    products = np.where(padded > SEARCH, product, -1).astype(np.int32)
    sessions = replace(small.sessions, types=padded, products=products)
    offers = replace(
        small.offers,
        session=np.array([0]),
        cut=np.array([len(types)]),
        listing=np.array([SHOWN]),
    )
    return float(order_statistic(sessions, offers)[0])


def test_a_cart_after_a_review_with_no_search_between_earns_a_bonus(small: Marketplace) -> None:
    decided = statistic(small, [SEARCH, VIEW, REVIEW, CART])
    wandering = statistic(small, [VIEW, REVIEW, SEARCH, CART])

    plain = [MOMENTUM[e] for e in (SEARCH, VIEW, REVIEW, CART)]
    weights = DECAY ** np.arange(3, -1, -1)
    assert decided == pytest.approx(np.dot(plain, weights) + CART_AFTER_REVIEW)
    # The same events in another order.
    assert decided - wandering > 0.9 * CART_AFTER_REVIEW


def test_a_removed_cart_costs(small: Marketplace) -> None:
    kept = statistic(small, [VIEW, CART, VIEW])
    removed = statistic(small, [VIEW, CART, REMOVE])

    assert removed - kept == pytest.approx(MOMENTUM[REMOVE] + CART_THEN_REMOVE - MOMENTUM[VIEW])


def test_events_on_the_shown_product_count_again_and_fade(small: Marketplace) -> None:
    own = statistic(small, [VIEW, REVIEW], product=SHOWN)
    other = statistic(small, [VIEW, REVIEW], product=OTHER)

    assert own - other == pytest.approx(SAME_PRODUCT[VIEW] * DECAY + SAME_PRODUCT[REVIEW])


def test_only_events_before_the_offer_count(small: Marketplace) -> None:
    types = small.sessions.types.copy()
    cut = small.offers.cut[:200]
    rows = small.offers.session[:200]
    few = replace(small.offers, session=rows, cut=cut, listing=small.offers.listing[:200])
    # A session keeps what lies before the latest of its offers among these.
    latest = np.zeros(len(types), dtype=np.int64)
    np.maximum.at(latest, rows, cut)
    later = np.arange(MAX_EVENTS)[None, :] >= latest[:, None]
    types[later] = np.where(types[later] >= 0, VIEW, -1)
    changed = replace(small.sessions, types=types)

    np.testing.assert_array_equal(
        order_statistic(small.sessions, few), order_statistic(changed, few)
    )


@pytest.mark.parametrize("rate", [0.001, 0.03, 0.5])
def test_the_intercept_meets_the_rate(rate: float) -> None:
    logit = np.random.default_rng(0).normal(0, 1.5, 2_000)
    assert sigmoid(logit + solve_intercept(logit, rate)).mean() == pytest.approx(rate, rel=1e-9)


def test_the_mean_true_probability_is_each_markets_rate(small: Marketplace) -> None:
    market = small.sessions.market[small.offers.session]
    for number, country in enumerate(MARKETS):
        assert small.p_true[market == number].mean() == pytest.approx(country.rate, rel=1e-6)


def test_the_logit_of_a_shopper_is_that_of_its_kind(small: Marketplace) -> None:
    rows = np.arange(50)
    kind = small.sessions.kind[small.offers.session]

    table = small.logit.of_kinds(small.world, rows)
    own = small.logit.of_shoppers(small.world, kind)

    np.testing.assert_allclose(table[rows, kind[rows]], own[rows], rtol=1e-12)
    np.testing.assert_allclose(sigmoid(own), small.p_true)
