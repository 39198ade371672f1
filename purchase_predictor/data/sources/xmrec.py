"""XMarket (XMRec, CIKM 2021): Amazon ratings of 18 markets, with dates and without offers.

A line of `ratings_MARKET_CATEGORY.txt.gz` is `userId itemId rate date`. **A rating is a proxy of
a conversion**, good or bad: how many stars it gives is not kept. It becomes an event of its user,
and a list of impressions on its date: the rated item among others that are **sampled** (`notes`
tells how), since the data do not say what else was on show. The others are items of ratings of
the same market about the same date, and none that the user ever rates there: neither what is
popular nor what is not yet sold tells the rated one.

Ratings have a date and no hour. All of a day are at midnight, so what a user rates on one day is
no history of one another; a user's day in a market is a session. A user's or an item's id is the
same in all markets, and so are the user and the product. An item's category is that of its file,
the first in the alphabet if it is in several. Ratings without a date are left out and counted; of
several of one item by one user in a market the first counts. There are neither prices nor titles
(`metadata_*` and `reviews_*` are not read).

One market is in memory at a time, about 250 bytes a rating.

Source: https://xmrec.github.io
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from polars.exceptions import PolarsError

from features.errors import ISO_CODES
from purchase_predictor.data.sources.checks import Rule, check_rows
from purchase_predictor.data.sources.folder import check_drop, first_line, write_folder
from purchase_predictor.data.sources.sampling import (
    CHUNK,
    N_SAMPLED,
    Bools,
    Ints,
    draw_lists,
    listed,
    market_seed,
    streamed,
)
from purchase_predictor.errors import DataError, nearest, nearest_market

COLUMNS = ("userId", "itemId", "rate", "date")
"""The files have no line with their names."""

MARKETS = (
    "ae", "au", "br", "ca", "cn", "de", "es", "fr", "in", "it", "jp", "mx", "nl", "sa", "sg",
    "tr", "uk", "us",
)  # fmt: skip
INPUTS = ("category",)
"""What `drop` may leave out of the products."""

WINDOW = 500
"""Ratings before and after a rating that the others of its list come from."""

COUNTED = (
    "products", "events", "impressions", "markets", "undated", "repeated", "lists_short",
)  # fmt: skip
EXPECTED = "ratings_MARKET_CATEGORY.txt.gz"
TIME = pl.Datetime("us", "UTC")
_NAME = re.compile(r"ratings_([A-Za-z]+)_(.+)\.txt(?:\.gz)?")
_CUP = ("train.tsv", "train_5core.tsv")
_EVENTS = {
    "session_id": pl.String(),
    "user_id": pl.String(),
    "timestamp": TIME,
    "event_type": pl.String(),
    "product_id": pl.String(),
}
_IMPRESSIONS = {
    "impression_id": pl.String(),
    "session_id": pl.String(),
    "user_id": pl.String(),
    "timestamp": TIME,
    "market": pl.String(),
    "product_id": pl.String(),
    "converted": pl.Boolean(),
    "list_id": pl.String(),
}


@dataclass(frozen=True)
class RatingsFile:
    """A file of ratings.

    Attributes:
        path: where it lies.
        market: as in its name.
        category: as in its name.
        n_columns: 0 where it is empty, as some are.
    """

    path: Path
    market: str
    category: str
    n_columns: int

    def scan(self) -> pl.LazyFrame:
        """Its lines as text, with the names of the publisher."""
        return _scan(self.path, list(COLUMNS))

    def ratings(self) -> pl.LazyFrame:
        """Its ratings that have a date: `user_id, product_id, date`."""
        return self.scan().select(
            pl.col("userId").alias("user_id"),
            pl.col("itemId").alias("product_id"),
            pl.col("date").str.to_date("%Y-%m-%d"),
        ).filter(pl.col("date").is_not_null())  # fmt: skip


def notes(n_sampled: int = N_SAMPLED, seed: int = 0) -> tuple[str, ...]:
    """What the converted data hold that the publisher's do not, in sentences to print."""
    return (
        f"Sampled: each list is a rated item and {n_sampled} others, drawn (seed {seed}) from the "
        f"{WINDOW} ratings before and after in the same market, more where these do not do, "
        "without what the user ever rates there, and shuffled.",
        "Made up: the hour; all ratings of a day are at midnight (UTC), a user's day in a market "
        "is a session.",
        "A proxy: a rating counts as converted, however many stars it gives.",
    )


def convert(
    raw: Path, output: Path, *, drop: list[str], n_sampled: int = N_SAMPLED, seed: int = 0
) -> dict[str, int]:
    """Convert ratings files of any markets and categories.

    Args:
        raw: the folder in or below which they lie, or one of them.
        output: the data folder to write: products, events, impressions.
        drop: inputs to leave out, of `INPUTS`.
        n_sampled: items to show beside the rated one.
        seed: of everything that is drawn.

    Returns:
        Rows of each table, and `markets`, `undated` and `repeated` (ratings left out) and
        `lists_short` (for which a market has too few items).

    Raises:
        UserError: if the raw files differ from the publisher's layout, or `output` is taken.
    """
    check_drop(drop, INPUTS)
    files = _files(raw)
    for file in files:
        _check(file)
    held = [file for file in files if file.n_columns]
    products, dated, undated = _products(held, raw)
    markets = sorted({file.market for file in held})
    counts = dict.fromkeys(COUNTED, 0)
    counts.update(products=len(products), markets=len(markets), undated=undated)

    def events() -> Iterator[pl.DataFrame]:
        counts.update(events=0, repeated=dated)
        for market in markets:
            for part in _ratings(held, market).iter_slices(CHUNK):
                counts["events"] += len(part)
                counts["repeated"] -= len(part)
                yield _events(part, market)

    def impressions() -> Iterator[pl.DataFrame]:
        counts.update(impressions=0, lists_short=0)
        for market in markets:
            for batch, n_short in _lists(_ratings(held, market), market, n_sampled, seed):
                counts["impressions"] += len(batch)
                counts["lists_short"] += n_short
                yield batch

    tables = {
        "products": products.lazy().drop(drop),
        "events": streamed(events, _EVENTS),
        "impressions": streamed(impressions, _IMPRESSIONS),
    }
    description = {
        "source": "xmrec", "raw": [file.path.name for file in files], "dropped": drop,
        "sampled": n_sampled, "seed": seed, "notes": notes(n_sampled, seed), "rows": counts,
    }  # fmt: skip
    write_folder(output, tables, description)
    return counts


def _files(raw: Path) -> list[RatingsFile]:
    """The ratings files, in order of market and category."""
    if not raw.exists():
        raise DataError(f"There is neither a file nor a folder {raw}.")
    below = [raw] if raw.is_file() else sorted(path for path in raw.rglob("*") if path.is_file())
    found: dict[tuple[str, str], RatingsFile] = {}
    for path in below:
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        market, category = match[1].lower(), match[2]
        if market not in MARKETS:
            raise DataError(
                f"The raw file {path} is of the market '{market}', which the publisher does not "
                f"have ({', '.join(MARKETS)}){nearest_market(market, MARKETS)}"
            )
        if (market, category) in found:
            raise DataError(
                f"The ratings of {market} {category} are there twice, as "
                f"{found[market, category].path} and {path}: keep one of them."
            )
        found[market, category] = RatingsFile(path, market, category, _n_columns(path))
    if not found:
        raise DataError(_nothing(raw, [path.name for path in below]))
    return [found[key] for key in sorted(found)]


def _nothing(raw: Path, names: list[str]) -> str:
    cup = next((name for name in _CUP if name in names), None)
    if cup:
        return (
            f"The raw file {cup} is of the WSDM Cup 2022, whose ratings have no date: give the "
            f"files {EXPECTED} of XMarket."
        )
    if raw.is_file():
        return f"The raw file {raw} must be called {EXPECTED}."
    near = nearest("ratings_uk_Books.txt.gz", names)
    return f"There is no file {EXPECTED} in or below the folder {raw}{near}"


def _scan(path: Path, names: list[str] | None = None) -> pl.LazyFrame:
    return pl.scan_csv(
        path, separator=" ", has_header=False, infer_schema=False, raise_if_empty=False,
        new_columns=names,
    )  # fmt: skip


def _n_columns(path: Path) -> int:
    try:
        found = len(_scan(path).collect_schema())
    except (PolarsError, OSError) as error:
        raise DataError(f"The raw file {path} cannot be read: {first_line(error)}.") from error
    if found not in {0, len(COLUMNS)}:
        missing = f" (no {COLUMNS[found]})" if found < len(COLUMNS) else ""
        raise DataError(
            f"The raw file {path} differs from its layout: its first line has {found} columns "
            f"instead of {len(COLUMNS)}, {' '.join(COLUMNS)}{missing}."
        )
    return found


def _check(file: RatingsFile) -> None:
    if not file.n_columns:
        return
    stars, date = pl.col("rate").cast(pl.Float64, strict=False), pl.col("date")
    day = date.str.to_date("%Y-%m-%d", strict=False)
    rules = {
        "userId": Rule(pl.col("userId") != "", "an id"),
        "itemId": Rule(pl.col("itemId") != "", "an id"),
        "rate": Rule(stars.is_between(1, 5), "a number from 1 to 5"),
        "date": Rule(date.is_null() | day.is_not_null(), "a date as YYYY-MM-DD"),
    }
    check_rows(file.scan(), rules, file.path, "line")


def _products(files: list[RatingsFile], raw: Path) -> tuple[pl.DataFrame, int, int]:
    """All items rated, and how many ratings have a date and how many have none."""
    if not files:
        raise DataError(f"The raw files of {raw} are empty.")
    seen = [f.ratings().select("product_id", category=pl.lit(f.category)).unique() for f in files]
    items = pl.concat(seen).group_by("product_id").agg(pl.col("category").min())
    found = items.sort("product_id").select(
        "product_id",
        *(pl.lit(None, dtype=pl.String).alias(name) for name in ("title", "image")),
        "category",
    )
    dates = pl.concat([file.scan().select("date") for file in files])
    dated = dates.select(pl.col("date").is_not_null().sum(), undated=pl.col("date").null_count())
    products, numbers = pl.collect_all([found, dated])
    if not len(products):
        raise DataError(f"The raw files of {raw} hold no rating with a date.")
    return products, int(numbers[0, 0]), int(numbers[0, 1])


def _ratings(files: list[RatingsFile], market: str) -> pl.DataFrame:
    """Ratings of a market in order of time, without those that repeat an earlier one.

    Those of a day are in order of the user, lest neighbours be of one category.
    """
    ratings = pl.concat([file.ratings() for file in files if file.market == market])
    return (
        ratings.sort("date", "user_id", "product_id")
        .unique(["user_id", "product_id"], keep="first", maintain_order=True)
        .collect()
    )


def _iso(market: str) -> str:
    return ISO_CODES.get(market.upper(), market.upper())


def _session(market: str) -> pl.Expr:
    return pl.format("{}-{}-{}", pl.lit(_iso(market)), "user_id", "date")


def _events(ratings: pl.DataFrame, market: str) -> pl.DataFrame:
    return ratings.select(
        _session(market).alias("session_id"),
        "user_id",
        pl.col("date").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("timestamp"),
        pl.lit("rating").alias("event_type"),
        "product_id",
    )


def _lists(
    ratings: pl.DataFrame, market: str, n_sampled: int, seed: int
) -> Iterator[tuple[pl.DataFrame, int]]:
    """Impressions of a market, piece by piece, and how many lists are short."""
    items = pl.DataFrame({"product_id": ratings["product_id"].unique().sort()})
    user, item = (
        ratings[name].rank("dense").to_numpy().astype(np.int64) - 1
        for name in ("user_id", "product_id")
    )
    pairs = np.sort(user * len(items) + item)

    def rated(rows: Ints, drawn: Ints) -> Bools:
        pair = user[rows] * len(items) + drawn
        place = np.minimum(np.searchsorted(pairs, pair), len(pairs) - 1)
        return pairs[place] == pair

    for first in range(0, len(ratings), CHUNK):
        rows = np.arange(first, min(first + CHUNK, len(ratings)))
        drawn = draw_lists(
            rows, item, n_sampled=n_sampled, window=WINDOW, seed=market_seed(seed, market),
            refused=rated,
        )  # fmt: skip
        part = ratings[rows]
        heads = _events(part, market).select(
            "session_id",
            "user_id",
            "timestamp",
            pl.lit(_iso(market)).alias("market"),
            pl.format("{}-{}", pl.lit(_iso(market)), pl.Series(rows)).alias("list_id"),
        )
        yield listed(heads, drawn, items).select(list(_IMPRESSIONS)), drawn.n_short
