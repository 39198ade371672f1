import numpy as np

from purchase_predictor.data.marketplace.catalogue import N_VARIANTS, make_catalogue
from purchase_predictor.data.marketplace.simulation import Marketplace
from purchase_predictor.data.marketplace.world import PHRASES, SIZES, make_world


def test_groups_have_a_median_of_two_listings_and_a_long_tail() -> None:
    catalogue = make_catalogue(make_world(SIZES["demo"], seed=0, culture="on"))

    sizes = np.bincount(catalogue.group[~catalogue.variant])
    assert len(catalogue) == SIZES["demo"].n_listings
    assert np.median(sizes) == 2
    assert 20 <= sizes.max() <= 60
    assert (np.bincount(catalogue.group[catalogue.variant]) == N_VARIANTS).all()


def test_listings_of_a_group_are_the_same_thing(small: Marketplace) -> None:
    catalogue = small.catalogue
    first = np.unique(catalogue.group, return_index=True)[1][catalogue.group]

    for column in (catalogue.market, catalogue.category, catalogue.brand, catalogue.quality):
        assert (column == column[first]).all()
    assert (catalogue.style == catalogue.style[first]).all()
    assert (
        catalogue.group[catalogue.variants] == np.arange(catalogue.group.max() + 1)[:, None]
    ).all()


def test_phrases_are_confounded_but_for_the_variants() -> None:
    catalogue = make_catalogue(make_world(SIZES["claims"], seed=0, culture="on"))
    new = catalogue.phrases[:, PHRASES.index("new_arrival")]

    def correlation(rows: np.ndarray, column: np.ndarray) -> float:
        return float(np.corrcoef(new[rows], column[rows])[0, 1])

    assert correlation(~catalogue.variant, catalogue.discount) > 0.2
    assert correlation(~catalogue.variant, catalogue.quality) < -0.1
    assert abs(correlation(catalogue.variant, catalogue.discount)) < 0.08
    assert abs(correlation(catalogue.variant, catalogue.quality)) < 0.08
    # Dear and poor goods are discounted more.
    assert np.corrcoef(catalogue.discount, catalogue.quality)[0, 1] < -0.2


def test_some_listings_are_new_in_the_test_period(small: Marketplace) -> None:
    launch = small.catalogue.launch
    assert (launch >= 8).mean() > 0.02
    assert (launch == 0).mean() > 0.4
