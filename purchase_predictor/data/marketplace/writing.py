"""Writes the sample marketplace: all of it, or nothing."""

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from purchase_predictor.data.marketplace.pictures import write_pictures
from purchase_predictor.data.marketplace.simulation import simulate
from purchase_predictor.data.marketplace.tables import (
    events_table,
    impression_truth,
    impressions_table,
    product_ids,
    product_truth,
    products_table,
)
from purchase_predictor.data.marketplace.truth import effects_json
from purchase_predictor.data.marketplace.world import (
    MARKETS,
    SPLITS,
    Culture,
    Floats,
    SampleSize,
    sample_size,
)
from purchase_predictor.errors import UserError

ROWS_A_GROUP = 131_072


@dataclass(frozen=True)
class SampleSummary:
    """What was written.

    Attributes:
        folder: where.
        n_products: rows of `products`.
        n_events: rows of `events`.
        n_impressions: rows of `impressions`.
        markets: a row a market: impressions of each split, conversions, rates.
        seconds: wall time.
    """

    folder: Path
    n_products: int
    n_events: int
    n_impressions: int
    markets: pl.DataFrame
    seconds: float


def write_sample(
    output: Path,
    *,
    size: str | SampleSize = "demo",
    seed: int = 0,
    culture: Culture = "on",
    progress: Callable[[str], None] | None = None,
) -> SampleSummary:
    """Write the sample marketplace and its truth into a new folder.

    Args:
        output: the folder to make; it may exist if it is empty.
        size: `demo`, `claims`, or a size of one's own.
        seed: the same seed gives the same bytes.
        culture: `on`; `off`: the same effects everywhere; `shuffled`: cultural profiles are dealt
            to the wrong markets. The last two are negative controls.
        progress: is told what is being made.

    Raises:
        UserError: unknown size or culture, or the folder holds something.
    """
    started = time.perf_counter()
    if culture not in ("on", "off", "shuffled"):
        raise UserError(f"culture is on, off or shuffled, not '{culture}'")
    _refuse_taken(output)
    tell = progress or (lambda _: None)
    whole = sample_size(size)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        summary = _write(partial, output, whole, seed, culture, tell, started)
        _refuse_taken(output)
        partial.replace(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def _write(
    folder: Path,
    output: Path,
    size: SampleSize,
    seed: int,
    culture: Culture,
    tell: Callable[[str], None],
    started: float,
) -> SampleSummary:
    sample = simulate(size, seed=seed, culture=culture, progress=tell)
    world, catalogue, sessions = sample.world, sample.catalogue, sample.sessions
    offers, converted = sample.offers, sample.converted
    tell("tables")
    ids = product_ids(world, catalogue)
    impressions = impressions_table(catalogue, sessions, offers, converted, ids)
    events = events_table(sessions, ids)
    (folder / "truth").mkdir()
    tables = {
        "products": products_table(world, catalogue, ids),
        "events": events,
        "impressions": impressions,
        "truth/impressions": impression_truth(
            offers, sample.p_true, sample.truth.p_observable, sample.p_fitted
        ),
        "truth/products": product_truth(catalogue, ids),
    }
    for name, table in tables.items():
        _write_parquet(table, folder / f"{name}.parquet")
    (folder / "truth" / "effects.json").write_text(effects_json(sample.truth.effects), "utf-8")
    names = [f"{name}.png" for name in ids]
    write_pictures(world, catalogue, names, folder / "images", tell)
    return SampleSummary(
        folder=output,
        n_products=len(catalogue),
        n_events=len(events),
        n_impressions=len(impressions),
        markets=_by_market(impressions, sample.p_true),
        seconds=time.perf_counter() - started,
    )


def _refuse_taken(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError(f"{output} exists already; name a new folder or remove it first")


def _write_parquet(table: pl.DataFrame, file: Path) -> None:
    """Fixed settings: the same table gives the same bytes."""
    table.write_parquet(
        file, compression="zstd", compression_level=3, statistics=True, row_group_size=ROWS_A_GROUP
    )


def _by_market(impressions: pl.DataFrame, p_true: Floats) -> pl.DataFrame:
    targets = {market.name: market.rate for market in MARKETS}
    counts = [(pl.col("split") == split).sum().alias(split) for split in SPLITS]
    return (
        impressions.with_columns(p_true=p_true)
        .group_by("market", maintain_order=True)
        .agg(
            *counts,
            pl.col("converted").sum().alias("conversions"),
            pl.col("converted").mean().alias("rate"),
            pl.col("p_true").mean().alias("true_rate"),
        )
        .with_columns(target=pl.col("market").replace_strict(targets, return_dtype=pl.Float64))
        .sort("market")
    )
