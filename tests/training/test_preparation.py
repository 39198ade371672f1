from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import N_RESERVED, STOP, TEST, TRAIN
from features.schema import Tables
from features.splits import split_impressions
from features.storage import ArrayStore
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.settings import load_settings
from purchase_predictor.training import picture_phrases
from purchase_predictor.training import preparation as preparing
from purchase_predictor.training.next_click import SCORE_COLUMNS
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.selection import (
    select_market,
)

SETTINGS = load_settings(
    Path("configs/quick.yaml"),
    [
        "pretraining.epochs=1", "pretraining.batch_events=200", "model.d_model=16",
        "data.min_identity_count=2", "encoders.cache=''",
    ],
)  # fmt: skip


def fit(
    tables: Tables, without: tuple[str, ...] = ("title", "image")
) -> tuple[Preparation, list[str]]:
    nothing = {name: pl.lit(None, pl.String) for name in without}
    bare = replace(tables, products=tables.products.with_columns(**nothing))
    split = split_impressions(bare, validation_fraction=0.2, test_fraction=0.2, seed=0)
    content = ContentEncoders.fit(
        bare.products, bare.folder, SETTINGS.encoders, SETTINGS.data,
        training=np.ones(len(bare.products), bool), seed=0, progress=lambda _: None,
    )  # fmt: skip
    preparation, said = Preparation(SETTINGS), []
    preparation.data = preparation.fit(
        select_market(bare, split, "all"), content=content, progress=said.append
    )
    return preparation, said


def test_identities_that_the_future_does_not_know_are_not_used(tiny_tables: Tables) -> None:
    split = split_impressions(tiny_tables, validation_fraction=0.2, test_fraction=0.2, seed=0)
    # everything shown in validation is new: listings come and go
    later = pl.Series(split.part) == STOP
    fresh = tiny_tables.products.with_columns(product_id=pl.format("new {}", "product_id"))
    tables = replace(
        tiny_tables,
        products=pl.concat([tiny_tables.products, fresh]),
        impressions=tiny_tables.impressions.with_columns(
            product_id=pl.when(later)
            .then(pl.format("new {}", "product_id"))
            .otherwise("product_id")
        ),
    )

    preparation, said = fit(tables)

    assert preparation.coverage_["validation"] == 0 < preparation.coverage_["training"]
    assert not preparation.identities_
    assert preparation.data.products.identity.max() < N_RESERVED
    assert preparation.encode(tables).products.identity.max() < N_RESERVED
    assert preparation.clicks_ is None
    assert any("nothing tells the products apart" in line for line in said)


def test_identities_that_last_are_used(tiny_tables: Tables) -> None:
    preparation, _ = fit(tiny_tables)
    assert preparation.identities_
    assert preparation.data.products.identity.max() >= N_RESERVED
    assert preparation.clicks_ is not None
    assert preparation.data.number_columns[-len(SCORE_COLUMNS) :] == SCORE_COLUMNS


def test_held_out_rows_get_the_same_scores_when_they_come_to_be_scored(
    tiny_tables: Tables,
) -> None:
    preparation, _ = fit(tiny_tables, without=("image",))
    data = preparation.data
    later = preparation.encode(tiny_tables)
    place = {name: row for row, name in enumerate(later.impression_id)}
    rows = np.flatnonzero(data.part == TEST)
    n = len(SCORE_COLUMNS)
    found = later.numbers[[place[name] for name in data.impression_id[rows]], -n:]
    assert np.isfinite(found).any(axis=0).all()
    np.testing.assert_allclose(found, data.numbers[rows, -n:], atol=1e-5)


def test_what_pictures_say_is_learned_from_titles_and_scored_without_them(
    with_badges: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_phrases, "MIN_TITLES", 5)
    preparation, said = fit(with_badges, without=())
    products = preparation.data.products
    place = products.picture_phrase_names.index("free_shipping")
    free = products.phrases[:, products.phrase_names.index("free_shipping")] == 1
    score = products.picture_phrases[:, place]
    assert score[free].min() > score[1:][~free[1:]].max()
    assert any("pictures tell of phrases in titles: free_shipping" in line for line in said)

    untitled = with_badges.products.with_columns(title=pl.lit("mug"))
    later = preparation.encode(replace(with_badges, products=untitled)).products

    assert later.picture_phrase_names == products.picture_phrase_names
    np.testing.assert_allclose(later.picture_phrases, products.picture_phrases, atol=1e-6)


def test_without_pictures_nothing_is_said_of_them(tiny_tables: Tables) -> None:
    preparation, said = fit(tiny_tables)
    assert preparation.picture_phrases_ is None
    assert preparation.data.products.picture_phrases.shape[1] == 0
    assert preparation.encode(tiny_tables).products.picture_phrase_names == ()
    assert not any("pictures tell" in line for line in said)


def test_what_pictures_say_is_learned_from_training_products_alone(
    with_badges: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Products that training rows and events do not know may say and show what they want."""
    monkeypatch.setattr(picture_phrases, "MIN_TITLES", 5)
    split = split_impressions(with_badges, validation_fraction=0.2, test_fraction=0.2, seed=0)
    known = ~pl.col("product_id").is_in(with_badges.products["product_id"].to_list()[::6])
    shown = with_badges.impressions.filter(known | (pl.Series(split.part) != TRAIN))
    events = with_badges.events.filter(known)
    tables = replace(with_badges, events=events, impressions=shown)
    turned = with_badges.products.with_columns(
        title=pl.when(known).then("title").otherwise(pl.lit("mug")),
        image=pl.when(known).then("image").otherwise(pl.lit("0.png")),
    )
    plain, _ = fit(tables, without=())
    other, _ = fit(replace(tables, products=turned), without=())
    one, two = plain.picture_phrases_, other.picture_phrases_
    assert one is not None
    assert two is not None
    for name, array in one.tensors().items():
        np.testing.assert_allclose(two.tensors()[name], array, atol=1e-6)


def test_a_catalogue_encoded_in_pieces_is_the_whole_one(
    tiny_tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_phrases, "MIN_TITLES", 2)
    preparation, _ = fit(tiny_tables, without=())
    broken = (
        pl.when(pl.int_range(pl.len()) == 9).then(pl.lit("images/none.png")).otherwise("image")
    )
    products = tiny_tables.products.with_columns(image=broken)
    whole = preparation.catalogue(products, tiny_tables.folder).whole
    failures = preparation.failures_
    monkeypatch.setattr(preparing, "PRODUCTS_AT_ONCE", 7)
    pieces = preparation.catalogue(products, tiny_tables.folder).whole
    on_disk = preparation.catalogue(products, tiny_tables.folder, ArrayStore(tmp_path)).whole

    assert preparation.failures_ == failures != []
    mapped = on_disk.words.base
    assert isinstance(mapped, np.memmap)
    assert not isinstance(pieces.words.base, np.memmap)
    assert pieces.picture_phrase_names == whole.picture_phrase_names
    for name in ("words", "has_text", "has_image", "text", "image", "picture_phrases"):
        one, other = getattr(pieces, name), getattr(whole, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        np.testing.assert_allclose(one, other, atol=1e-6)
        np.testing.assert_array_equal(getattr(on_disk, name), one)
