"""The tables that a command learns from: read, checked, and told: rows set aside, markets."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from features.errors import market_key
from features.schema import Tables, load_tables
from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter
from purchase_predictor.scored import rows_by_reason, set_aside_sentences
from purchase_predictor.settings import Settings

QUARANTINE = "quarantine.parquet"
"""In the output folder: the rows set aside, each with the reason."""
MARKETS_SHOWN = 20
"""Rows of the table of markets; the smaller ones share its last."""


def read_told(source: Path, settings: Settings, folder: Path, reporter: Reporter) -> Tables:
    """Read labelled tables, write the rows set aside, and tell how many there are and why.

    Markets are told with their impressions and conversions, and warned of where two have names
    that are written alike.

    The tables lie where the settings want a training's arrays (`training.storage`).

    Args:
        source: data folder.
        settings: all settings.
        folder: where `quarantine.parquet` goes.
        reporter: is told.

    Raises:
        DataError: the tables cannot be used at all.
    """
    tables = load_tables(source, max_title_chars=settings.data.max_title_chars)
    write_file(folder / QUARANTINE, tables.quarantine.write_parquet)
    rows = [
        [name, f"{count.read:,}", f"{count.used:,}", f"{count.set_aside:,}"]
        for name, count in tables.rows.items()
    ]
    reporter.table("Rows", ["table", "read", "used", "set aside"], rows)
    for sentence in set_aside_sentences(rows_by_reason(tables.quarantine.lazy())):
        reporter.warn(sentence)
    for note in tables.notes:
        reporter.warn(note)
    impressions = tables.impressions
    reporter.table("Markets", ["market", "impressions", "conversions"], market_rows(impressions))
    for names in written_alike(impressions["market"].unique()):
        reporter.warn(f"these names count as different markets; are they one? {', '.join(names)}")
    context = ", ".join(f"{name} ({kind})" for name, kind in tables.context.items())
    reporter.line(f"context columns: {context or 'none'}")
    return tables.stored(settings.training.array_store)


def market_rows(impressions: pl.DataFrame) -> list[list[str]]:
    """Impressions and conversions of each market, the largest first, the smallest together.

    Args:
        impressions: checked and labelled.

    Returns:
        Rows of text, `MARKETS_SHOWN` at most.
    """
    counts = (
        impressions.group_by("market")
        .agg(pl.len(), pl.col("converted").sum())
        .sort("len", "market", descending=[True, False])
    )
    shown = counts if len(counts) <= MARKETS_SHOWN else counts.head(MARKETS_SHOWN - 1)
    rows = [[market, f"{n:,}", f"{positive:,}"] for market, n, positive in shown.rows()]
    rest = counts.slice(len(shown))
    if len(rest):
        name = f"{len(rest)} others"
        rows.append([name, f"{rest['len'].sum():,}", f"{rest['converted'].sum():,}"])
    return rows


def written_alike(markets: Iterable[str]) -> list[list[str]]:
    """Names that are probably of one market.

    Args:
        markets: names, each once.

    Returns:
        Groups of two names or more, each quoted, in alphabetical order.
    """
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for market in sorted(markets):
        groups[market_key(market)].append(f"'{market}'")
    return [names for names in groups.values() if len(names) > 1]
