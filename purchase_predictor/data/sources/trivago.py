"""RecSys Challenge 2019 (trivago): hotel-search click streams on 55 country sites.

A row of the raw file is one action in a session. A clickout (leaving for the booking site) also
holds the list that was shown: `impressions` and `prices`, joined by `|`. Every shown item becomes
an impression, converted where it is the one clicked out. **A clickout is a proxy of a
conversion**: what happened on the booking site is not in the data.

Many actions share a second, so `step`, their number within the session, is added to the time as
microseconds. A clickout's impressions have its own time: the clickout is no history of theirs.

Source: https://recsys.trivago.cloud/challenge/dataset/
"""

from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from purchase_predictor.data.sources.folder import (
    check_drop,
    first_line,
    raw_file,
    scan,
    write_folder,
)
from purchase_predictor.errors import DataError

COLUMNS = (
    "user_id", "session_id", "timestamp", "step", "action_type", "reference", "platform", "city",
    "device", "current_filters", "impressions", "prices",
)  # fmt: skip
CLICKOUT = "clickout item"
INPUTS = ("price", "position", "device", "city", "active_filters")
"""What `drop` may leave out of the impressions."""

_ITEM_ACTIONS = (
    CLICKOUT, "interaction item deals", "interaction item image", "interaction item info",
    "interaction item rating", "search for item",
)  # fmt: skip
_ISO_MARKETS = {"UK": "GB"}


def convert(raw: Path, output: Path, *, drop: list[str]) -> dict[str, int]:
    """Convert the challenge's file.

    Args:
        raw: the file (Parquet or CSV) or its folder.
        output: the data folder to write: products, events, impressions.
        drop: inputs to leave out, of `INPUTS`.

    Returns:
        Rows of each table, and `clickouts`, `clicked` (those whose item is in its list) and
        `unknown` (those without a reference, as in the challenge's test file).

    Raises:
        UserError: if the raw file differs from the publisher's layout, or `output` is taken.
    """
    check_drop(drop, INPUTS)
    file = raw_file(raw, (".parquet", ".csv"))
    actions = _typed(scan(file, COLUMNS))
    clickouts = actions.filter(pl.col("action_type") == CLICKOUT)
    _check_lists(clickouts, file)
    events = _events(actions)
    impressions = _impressions(clickouts)
    counts = _counts(actions, events, impressions)
    tables = {
        "products": _products(events, impressions),
        "events": events,
        "impressions": impressions.drop(drop),
    }
    description = {"source": "trivago", "raw": file.name, "dropped": drop, "rows": counts}
    write_folder(output, tables, description)
    return counts


def _typed(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Numbers as numbers, the time with its microseconds, and the publisher's columns only."""
    step = pl.col("step").cast(pl.Int64)
    micros = pl.col("timestamp").cast(pl.Int64) * 1_000_000 + step.clip(0, 999_999)
    return frame.select(
        pl.col("user_id", "session_id").cast(pl.String),
        micros.cast(pl.Datetime("us", "UTC")).alias("timestamp"),
        step,
        pl.col("action_type", "reference").cast(pl.String),
        pl.col("platform").cast(pl.String).replace(_ISO_MARKETS).alias("market"),
        pl.col("city", "device").cast(pl.String),
        pl.col("current_filters").str.count_matches("|", literal=True).alias("bars"),
        pl.col("impressions").cast(pl.String).str.split("|"),
        pl.col("prices").cast(pl.String).str.split("|"),
    )


def _check_lists(clickouts: pl.LazyFrame, file: Path) -> None:
    n_items, n_prices = (pl.col(name).list.len() for name in ("impressions", "prices"))
    try:
        wrong = (
            clickouts.filter(n_items.ne_missing(n_prices) | n_items.is_null()).head(1).collect()
        )
    except PolarsError as error:
        raise DataError(
            f"The raw file {file} differs from its layout: {first_line(error)}."
        ) from (error)
    if len(wrong):
        row = wrong.row(0, named=True)
        raise DataError(
            f"The raw file {file} differs from its layout: the clickout of session "
            f"{row['session_id']}, step {row['step']}, has {len(row['impressions'] or [])} "
            f"impressions and {len(row['prices'] or [])} prices."
        )


def _events(actions: pl.LazyFrame) -> pl.LazyFrame:
    is_item = pl.col("action_type").is_in(_ITEM_ACTIONS) & pl.col("reference").str.contains(
        r"^\d+$"
    )
    return actions.select(
        "session_id",
        "user_id",
        "timestamp",
        pl.col("action_type").alias("event_type"),
        pl.when(is_item).then("reference").alias("product_id"),
    )


def _impressions(clickouts: pl.LazyFrame) -> pl.LazyFrame:
    again = pl.int_range(pl.len()).over("session_id", "step")
    list_id = pl.format("{}-{}", "session_id", "step") + pl.when(again > 0).then(
        pl.format(".{}", again)
    ).otherwise(pl.lit(""))
    shown = clickouts.with_columns(
        list_id.alias("list_id"),
        pl.int_ranges(0, pl.col("impressions").list.len()).alias("position"),
    ).explode("impressions", "prices", "position")
    return shown.select(
        pl.format("{}-{}", "list_id", "position").alias("impression_id"),
        "session_id",
        "user_id",
        "timestamp",
        "market",
        pl.col("impressions").alias("product_id"),
        pl.col("prices").cast(pl.Float64).alias("price"),
        (pl.col("impressions") == pl.col("reference")).alias("converted"),
        "list_id",
        "position",
        "device",
        "city",
        (pl.col("bars") + 1).fill_null(0).alias("active_filters"),
    )


def _products(events: pl.LazyFrame, impressions: pl.LazyFrame) -> pl.LazyFrame:
    """All items seen; the challenge has no titles or pictures."""
    seen = pl.concat([events.select("product_id"), impressions.select("product_id")])
    return (
        seen.drop_nulls()
        .unique()
        .sort("product_id")
        .with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in ("title", "image"))
    )


def _counts(
    actions: pl.LazyFrame, events: pl.LazyFrame, impressions: pl.LazyFrame
) -> dict[str, int]:
    is_clickout = pl.col("action_type") == CLICKOUT
    try:
        counted = [
            actions.select(
                events=pl.len(),
                clickouts=is_clickout.sum(),
                unknown=(is_clickout & pl.col("reference").is_null()).sum(),
            ),
            impressions.select(impressions=pl.len(), clicked=pl.col("converted").sum()),
            _products(events, impressions).select(products=pl.len()),
        ]
        frames = pl.collect_all(counted)
    except PolarsError as error:
        raise DataError(f"The raw file differs from its layout: {first_line(error)}.") from error
    numbers = {name: value for frame in frames for name, value in frame.row(0, named=True).items()}
    names = ("products", "events", "impressions", "clickouts", "clicked", "unknown")
    return {name: int(numbers[name]) for name in names}
