"""The third ceiling: a correctly specified logistic model, fitted on the same training rows."""

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import Catalogue
from purchase_predictor.data.marketplace.labels import Logit, lever_columns
from purchase_predictor.data.marketplace.offers import DEVICES, SOURCES, Offers
from purchase_predictor.data.marketplace.shoppers import Sessions
from purchase_predictor.data.marketplace.truth import Truth
from purchase_predictor.data.marketplace.world import MARKETS, Floats

TERM_SPREAD, LEVER_SPREAD, MARKET_SPREAD = 1.0, 0.5, 0.25
"""Standard deviations of the normal prior of coefficients: of terms that are already in log-odds,
of levers in the average market, and of a market's deviation from it."""

UNIT_OF_DISCOUNT = 0.1


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
    the levers once for all markets and once for each; a ridge stands for knowing how large effects
    are. It is what a perfect understanding of the world makes of that many labels.
    """
    from sklearn.linear_model import LogisticRegression

    columns = _columns(catalogue, sessions, offers, logit, truth)
    train = sessions.split[offers.session] == 0
    model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-9, max_iter=200)
    model.fit(columns[train], converted[train])
    return model.predict_proba(columns)[:, 1]


def _columns(
    catalogue: Catalogue, sessions: Sessions, offers: Offers, logit: Logit, truth: Truth
) -> Floats:
    """Scaled so that a standard normal prior of every coefficient is the stated one."""
    market = sessions.market[offers.session]
    names = ("quality", "popularity", "list_price", "alone", "position", "order")
    relative = catalogue.relative_price[offers.listing]
    columns = lever_columns(catalogue, offers)
    columns["discount_rate"] = columns["discount_rate"] / UNIT_OF_DISCOUNT
    levers = np.stack(list(columns.values()), axis=1)
    here = np.eye(len(MARKETS))[market]
    by_market = (here[:, :, None] * levers[:, None, :]).reshape(len(market), -1)
    terms = [logit.terms[name] for name in names]
    terms += [truth.affinity, truth.sensitivity * relative, truth.sensitivity * offers.discount]
    return np.concatenate(
        [
            TERM_SPREAD * np.stack(terms, axis=1),
            LEVER_SPREAD * np.eye(len(DEVICES))[offers.device],
            LEVER_SPREAD * np.eye(len(SOURCES))[offers.source],
            TERM_SPREAD * here,
            LEVER_SPREAD * levers,
            MARKET_SPREAD * by_market,
        ],
        axis=1,
    )
