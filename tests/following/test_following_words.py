"""The page's own words, in either language."""

import dataclasses
import re
import string
from collections.abc import Iterator
from typing import Any

import pytest

from purchase_predictor.errors import SettingsError
from purchase_predictor.following.policy import CHOSEN, DRAWN, ESTIMATORS
from purchase_predictor.report.following_words import ENGLISH, KOREAN, words_of

SAME = {"heads.auc", "heads.p_holm"}
"""Written alike in both languages."""


def texts(words: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every text with the name of its place."""
    if isinstance(words, str):
        yield prefix, words
        return
    parts = dict(enumerate(words)) if isinstance(words, tuple | list) else words
    for name, part in parts.items():
        yield from texts(part, f"{prefix}.{name}".strip("."))


def braces(text: str) -> set[str]:
    return {part[1] for part in string.Formatter().parse(text) if part[1]}


def test_both_languages_say_the_same_things_with_the_same_braces() -> None:
    english, korean = (dict(texts(dataclasses.asdict(words))) for words in (ENGLISH, KOREAN))
    assert english.keys() == korean.keys()
    for name, text in english.items():
        assert braces(text) == braces(korean[name]), name
        assert re.search("[가-힣]", korean[name]) or name in SAME, name


def test_every_code_has_its_words() -> None:
    for words in (ENGLISH, KOREAN):
        assert list(words.estimators) == list(ESTIMATORS)
        assert set(words.policy_logging) == {DRAWN, CHOSEN}
        assert set(words.verdicts) == {
            "arm better", "against better", "undecided", "same to 4 digits", "not enough data",
        }  # fmt: skip


def test_a_language_that_is_not_written() -> None:
    assert words_of("ko") is KOREAN
    with pytest.raises(SettingsError, match="en or ko, not 'kr'"):
        words_of("kr")
