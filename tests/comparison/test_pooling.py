import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from purchase_predictor.comparison.pooling import Pooling, fit_pooling, pool

N_CONVERTED = {"KR": 1000, "US": 30}


def drawn(weight: dict[str, float], n: int = 20_000) -> pl.DataFrame:
    """Rows whose truth is so much of the local logit and the rest of the global one."""
    rng = np.random.default_rng(0)
    market = np.where(rng.random(n) < 0.5, "KR", "US")
    of_all, own = rng.normal(-2, 1, (2, n))
    share = np.array([weight[name] for name in market])
    truth = expit((1 - share) * of_all + share * own)
    return pl.DataFrame(
        {
            "market": market,
            "converted": rng.random(n) < truth,
            "global": expit(of_all),
            "local": expit(own),
        }
    )


def test_a_market_s_own_model_counts_by_its_conversions() -> None:
    pooling = fit_pooling(drawn({"KR": 1000 / 1300, "US": 30 / 330}), N_CONVERTED)

    assert 150 < pooling.kappa < 600
    assert pooling.weight(np.array([1000.0, 30.0])) == pytest.approx(
        [1000 / (1000 + pooling.kappa), 30 / (30 + pooling.kappa)]
    )


@pytest.mark.parametrize(("share", "expected"), [(0.0, "global"), (1.0, "local")])
def test_where_one_model_knows_all_the_other_does_not_count(share: float, expected: str) -> None:
    rows = drawn({"KR": share, "US": share})
    pooling = fit_pooling(rows, N_CONVERTED)

    assert pooling.kappa == (0.0 if expected == "local" else np.inf)
    np.testing.assert_allclose(pool(rows, pooling, N_CONVERTED), rows[expected], rtol=1e-6)


def test_pooled_lies_between() -> None:
    rows = drawn({"KR": 0.5, "US": 0.5}, n=100)
    pooled = pool(rows, Pooling(1000.0, {}), N_CONVERTED)
    both = rows.select("global", "local").to_numpy()
    assert (pooled >= both.min(axis=1) - 1e-9).all()
    assert (pooled <= both.max(axis=1) + 1e-9).all()
