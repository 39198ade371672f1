"""Amazon-M2 (KDD Cup 2023): shopping sessions of six Amazon shops, without times or purchases.

A row of `sessions_train.csv` is a session: the products engaged with, in order, and the next one.
The former become view events, the latter one list of impressions. **The next product is a proxy of
a conversion**: the data do not say what was bought. Nor do they say what else was on show, so a
list shows the next product among others that are **sampled** (`notes` tells how), from the next
products of all sessions of the same locale. A product of the session itself may be drawn.

**Times are made up**: the file has none, and holds one locale after the other. In each locale the
sessions are spread evenly over the same 1,000 days, in the order of the file, so that training,
validation and test hold the same share of every locale. A session starts at midnight and has a
second between events; neither the hour nor the day of the week says anything.

An id in two locales is two listings (`DE-B09W9FND7K`), of one match group. Prices are in the
currency of the locale and do not change. The price 0 is missing, and so is 40000000.07: the file
prints this one number for many products, some ten times any other price; other high prices are
kept. Colour, size, model, material, author and description are not used.

Source: https://www.aicrowd.com/challenges/amazon-kdd-cup-23-multilingual-recommendation-challenge
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from purchase_predictor.data.sources.checks import Rule, check_rows, named_files
from purchase_predictor.data.sources.folder import check_drop, first_line, scan, write_folder
from purchase_predictor.data.sources.sampling import (
    CHUNK,
    N_SAMPLED,
    draw_lists,
    listed,
    market_seed,
    streamed,
)
from purchase_predictor.errors import DataError

SESSIONS, PRODUCTS = "sessions_train.csv", "products_train.csv"
SESSION_COLUMNS = ("prev_items", "next_item", "locale")
PRODUCT_COLUMNS = (
    "id", "locale", "title", "price", "brand", "color", "size", "model", "material", "author",
    "desc",
)  # fmt: skip
MARKETS = {"DE": "DE", "JP": "JP", "UK": "GB", "ES": "ES", "FR": "FR", "IT": "IT"}
"""ISO code of each locale, in the order of the publisher's file."""

INPUTS = ("title", "brand", "price")
"""What `drop` may leave out of the products; the price of the impressions too."""

PLACEHOLDERS = (0.0, 40_000_000.07)
"""Prices that mean that there is none."""

DAYS = 1000
"""How long the made-up time of every locale is."""

TIME = pl.Datetime("us", "UTC")
_START = datetime(2001, 1, 1, tzinfo=UTC)
_IDS = r"'[^'\s]+'"
_PRINTED = rf"^\[\s*{_IDS}(\s+{_IDS})*\s*\]$"
_IMPRESSIONS = {
    "impression_id": pl.String(),
    "session_id": pl.String(),
    "timestamp": TIME,
    "market": pl.String(),
    "product_id": pl.String(),
    "price": pl.Float64(),
    "converted": pl.Boolean(),
    "list_id": pl.String(),
}


@dataclass(frozen=True)
class Locale:
    """The sessions of one locale.

    Attributes:
        name: as in the file.
        sessions: `number` in the file, `next_item` and `n_previous`, in the order of the file.
        prices: `product_id, price` of its products.
    """

    name: str
    sessions: pl.DataFrame
    prices: pl.DataFrame


def notes(n_sampled: int = N_SAMPLED, seed: int = 0) -> tuple[str, ...]:
    """What the converted data hold that the publisher's do not, in sentences to print."""
    return (
        f"Sampled: each list is a session's next product and {n_sampled} others, drawn (seed "
        f"{seed}) from the next products of all sessions of the locale, by how often each is one, "
        "and shuffled.",
        f"Made up: times; the sessions of each locale are spread over the same {DAYS} days in the "
        "order of the file, with a second between events.",
        "A proxy: a next product counts as converted, bought or not.",
    )


def convert(
    raw: Path, output: Path, *, drop: list[str], n_sampled: int = N_SAMPLED, seed: int = 0
) -> dict[str, int]:
    """Convert the competition's training files.

    Args:
        raw: the folder that holds `sessions_train.csv` and `products_train.csv`, or one of them.
        output: the data folder to write: products, events, impressions.
        drop: inputs to leave out, of `INPUTS`.
        n_sampled: products to show beside the next one.
        seed: of everything that is drawn.

    Returns:
        Rows of each table, and `sessions`, `prices_missing` (placeholders and blanks) and
        `lists_short` (for which a locale has too few products).

    Raises:
        UserError: if the raw files differ from the publisher's layout, or `output` is taken.
    """
    check_drop(drop, INPUTS)
    files = named_files(raw, (SESSIONS, PRODUCTS))
    raw_sessions = scan(files[SESSIONS], SESSION_COLUMNS).with_row_index("number")
    raw_products = scan(files[PRODUCTS], PRODUCT_COLUMNS)
    _check(raw_sessions, raw_products, files)
    products = _products(raw_products)
    prices, sessions = _collected(products, raw_sessions, files)
    counts = {
        "products": len(prices),
        "events": int(sessions["n_previous"].sum()),
        "impressions": 0,
        "sessions": len(sessions),
        "prices_missing": prices["price"].null_count(),
        "lists_short": 0,
    }
    locales = _locales(sessions, prices)

    def batches() -> Iterator[pl.DataFrame]:
        counts.update(impressions=0, lists_short=0)
        for locale in locales:
            for batch, n_short in _lists(locale, n_sampled, seed):
                counts["impressions"] += len(batch)
                counts["lists_short"] += n_short
                yield batch

    tables = {
        "products": products.drop(drop),
        "events": _events(raw_sessions, {part.name: len(part.sessions) for part in locales}),
        "impressions": streamed(batches, _IMPRESSIONS).drop({"price"} & set(drop)),
    }
    description = {
        "source": "amazon-m2", "raw": [SESSIONS, PRODUCTS], "dropped": drop,
        "sampled": n_sampled, "seed": seed, "notes": notes(n_sampled, seed), "rows": counts,
    }  # fmt: skip
    write_folder(output, tables, description)
    return counts


def _check(sessions: pl.LazyFrame, products: pl.LazyFrame, files: dict[str, Path]) -> None:
    locale = Rule(pl.col("locale").is_in(list(MARKETS)), f"one of {', '.join(MARKETS)}")
    printed = Rule(
        pl.col("prev_items").str.contains(_PRINTED), "ids in quotes between square brackets"
    )
    following = Rule(pl.col("next_item").str.contains(r"^[^'\s]+$"), "an id")
    check_rows(
        sessions.select(SESSION_COLUMNS),
        {"prev_items": printed, "next_item": following, "locale": locale},
        files[SESSIONS],
        "session",
    )
    amount = pl.col("price").cast(pl.Float64, strict=False)
    number = Rule(
        pl.col("price").is_null() | (amount.is_finite() & (amount >= 0)), "a number from 0 up"
    )
    asin = Rule(pl.col("id").str.contains(r"^[^'\s]+$"), "an id")
    rules = {"id": asin, "locale": locale, "price": number}
    check_rows(products, rules, files[PRODUCTS], "product")
    twice = products.group_by("id", "locale").len().filter(pl.col("len") > 1).sort("id", "locale")
    for name, where, _ in twice.head(1).collect().rows():
        raise DataError(
            f"The raw file {files[PRODUCTS]} differs from its layout: the product {name} of the "
            f"locale {where} is there twice."
        )


def _collected(
    products: pl.LazyFrame, sessions: pl.LazyFrame, files: dict[str, Path]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What is held in memory: prices, and of each session its next product and its length."""
    short = sessions.select(
        "number",
        "locale",
        "next_item",
        pl.col("prev_items").str.count_matches(_IDS).alias("n_previous"),
    )
    try:
        prices, lengths = pl.collect_all([products.select("product_id", "price"), short])
    except PolarsError as error:
        raise DataError(
            f"The raw files {files[SESSIONS]} and {PRODUCTS} differ from their layout: "
            f"{first_line(error)}."
        ) from error
    return prices, lengths


def _locales(sessions: pl.DataFrame, prices: pl.DataFrame) -> list[Locale]:
    market = pl.col("product_id").str.head(2)
    return [
        Locale(name, sessions.filter(pl.col("locale") == name), prices.filter(market == code))
        for name, code in MARKETS.items()
    ]


def _products(raw: pl.LazyFrame) -> pl.LazyFrame:
    price = pl.col("price").cast(pl.Float64)
    return raw.select(
        _listing("id").alias("product_id"),
        "title",
        "brand",
        pl.col("id").alias("match_group"),
        pl.when(~price.is_in(PLACEHOLDERS)).then(price).alias("price"),
    )


def _listing(name: str) -> pl.Expr:
    return pl.format("{}-{}", pl.col("locale").replace(MARKETS), name)


def _events(sessions: pl.LazyFrame, lengths: dict[str, int]) -> pl.LazyFrame:
    """Views of the previous products, locale after locale, in the order of the file."""
    parts = []
    for name, length in lengths.items():
        viewed = (
            sessions.filter(pl.col("locale") == name)
            .with_row_index("place")
            .with_columns(pl.col("prev_items").str.extract_all(_IDS).alias("asin"))
            .with_columns(pl.int_ranges(0, pl.col("asin").list.len()).alias("second"))
            .explode("asin", "second")
            .with_columns(pl.col("asin").str.strip_chars("'"))
        )
        parts.append(
            viewed.select(
                pl.format("{}-{}", pl.lit(MARKETS[name]), "number").alias("session_id"),
                _time("second", length).alias("timestamp"),
                pl.lit("view").alias("event_type"),
                _listing("asin").alias("product_id"),
            )
        )
    return pl.concat(parts)


def _time(second: str, n_sessions: int) -> pl.Expr:
    """Seconds after the midnight at which session `place` of a locale starts."""
    day = pl.col("place").cast(pl.Int64) * DAYS // n_sessions
    return pl.lit(_START, TIME) + pl.duration(days=day, seconds=pl.col(second))


def _lists(locale: Locale, n_sampled: int, seed: int) -> Iterator[tuple[pl.DataFrame, int]]:
    """Impressions of the sessions of a locale, piece by piece, and how many lists are short."""
    market = MARKETS[locale.name]
    sessions = locale.sessions
    if not len(sessions):
        return
    following = sessions["next_item"]
    taken = following.rank("dense").to_numpy().astype(np.int64) - 1
    items = (
        pl.DataFrame({"asin": following.unique().sort()})
        .select(pl.format("{}-{}", pl.lit(market), "asin").alias("product_id"))
        .join(locale.prices, on="product_id", how="left", maintain_order="left")
    )
    name = pl.format("{}-{}", pl.lit(market), "number")
    heads = sessions.with_row_index("place").select(
        name.alias("session_id"),
        _time("n_previous", len(sessions)).alias("timestamp"),
        pl.lit(market).alias("market"),
        name.alias("list_id"),
    )
    for first in range(0, len(sessions), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(sessions)))
        drawn = draw_lists(
            rows, taken, n_sampled=n_sampled, window=len(sessions),
            seed=market_seed(seed, market),
        )  # fmt: skip
        yield listed(heads[rows], drawn, items).select(list(_IMPRESSIONS)), drawn.n_short
