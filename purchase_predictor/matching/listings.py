"""The listings to match: the catalogue, its parts, and the views that encoders give it."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.catalogue import Catalogue, load_catalogue
from features.reading import has_table, read_folder
from features.schema import check_tables
from features.splits import split_impressions, training_products
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.encoders.pictures import PictureFiles, PictureReader, find_pictures
from purchase_predictor.errors import DataError
from purchase_predictor.matching.bench import TFIDF, Views, renamed
from purchase_predictor.matching.gallery import Split, split_listings
from purchase_predictor.matching.views import (
    HASH_BITS,
    View,
    comb_view,
    embedding_view,
    hash_view,
    tfidf_view,
)
from purchase_predictor.report.thumbnails import SIDE
from purchase_predictor.settings import CatalogueSettings

IMAGE, HASH = "image", "picture hash"
"""What the image view may show."""

ENOUGH = 0.9
"""Pictures per picture hash from which pictures are looked at: a few lost files are no reason to
do without trained encoders."""


@dataclass(frozen=True)
class Listings:
    """A catalogue to match.

    Attributes:
        catalogue: the products.
        split: parts by joined group; only products of the training period may train.
        eligible: bool [n], products of the training period; all where there is no time.
        shown_by: `IMAGE` where pictures are looked at, `HASH` where their hashes are since many
            of the pictures are not there, empty where there is neither.
        prices: `product_id, market, price`; market null where the price is the catalogue's own.
        pictures: the different picture files.
        has_impressions: whether the encoders may feed purchase prediction.
    """

    catalogue: Catalogue
    split: Split
    eligible: NDArray[np.bool_]
    shown_by: str
    prices: pl.DataFrame
    pictures: PictureFiles
    has_impressions: bool

    @property
    def products(self) -> pl.DataFrame:
        """The good rows of the catalogue."""
        return self.catalogue.products

    @property
    def folder(self) -> Path:
        """The data folder."""
        return self.catalogue.folder

    def __len__(self) -> int:
        return len(self.products)


def read_listings(folder: Path, settings: CatalogueSettings, *, seed: int) -> Listings:
    """Read the products of a data folder and divide them.

    Where the folder has impressions, only products first seen in the training period may train
    encoders, as `train` divides time.

    Args:
        folder: the data folder.
        settings: limits, and the shares of the periods.
        seed: of the split of purchase prediction.

    Raises:
        DataError: if the products cannot be read or there is nothing to match them by.
    """
    catalogue = load_catalogue(folder, max_title_chars=settings.max_title_chars)
    products, eligible = catalogue.products, None
    prices = products.select(
        "product_id", pl.lit(None, dtype=pl.String).alias("market"), "price"
    ).drop_nulls("price")
    has_impressions = has_table(folder, "impressions")
    if has_impressions:
        raw = read_folder(folder)
        # as `train` reads them where there are labels, so that both cut time at the same places
        labelled = "converted" in raw.impressions.collect_schema()
        tables = check_tables(
            raw, require_labels=labelled, max_title_chars=settings.max_title_chars
        )
        split = split_impressions(
            tables,
            validation_fraction=settings.validation_fraction,
            test_fraction=settings.test_fraction,
            seed=seed,
        )
        eligible = training_products(tables, split)
        shown = tables.impressions.select("product_id", "market", "price").drop_nulls()
        prices = pl.concat([prices, shown])
    reader = PictureReader(settings.max_image_bytes, settings.max_image_pixels, SIDE)
    pictures = find_pictures(products["image"], folder, reader)
    n_pictures, n_hashes = (
        int((pictures.number >= 0).sum()),
        int(products["image_hash"].is_not_null().sum()),
    )
    looked_at = IMAGE if n_pictures >= ENOUGH * n_hashes else HASH
    shown_by = looked_at if n_pictures + n_hashes else ""
    if not shown_by and not _has_text(products["title"]).any():
        raise DataError(f"No product of {folder} has a title or a picture to match it by.")
    digests = pl.Series([*pictures.digests, None], dtype=pl.String).gather(
        np.where(pictures.number >= 0, pictures.number, len(pictures.digests))
    )
    parts = split_listings(products, digests=digests, eligible=eligible)
    if eligible is None:
        eligible = np.ones(len(products), dtype=bool)
    return Listings(catalogue, parts, eligible, shown_by, prices, pictures, has_impressions)


def make_views(
    listings: Listings,
    content: ContentEncoders,
    rows: NDArray[np.bool_],
    *,
    tfidf: View,
    progress: Callable[[str], None],
    sides: Collection[str] = ("image", "title"),
) -> Views:
    """The views of listings by one generation of encoders.

    Args:
        listings: of the catalogue.
        content: the encoders.
        rows: bool [n], the listings to embed; the others are absent from the encoders' views.
        tfidf: the view of words, which no training changes.
        progress: takes a line where there is much to embed.
        sides: views of pictures and titles that are wanted.

    Returns:
        Views of all listings.

    Raises:
        DataError: if the encoders give no view at all.
    """
    wanted = listings.products.filter(pl.Series(rows))
    unit = content.encode(wanted, listings.folder, progress=progress)
    raw = content.encode(wanted, listings.folder, progress=progress, raw=True)
    has_text = _has_text(listings.products["title"]) & rows
    title = _spread(unit.text, rows)
    parts = {"title": (title, _spread(raw.text, rows), has_text)}
    if listings.shown_by == HASH:
        hashes = hash_view(listings.products["image_hash"])
        bits = np.asarray(hashes.vectors)
        parts["image"] = (bits, bits * np.float32(np.sqrt(HASH_BITS)), hashes.present)
    else:
        has_image = np.zeros(len(rows), dtype=bool)
        has_image[rows] = unit.has_image
        parts["image"] = (_spread(unit.image, rows), _spread(raw.image, rows), has_image)
    views = {
        name: embedding_view(name, vectors, there)
        for name, (vectors, _, there) in parts.items()
        if name in sides and vectors.shape[1] and there.any()
    }
    if not views:
        raise DataError(
            "There is nothing to match by: no encoder of titles or pictures, and no picture hash."
        )
    present = [views[name] for name in ("image", "title") if name in views]
    further = {TFIDF: tfidf} if tfidf.present.any() else {}
    if len(present) > 1:
        lengths = [
            np.where(there[:, None], vectors, np.float32(0))
            for _, vectors, there in (parts[name] for name in ("image", "title"))
        ]
        further["raw"] = embedding_view("raw", np.concatenate(lengths, axis=1))
    comb = comb_view(present) if len(present) > 1 else renamed(present[0], "comb")
    return Views(views.get("image"), views.get("title"), comb, further, unit.failures)


def words_view(listings: Listings) -> View:
    """TF-IDF of all titles of the catalogue."""
    return tfidf_view(listings.products["title"])


def _has_text(titles: pl.Series) -> NDArray[np.bool_]:
    """Whether a title says anything: an empty one would match every other empty one."""
    return (titles.str.strip_chars().str.len_chars() > 0).fill_null(False).to_numpy()


def _spread(vectors: NDArray[np.float32], rows: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Vectors of some listings as those of all, zero elsewhere."""
    whole = np.zeros((len(rows), vectors.shape[1]), dtype=np.float32)
    whole[rows] = vectors
    return whole
