from dataclasses import replace

import numpy as np

from purchase_predictor.data.marketplace.fitted import fitted_probability
from purchase_predictor.data.marketplace.simulation import Marketplace


def test_only_training_rows_are_learned_from(small: Marketplace) -> None:
    train = small.sessions.split[small.offers.session] == 0
    rest = (small.catalogue, small.sessions, small.offers, small.logit, small.truth)

    again = fitted_probability(*rest, np.where(train, small.converted, ~small.converted))
    other = fitted_probability(*rest, np.where(train, ~small.converted, small.converted))

    np.testing.assert_array_equal(again, small.p_fitted)
    assert np.abs(other - small.p_fitted).max() > 0.1


def test_it_knows_no_latent_kind(small: Marketplace) -> None:
    stranger = replace(small.sessions, kind=np.zeros_like(small.sessions.kind))
    again = fitted_probability(
        small.catalogue, stranger, small.offers, small.logit, small.truth, small.converted
    )

    np.testing.assert_array_equal(again, small.p_fitted)
