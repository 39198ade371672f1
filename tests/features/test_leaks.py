from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from features.arrays import TEST, TRAIN, Column, EncodedMarket
from features.leaks import leaky_columns, rank_auc

MakeMarket = Callable[..., EncodedMarket]


def with_column(data: EncodedMarket, values: np.ndarray, block: str = "context") -> EncodedMarket:
    return data.with_numbers(values[:, None], [Column("extra", "context", block)])


def test_the_auc_counts_ties_half() -> None:
    rng = np.random.default_rng(0)
    score, positive = rng.integers(0, 9, 300).astype(float), rng.random(300) < 0.2
    count = mannwhitneyu(score[positive], score[~positive]).statistic
    expected = count / (positive.sum() * (~positive).sum())
    assert rank_auc(score, positive) == pytest.approx(expected)
    assert np.isnan(rank_auc(score, np.ones(300, bool)))


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_number_that_tells_the_label_is_named_in_either_direction(
    market: EncodedMarket, sign: float
) -> None:
    leaks = leaky_columns(with_column(market, sign * market.converted))
    assert leaks == [("extra", 1.0)]


def test_a_number_that_is_missing_where_nothing_converted_is_named(market: EncodedMarket) -> None:
    values = np.where(market.converted > 0, 5.0, np.nan)
    assert leaky_columns(with_column(market, values)) == [("extra", 1.0)]


def test_an_aggregate_is_no_context(market: EncodedMarket) -> None:
    assert leaky_columns(with_column(market, market.converted, "this product")) == []


def test_only_training_rows_are_looked_at(market: EncodedMarket) -> None:
    rng = np.random.default_rng(0)
    values = np.where(market.part == TRAIN, rng.random(len(market)), market.converted)
    assert leaky_columns(with_column(market, values)) == []
    assert leaky_columns(replace(market, part=np.full_like(market.part, TEST))) == []


@pytest.mark.parametrize(
    ("codes", "leaks"), [("label", True), ("constant", False), ("ids", False)]
)
def test_a_category_leaks_if_other_rows_of_its_value_tell(
    market: EncodedMarket, codes: str, leaks: bool
) -> None:
    values = {
        "label": 3 + market.converted,
        "constant": np.full(len(market), 3),
        "ids": 3 + np.arange(len(market)),
    }[codes]
    data = replace(
        market,
        categories=values[:, None].astype(np.int32),
        category_columns=(Column("extra", "context", "context", n_codes=len(market) + 3),),
    )
    assert [name for name, _ in leaky_columns(data)] == ["extra"] * leaks
