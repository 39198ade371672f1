"""What the sample must pass, at the size that a first run uses. Slow: whole worlds are drawn."""

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from purchase_predictor.data.marketplace.labels import lever_columns
from purchase_predictor.data.marketplace.simulation import Marketplace, simulate
from purchase_predictor.data.marketplace.world import MARKETS, SIZES

pytestmark = pytest.mark.slow

KR, US = 0, 1
N_NULL_WORLDS = 10


@pytest.fixture(scope="module")
def demo() -> Marketplace:
    return simulate(SIZES["demo"], seed=0, culture="on", progress=lambda _: None)


def expected_auc(sample: Marketplace, score: np.ndarray) -> float:
    """Within-market AUC, macro-averaged, labels integrated out: weights are true probabilities."""
    market = sample.sessions.market[sample.offers.session]
    values = []
    for number in range(len(MARKETS)):
        rows = market == number
        p, s = sample.p_true[rows], score[rows]
        labels = np.r_[np.ones(rows.sum()), np.zeros(rows.sum())]
        values.append(roc_auc_score(labels, np.r_[s, s], sample_weight=np.r_[p, 1 - p]))
    return float(np.mean(values))


def test_conversion_lies_between_1_4_and_4_percent(demo: Marketplace) -> None:
    market = demo.sessions.market[demo.offers.session]
    for number in range(len(MARKETS)):
        assert 0.014 < demo.converted[market == number].mean() < 0.04


def test_ceilings_are_those_of_real_systems(demo: Marketplace) -> None:
    latent = expected_auc(demo, demo.p_true)
    observable = expected_auc(demo, demo.truth.p_observable)

    assert 0.80 < latent < 0.84
    assert 0.78 < observable < latent - 0.005


def test_no_single_column_tells_much(demo: Marketplace) -> None:
    o, catalogue = demo.offers, demo.catalogue
    columns = {
        "price": catalogue.log_price[o.listing],
        "discount": o.discount,
        "free shipping": o.free_shipping,
        "position": np.where(o.list_number < 0, -1, o.position),
        "reviews": o.reviews,
        "source": o.source,
        "events so far": o.cut,
        "order statistic": demo.logit.terms["order"],
        "product": _rates(demo, o.listing),
        "category": _rates(demo, catalogue.category[o.listing]),
        "quality": catalogue.quality[o.listing],
    }

    for name, column in columns.items():
        auc = expected_auc(demo, np.asarray(column, dtype=float))
        assert max(auc, 1 - auc) < 0.75, name


def _rates(demo: Marketplace, codes: np.ndarray) -> np.ndarray:
    total = np.bincount(codes, weights=demo.p_true)
    return (total / np.maximum(np.bincount(codes), 1))[codes]


def contrast_p_values(sample: Marketplace) -> np.ndarray:
    """Wald tests of KR - US for every lever, in a logistic model on the true statistics."""
    market = sample.sessions.market[sample.offers.session]
    rows = np.isin(market, (KR, US))
    levers = np.stack(list(lever_columns(sample.catalogue, sample.offers).values()), axis=1)[rows]
    korean = (market[rows] == KR)[:, None].astype(float)
    terms = sample.logit.terms
    known = np.stack(
        [terms[name] for name in ("quality", "popularity", "list_price", "order", "source")]
        + [sample.truth.affinity],
        axis=1,
    )[rows]
    inputs = np.concatenate([levers * korean, levers, korean, known], axis=1)
    model = LogisticRegression(C=1e6, solver="newton-cholesky", max_iter=100)
    p = model.fit(inputs, sample.converted[rows]).predict_proba(inputs)[:, 1]
    design = np.c_[inputs, np.ones(len(inputs))]
    covariance = np.linalg.inv((design * (p * (1 - p))[:, None]).T @ design)
    n = levers.shape[1]
    return 2 * stats.norm.sf(np.abs(model.coef_[0, :n]) / np.sqrt(np.diag(covariance)[:n]))


def test_planted_contrasts_can_be_found(demo: Marketplace) -> None:
    p = dict(zip(lever_columns(demo.catalogue, demo.offers), contrast_p_values(demo), strict=True))

    assert p["phrase:limited_quantity"] < 0.05 / len(p)
    assert p["free_shipping"] < 0.05 / len(p)


def test_with_culture_off_no_contrast_is_found() -> None:
    found = 0
    for seed in range(N_NULL_WORLDS):
        world = simulate(SIZES["demo"], seed=seed, culture="off", progress=lambda _: None)
        p = contrast_p_values(world)
        found += bool(p.min() < 0.05 / len(p))

    # 5 in 100 are allowed: 3 or more of 10 would have a probability of 1 in 85.
    assert found <= 2
