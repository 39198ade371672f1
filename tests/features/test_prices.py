import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from features.arrays import TRAIN
from features.encoding import FeatureEncoder
from features.prices import PriceLevels
from features.schema import Tables
from features.splits import Split

N = 400


def shown(factor: float = 1.0) -> pl.DataFrame:
    """Socks cost 10 and coats 1,000, each product a bit more or less; KR counts in won."""
    rng = np.random.default_rng(0)
    product = rng.integers(0, 20, N)
    market = rng.integers(0, 2, N)
    usual = np.where(product < 10, 10.0, 1000.0) * (1 + 0.1 * (product % 10))
    return pl.DataFrame(
        {
            "product_id": [f"p{p}" for p in product],
            "market": np.where(market, "KR", "US"),
            "price": usual * np.where(market, 1300.0, 1.0) * factor,
        }
    )


def catalogue() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "product_id": [f"p{p}" for p in range(20)] + ["new"],
            "category": ["socks"] * 10 + ["coats"] * 10 + ["socks"],
        }
    )


@pytest.fixture(scope="module")
def levels() -> PriceLevels:
    return PriceLevels.fit(shown(), catalogue())


def test_a_price_is_dear_for_its_category_and_market(levels: PriceLevels) -> None:
    level = levels.of_impressions(shown(), catalogue())

    dear = shown()["product_id"].is_in(["p9", "p19"]).to_numpy()
    cheap = shown()["product_id"].is_in(["p0", "p10"]).to_numpy()
    assert level[dear].min() > 0.5
    assert level[cheap].max() < -0.5
    assert abs(np.corrcoef(level, shown()["market"] == "KR")[0, 1]) < 0.1
    doubled = levels.of_impressions(shown(2.0), catalogue())
    assert (doubled > level).all()


def test_a_product_has_its_usual_level_and_a_new_one_has_none(levels: PriceLevels) -> None:
    usual = levels.of_products(catalogue())

    assert len(usual) == 22
    assert np.isnan(usual[[0, 21]]).all()  # the missing product, and one that training never saw
    assert (np.diff(usual[1:11]) > 0).all()


def test_a_price_that_never_changes_is_always_the_usual_one(
    tiny_tables: Tables,
    tiny_split: Split,
    fit_encoder: Callable[[Tables, Split], FeatureEncoder],
) -> None:
    """And not now and then a hair off it, which is what means of many numbers are."""
    dear = pl.col("product_id").str.slice(1).cast(pl.Int64, strict=False) * 3.7 + 0.3
    shown = tiny_tables.impressions
    market = pl.lit("KR").cast(shown.schema["market"])
    tables = replace(tiny_tables, impressions=shown.with_columns(price=dear, market=market))
    data = fit_encoder(tables, tiny_split).transform(tables, tiny_split)
    names = [column.name for column in data.number_columns]
    beyond = data.numbers[:, names.index("price_level_to_usual")]

    assert np.unique(beyond[~np.isnan(beyond)]).tolist() == [0.0]


def test_what_is_not_known_is_missing(levels: PriceLevels) -> None:
    rows = pl.DataFrame(
        {
            "product_id": ["p0", "p0", "p0", None, "new"],
            "market": ["KR", "DE", "KR", "KR", "US"],
            "price": [None, 10.0, 13_000.0, 13_000.0, 10.0],
        },
        schema={"product_id": pl.String, "market": pl.String, "price": pl.Float64},
    )
    level = levels.of_impressions(rows, catalogue())
    assert np.isnan(level).tolist() == [True, True, False, False, False]


def test_state_survives_json(levels: PriceLevels) -> None:
    again = PriceLevels.from_dict(json.loads(json.dumps(levels.to_dict())))
    np.testing.assert_array_equal(
        again.of_impressions(shown(), catalogue()), levels.of_impressions(shown(), catalogue())
    )
    nothing = PriceLevels.fit(shown().clear(), catalogue())
    again = PriceLevels.from_dict(json.loads(json.dumps(nothing.to_dict())))
    assert np.isnan(again.of_impressions(shown(), catalogue())).all()


def test_taste_is_the_mean_of_what_was_turned_to(
    tiny_encoder: FeatureEncoder, tiny_tables: Tables, tiny_split: Split
) -> None:
    data = tiny_encoder.transform(tiny_tables, tiny_split)
    names = [column.name for column in data.number_columns]
    taste = data.numbers[:, names.index("price_level_of_touched")]
    usual = tiny_encoder.prices_.of_products(tiny_tables.products)
    first = np.flatnonzero(np.diff(data.events.unit, prepend=-1))
    unit = data.events.unit
    checked = 0
    for row in range(0, len(data), 7):
        cut = data.cut[row]
        start = first[first < cut].max() if cut else 0
        if cut == 0 or unit[cut - 1] != unit[start] or np.isnan(taste[row]):
            continue
        product = data.events.product[start:cut]
        turned = product[np.diff(product, prepend=-1) != 0]
        known = usual[turned][~np.isnan(usual[turned])]
        assert taste[row] == pytest.approx(known.sum() / (len(known) + 3), abs=1e-5)
        checked += 1
    assert checked > 20


def test_prices_of_the_test_teach_nothing(
    tiny_encoder: FeatureEncoder, tiny_tables: Tables, tiny_split: Split
) -> None:
    held = pl.Series(tiny_split.part != TRAIN)
    changed = tiny_tables.impressions.with_columns(
        price=pl.when(held).then(pl.col("price") * 9).otherwise(pl.col("price"))
    )
    again = FeatureEncoder.fit(
        replace(tiny_tables, impressions=changed),
        tiny_split,
        history=tiny_encoder.history_,
        min_identity_count=2,
        profiles=tiny_encoder.profiles_,
        phrases=tiny_encoder.phrases_,
    )
    assert again.prices_.to_dict() == tiny_encoder.prices_.to_dict()
