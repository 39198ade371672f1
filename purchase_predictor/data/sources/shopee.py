r"""Shopee price match (2021): listings of which several are the same product.

A row is a listing: its title, its picture's file name and 64-bit perceptual hash, and, in
`train.csv`, the group of listings of the same product. Titles are what Python prints for their
UTF-8 bytes, as in `Caf\xc3\xa9`, and `b"…"` whole where they have an apostrophe: they are
decoded. Where the picture itself is not at hand, its hash is all that is left of it.

Source: https://www.kaggle.com/competitions/shopee-product-matching
"""

import re
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from purchase_predictor.data.sources.folder import (
    check_drop,
    find_pictures,
    first_line,
    raw_file,
    scan,
    write_folder,
)
from purchase_predictor.errors import DataError

COLUMNS = ("posting_id", "image", "image_phash", "title")
GROUP = "label_group"
"""Absent from `test.csv`."""

INPUTS = ("title", "image", "image_hash")
"""What `drop` may leave out of the products."""

PICTURE_FOLDERS = ("images", "train_images", "test_images", ".")
"""Where pictures are looked for, beside the CSV file."""

_PRINTED = re.compile(r"(?:[^\\]|\\x[0-9a-f]{2}|\\[\\'nrt])*", re.DOTALL)
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([\\'nrt]))")
_SIMPLE = {"\\": "\\", "'": "'", "n": "\n", "r": "\r", "t": "\t"}


def convert(raw: Path, output: Path, *, drop: list[str]) -> dict[str, int]:
    """Convert the competition's listings.

    Args:
        raw: `train.csv` (or `test.csv`, which has no groups), or the folder that holds it.
        output: the data folder to write: products and, where they are at hand, their pictures.
        drop: inputs to leave out, of `INPUTS`.

    Returns:
        Rows of `products`, and `groups`, `titles_decoded`, `titles_undecodable` (kept as they
        are) and `with_picture` (listings whose picture is at hand).

    Raises:
        UserError: if the raw file differs from the publisher's layout, or `output` is taken.
    """
    check_drop(drop, INPUTS)
    train = raw / "train.csv"
    file = train if train.is_file() else raw_file(raw, (".csv",))
    listings = _listings(file)
    titles = listings["title"].to_list()
    decoded = [None if title is None else decode_title(title) for title in titles]
    kept = [title if new is None else new for title, new in zip(titles, decoded, strict=True)]
    files = {} if "image" in drop else _pictures(file.parent)
    products = _products(listings, kept, files).drop(drop)
    shown = [] if "image" in drop else products["image"].drop_nulls().to_list()
    counts = {
        "products": len(products),
        "groups": products["match_group"].drop_nulls().n_unique(),
        "titles_decoded": sum(new != old for new, old in zip(kept, titles, strict=True)),
        "titles_undecodable": sum(title is not None for title in titles)
        - sum(title is not None for title in decoded),
        "with_picture": len(shown),
    }
    description = {"source": "shopee", "raw": file.name, "dropped": drop, "rows": counts}
    pictures = {path: files[path.removeprefix("images/")] for path in shown}
    write_folder(output, {"products": products.lazy()}, description, pictures=pictures)
    return counts


def decode_title(title: str) -> str | None:
    """Undo the publisher's printing of a title's UTF-8 bytes.

    Args:
        title: as in the CSV file.

    Returns:
        The title; None where its backslashes are no escapes, or its bytes are no UTF-8.
    """
    whole = len(title) > 2 and title.startswith('b"') and title.endswith('"')
    text = title[2:-1] if whole else title
    if "\\" not in text:
        return text
    if not text.isascii() or not _PRINTED.fullmatch(text):
        return None
    raw = _ESCAPE.sub(lambda e: chr(int(e[1], 16)) if e[1] else _SIMPLE[e[2]], text)
    try:
        return raw.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return None


def _listings(file: Path) -> pl.DataFrame:
    """The publisher's columns as text; the group is null where there is none."""
    frame = scan(file, COLUMNS)
    try:
        if GROUP not in frame.collect_schema():
            frame = frame.with_columns(pl.lit(None).alias(GROUP))
        return frame.select(pl.col(*COLUMNS, GROUP).cast(pl.String)).collect()
    except PolarsError as error:
        raise DataError(
            f"The raw file {file} differs from its layout: {first_line(error)}."
        ) from error


def _pictures(folder: Path) -> dict[str, Path]:
    """Picture files by name; of two with one name the first of `PICTURE_FOLDERS` counts."""
    found: dict[str, Path] = {}
    for name in reversed(PICTURE_FOLDERS):
        found |= find_pictures(folder / name, below=False)
    return found


def _products(
    listings: pl.DataFrame, titles: list[str | None], files: dict[str, Path]
) -> pl.DataFrame:
    at_hand = pl.col("image").is_in(list(files))
    return listings.select(
        pl.col("posting_id").alias("product_id"),
        pl.Series("title", titles, dtype=pl.String),
        pl.when(at_hand).then(pl.format("images/{}", "image")).alias("image"),
        pl.col("image_phash").alias("image_hash"),
        pl.col(GROUP).alias("match_group"),
    )
