"""What tests of the ladder share: listings to match, and a short search."""

from collections.abc import Callable

import pytest

from purchase_predictor.matching.strategies import Search
from tests.matching.markets import Market, make_market


@pytest.fixture(scope="session")
def listed() -> Market:
    """The default market; share it, do not change it."""
    return make_market()


@pytest.fixture(scope="session")
def listed_of() -> Callable[..., Market]:
    """`make_market`, for tests that want another one."""
    return make_market


@pytest.fixture
def search() -> Search:
    """A short search that tells nobody."""
    return Search(union_trials=4, blending_trials=4, cap=50, seed=0, progress=lambda _: None)
