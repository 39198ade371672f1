import numpy as np
import polars as pl

from purchase_predictor.data.marketplace.catalogue import N_VARIANTS
from purchase_predictor.data.marketplace.offers import NO_LIST, RANDOM_DISCOUNTS, RANDOMISED_SHARE
from purchase_predictor.data.marketplace.simulation import Marketplace


def test_quotas_are_met_exactly(small: Marketplace) -> None:
    session = small.offers.session
    cells = np.zeros_like(small.world.quotas)
    np.add.at(cells, (small.sessions.market[session], small.sessions.split[session]), 1)

    assert (cells == small.world.quotas).all()


def test_an_offer_falls_between_two_events(small: Marketplace) -> None:
    s, o = small.sessions, small.offers
    before = s.times[o.session, o.cut - 1]
    more = o.cut < s.length[o.session]

    assert (o.cut >= 1).all()
    assert (o.cut <= s.length[o.session]).all()
    assert (o.time > before).all()
    assert (o.time < s.times[o.session, np.minimum(o.cut, 29)])[more].all()
    assert (np.diff(o.time) >= 0).all()


def test_lists_show_different_products_of_the_market(small: Marketplace) -> None:
    o = small.offers
    listed = o.list_number != NO_LIST
    frame = pl.DataFrame({"list": o.list_number, "product": o.listing, "position": o.position})
    ordinary = frame.filter(listed & ~o.randomised)
    sizes = frame.filter(listed).group_by("list").len()["len"]

    assert 0.35 < listed.mean() < 0.6
    assert sizes.min() >= 4
    assert sizes.max() <= 12
    assert not ordinary.select("list", "product").is_duplicated().any()
    assert (o.position[~listed] == 0).all()


def test_single_offers_show_the_product_at_hand(small: Marketplace) -> None:
    s, o = small.sessions, small.offers
    alone = o.list_number == NO_LIST
    hand = s.at_hand[o.session, o.cut - 1]

    assert (o.listing == hand)[alone & ~o.randomised].all()
    groups = small.catalogue.group
    assert (groups[o.listing] == groups[hand])[alone].all()


def test_nothing_is_shown_before_it_is_for_sale(small: Marketplace) -> None:
    o, catalogue = small.offers, small.catalogue
    period = small.sessions.period[o.session]

    assert (catalogue.market[o.listing] == small.sessions.market[o.session]).all()
    assert (catalogue.launch[o.listing] <= period)[~o.randomised].all()


def test_the_randomised_arm_shows_variants_at_random_terms(small: Marketplace) -> None:
    o = small.offers
    arm = o.randomised

    assert abs(arm.mean() - RANDOMISED_SHARE) < 0.02
    assert (small.catalogue.variant[o.listing] == arm).all()
    assert np.isin(o.discount[arm], RANDOM_DISCOUNTS).all()
    assert abs(o.free_shipping[arm].mean() - 0.5) < 0.1
    np.testing.assert_allclose(o.propensity[arm], 1 / (N_VARIANTS * len(RANDOM_DISCOUNTS) * 2))
    assert np.isnan(o.propensity[~arm]).all()


def test_terms_of_the_randomised_arm_tell_nothing_of_the_seller(small: Marketplace) -> None:
    o, catalogue = small.offers, small.catalogue
    usual = catalogue.discount[o.listing]

    assert np.corrcoef(o.discount[~o.randomised], usual[~o.randomised])[0, 1] > 0.5
    assert abs(np.corrcoef(o.discount[o.randomised], usual[o.randomised])[0, 1]) < 0.13


def test_a_list_price_is_measured_against_its_neighbours(small: Marketplace) -> None:
    o = small.offers
    listed = o.list_number != NO_LIST
    sums = np.bincount(o.list_number[listed], weights=o.list_price[listed])

    assert np.abs(sums).max() < 1e-9
    assert (o.list_price[~listed] == 0).all()
    assert o.list_price[listed].std() > 0.1
