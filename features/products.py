"""The catalogue as arrays: codes of identity, category and brand, and phrases of the titles."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import MISSING, ProductArrays
from features.culture import read_yaml
from features.errors import DataError
from features.vocabulary import Vocabulary

Phrases = dict[str, dict[str, list[str]]]
"""Phrases by group and market."""

_LETTER, _DIGIT = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{M}", r"\p{Nd}"
_BLANKS = re.compile(r"[^\S\x1c-\x1f]+")
"""Blanks as the engine of `phrase_flags` knows them; Python has four more."""


def load_phrases(file: Path | None = None) -> Phrases:
    """Read the phrases that titles are searched for.

    Args:
        file: YAML laid out as `configs/phrases.yaml`, which is read where this is None.

    Returns:
        Phrases by group and market.

    Raises:
        DataError: if the file cannot be read or is laid out otherwise.
    """
    name = "configs/phrases.yaml" if file is None else str(file)
    groups = read_yaml(file, "phrases.yaml")
    if not isinstance(groups, dict) or not groups:
        raise DataError(f"{name}: it must hold groups of phrases, group: {{market: [phrase, …]}}.")
    for group, markets in groups.items():
        if not isinstance(group, str) or not isinstance(markets, dict) or not markets:
            raise DataError(f"{name}: the group {group!r} must hold {{market: [phrase, …]}}.")
        for market, phrases in markets.items():
            _check_phrases(phrases, f"{name}: {group}, market {market!r}", market)
    return groups


def phrase_flags(titles: pl.Series, phrases: Phrases) -> NDArray[np.float32]:
    """Which groups' phrases a title holds, in the words of any market.

    Args:
        titles: null where there is none.
        phrases: of `load_phrases`.

    Returns:
        float32 [n_titles, n_groups], 1 where it does.
    """
    clean = pl.select(_normalised(pl.lit(titles.cast(pl.String)))).to_series()
    flags = [
        clean.str.contains(_pattern(markets)).fill_null(False).to_numpy()
        for markets in phrases.values()
    ]
    return np.array(flags, np.float32).reshape(len(phrases), len(titles)).T


def phrase_spans(title: str, phrases: Iterable[str]) -> list[tuple[int, int]]:
    """Where a title holds phrases, by the rule of `phrase_flags`.

    Args:
        title: as given.
        phrases: as `load_phrases` reads them.

    Returns:
        First character and one past the last of every occurrence, in the title as given; those of
        two phrases may overlap.
    """
    text, places = _normalised_with_places(title)
    found = []
    for phrase in _clean(phrases):
        core, before, after = _phrase_parts(phrase)
        for match in re.finditer(f"(?=({core}))", text):
            start, stop = match.span(1)
            barred = start > 0 and _beside(text[start - 1], before)
            if not barred and not (stop < len(text) and _beside(text[stop], after)):
                found.append((places[start][0], places[stop - 1][1]))
    return found


def product_arrays(
    products: pl.DataFrame, vocabularies: Mapping[str, Vocabulary], phrases: Phrases
) -> ProductArrays:
    """The catalogue with the missing product before it; without prices, words, text and pictures.

    Args:
        products: the table.
        vocabularies: `identity`, `category` and `brand`.
        phrases: of `load_phrases`.
    """
    sources = {"identity": "product_id", "category": "category", "brand": "brand"}
    codes = {
        name: np.append(np.int32(MISSING), vocabularies[name].encode(products[column]))
        for name, column in sources.items()
    }
    n_products = len(products) + 1
    present = {
        name: np.append(False, products[name].is_not_null().to_numpy())
        for name in ("title", "image")
    }
    flags = phrase_flags(products["title"], phrases)
    return ProductArrays(
        product_id=np.array([None, *products["product_id"].to_list()], object),
        **codes,
        phrases=np.concatenate([np.zeros((1, len(phrases)), np.float32), flags]),
        phrase_names=tuple(phrases),
        picture_phrases=np.zeros((n_products, 0), np.float32),
        picture_phrase_names=(),
        words=np.zeros((n_products, 0), np.int32),
        text=np.zeros((n_products, 0), np.float32),
        image=np.zeros((n_products, 0), np.float32),
        has_text=present["title"],
        has_image=present["image"],
        price_level=np.full(n_products, np.nan, np.float32),
    )


def _check_phrases(phrases: object, where: str, market: object) -> None:
    if not isinstance(market, str):
        # an unquoted NO is the truth value false in YAML
        raise DataError(f"{where}: the market must be a text: put it in quotes.")
    if not isinstance(phrases, list) or not phrases:
        raise DataError(f"{where}: it must hold a list of phrases.")
    for phrase in phrases:
        if not isinstance(phrase, str) or not phrase.strip():
            raise DataError(f"{where}: {phrase!r} is not a phrase: put it in quotes.")


def _normalised(texts: pl.Expr) -> pl.Expr:
    """One form for all widths and cases of a character; single spaces."""
    return _folded(texts).str.replace_all(r"\s+", " ").str.strip_chars()


def _folded(texts: pl.Expr) -> pl.Expr:
    """One form for all widths and cases of a character."""
    lower = texts.str.normalize("NFKC").str.to_lowercase()
    # what case folding does beyond lower case
    return lower.str.replace_all("ß", "ss", literal=True).str.replace_all("ς", "σ", literal=True)


def _normalised_with_places(title: str) -> tuple[str, list[tuple[int, int]]]:
    """`_normalised` of one title, and the characters of the title that each of its own is of."""
    runs = _independent_runs(title)
    parts = pl.Series([title[slice(*run)] for run in runs], dtype=pl.String)
    folded = pl.select(_folded(pl.lit(parts))).to_series()
    text = "".join(folded)
    places = [run for run, part in zip(runs, folded, strict=True) for _ in part]
    for blank in reversed(list(_BLANKS.finditer(text))):
        start, stop = blank.span()
        # one space, of all that it stands for; none at the ends
        inside = start > 0 and stop < len(text)
        text = text[:start] + (" " if inside else "") + text[stop:]
        places[start:stop] = [(places[start][0], places[stop - 1][1])] if inside else []
    return text, places


def _independent_runs(text: str) -> list[tuple[int, int]]:
    """Runs of characters that compose with none outside: each can be normalised by itself."""
    runs: list[tuple[int, int]] = []
    for place, character in enumerate(text):
        if runs and _goes_on(text[runs[-1][0] : place], character):
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


def _goes_on(run: str, character: str) -> bool:
    """Whether a character composes with those before it: a mark, or a part of a syllable."""
    if character < "\u0300":
        return False
    if unicodedata.combining(unicodedata.normalize("NFKD", character)[0]):
        return True
    own = unicodedata.normalize("NFKC", character)
    before = unicodedata.normalize("NFKC", run[-3:])  # a syllable has three parts at most
    return unicodedata.normalize("NFKC", run[-3:] + character) != before + own


def _clean(phrases: Iterable[str]) -> list[str]:
    """Phrases normalised, each once, in one order."""
    given = pl.Series(list(phrases), dtype=pl.String)
    return pl.select(_normalised(pl.lit(given))).to_series().unique().sort().to_list()


def _pattern(markets: Mapping[str, list[str]]) -> str:
    """A regular expression for any of the phrases."""
    clean = _clean(phrase for phrases in markets.values() for phrase in phrases)
    return "|".join(_phrase_pattern(phrase) for phrase in clean)


def _phrase_pattern(phrase: str) -> str:
    """The phrase as words of its own, where its script parts words by spaces."""
    core, before, after = _phrase_parts(phrase)
    start = f"(?:^|[^{before}])" if before else ""
    end = f"(?:$|[^{after}])" if after else ""
    return f"{start}{core}{end}"


def _phrase_parts(phrase: str) -> tuple[str, str, str]:
    """A pattern of a normalised phrase, and what may stand neither before nor after it.

    The pattern means the same to Python and to polars; blanks of the text are single spaces.
    """
    words = [re.escape(word) for word in phrase.split(" ")]
    script = {_kind(character) for character in phrase}
    gap = " " if "letter" in script else " ?"
    before, after = (_barred(_kind(phrase[place])) for place in (0, -1))
    return gap.join(words), before, after


@cache
def _beside(character: str, barred: str) -> bool:
    """Whether a character is of a class, by the engine of `phrase_flags`."""
    return bool(barred) and bool(pl.Series([character]).str.contains(f"^[{barred}]")[0])


def _kind(character: str) -> str:
    if character.isdigit():
        return "digit"
    name = unicodedata.name(character, "")
    return "letter" if name.startswith(("LATIN", "GREEK", "CYRILLIC")) else "other"


def _barred(kind: str) -> str:
    """Characters that may not stand beside this kind: 1 is not part of 11, sale not of resale."""
    return {"letter": _LETTER, "digit": _DIGIT}.get(kind, "")
