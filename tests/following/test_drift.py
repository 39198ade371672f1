from datetime import date

import numpy as np
import polars as pl
import pytest

from purchase_predictor.following.drift import drift, flagged, period_of
from tests.following.cases import evaluation, joined


@pytest.mark.parametrize(("last", "period"), [(20.9, "day"), (21.0, "week")])
def test_days_below_three_weeks(last: float, period: str) -> None:
    rows = joined({"a 1": [0.5, 0.5]}, [True, False], days=[0.0, last])
    assert period_of(rows.frame) == period


def test_weeks_begin_on_monday_and_have_their_own_figures() -> None:
    # three rows in the first week, two in the second, one in the fourth
    rows = joined(
        {"a 1": [0.1, 0.2, 0.6, 0.4, 0.4, 0.3]},
        [True, False, True, True, False, False],
        days=[0.0, 3.0, 6.99, 7.0, 13.0, 22.0],
    )
    table = drift(rows, settings=evaluation(), seed=0)

    assert table["period"].to_list() == [
        date(2025, 1, 6), date(2025, 1, 13), date(2025, 1, 27),
    ]  # fmt: skip
    assert table["n"].to_list() == [3, 2, 1]
    assert table["rate"].to_list() == pytest.approx([2 / 3, 1 / 2, 0])
    assert table["predicted"].to_list() == pytest.approx([0.3, 0.4, 0.3])
    assert table["ratio"].to_list()[:2] == pytest.approx([0.45, 0.8])
    assert table["ratio"][2] is None  # nothing converted
    assert table["psi"][0] == 0
    assert table["psi_by_chance"].to_list()[0] is None
    assert set(table["scope"]) == {"pooled"}


def test_markets_stand_beside_all_of_them() -> None:
    rng = np.random.default_rng(1)
    n = 4000
    market = np.where(np.arange(n) % 2, "KR", "US")
    p = rng.uniform(0.05, 0.3, n)
    truth = np.where(market == "KR", p, p / 2)
    rows = joined(
        {"a 1": p}, rng.random(n) < truth, market=market, unit=np.arange(n) // 4,
        days=np.arange(n) % 14,
    )  # fmt: skip
    table = drift(rows, settings=evaluation(), seed=0)

    assert set(table["market"]) == {"pooled", "KR", "US"}
    assert table.filter(pl.col("scope") == "market")["n"].sum() == n
    us = table.filter(pl.col("market") == "US")
    assert (us["low"] > 1).mean() > 0.5  # twice what happened
    kr = table.filter(pl.col("market") == "KR")
    assert ((kr["low"] <= 1) & (kr["high"] >= 1)).mean() > 0.7


def test_rows_with_a_flag_have_figures_of_their_own() -> None:
    rows = joined({"a 1": [0.2, 0.4, 0.6, 0.8]}, [True, False, True, False])
    flags = {
        "model": ["a 1"] * 4, "impression_id": ["i0", "i0", "i2", "i9"],
        "flag": ["new", "old", "new", "new"],
    }  # fmt: skip
    object.__setattr__(rows, "flags", pl.DataFrame(flags))
    new, old = flagged(rows, settings=evaluation(), seed=0)
    assert (new["flag"], new["n"], new["rate"]) == ("new", 2, 1.0)
    assert new["ratio"] == pytest.approx(0.4)
    assert (old["flag"], old["n"], old["predicted"]) == ("old", 1, 0.2)
