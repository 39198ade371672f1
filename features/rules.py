"""The rules of a row: one schema a table, and a sentence for each rule that can be broken.

A schema may be used alone: `validate` raises, `filter` returns good rows and failures.
"""

import dataframely as dy
import polars as pl

SPLITS = ("train", "validation", "test")
"""What the column `split` may say."""


def _in_calendar(column: pl.Expr) -> pl.Expr:
    return column.dt.year().is_between(1, 9999)


def _first_of_its_kind(column: pl.Expr) -> pl.Expr:
    # A missing id breaks its own rule and is not also a repetition.
    return column.is_first_distinct() | column.is_null()


class Products(dy.Schema):
    """The catalogue. `row` is the number of the row in the table as given."""

    row = dy.Int64()
    product_id = dy.String(min_length=1)
    title = dy.String(nullable=True)
    image = dy.String(nullable=True)
    category = dy.String(nullable=True)
    brand = dy.String(nullable=True)
    match_group = dy.String(nullable=True)
    image_hash = dy.String(nullable=True)
    price = dy.Float64(nullable=True, min=0)

    @dy.rule()
    def product_id_repeats(cls) -> pl.Expr:  # noqa: N805
        """The first row of an id is the product, later ones are set aside."""
        return _first_of_its_kind(cls.product_id.col)


class Events(dy.Schema):
    """The clickstream."""

    row = dy.Int64()
    session_id = dy.String(min_length=1)
    user_id = dy.String(nullable=True, min_length=1)
    timestamp = dy.Datetime(time_unit="us", time_zone="UTC")
    event_type = dy.String()
    product_id = dy.String(nullable=True)

    @dy.rule()
    def timestamp_beyond_calendar(cls) -> pl.Expr:  # noqa: N805
        """Years 1 to 9999."""
        return _in_calendar(cls.timestamp.col)


class Impressions(dy.Schema):
    """What was shown, on which terms, and whether it converted (null where unknown)."""

    row = dy.Int64()
    impression_id = dy.String(min_length=1)
    session_id = dy.String(min_length=1)
    user_id = dy.String(nullable=True, min_length=1)
    timestamp = dy.Datetime(time_unit="us", time_zone="UTC")
    market = dy.String(min_length=1)
    product_id = dy.String(nullable=True)
    price = dy.Float64(nullable=True, min=0)
    discount_rate = dy.Float64(nullable=True, min=0, max=1)
    free_shipping = dy.Bool(nullable=True)
    list_id = dy.String(nullable=True, min_length=1)
    randomised = dy.Bool(nullable=True)
    propensity = dy.Float64(nullable=True, min_exclusive=0, max=1)
    split = dy.String(nullable=True)
    # last, as in `LabelledImpressions`: data are known by their columns in order
    converted = dy.Bool(nullable=True)

    @dy.rule()
    def impression_id_repeats(cls) -> pl.Expr:  # noqa: N805
        """The first row of an id is the impression, later ones are set aside."""
        return _first_of_its_kind(cls.impression_id.col)

    @dy.rule()
    def timestamp_beyond_calendar(cls) -> pl.Expr:  # noqa: N805
        """Years 1 to 9999."""
        return _in_calendar(cls.timestamp.col)

    @dy.rule()
    def split_unknown(cls) -> pl.Expr:  # noqa: N805
        """One of `SPLITS`."""
        return cls.split.col.is_in(SPLITS)


class LabelledImpressions(Impressions):
    """Impressions to learn from or to evaluate on: every one has its label."""

    converted = dy.Bool()


TABLES: dict[str, type[dy.Schema]] = {
    "products": Products,
    "events": Events,
    "impressions": Impressions,
}
"""The schema of each table."""

FORGIVEN = {"products": ("image_hash", "price")}
"""Columns of which a bad cell is missing and sets no row aside: impressions need no price of the
catalogue and no hash, and would lose the title and the picture with it."""

_REASONS = {
    "product_id_repeats": "product_id repeats an earlier row",
    "impression_id_repeats": "impression_id repeats an earlier row",
    "timestamp_beyond_calendar": "timestamp is not between the years 1 and 9999",
    "split_unknown": f"split is none of {', '.join(SPLITS)}",
    "price|min": "price is negative",
}
_BOUNDS = {
    "discount_rate": "discount_rate is no number in [0, 1] (20 % is 0.2)",
    "propensity": "propensity is no number in (0, 1]",
}
_BREACHES = {
    "nullability": "is missing",
    "min_length": "is empty (leave out what is unknown)",
    "nan": "is not a number",
    "inf": "is infinite",
}


def reason(rule: str) -> str:
    """Say what is wrong with a row that breaks a rule.

    Args:
        rule: the name dataframely gives it, such as `price|min`.

    Returns:
        A clause that starts with the column's name.
    """
    if rule in _REASONS:
        return _REASONS[rule]
    column, _, kind = rule.partition("|")
    if column in _BOUNDS:
        return _BOUNDS[column]
    return f"{column} {_BREACHES[kind]}"
