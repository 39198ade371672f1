"""The data contract: three tables, checked at the door.

A table whose columns are missing or of the wrong type is refused with one sentence (`DataError`);
a row that breaks a rule is set aside with its reasons, so that `read = used + set aside`. Bad
hashes and prices of products are missing instead.
`Products`, `Events` and `Impressions` may be used alone: `validate` raises, `filter` returns the
good rows and the failures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import dataframely as dy
import polars as pl

from features.catalogue import PRODUCTS_TOLD, clean_products, sentences
from features.checking import CheckedTable, RowCounts, check_table
from features.context import Context, Kind, as_fitted, recognise
from features.errors import DataError
from features.reading import ROW, RawTables, read_folder, with_row_numbers
from features.rules import SPLITS, Events, Impressions, LabelledImpressions, Products
from features.storage import ArrayStore

__all__ = [
    "SPLITS", "Events", "Impressions", "Kind", "LabelledImpressions", "Products", "RowCounts",
    "Tables", "check_tables", "load_tables", "tables_from_frames",
]  # fmt: skip

_TOLD = {
    "unknown_products": "Impressions whose product is not in products, scored as missing",
    "unknown_event_products": "Events whose product is not in products, taken as missing",
    **PRODUCTS_TOLD,
}


@dataclass(frozen=True)
class Tables:
    """Checked tables: every column of the contract is there, null where it was absent.

    Attributes:
        products: the catalogue, no rows where the table is absent.
        events: the clickstream, no rows where the table is absent.
        impressions: contract columns, then context columns, then `row`; order as given.
        context: what each context column holds.
        folder: where the pictures are.
        quarantine: the rows set aside, columns as `QUARANTINE`.
        rows: counts of each table.
        counters: what was kept but is worth telling: `unknown_products` (impressions whose product
            is not in the catalogue), `unknown_event_products`, `titles_cut`, `titles_cleaned`,
            `hashes_unreadable`, `prices_unreadable`, `groups_blank`.
        unused: why a column is not used, by `table.column`.
        notes: the sentences about all of this, to print.
    """

    products: pl.DataFrame
    events: pl.DataFrame
    impressions: pl.DataFrame
    context: dict[str, Kind]
    folder: Path
    quarantine: pl.DataFrame
    rows: dict[str, RowCounts]
    counters: dict[str, int] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def stored(self, store: ArrayStore) -> "Tables":
        """The same tables, laid where arrays are.

        Raises:
            UserError: the store's disk has no room.
        """
        return replace(
            self,
            products=store.table(self.products),
            events=store.table(self.events),
            impressions=store.table(self.impressions),
        )


def load_tables(
    folder: Path,
    *,
    require_labels: bool = True,
    max_title_chars: int = 2000,
    context: Mapping[str, Kind] | None = None,
) -> Tables:
    """Read and check a data folder: `check_tables` of `read_folder`."""
    return check_tables(
        read_folder(folder),
        require_labels=require_labels,
        max_title_chars=max_title_chars,
        context=context,
    )


def tables_from_frames(
    products: pl.DataFrame | None,
    events: pl.DataFrame | None,
    impressions: pl.DataFrame,
    *,
    folder: Path,
    require_labels: bool = True,
    max_title_chars: int = 2000,
    context: Mapping[str, Kind] | None = None,
) -> Tables:
    """Check tables that are in memory; `folder` is where their pictures are (`check_tables`)."""
    raw = RawTables(
        products=None if products is None else with_row_numbers(products.lazy()),
        events=None if events is None else with_row_numbers(events.lazy()),
        impressions=with_row_numbers(impressions.lazy()),
        folder=folder,
    )
    return check_tables(
        raw, require_labels=require_labels, max_title_chars=max_title_chars, context=context
    )


def check_tables(
    raw: RawTables,
    *,
    require_labels: bool = True,
    max_title_chars: int = 2000,
    context: Mapping[str, Kind] | None = None,
) -> Tables:
    """Check tables against the contract.

    Args:
        raw: the tables as they lie on disk or in memory.
        require_labels: whether every impression must say if it converted (False when scoring).
        max_title_chars: a longer title is cut here and counted.
        context: the kinds of the context columns when the model was fitted; without it they are
            recognised by type.

    Returns:
        Good rows, rows set aside and what is worth telling.

    Raises:
        DataError: if a table cannot be used at all.
    """
    checked = _check_each(raw, LabelledImpressions if require_labels else Impressions)
    shown = checked["impressions"]
    if not shown.rows.read:
        raise DataError("The table 'impressions' has no rows.")
    found = _context(shown.other, raw, context)
    products, product_counts = clean_products(checked["products"], max_title_chars)
    counters = {**_unknown_products(raw, checked), **product_counts}
    unused = {
        f"{table}.{name}": reason
        for table, part in checked.items()
        for name, reason in part.unused.items()
    }
    unused |= {f"impressions.{name}": reason for name, reason in found.unused.items()}
    return Tables(
        products=products,
        events=checked["events"].used,
        impressions=shown.used.with_columns(found.frame.get_columns()).select(
            pl.exclude(ROW), ROW
        ),
        context=found.kinds,
        folder=raw.folder,
        quarantine=pl.concat(part.quarantine for part in checked.values()),
        rows={table: part.rows for table, part in checked.items()},
        counters=counters,
        unused=unused,
        notes=(*_near_names(raw, found), *found.notes, *sentences(_TOLD, counters, unused)),
    )


def _check_each(raw: RawTables, impressions: type[Impressions]) -> dict[str, CheckedTable]:
    schemas: dict[str, type[dy.Schema]] = {
        "products": Products,
        "events": Events,
        "impressions": impressions,
    }
    return {
        table: check_table(
            getattr(raw, table),
            table,
            schema,
            files=raw.files.get(table, ()),
            with_context=table == "impressions",
        )
        for table, schema in schemas.items()
    }


def _context(other: pl.DataFrame, raw: RawTables, fitted: Mapping[str, Kind] | None) -> Context:
    if fitted is not None:
        return as_fitted(other, fitted)
    return recognise(other.drop(ROW), raw.text.get("impressions", frozenset()))


def _unknown_products(raw: RawTables, checked: Mapping[str, CheckedTable]) -> dict[str, int]:
    """How many rows name a product that is not in the catalogue; none where there is no table."""
    if raw.products is None:
        return {"unknown_products": 0, "unknown_event_products": 0}
    known = checked["products"].used.select("product_id")
    impressions, events = (
        checked[table]
        .used.drop_nulls("product_id")
        .join(known, on="product_id", how="anti")
        .height
        for table in ("impressions", "events")
    )
    return {"unknown_products": impressions, "unknown_event_products": events}


def _near_names(raw: RawTables, found: Context) -> list[str]:
    """Context columns that may be a misspelt column of the contract."""
    given = raw.impressions.collect_schema()
    absent = [name for name in Impressions.column_names() if name not in given]
    near = {name: get_close_matches(name, absent, n=1, cutoff=0.75) for name in found.kinds}
    return [
        f"'{name}' is a context column; rename it if it is meant to be '{match[0]}'."
        for name, match in near.items()
        if match
    ]
