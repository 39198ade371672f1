"""The marketplace in memory: everything that is drawn, and what is true of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import Catalogue, make_catalogue
from purchase_predictor.data.marketplace.fitted import fitted_probability
from purchase_predictor.data.marketplace.labels import Logit, draw_labels, make_logit, sigmoid
from purchase_predictor.data.marketplace.offers import Offers, make_offers
from purchase_predictor.data.marketplace.shoppers import (
    Choice,
    Sessions,
    make_choice,
    make_sessions,
)
from purchase_predictor.data.marketplace.truth import Truth, observe
from purchase_predictor.data.marketplace.world import (
    Culture,
    Floats,
    SampleSize,
    World,
    make_world,
)


@dataclass(frozen=True)
class Drawn:
    """What is drawn, before anything is worked out from it; n impressions.

    Attributes:
        world: effects and kinds of shopper.
        catalogue: listings.
        choice: what shoppers look at.
        sessions: shoppers and events.
        offers: impressions.
        logit: of a conversion, for every kind of shopper.
        p_true: [n], the latent truth.
        converted: bool [n], drawn from it.
    """

    world: World
    catalogue: Catalogue
    choice: Choice
    sessions: Sessions
    offers: Offers
    logit: Logit
    p_true: Floats
    converted: NDArray[np.bool_]


@dataclass(frozen=True)
class Marketplace:
    """One drawn marketplace; n impressions.

    Attributes:
        world: effects and kinds of shopper.
        catalogue: listings.
        sessions: shoppers and events.
        offers: impressions.
        logit: of a conversion, for every kind of shopper.
        p_true: [n], the latent truth.
        converted: bool [n], drawn from it.
        truth: what could be known.
        p_fitted: [n], of a correctly specified logistic model fitted on the training rows.
    """

    world: World
    catalogue: Catalogue
    sessions: Sessions
    offers: Offers
    logit: Logit
    p_true: Floats
    converted: NDArray[np.bool_]
    truth: Truth
    p_fitted: Floats


def draw(
    size: SampleSize, *, seed: int, culture: Culture, progress: Callable[[str], None]
) -> Drawn:
    """Draw a marketplace; without titles and pictures."""
    progress("shoppers and their sessions")
    world = make_world(size, seed=seed, culture=culture)
    catalogue = make_catalogue(world)
    choice = make_choice(world, catalogue)
    sessions = make_sessions(world, catalogue, choice)
    progress("offers and labels")
    offers = make_offers(world, catalogue, sessions)
    logit = make_logit(world, catalogue, sessions, offers)
    p_true = sigmoid(logit.of_shoppers(world, sessions.kind[offers.session]))
    converted = draw_labels(world, p_true)
    return Drawn(world, catalogue, choice, sessions, offers, logit, p_true, converted)


def simulate(
    size: SampleSize, *, seed: int, culture: Culture, progress: Callable[[str], None]
) -> Marketplace:
    """Draw a marketplace and work out its truth; without titles and pictures."""
    d = draw(size, seed=seed, culture=culture, progress=progress)
    truth = observe(
        d.world, d.catalogue, d.choice, d.sessions, d.offers, d.logit, d.converted, progress
    )
    p_fitted = fitted_probability(d.catalogue, d.sessions, d.offers, d.logit, truth, d.converted)
    return Marketplace(
        d.world, d.catalogue, d.sessions, d.offers, d.logit, d.p_true, d.converted, truth, p_fitted
    )
