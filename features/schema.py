"""The data contract: three tables, checked at the door."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import polars as pl

from features.reading import RawTables, collect, read_folder, with_row_numbers

Kind = Literal["number", "flag", "category"]


@dataclass(frozen=True)
class RowCounts:
    """What became of a table's rows: `read = used + set_aside`."""

    read: int
    used: int
    set_aside: int


@dataclass(frozen=True)
class Tables:
    """Checked tables."""

    products: pl.DataFrame
    events: pl.DataFrame
    impressions: pl.DataFrame
    context: dict[str, Kind]
    folder: Path
    quarantine: pl.DataFrame
    rows: dict[str, RowCounts]
    counters: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


TIME = pl.Datetime("us", "UTC")
COLUMNS: Mapping[str, Mapping[str, pl.DataType]] = {
    "products": dict.fromkeys(
        ("product_id", "title", "image", "category", "brand", "match_group"), pl.String()
    ),
    "events": {
        "session_id": pl.String(), "user_id": pl.String(), "timestamp": TIME,
        "event_type": pl.String(), "product_id": pl.String(),
    },
    "impressions": {
        "impression_id": pl.String(), "session_id": pl.String(), "user_id": pl.String(),
        "timestamp": TIME, "market": pl.String(), "product_id": pl.String(),
        "price": pl.Float64(), "discount_rate": pl.Float64(), "free_shipping": pl.Boolean(),
        "converted": pl.Boolean(), "list_id": pl.String(), "randomised": pl.Boolean(),
        "propensity": pl.Float64(), "split": pl.String(),
    },
}  # fmt: skip


def load_tables(
    folder: Path, *, require_labels: bool = True, max_title_chars: int = 2000
) -> Tables:
    """Read and check a data folder."""
    return check_tables(
        read_folder(folder), require_labels=require_labels, max_title_chars=max_title_chars
    )


def tables_from_frames(
    products: pl.DataFrame | None,
    events: pl.DataFrame | None,
    impressions: pl.DataFrame,
    *,
    folder: Path,
    require_labels: bool = True,
    max_title_chars: int = 2000,
) -> Tables:
    """Check tables that are in memory."""
    raw = RawTables(
        products=None if products is None else with_row_numbers(products.lazy()),
        events=None if events is None else with_row_numbers(events.lazy()),
        impressions=with_row_numbers(impressions.lazy()),
        folder=folder,
    )
    return check_tables(raw, require_labels=require_labels, max_title_chars=max_title_chars)


def check_tables(
    raw: RawTables, *, require_labels: bool = True, max_title_chars: int = 2000
) -> Tables:
    """Check the tables against the contract."""
    frames, rows = {}, {}
    for table, columns in COLUMNS.items():
        lazy = getattr(raw, table)
        frame = pl.DataFrame(schema={**columns, "row": pl.Int64()})
        if lazy is not None:
            read = collect(lazy, table, raw.files.get(table, ()))
            frame = read.select(
                *(
                    (pl.col(name) if name in read.columns else pl.lit(None))
                    .cast(dtype)
                    .alias(name)
                    for name, dtype in columns.items()
                ),
                pl.exclude(*columns),
            )
        frames[table] = frame
        rows[table] = RowCounts(len(frame), len(frame), 0)
    context: dict[str, Kind] = {}
    for name, dtype in frames["impressions"].schema.items():
        if name in COLUMNS["impressions"] or name == "row":
            continue
        context[name] = (
            "flag" if dtype == pl.Boolean else "number" if dtype.is_numeric() else "category"
        )
    quarantine = pl.DataFrame(
        schema={"table": pl.String, "row": pl.Int64, "key": pl.String, "reason": pl.String}
    )
    return Tables(**frames, context=context, folder=raw.folder, quarantine=quarantine, rows=rows)
