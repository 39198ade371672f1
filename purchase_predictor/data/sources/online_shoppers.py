"""UCI Online Shoppers Purchasing Intention: one row a session, no products, no clicks.

Every session becomes one impression without a product; `Region` is the market (`R1` … `R9`,
anonymous) and `Revenue` is what is predicted. There are no timestamps: month m is put 28 × (m − 1)
days after a Monday, so that months keep their order and neither the hour nor the day of the week
says anything. `Month` itself is no input, since it decides the split: February to August train,
September and October validate, November and December test. `PageValues` is Google
Analytics' value of the pages seen, which counts the transaction itself: alone it has AUC 0.863;
report with and without it (`--drop PageValues`).

Source: https://archive.ics.uci.edu/dataset/468 (CC BY 4.0)
"""

from datetime import UTC, datetime, timedelta
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

NUMBERS = (
    "Administrative", "Administrative_Duration", "Informational", "Informational_Duration",
    "ProductRelated", "ProductRelated_Duration", "BounceRates", "ExitRates", "PageValues",
    "SpecialDay",
)  # fmt: skip
CODES = ("OperatingSystems", "Browser", "TrafficType", "VisitorType")
"""Categories, some of them written as numbers that mean no amount."""

INPUTS = (*NUMBERS, *CODES, "Weekend")
"""What `drop` may leave out of the impressions."""

MONTHS = {
    "Jan": 1, "Feb": 2, "Mar": 3, "Apr": 4, "May": 5, "June": 6, "Jul": 7, "Aug": 8, "Sep": 9,
    "Oct": 10, "Nov": 11, "Dec": 12,
}  # fmt: skip
_JANUARY = datetime(2001, 1, 1, tzinfo=UTC)
_MONTH = timedelta(days=28)
"""Whole weeks: on calendar months the day of the week would tell the month, and so the part."""

TIME = pl.Datetime("us", "UTC")
_TRUTH = {"0": False, "1": True, "FALSE": False, "TRUE": True}


def convert(raw: Path, output: Path, *, drop: list[str]) -> dict[str, int]:
    """Convert the UCI file.

    Args:
        raw: `online_shoppers_intention.csv` or its folder.
        output: the data folder to write: impressions only.
        drop: inputs to leave out, of `INPUTS`.

    Returns:
        Rows of `impressions`, of its three parts, and `purchases`.

    Raises:
        UserError: if the raw file differs from the publisher's layout, or `output` is taken.
    """
    check_drop(drop, INPUTS)
    file = raw_file(raw, (".csv",))
    frame = scan(file, (*INPUTS, "Month", "Region", "Revenue"))
    try:
        sessions = _impressions(frame).drop(drop).collect()
    except PolarsError as error:
        raise DataError(
            f"The raw file {file} differs from its layout: {first_line(error)}."
        ) from (error)
    parts = ("train", "validation", "test")
    counts = {
        "impressions": len(sessions),
        **{part: int((sessions["split"] == part).sum()) for part in parts},
        "purchases": int(sessions["converted"].sum()),
    }
    description = {"source": "online-shoppers", "raw": file.name, "dropped": drop, "rows": counts}
    write_folder(output, {"impressions": sessions.lazy()}, description)
    return counts


def _impressions(frame: pl.LazyFrame) -> pl.LazyFrame:
    month = pl.col("Month").replace_strict(MONTHS, return_dtype=pl.Int8)
    number = pl.int_range(pl.len()).cast(pl.String).str.zfill(5)
    return frame.select(
        (pl.lit("v") + number).alias("impression_id"),
        (pl.lit("s") + number).alias("session_id"),
        (pl.lit(_JANUARY, TIME) + (month - 1) * pl.lit(_MONTH)).alias("timestamp"),
        pl.format("R{}", "Region").alias("market"),
        _flag("Revenue").alias("converted"),
        pl.when(month <= 8)
        .then(pl.lit("train"))
        .when(month <= 10)
        .then(pl.lit("validation"))
        .otherwise(pl.lit("test"))
        .alias("split"),
        *(pl.col(name).cast(pl.Float64) for name in NUMBERS),
        *(pl.col(name) for name in CODES),
        _flag("Weekend"),
    )


def _flag(name: str) -> pl.Expr:
    return pl.col(name).str.to_uppercase().replace_strict(_TRUTH, return_dtype=pl.Boolean)
