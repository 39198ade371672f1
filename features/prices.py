"""Taste for price: how dear this product is, and how dear those that the shopper turned to.

A price says little by itself: 20,000 won is dear for socks and cheap for a coat. Here a price is
measured against what its category costs in its market, and a shopper by the prices of what they
have looked at. Everything learned comes from training rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from features.clickstream import Clickstream
from features.columns import ColumnSet, Floats
from features.lists import Offers

CATEGORY_STRENGTH = 1.0
"""Impressions at the market's mean price that a category's mean starts from."""

TASTE_STRENGTH = 3.0
"""Products of the usual price that a shopper's mean starts from."""

SMALLEST_SPREAD = 0.05
"""Log prices closer than this count as this far apart, lest rounding looks like taste."""

ROUNDING = 1e-9
"""Levels closer than this, in spreads, are the same. What rounding leaves of a price that never
changes would be a column of noise, and its bins as wide as those of any other."""


@dataclass(frozen=True)
class PriceLevels:
    """Usual prices in training.

    Attributes:
        markets: `market, centre, spread`: mean of log prices, and their spread about their
            category's mean.
        categories: `market, category, centre`, drawn to the market's mean.
        products: `product_id, level`: mean distance from the category's mean, in spreads.
    """

    markets: pl.DataFrame
    categories: pl.DataFrame
    products: pl.DataFrame

    @classmethod
    def fit(cls, shown: pl.DataFrame, products: pl.DataFrame) -> Self:
        """Learn usual prices, by sums in the order of the rows: the same in every run.

        Args:
            shown: training impressions.
            products: the catalogue.
        """
        rows = (
            shown.select("product_id", pl.col("market").cast(pl.String), "price")
            .filter(pl.col("price").is_not_null())
            .join(
                products.select("product_id", "category"),
                on="product_id",
                how="left",
                maintain_order="left",
            )
            .with_columns(log_price=pl.col("price").log1p())
        )
        markets = (
            rows.group_by("market", maintain_order=True)
            .agg(centre=pl.col("log_price").mean())
            .sort("market")
        )
        total, n = pl.col("log_price").sum(), pl.len()
        categories = (
            rows.filter(pl.col("category").is_not_null())
            .group_by("market", "category", maintain_order=True)
            .agg(total=total, n=n)
            .join(markets, on="market")
            .select(
                "market",
                "category",
                centre=(pl.col("total") + CATEGORY_STRENGTH * pl.col("centre"))
                / (pl.col("n") + CATEGORY_STRENGTH),
            )
            .sort("market", "category")
        )
        distance = rows.with_columns(
            distance=pl.col("log_price") - _centre(rows, markets, categories)
        )
        spread = distance.group_by("market", maintain_order=True).agg(
            spread=pl.col("distance").pow(2).mean().sqrt().clip(lower_bound=SMALLEST_SPREAD)
        )
        markets = markets.join(spread, on="market", maintain_order="left")
        levels = (
            distance.join(spread, on="market", maintain_order="left")
            .filter(pl.col("product_id").is_not_null())
            .group_by("product_id", maintain_order=True)
            .agg(level=(pl.col("distance") / pl.col("spread")).mean())
            .sort("product_id")
        )
        return cls(markets, categories, levels)

    def of_impressions(self, shown: pl.DataFrame, products: pl.DataFrame) -> Floats:
        """Distance of each price from its category's mean in its market, in spreads.

        Args:
            shown: impressions.
            products: the catalogue.

        Returns:
            float64 [n], NaN where there is no price or the market was not in training.
        """
        rows = shown.select("product_id", pl.col("market").cast(pl.String), "price").join(
            products.select("product_id", "category"),
            on="product_id", how="left", maintain_order="left",
        )  # fmt: skip
        spread = rows.select("market").join(
            self.markets, on="market", how="left", maintain_order="left"
        )["spread"]
        level = (rows["price"].log1p() - _centre(rows, self.markets, self.categories)) / spread
        return level.fill_null(np.nan).to_numpy()

    def of_products(self, products: pl.DataFrame) -> Floats:
        """Usual level of each product of the catalogue, the missing product first.

        Returns:
            float64 [n_products + 1], NaN where training rows did not show it.
        """
        found = products.select("product_id").join(
            self.products, on="product_id", how="left", maintain_order="left"
        )["level"]
        return np.append(np.nan, found.fill_null(np.nan).to_numpy())

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            name: getattr(self, name).to_dict(as_series=False)
            for name in ("markets", "categories", "products")
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        text = dict.fromkeys(("market", "category", "product_id"), pl.String)
        frames = {
            name: pl.DataFrame(
                columns, schema={c: text.get(c, pl.Float64) for c in columns}, strict=True
            )
            for name, columns in state.items()
        }
        return cls(**frames)


def _centre(rows: pl.DataFrame, markets: pl.DataFrame, categories: pl.DataFrame) -> pl.Series:
    """Mean log price of the category in the market, of the market where there is none, [n]."""
    found = (
        rows.select("market", "category")
        .join(categories, on=["market", "category"], how="left", maintain_order="left")
        .join(markets, on="market", how="left", maintain_order="left", suffix="_of_market")
    )
    return found.select(pl.coalesce("centre", "centre_of_market")).to_series()


def add_price_taste(
    levels: PriceLevels,
    stream: Clickstream,
    offers: Offers,
    shown: pl.DataFrame,
    products: pl.DataFrame,
    columns: ColumnSet,
) -> None:
    """How dear this product is, and how that suits what the shopper has turned to.

    The products of both are columns too: a linear model cannot multiply, and whether a price
    deters depends on whose it is.
    """
    if not len(levels.markets):  # not by the rows at hand: scoring has the columns of training
        return
    level = levels.of_impressions(shown, products)
    usual = levels.of_products(products)
    events, rows = stream.events, stream.shown
    columns.number("price_level", "terms", "price level", level)
    beyond = level - usual[rows.product]
    beyond[np.abs(beyond) < ROUNDING] = 0.0
    columns.number("price_level_to_usual", "terms", "price level", beyond)
    # events on one product after another are one look at it
    turns = np.diff(events.product, prepend=-1) != 0
    turns |= np.diff(events.unit, prepend=-1) != 0
    found = usual[events.product]
    counts = turns & ~np.isnan(found)
    total = np.append(0.0, np.cumsum(np.where(counts, found, 0.0)))
    number = np.append(0, np.cumsum(counts))
    first = events.first[rows.unit]
    n_touched = number[rows.cut] - number[first]
    taste = (total[rows.cut] - total[first]) / (n_touched + TASTE_STRENGTH)
    for name, values in (
        ("price_level_of_touched", taste),
        ("price_level_to_touched", level - taste),
        ("price_level_times_touched", level * taste),
        ("discount_times_price_level_of_touched", offers.discount_rate * taste),
    ):
        columns.number(name, "clickstream", "price taste", values, n_touched > 0)
