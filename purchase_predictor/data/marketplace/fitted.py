"""The third ceiling: a correctly specified logistic model, fitted on the same training rows."""

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.labels import Logit, lever_columns
from purchase_predictor.data.marketplace.catalogue import Catalogue
from purchase_predictor.data.marketplace.offers import DEVICES, SOURCES, Offers
from purchase_predictor.data.marketplace.shoppers import Sessions
from purchase_predictor.data.marketplace.truth import Truth
from purchase_predictor.data.marketplace.world import MARKETS, Floats

RIDGE = 0.5
"""Inverse strength of the penalty, on columns of unit variance."""


def fitted_probability(
    catalogue: Catalogue,
    sessions: Sessions,
    offers: Offers,
    logit: Logit,
    truth: Truth,
    converted: NDArray[np.bool_],
) -> Floats:
    """Its prediction for every impression, [n].

    The columns are the generator's own terms with what is hidden replaced by its posterior mean,
    the levers once for all markets and once for each: what a perfect understanding of the world
    makes of that many labels.
    """
    from sklearn.linear_model import LogisticRegression

    columns = _columns(catalogue, sessions, offers, logit, truth)
    train = sessions.split[offers.session] == 0
    spread = columns[train].std(axis=0)
    columns = (columns - columns[train].mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0)
    model = LogisticRegression(C=RIDGE, solver="newton-cholesky", tol=1e-9, max_iter=200)
    model.fit(columns[train], converted[train])
    return model.predict_proba(columns)[:, 1]


def _columns(
    catalogue: Catalogue, sessions: Sessions, offers: Offers, logit: Logit, truth: Truth
) -> Floats:
    market = sessions.market[offers.session]
    names = ("quality", "popularity", "list_price", "alone", "position", "order")
    relative = catalogue.relative_price[offers.listing]
    levers = np.stack(list(lever_columns(catalogue, offers).values()), axis=1)
    here = np.eye(len(MARKETS))[market]
    by_market = (here[:, :, None] * levers[:, None, :]).reshape(len(market), -1)
    return np.concatenate(
        [
            np.stack([logit.terms[name] for name in names], axis=1),
            np.stack([truth.affinity, truth.sensitivity * relative], axis=1),
            (truth.sensitivity * offers.discount)[:, None],
            np.eye(len(DEVICES))[offers.device],
            np.eye(len(SOURCES))[offers.source],
            here,
            levers,
            by_market,
        ],
        axis=1,
    )
