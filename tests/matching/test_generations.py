"""Encoders of each generation: what they learned from and what they embed."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from purchase_predictor.encoders.arcface import ArcFaceRecipe
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.encoders.fitting import ImageChoice, TextChoice
from purchase_predictor.matching import generations
from purchase_predictor.matching.generations import Generations, fit_generations
from purchase_predictor.matching.ladder import ALL, BASE, UNTRAINED
from purchase_predictor.matching.listings import Listings, read_listings
from purchase_predictor.settings import MatchSettings, load_match_settings

QUICK = [
    "text.epochs=1", "text.n_word_pieces=300", "text.batch_size=64", "image.epochs=1",
    "image.size=32", "image.batch_size=64", "cache=''", "data.validation_fraction=0.2",
]  # fmt: skip


def settings(*changes: str) -> MatchSettings:
    return load_match_settings(None, [*QUICK, *changes])


EARLY = ["data.validation_fraction=0.2", "data.test_fraction=0.7"]
"""A training period so short that many products come after it."""


def read(folder: Path, *changes: str) -> Listings:
    return read_listings(folder, settings(*changes).data, seed=0)


def fit(listings: Listings, *changes: str) -> Generations:
    return fit_generations(listings, settings(*changes), progress=lambda _: None)


def ids_of(listings: Listings, part: str) -> set[str]:
    return set(listings.products["product_id"].filter(pl.Series(listings.split.part == part)))


@pytest.fixture(scope="module")
def listings(catalogue_folder: Path) -> Listings:
    return read(catalogue_folder)


@pytest.fixture(scope="module")
def fitted(listings: Listings) -> Generations:
    """All three generations; share them, do not change them."""
    return fit(listings)


def test_no_generation_learns_from_test_listings_and_only_the_last_from_validation(
    listings: Listings, fitted: Generations
) -> None:
    taught = {name: set(encoders.trained_on) for name, encoders in fitted.encoders.items()}

    train, validation, test = (ids_of(listings, part) for part in ("train", "validation", "test"))
    assert list(taught) == [UNTRAINED, BASE, ALL]
    assert not any(products & test for products in taught.values())
    assert not taught[UNTRAINED] & validation
    assert not taught[BASE] & validation
    assert len(taught[ALL] & validation) > len(validation) / 2
    assert len(taught[BASE] & train) > len(train) / 2
    assert taught[BASE] <= taught[ALL]


def test_training_changes_what_titles_and_pictures_look_like(
    listings: Listings, fitted: Generations
) -> None:
    held_out = np.flatnonzero(listings.split.part == "test")

    for side in ("title", "image"):
        vectors = [fitted.views[name].of(side).vectors[held_out] for name in fitted.views]
        for one, other in zip(vectors, vectors[1:], strict=False):
            assert np.abs(one - other).max() > 0.01


def test_only_the_last_generation_embeds_what_it_learned_from(
    listings: Listings, fitted: Generations
) -> None:
    learned = listings.split.part == "train"

    for name in (UNTRAINED, BASE):
        assert not fitted.views[name].of("title").present[learned].any()
        assert fitted.views[name].of("title").present[~learned].any()
    assert fitted.views[ALL].of("title").present[learned].any()
    assert fitted.last == ALL
    assert fitted.views[ALL].of("tfidf") is fitted.views[BASE].of("tfidf")


def test_without_all_data_the_base_is_the_last_and_embeds_everything(listings: Listings) -> None:
    fitted = fit(listings, "ladder.all_data=false", "ladder.untrained=false")

    assert list(fitted.encoders) == [BASE] == [fitted.last]
    learned = listings.split.part == "train"
    assert fitted.views[BASE].of("title").present[learned].any()
    assert not set(fitted.encoders[BASE].trained_on) & ids_of(listings, "validation")


def test_only_the_training_period_teaches_where_there_are_impressions(tiny_folder: Path) -> None:
    listings = read(tiny_folder, *EARLY)

    fitted = fit(listings, *EARLY, "ladder.untrained=false")

    late = set(listings.products["product_id"].filter(pl.Series(~listings.eligible)))
    assert late & ids_of(listings, "validation")
    for encoders in fitted.encoders.values():
        assert len(encoders.trained_on)
        assert not set(encoders.trained_on) & late


def test_hashes_alone_need_no_encoder(
    catalogue_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    catalogue_of(tmp_path, titles=False, pictures=False, hashes=True)

    fitted = fit(read(tmp_path))

    assert {len(one.texts) + len(one.images) for one in fitted.encoders.values()} == {0}
    assert all(views.has("image") and not views.has("title") for views in fitted.views.values())


def chosen(
    monkeypatch: pytest.MonkeyPatch, listings: Listings, *changes: str
) -> list[tuple[list[TextChoice], list[ImageChoice], dict]]:
    """What encoders are asked for, generation by generation."""
    asked = []

    def fit_encoders(
        products: pl.DataFrame, folder: Path, *, texts: list, images: list, **others: object
    ) -> ContentEncoders:
        asked.append((texts, images, others))
        raise KeyboardInterrupt

    monkeypatch.setattr(generations, "fit_encoders", fit_encoders)
    with pytest.raises(KeyboardInterrupt):
        fit(listings, *changes)
    return asked


def test_settings_become_choices_and_recipes(
    listings: Listings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((texts, images, others),) = chosen(
        monkeypatch, listings, "ladder.untrained=false", "seed=5", "cache=kept",
        "text.encoders=[small, bert]", "text.prefix='query: '", "text.lowercase=false",
        "text.freeze_words=false", "text.max_tokens=48", "text.margin_end=0.8",
        "text.size_exponent=0.2", "image.encoders=[small, small]", "image.margin_end=1.0",
        "image.cutmix=0.25", "image.warm_up=0.3",
    )  # fmt: skip

    assert [choice.setting for choice in texts] == ["small", "bert"]
    assert {choice.prefix for choice in texts} == {"query: "}
    assert {choice.max_tokens for choice in texts} == {48}
    assert not any(choice.lowercase or choice.freeze_words for choice in texts)
    recipe = texts[0].recipe
    assert isinstance(recipe, ArcFaceRecipe)
    assert (recipe.epochs, recipe.batch_size, recipe.margin_end) == (1, 64, 0.8)
    assert (recipe.size_exponent, recipe.cutmix) == (0.2, 0.0)
    assert [(choice.setting, choice.size) for choice in images] == [("small", 32)] * 2
    recipe = images[0].recipe
    assert isinstance(recipe, ArcFaceRecipe)
    assert (recipe.margin_end, recipe.cutmix, recipe.warm_up) == (1.0, 0.25, 0.3)
    assert (others["seed"], others["cache"]) == (5, Path("kept"))


def test_untrained_encoders_have_no_recipe(
    listings: Listings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ((texts, images, others),) = chosen(monkeypatch, listings)

    assert [choice.recipe for choice in (*texts, *images)] == [None, None]
    assert others["cache"] is None
    assert np.array_equal(others["training"], listings.split.part == "train")
