"""Titles in the market's own language: a small grammar with synonyms, units and typos."""

from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import Catalogue
from purchase_predictor.data.marketplace.world import (
    FIRST_TEST_PERIOD,
    MARKETS,
    PHRASES,
    World,
)

TYPO_SHARE = 0.06
LATER_SHARE = 0.5
SYNONYM_WEIGHTS = (0.55, 0.3, 0.15)
SYLLABLES = (
    "ka",
    "no",
    "lu",
    "mi",
    "ra",
    "ve",
    "to",
    "sen",
    "dor",
    "bel",
    "fi",
    "zan",
    "pol",
    "ri",
)


@cache
def vocabulary() -> dict[str, Any]:
    """Words of every language, as in `words.yaml`."""
    file = resources.files("purchase_predictor.data.marketplace") / "words.yaml"
    return yaml.safe_load(file.read_text("utf-8"))


def brand_names(rng: np.random.Generator, n: int) -> NDArray[np.object_]:
    """Distinct invented names."""
    pairs = rng.permutation(len(SYLLABLES) ** 2)[:n]
    tails = rng.integers(len(SYLLABLES), size=n)
    first, second = np.divmod(pairs, len(SYLLABLES))
    syllables = np.array(SYLLABLES, dtype=object)
    names = syllables[first] + syllables[second] + np.where(tails < 7, syllables[tails], "")
    return np.array([name.capitalize() for name in names], dtype=object)


def make_titles(
    world: World, catalogue: Catalogue, brands: NDArray[np.object_]
) -> NDArray[np.object_]:
    """A title for every listing, object [J]; `brands`: the name of each brand."""
    rng = world.rng("titles")
    titles = np.empty(len(catalogue), dtype=object)
    for number, market in enumerate(MARKETS):
        rows = np.flatnonzero(catalogue.market == number)
        words = vocabulary()[market.language]
        titles[rows] = _titles(rng, words, catalogue, rows, brands)
    return titles


def _titles(
    rng: np.random.Generator,
    words: dict[str, Any],
    catalogue: Catalogue,
    rows: NDArray[np.int64],
    brands: NDArray[np.object_],
) -> NDArray[np.object_]:
    n = len(rows)
    nouns = np.array(words["nouns"], dtype=object)
    wrong = np.array([_typo(noun) for noun in words["nouns"]], dtype=object)
    category = catalogue.category[rows]
    noun = np.where(rng.random(n) < TYPO_SHARE, wrong[category], nouns[category])
    adjective = _some(rng, words["adjectives"], n, share=0.7)
    extra = _some(rng, words["extras"], n, share=0.5)
    unit = _some(rng, words["units"], n, share=0.4)
    model = np.array(["", "A1", "B2", "X3", "S5", "Z7"], dtype=object)[rng.integers(6, size=n)]
    front, back = np.full(n, "", dtype=object), np.full(n, "", dtype=object)
    late = catalogue.launch[rows] >= FIRST_TEST_PERIOD
    for column, group in enumerate(PHRASES):
        said = catalogue.phrases[rows, column]
        phrase = _synonyms(rng, words, group, late)
        ahead = rng.random(n) < 0.5
        front = np.where(said & ahead, front + phrase + " ", front)
        back = np.where(said & ~ahead, back + " " + phrase, back)
    brand = brands[catalogue.brand[rows]]
    bracketed = rng.random(n) < 0.2
    brand = np.where(bracketed, "[" + brand + "]", brand)
    parts = (front, brand, adjective, noun, model, extra, unit, back)
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + " " + part
    return np.array([" ".join(title.split()) for title in joined], dtype=object)


def _some(
    rng: np.random.Generator, words: list[str], n: int, *, share: float
) -> NDArray[np.object_]:
    """A word for a share of the rows, nothing for the rest."""
    drawn = np.array(words, dtype=object)[rng.integers(len(words), size=n)]
    return np.where(rng.random(n) < share, drawn, "")


def _synonyms(
    rng: np.random.Generator, words: dict[str, Any], group: str, late: NDArray[np.bool_]
) -> NDArray[np.object_]:
    """How each row says a phrase; new ways of saying it belong to listings of the test period."""
    known = np.array(words["phrases"][group], dtype=object)
    weight = np.array(SYNONYM_WEIGHTS[: len(known)])
    said = known[rng.choice(len(known), size=len(late), p=weight / weight.sum())]
    fresh = rng.random(len(late)) < LATER_SHARE
    if group in words["later"]:
        new = np.array(words["later"][group], dtype=object)
        said = np.where(late & fresh, new[rng.integers(len(new), size=len(late))], said)
    return said


def _typo(word: str) -> str:
    """The word with two letters of its middle swapped, or one dropped from a short word."""
    middle = len(word) // 2
    if len(word) < 4:
        return word[:-1] if len(word) > 1 else word + word
    return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]
