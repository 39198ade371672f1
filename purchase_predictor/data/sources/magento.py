"""Magento 2 product export: every photo of a product becomes a listing of its own.

A configurable product has a variant for each colour and size; the sizes of a colour share its
photos. A listing is one photo, whatever the number of sizes, and the photos of one product in one
colour are a match group. **The title is the name of the product, without colour and size**, in
the publisher's own words: a variant's name says its colour, and with it the title alone would tell
every group; so the title tells the product and the photo tells the colour. A product none of
whose photos is at hand is one listing without a picture.

Photos that only the configurable product has belong to the colour that their file name says
(`mh01-gray_alt1.jpg`), be it one that is not sold. Gear (`gear_*.csv`, beside the export) names no
photos: a product's are those called after its article number and a numbered colour (24-MB02:
`mb02-blue-0.jpg`, `mb02-blue-0_alt1.jpg`), a match group for each colour. The publisher's export
gives two of them to apparel whose number ends alike (a bag to the bra WB01): gear keeps them.

Source: https://github.com/magento/magento2-sample-data (OSL-3.0, AFL-3.0)
"""

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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

EXPORT = "configurable_products.csv"
COLUMNS = (
    "sku", "product_type", "categories", "name", "price", "base_image", "additional_images",
    "configurable_variations",
)  # fmt: skip
GEAR_COLUMNS = ("sku", "category", "name", "price")
INPUTS = ("title", "image", "category", "price")
"""What `drop` may leave out of the products."""

Row = Mapping[str, str | None]

_VARIATION = re.compile(r"(?:^|,)(sku|color)=([^,]*)")


@dataclass
class MatchGroup:
    """One product in one colour.

    Attributes:
        title: the name of the product.
        category: its place in the tree of categories, below the root.
        price: the lowest of its variants; None where it is unknown.
        photos: their paths in the image folder, the main one first; the values say nothing.
    """

    title: str | None
    category: str | None
    price: float | None
    photos: dict[str, None] = field(default_factory=dict)


def convert(raw: Path, output: Path, *, drop: list[str]) -> dict[str, int]:
    """Convert a product export and its photos.

    Args:
        raw: the folder that holds `configurable_products.csv` and `images/`, or the export itself.
        output: the data folder to write: products and their photos.
        drop: inputs to leave out, of `INPUTS`.

    Returns:
        Rows of `products`, and `groups`, `groups_with_several_photos`, `without_photo` (listings),
        `photos_missing` (named but not at hand) and `photos_of_no_product`.

    Raises:
        UserError: if the raw files differ from the publisher's layout, or `output` is taken.
    """
    check_drop(drop, INPUTS)
    file = raw / EXPORT if (raw / EXPORT).is_file() else raw_file(raw, (".csv",))
    photos = find_pictures(file.parent / "images")
    if not photos:
        raise DataError(f"There is no folder {file.parent / 'images'} with photos.")
    gear: dict[str, MatchGroup] = {}
    for table in sorted(file.parent.glob("gear_*.csv")):
        gear |= _gear(_rows(table, GEAR_COLUMNS), photos, table)
    of_gear: set[str] = set().union(*(group.photos for group in gear.values()))
    groups = gear | _exported(_rows(file, COLUMNS), of_gear, file)
    products = _products(groups, photos).drop(drop)
    held = [photos.keys() & group.photos.keys() for group in groups.values()]
    named: set[str] = set().union(*(group.photos for group in groups.values()))
    counts = {
        "products": len(products),
        "groups": len(groups),
        "groups_with_several_photos": sum(len(found) > 1 for found in held),
        "without_photo": sum(not found for found in held),
        "photos_missing": len(named - photos.keys()),
        "photos_of_no_product": len(photos.keys() - named),
    }
    shown = set() if "image" in drop else photos.keys() & named
    pictures = {f"images/{path}": photos[path] for path in sorted(shown)}
    description = {"source": "magento", "raw": file.name, "dropped": drop, "rows": counts}
    write_folder(output, {"products": products.lazy()}, description, pictures=pictures)
    return counts


def _rows(file: Path, columns: tuple[str, ...]) -> list[Row]:
    try:
        return list(scan(file, columns).select(columns).collect().rows(named=True))
    except PolarsError as error:
        raise DataError(
            f"The raw file {file} differs from its layout: {first_line(error)}."
        ) from error


def _exported(rows: list[Row], of_gear: set[str], file: Path) -> dict[str, MatchGroup]:
    """Match groups by name: each configurable product's colours, and products by themselves."""
    configurables = {row["sku"]: row for row in rows if row["product_type"] == "configurable"}
    owners = _owners(configurables.values())
    groups: dict[str, MatchGroup] = {}
    for row in rows:
        if row["product_type"] == "configurable":
            continue
        sku, colour = owners.get(row["sku"], (row["sku"], None))
        product = configurables.get(sku, row)
        name = f"{sku}-{colour}" if colour else f"{sku}"
        group = groups.setdefault(name, MatchGroup(_title(product), _path(product), None))
        prices = [group.price, _price(row, file)]
        group.price = min((price for price in prices if price is not None), default=None)
        group.photos |= dict.fromkeys(p for p in _named(row) if p not in of_gear)
    for row in configurables.values():
        _add_own_photos(row, groups, of_gear, file)
    return groups


def _owners(configurables: Iterable[Row]) -> dict[str | None, tuple[str | None, str | None]]:
    """Configurable product and colour of each variant, by its article number."""
    owners: dict[str | None, tuple[str | None, str | None]] = {}
    for row in configurables:
        for variation in (row["configurable_variations"] or "").split("|"):
            said = dict(_VARIATION.findall(variation))
            if "sku" in said:
                owners[said["sku"]] = (row["sku"], said.get("color"))
    return owners


def _add_own_photos(
    row: Row, groups: dict[str, MatchGroup], of_gear: set[str], file: Path
) -> None:
    """Put the photos that a configurable product alone names into the group of their colour."""
    own = {name.casefold(): name for name in groups if name.startswith(f"{row['sku']}-")}
    shown = of_gear.union(*(groups[name].photos for name in own.values()))
    for photo in _named(row):
        if photo not in shown:
            said = f"{row['sku']}-{_set_name(photo).partition('-')[2]}"
            name = own.setdefault(said.casefold(), said)
            if name not in groups:
                groups[name] = MatchGroup(_title(row), _path(row), _price(row, file))
            groups[name].photos[photo] = None


def _gear(rows: list[Row], photos: Iterable[str], file: Path) -> dict[str, MatchGroup]:
    """Match groups of a gear table, by name."""
    groups: dict[str, MatchGroup] = {}
    for row in rows:
        levels = (row["category"] or "").split("\n")[:2]
        number = f"{row['sku']}".rpartition("-")[2].lower()
        numbered = re.compile(rf"{re.escape(number)}-[a-z]+-[0-9]+")
        own = [photo for photo in photos if numbered.fullmatch(_set_name(photo))]
        about = (_title(row), "/".join(levels) or None, _price(row, file))
        for photo in own:
            shown = _set_name(photo).removeprefix(number)
            group = groups.setdefault(f"{row['sku']}{shown}", MatchGroup(*about))
            group.photos[photo] = None
        if not own:
            groups[f"{row['sku']}"] = MatchGroup(*about)
    return groups


def _named(row: Row) -> list[str]:
    """The photos that a row of the export names, as paths in the image folder."""
    named = f"{row['base_image'] or ''},{row['additional_images'] or ''}".split(",")
    return [photo.strip().lstrip("/") for photo in named if photo.strip()]


def _set_name(photo: str) -> str:
    """What the photos of one product and colour share: the file's name before `_main`, `_alt1`."""
    name = photo.rpartition("/")[2].rpartition(".")[0]
    return name.rpartition("_")[0] or name


def _title(row: Row) -> str | None:
    return html.unescape(row["name"]).strip() if row["name"] else None


def _path(row: Row) -> str | None:
    """The first category, from below the root; the later ones are collections and promotions."""
    first = (row["categories"] or "").split(",")[0]
    return first.partition("/")[2] or None


def _price(row: Row, file: Path) -> float | None:
    try:
        return float(row["price"]) if row["price"] else None
    except ValueError as error:
        raise DataError(
            f"The raw file {file} differs from its layout: the price of {row['sku']} is "
            f"'{row['price']}'."
        ) from error


def _products(groups: Mapping[str, MatchGroup], photos: Mapping[str, Path]) -> pl.DataFrame:
    listings = [
        (
            f"{name}-{number}",
            group.title,
            None if photo is None else f"images/{photo}",
            group.category,
            name,
            group.price,
        )
        for name, group in groups.items()
        for number, photo in enumerate([p for p in group.photos if p in photos] or [None], 1)
    ]
    schema = dict.fromkeys(
        ("product_id", "title", "image", "category", "match_group"), pl.String
    ) | {"price": pl.Float64}
    return pl.DataFrame(listings, schema=schema, orient="row")
