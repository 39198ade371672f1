"""One small marketplace in memory for all tests of its parts."""

import pytest

from purchase_predictor.data.marketplace.shoppers import Choice, make_choice
from purchase_predictor.data.marketplace.simulation import Marketplace, simulate
from purchase_predictor.data.marketplace.world import SampleSize


@pytest.fixture(scope="session")
def small() -> Marketplace:
    """6,000 impressions and 400 listings; share it, do not change it."""
    return simulate(SampleSize(6_000, 400), seed=1, culture="on", progress=lambda _: None)


@pytest.fixture(scope="session")
def choice(small: Marketplace) -> Choice:
    return make_choice(small.world, small.catalogue)
