"""The tables that a command learns from: read, checked, and told row by row what was set aside."""

from pathlib import Path

from features.schema import Tables, load_tables
from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter
from purchase_predictor.counted import Counted
from purchase_predictor.settings import Settings

QUARANTINE = "quarantine.parquet"
"""In the output folder: the rows set aside, each with the reason."""


def read_told(source: Path, settings: Settings, folder: Path, reporter: Reporter) -> Tables:
    """Read labelled tables, write the rows set aside, and tell how many there are and why.

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
    reasons = tables.quarantine.group_by("table", "reason").len().sort("len", descending=True)
    for table, reason, n in reasons.iter_rows():
        reporter.warn(f"{table}: {Counted(n):row|rows} set aside: {reason}")
    for note in tables.notes:
        reporter.warn(note)
    context = ", ".join(f"{name} ({kind})" for name, kind in tables.context.items())
    reporter.line(f"context columns: {context or 'none'}")
    return tables.stored(settings.training.array_store)
