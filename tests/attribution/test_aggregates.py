"""Averages of contributions, worked by hand: when an interval is told, and what it holds."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from purchase_predictor.attribution.aggregates import (
    MIN_UNITS,
    modality_table,
    two_way_error,
    two_way_interval,
    word_table,
)
from purchase_predictor.attribution.shapley import MODALITIES
from purchase_predictor.report.contributing import (
    contribution_words,
    impressions_note,
    saved_note,
    saved_table,
)
from purchase_predictor.report.contributing_data import ContributionReport, Impression

ENGLISH = contribution_words("en")
N = 40


def saved_of(n_positive: dict[str, int]) -> pl.DataFrame:
    """Markets of `N` rows and as many users, with some conversions each."""
    rng = np.random.default_rng(0)
    market = np.repeat(list(n_positive), N)
    converted = np.concatenate([np.arange(N) < n for n in n_positive.values()]).astype(np.float32)
    values = rng.normal(1.0, 0.1, (len(market), len(MODALITIES)))
    methods = {"shapley": values, "integrated_gradients": values * (np.arange(6) != 4)}
    return modality_table(
        methods, values, market, np.arange(len(market)), converted,
        min_conversions=30, confidence=0.95,
    )  # fmt: skip


def report_of(modalities: pl.DataFrame, **given: object) -> ContributionReport:
    report = {"n": N, "held_out": True, "modalities": modalities, "words": pl.DataFrame()}
    return ContributionReport(**{**report, **given})


def test_log_loss_saved_of_few_conversions_has_no_interval_and_no_row_on_the_page() -> None:
    table = saved_of({"KR": 30, "US": 5})
    log_loss = table.filter(pl.col("measure") == "log_loss")
    few, enough = (log_loss.filter(pl.col("market") == name) for name in ("US", "KR"))
    assert few["low"].is_null().all()
    assert few["high"].is_null().all()
    assert few["value"].is_not_null().all()
    assert enough["low"].is_not_null().all()
    assert dict(table.select("market", "n_positive").unique().rows()) == {"KR": 30, "US": 5}

    shown = saved_table(table, ENGLISH)
    assert shown is not None
    assert [row[0] for row in shown["rows"]] == ["KR"]
    assert "fewer than 30 conversions or ten users), so not told: US." in saved_note(
        report_of(table), ENGLISH
    )
    assert "not told" not in saved_note(report_of(saved_of({"KR": 30})), ENGLISH)


def test_conversions_are_not_counted_where_no_outcome_is_known() -> None:
    values = np.ones((N, 6))
    unknown = np.full(N, np.nan, np.float32)
    table = modality_table(
        {"shapley": values}, None, np.repeat("KR", N), np.arange(N), unknown,
        min_conversions=30, confidence=0.95,
    )  # fmt: skip
    assert table["n_positive"].is_null().all()
    assert saved_table(table, ENGLISH) is None


def test_the_market_has_no_share_of_gradients_which_have_no_token_of_it() -> None:
    shares = saved_of({"KR": 30}).filter(pl.col("measure") == "share")
    culture = {
        row["method"]: row
        for row in shares.filter(pl.col("modality") == "culture").iter_rows(named=True)
    }
    missing = culture["integrated_gradients"]
    assert (missing["value"], missing["low"], missing["high"]) == (None, None, None)
    assert culture["shapley"]["value"] > 0.1
    rest = shares.filter(pl.col("method") == "integrated_gradients")["value"]
    assert rest.sum() == pytest.approx(1.0)


def test_a_word_s_interval_is_wider_where_few_listings_carry_it() -> None:
    """120 users, 12 listings: what a listing shares is not averaged away by its users."""
    rng = np.random.default_rng(1)
    product = np.repeat(np.arange(12), 10)
    value = rng.normal(size=12)[product] + 0.01 * rng.normal(size=120)
    rows = pl.DataFrame(
        {"impression_id": [f"i{n}" for n in range(120)], "unit": range(120), "product": product}
    )
    contributions = pl.DataFrame(
        {
            "impression_id": rows["impression_id"], "market": "KR", "modality": "text",
            "token": ["Shoes", "shoes"] * 60, "value": value, "method": "integrated_gradients",
        }
    )  # fmt: skip
    few = contributions.with_columns(token=pl.lit("sale")).filter(product < MIN_UNITS - 1)
    both = pl.concat([contributions, few]).lazy()
    (row,) = word_table(both, rows, "integrated_gradients", 0.95).rows(named=True)
    assert (row["token"], row["n_impressions"]) == ("shoes", 120)
    assert row["value"] == pytest.approx(value.mean())
    reach = stats.t.isf(0.025, 11) * two_way_error(value, np.arange(120), product)
    assert row["high"] - row["value"] == pytest.approx(reach)
    by_listing = stats.sem(value.reshape(12, 10).mean(axis=1))
    assert row["high"] - row["value"] > 1.8 * by_listing


def test_the_two_way_interval_of_independent_rows_is_the_t_interval() -> None:
    x = np.random.default_rng(2).normal(size=50)
    value, low, high = two_way_interval(x, np.arange(50), np.arange(50), 0.9)
    expected = stats.t.interval(0.9, 49, loc=x.mean(), scale=x.std() / np.sqrt(50))
    assert (value, low, high) == pytest.approx((x.mean(), *expected))


@pytest.mark.parametrize("one", ["unit", "product"])
def test_one_user_or_one_listing_gives_no_interval(one: str) -> None:
    x, many = np.linspace(0.0, 1.0, 50), np.arange(50)
    owners = {"unit": many, "product": many, one: np.zeros(50, np.int64)}
    value, low, high = two_way_interval(x, owners["unit"], owners["product"], 0.95)
    assert value == 0.5
    assert np.isnan([low, high]).all()


def test_the_page_says_which_markets_single_impressions_are_of() -> None:
    one = Impression("i", "KR", 0.1, None, "", [], None, (), (), {})
    table = saved_of({"KR": 30})
    some = report_of(table, impressions=[one], n_markets=14)
    assert "Of 14 markets these are the first 1 by name." in impressions_note(some, ENGLISH)
    every = report_of(table, impressions=[one], n_markets=1)
    assert impressions_note(every, ENGLISH) == ENGLISH.impressions_note
