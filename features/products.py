"""The catalogue as arrays: codes of identity, category and brand, and phrases of the titles."""

import re
import unicodedata
from collections.abc import Mapping
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


def product_arrays(
    products: pl.DataFrame, vocabularies: Mapping[str, Vocabulary], phrases: Phrases
) -> ProductArrays:
    """The catalogue with the missing product before it; without words, text and image.

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
        words=np.zeros((n_products, 0), np.int32),
        text=np.zeros((n_products, 0), np.float32),
        image=np.zeros((n_products, 0), np.float32),
        has_text=present["title"],
        has_image=present["image"],
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
    lower = texts.str.normalize("NFKC").str.to_lowercase()
    # what case folding does beyond lower case
    folded = lower.str.replace_all("ß", "ss", literal=True).str.replace_all("ς", "σ", literal=True)
    return folded.str.replace_all(r"\s+", " ").str.strip_chars()


def _pattern(markets: Mapping[str, list[str]]) -> str:
    """A regular expression for any of the phrases."""
    phrases = pl.Series([phrase for phrases in markets.values() for phrase in phrases])
    clean = pl.select(_normalised(pl.lit(phrases))).to_series().unique().sort()
    return "|".join(_phrase_pattern(phrase) for phrase in clean)


def _phrase_pattern(phrase: str) -> str:
    """The phrase as words of its own, where its script parts words by spaces."""
    words = [re.escape(word) for word in phrase.split(" ")]
    script = {_kind(character) for character in phrase}
    gap = " " if "letter" in script else r"\s*"
    before, after = (_barred(_kind(phrase[place])) for place in (0, -1))
    start = f"(?:^|[^{before}])" if before else ""
    end = f"(?:$|[^{after}])" if after else ""
    return f"{start}{gap.join(words)}{end}"


def _kind(character: str) -> str:
    if character.isdigit():
        return "digit"
    name = unicodedata.name(character, "")
    return "letter" if name.startswith(("LATIN", "GREEK", "CYRILLIC")) else "other"


def _barred(kind: str) -> str:
    """Characters that may not stand beside this kind: 1 is not part of 11, sale not of resale."""
    return {"letter": _LETTER, "digit": _DIGIT}.get(kind, "")
