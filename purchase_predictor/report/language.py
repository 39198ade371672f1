"""Reports are written in several languages; an unknown one is told in a sentence."""

from collections.abc import Mapping
from typing import TypeVar

from purchase_predictor.errors import SettingsError, nearest

Words = TypeVar("Words")


def in_language(known: Mapping[str, Words], language: str) -> Words:
    """The words of a language.

    Args:
        known: words by language.
        language: `en` or `ko`.

    Raises:
        SettingsError: if the report is not written in it.
    """
    if language not in known:
        names, hint = " or ".join(known), nearest(language, known)
        raise SettingsError(f"The report's language is {names}, not {language!r}{hint or '.'}")
    return known[language]
