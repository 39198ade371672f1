"""Reading the listings to match, and the views that encoders give them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from features.schema import load_tables
from features.splits import split_impressions, training_products
from purchase_predictor.encoders.content import ProductContent
from purchase_predictor.errors import DataError
from purchase_predictor.matching.gallery import fold
from purchase_predictor.matching.listings import (
    HASH,
    IMAGE,
    Listings,
    make_views,
    read_listings,
    words_view,
)
from purchase_predictor.matching.views import View
from purchase_predictor.settings import load_match_settings

SETTINGS = load_match_settings(None, ["data.validation_fraction=0.2"]).data
D_TEXT, D_IMAGE = 6, 4


def read(folder: Path) -> Listings:
    return read_listings(folder, SETTINGS, seed=0)


def products_in(folder: Path, **columns: list[object]) -> Path:
    pl.DataFrame(columns, strict=False).write_parquet(folder / "products.parquet")
    return folder


class Encoders:
    """Encoders whose embeddings are drawn, and which remember what they were shown."""

    def __init__(self, d_text: int = D_TEXT, d_image: int = D_IMAGE) -> None:
        self.widths = d_text, d_image
        self.shown: list[list[str]] = []

    def encode(
        self, products: pl.DataFrame, folder: Path, *, progress: object, raw: bool = False
    ) -> ProductContent:
        ids = products["product_id"].to_list()
        self.shown.append(ids)
        has_image = products["image"].is_not_null().to_numpy()
        has_text = products["title"].is_not_null().to_numpy()
        text, image = (
            np.array([np.random.default_rng([d, int(name[1:])]).normal(size=d) for name in ids])
            .reshape(len(ids), d)
            .astype(np.float32)
            for d in self.widths
        )
        text *= has_text[:, None]
        image *= 5 * has_image[:, None]
        if not raw:
            text /= np.maximum(np.linalg.norm(text, axis=1, keepdims=True), 1e-9)
            image /= np.maximum(np.linalg.norm(image, axis=1, keepdims=True), 1e-9)
        words = np.zeros((len(ids), 0), np.int32)
        layout = np.zeros((len(ids), 0), np.float32)
        return ProductContent(words, text, image, layout, has_text, has_image, [], 0)


def views_of(listings: Listings, encoders: Encoders, rows: np.ndarray | None = None) -> dict:
    rows = np.ones(len(listings), dtype=bool) if rows is None else rows
    made = make_views(
        listings, encoders, rows, tfidf=words_view(listings), progress=lambda _: None
    )
    return {name: made.of(name) for name in ("image", "title", "comb", "raw", "tfidf")
            if made.has(name)}  # fmt: skip


# reading


def test_a_catalogue_without_time_may_all_train(catalogue_folder: Path) -> None:
    listings = read(catalogue_folder)

    assert listings.eligible.all()
    assert not listings.has_impressions
    assert listings.shown_by == IMAGE
    expected = ["validation" if fold(key) in (6, 7) else "test" if fold(key) in (8, 9) else "train"
                for key in listings.split.key]  # fmt: skip
    assert listings.split.part.tolist() == expected
    assert listings.prices.columns == ["product_id", "market", "price"]
    assert len(listings.prices) == len(listings)
    assert listings.prices["market"].null_count() == len(listings)


def test_only_products_of_the_training_period_may_train_where_there_are_impressions(
    tiny_folder: Path,
) -> None:
    listings = read(tiny_folder)

    tables = load_tables(tiny_folder)
    split = split_impressions(tables, validation_fraction=0.2, test_fraction=0.2, seed=0)
    early = training_products(tables, split)
    assert listings.has_impressions
    assert np.array_equal(listings.eligible, early)
    assert 0 < early.sum() < len(early)
    assert not (listings.split.training & ~early).any()
    assert (listings.split.part == "unused").any()


def test_prices_are_the_catalogues_own_and_those_of_the_impressions(
    tiny_folder: Path, tmp_path: Path
) -> None:
    for name in ("events", "impressions"):
        (tmp_path / f"{name}.parquet").symlink_to(tiny_folder / f"{name}.parquet")
    products = pl.read_parquet(tiny_folder / "products.parquet").drop("image")
    products.with_columns(price=pl.lit(7.5)).write_parquet(tmp_path / "products.parquet")

    prices = read(tmp_path).prices

    shown = load_tables(tmp_path).impressions.select("product_id", "market", "price").drop_nulls()
    assert len(shown) > 100
    assert len(prices) == len(products) + len(shown)
    assert prices.filter(pl.col("market").is_null())["price"].unique().to_list() == [7.5]
    assert prices.drop_nulls("market").sort(pl.all()).equals(shown.sort(pl.all()))


@pytest.mark.parametrize(
    ("n_pictures", "n_hashes", "expected"),
    [(10, 0, IMAGE), (10, 10, IMAGE), (9, 10, IMAGE), (8, 10, HASH), (0, 10, HASH), (0, 0, "")],
)
def test_pictures_are_looked_at_unless_many_of_them_are_not_there(
    tmp_path: Path, n_pictures: int, n_hashes: int, expected: str
) -> None:
    for number in range(n_pictures):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    folder = products_in(
        tmp_path,
        product_id=[f"p{number}" for number in range(10)],
        title=["a thing"] * 10,
        image=[f"{number}.png" for number in range(10)],
        image_hash=[f"{number:016x}" if number < n_hashes else None for number in range(10)],
    )

    assert read(folder).shown_by == expected


def test_equal_picture_files_keep_groups_together(tmp_path: Path) -> None:
    for number in range(2):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
    folder = products_in(
        tmp_path,
        product_id=["p0", "p1", "p2"],
        image=["0.png", "1.png", None],
        match_group=["g0", "g1", "g2"],
    )

    listings = read(folder)

    assert listings.split.key.tolist() == ["g0", "g0", "g2"]
    assert listings.split.truth[0] != listings.split.truth[1]


def test_a_product_listed_twice_under_one_id_is_set_aside(tmp_path: Path) -> None:
    folder = products_in(
        tmp_path, product_id=["p0", "p1", "p0"], title=["a", "b", "c"], match_group=["g", "g", "h"]
    )

    listings = read(folder)

    quarantine = listings.catalogue.quarantine
    assert len(quarantine) == listings.catalogue.rows.set_aside > 0
    assert len(listings) + len(quarantine) == 3
    assert listings.products["product_id"].n_unique() == len(listings)


@pytest.mark.parametrize(
    "columns",
    [
        {"match_group": ["g", "g"]},
        {"title": [None, " "], "match_group": ["g", "g"]},
        {"image": ["gone.png", None], "match_group": ["g", "g"]},
        {"image_hash": ["no hash", None], "match_group": ["g", "g"]},
    ],
)
def test_nothing_to_match_by_is_one_sentence(tmp_path: Path, columns: dict[str, list]) -> None:
    folder = products_in(tmp_path, product_id=["p0", "p1"], **columns)

    with pytest.raises(DataError, match="has a title or a picture to match it by"):
        read(folder)


# views


def test_embeddings_become_views_and_their_comb(catalogue_folder: Path) -> None:
    listings, encoders = read(catalogue_folder), Encoders()

    views = views_of(listings, encoders)

    assert list(views) == ["image", "title", "comb", "raw", "tfidf"]
    assert views["comb"].vectors.shape == (len(listings), D_TEXT + D_IMAGE)
    both = np.flatnonzero(views["image"].present & views["title"].present)
    for view in views.values():
        assert len(view) == len(listings)
    cosine = {name: view.vectors[both] @ view.vectors[both].T
              for name, view in views.items() if name != "tfidf"}  # fmt: skip
    assert np.allclose(cosine["comb"], (cosine["image"] + cosine["title"]) / 2, atol=1e-5)
    # before they are normalised the longer embeddings of pictures weigh more
    assert not np.allclose(cosine["raw"], cosine["comb"], atol=0.05)
    assert np.abs(cosine["raw"] - cosine["image"]).mean() < 0.1


def test_titles_that_say_nothing_are_absent(catalogue_folder: Path) -> None:
    listings = read(catalogue_folder)

    view = views_of(listings, Encoders())["title"]

    blank = listings.products["title"].fill_null("").str.strip_chars() == ""
    assert 5 < blank.sum() < len(listings)
    assert view.present.tolist() == (~blank).to_list()
    assert not view.vectors[blank.to_numpy()].any()


def test_only_the_rows_asked_for_are_embedded(catalogue_folder: Path) -> None:
    listings, encoders = read(catalogue_folder), Encoders()
    rows = listings.split.part != "train"

    views = views_of(listings, encoders, rows)

    assert encoders.shown[0] == listings.products["product_id"].filter(pl.Series(rows)).to_list()
    whole = views_of(listings, Encoders())
    for name in ("image", "title", "comb", "raw"):
        assert not views[name].present[~rows].any()
        assert np.allclose(views[name].vectors[rows], whole[name].vectors[rows])
    assert views["tfidf"].present[~rows].any()


def test_hashes_stand_for_pictures(
    catalogue_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    products = catalogue_of(tmp_path, pictures=False, hashes=True)
    listings = read(tmp_path)

    views = views_of(listings, Encoders(d_image=0))

    assert listings.shown_by == HASH
    assert views["image"].vectors.shape == (len(products), 64)
    assert views["image"].present.tolist() == products["image_hash"].is_not_null().to_list()
    there = np.flatnonzero(views["image"].present)[:2]
    first, second = (int(products["image_hash"][int(row)], 16) for row in there)
    cosine = float(views["image"].vectors[there[0]] @ views["image"].vectors[there[1]])
    assert cosine == pytest.approx(1 - (first ^ second).bit_count() / 32)
    # in raw, bits are as they are: a hash is eight long
    length = np.linalg.norm(views["raw"].vectors[:, :64], axis=1)
    alone = views["image"].present & ~views["title"].present
    assert length[alone] == pytest.approx(1)
    assert (length[views["image"].present & ~alone] > 0.85).all()


@pytest.mark.parametrize(
    ("widths", "expected"),
    [((D_TEXT, 0), ["title", "comb", "tfidf"]), ((0, D_IMAGE), ["image", "comb", "tfidf"])],
)
def test_one_kind_of_encoder_is_its_own_comb(
    catalogue_folder: Path, widths: tuple[int, int], expected: list[str]
) -> None:
    views: dict[str, View] = views_of(read(catalogue_folder), Encoders(*widths))

    assert list(views) == expected
    assert np.array_equal(views["comb"].vectors, views[expected[0]].vectors)
    assert views["comb"].name == "comb"


def test_no_encoder_and_no_hash_is_one_sentence(catalogue_folder: Path) -> None:
    with pytest.raises(DataError, match="nothing to match by: no encoder"):
        views_of(read(catalogue_folder), Encoders(0, 0))
