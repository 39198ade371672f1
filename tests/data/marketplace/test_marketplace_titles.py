import numpy as np
import polars as pl
import pytest

from features.products import load_phrases, phrase_flags
from purchase_predictor.data.marketplace.simulation import Marketplace
from purchase_predictor.data.marketplace.titles import _typo, brand_names, make_titles, vocabulary
from purchase_predictor.data.marketplace.world import (
    CATEGORIES,
    FIRST_TEST_PERIOD,
    MARKETS,
    PHRASES,
)


@pytest.fixture(scope="module")
def titles(small: Marketplace) -> np.ndarray:
    return make_titles(small.world, small.catalogue, brand_names(np.random.default_rng(0), 40))


def test_every_language_has_every_word() -> None:
    for market in MARKETS:
        words = vocabulary()[market.language]
        assert len(words["nouns"]) == len(CATEGORIES)
        assert set(words["phrases"]) == set(PHRASES)
        assert all(2 <= len(synonyms) <= 4 for synonyms in words["phrases"].values())
        assert set(words["later"]) <= set(PHRASES)


def test_titles_say_what_the_listing_says_and_nothing_else(
    small: Marketplace, titles: np.ndarray
) -> None:
    phrases = load_phrases(None)
    flags = phrase_flags(pl.Series(titles.tolist(), dtype=pl.String), phrases)

    for column, group in enumerate(PHRASES):
        said = flags[:, list(phrases).index(group)] > 0
        assert (said == small.catalogue.phrases[:, column]).mean() > 0.995, group


def test_later_synonyms_belong_to_listings_of_the_test_period(
    small: Marketplace, titles: np.ndarray
) -> None:
    later = [
        any(
            word in title
            for words in vocabulary()[MARKETS[market].language]["later"].values()
            for word in words
        )
        for title, market in zip(titles, small.catalogue.market, strict=True)
    ]

    assert sum(later) > 0
    assert (small.catalogue.launch[later] >= FIRST_TEST_PERIOD).all()


def test_titles_are_in_the_language_of_the_market(small: Marketplace, titles: np.ndarray) -> None:
    korean = [any("가" <= letter <= "힣" for letter in title) for title in titles]

    assert (np.array(korean) == (small.catalogue.market == 0)).all()
    assert all(title == " ".join(title.split()) and title for title in titles)


@pytest.mark.parametrize(
    ("word", "wrong"),
    [("keyboard", "keyobard"), ("백팩", "백"), ("杯", "杯杯"), ("sneakers", "snekaers")],
)
def test_a_typo_swaps_or_drops_a_letter(word: str, wrong: str) -> None:
    typo = _typo(word)
    assert typo != word
    assert sorted(typo) == sorted(word) or abs(len(typo) - len(word)) == 1
    assert typo == wrong


def test_brand_names_are_distinct() -> None:
    names = brand_names(np.random.default_rng(5), 40)
    assert len(set(names)) == 40
