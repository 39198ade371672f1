"""The products table alone, for whoever needs no impressions: listings to be matched."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from features.checking import CheckedTable, RowCounts, check_table
from features.errors import DataError
from features.reading import read_products
from features.rules import Products

PRODUCTS_TOLD = {
    "titles_cut": "Titles cut because they are too long",
    "titles_cleaned": "Titles in which control characters became spaces",
    "hashes_unreadable": "Picture hashes that are not 16 hexadecimal digits, taken as missing",
    "prices_unreadable": "Prices of products that are no numbers from 0 up, taken as missing",
    "groups_blank": "Match groups that are blank, taken as missing",
}
"""What is told of the products that were kept with a change, by counter."""

_CONTROL = r"\p{Cc}"
_HASH = r"^[0-9a-f]{16}$"


@dataclass(frozen=True)
class Catalogue:
    """Checked products: every column of the contract is there, null where it was absent.

    Attributes:
        products: the good rows, columns as `features.rules.Products`, order as given.
        folder: where the pictures are.
        quarantine: the rows set aside, columns as `features.checking.QUARANTINE`.
        rows: how many were read, used and set aside.
        counters: what was kept with a change, by the names of `PRODUCTS_TOLD`.
        unused: why a column is not used, by `products.column`.
        notes: the sentences about all of this, to print.
    """

    products: pl.DataFrame
    folder: Path
    quarantine: pl.DataFrame
    rows: RowCounts
    counters: dict[str, int] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def load_catalogue(folder: Path, *, max_title_chars: int = 2000) -> Catalogue:
    """Read and check the products of a data folder, which may have no other table.

    Args:
        folder: the data folder.
        max_title_chars: a longer title is cut here and counted.

    Returns:
        Good rows, rows set aside and what is worth telling.

    Raises:
        DataError: if the table is absent, empty or cannot be used at all.
    """
    frame, files = read_products(folder)
    checked = check_table(frame, "products", Products, files=files)
    if not checked.rows.read:
        raise DataError("The table 'products' has no rows.")
    products, counters = clean_products(checked, max_title_chars)
    unused = {f"products.{name}": reason for name, reason in checked.unused.items()}
    return Catalogue(
        products=products,
        folder=folder,
        quarantine=checked.quarantine,
        rows=checked.rows,
        counters=counters,
        unused=unused,
        notes=sentences(PRODUCTS_TOLD, counters, unused),
    )


def clean_products(checked: CheckedTable, max_chars: int) -> tuple[pl.DataFrame, dict[str, int]]:
    """Bring titles, picture hashes and match groups into one form.

    Args:
        checked: the table of products.
        max_chars: a longer title is cut here.

    Returns:
        The good rows, their titles with a space for each control character and of bounded length,
        their hashes in lower case or null where they cannot be read, their match groups null where
        they are blank; and how many were changed or, of hashes and prices, are missing.
    """
    products, lost = checked.used, checked.lost
    title = pl.col("title").str
    # a listing with a broken hash still has its title and its picture: it is not set aside
    digits = pl.col("image_hash").str.strip_chars().str.to_lowercase()
    readable = digits.str.contains(_HASH)
    # blanks are how files say "unknown": as a label, they would join all those listings
    blank = pl.col("match_group").str.strip_chars() == ""
    counts = products.select(
        titles_cleaned=title.contains(_CONTROL).sum(),
        titles_cut=(title.len_chars() > max_chars).sum(),
        hashes_unreadable=(~readable).sum() + lost.get("image_hash", 0),
        prices_unreadable=pl.lit(lost.get("price", 0)),
        groups_blank=blank.sum(),
    ).row(0, named=True)
    clean = title.replace_all(_CONTROL, " ").str.slice(0, max_chars)
    hashes = pl.when(readable).then(digits)
    groups = pl.when(~blank).then("match_group")
    return products.with_columns(title=clean, image_hash=hashes, match_group=groups), counts


def sentences(
    told: Mapping[str, str], counters: Mapping[str, int], unused: Mapping[str, str]
) -> tuple[str, ...]:
    """Say what was kept with a change, and what is not used.

    Args:
        told: what each counter counts.
        counters: how many; those of none are passed over.
        unused: why a column is not used, by `table.column`.

    Returns:
        A sentence for each.
    """
    kept = [f"{what}: {counters[name]:,}." for name, what in told.items() if counters[name]]
    return (*kept, *(f"The column {name} is not used: {why}." for name, why in unused.items()))
