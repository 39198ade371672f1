"""The page's own words: facts, caveats and notes, in either language."""

import dataclasses
import re
import string
from html.parser import HTMLParser
from pathlib import Path

import pytest

from purchase_predictor.report.matching import caveats, facts
from purchase_predictor.report.matching_words import ENGLISH, KOREAN, NOTES, note_in
from tests.report.matching_pages import COUNTS, HOSTILE, make_ladder, make_report, write

SAME = ("“title, min2”", "image", "title")


class Text(HTMLParser):
    """What is read on a page: no tags, no styles."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tag = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tag = tag
        self.text += "\n" + " ".join(value or "" for name, value in attrs if name == "alt")

    def handle_data(self, data: str) -> None:
        self.text += "" if self.tag == "style" else data


def test_facts_tell_what_there_is() -> None:
    told = facts(dataclasses.replace(COUNTS, empty=3, hashes=5, may_train=900))

    assert told == {
        "listings": "34,250, 34,000 with a title, 3 of them empty",
        "pictures": "32,412; picture hashes: 5",
        "match groups": "11,014; 12 listings have none",
        "parts": "train 20,000, validation 7,000, test 7,000, unused 250",
        "may train": "900 products of the training period",
    }


def test_facts_say_nothing_of_what_there_is_not() -> None:
    told = facts(COUNTS)

    assert told["listings"] == "34,250, 34,000 with a title"
    assert "may train" not in told


def test_caveats_are_those_that_hold() -> None:
    told = caveats(make_report(unread=1234), ENGLISH)

    assert told == [
        "1,234 pictures could not be read and count as missing.",
        "F1 falls as the gallery grows: the figure of 6,821 listings does not hold for the 34,250 "
        "of the whole catalogue.",
        ENGLISH.seen,
        ENGLISH.no_verdict,
        HOSTILE,
    ]
    assert caveats(make_report(suspects=[]), ENGLISH) == [*told[1:3], HOSTILE]


def test_a_korean_page_says_all_its_own_words_in_korean(tmp_path: Path) -> None:
    ladder = make_ladder()
    for row, name in zip(ladder, NOTES, strict=True):
        row["note"] = getattr(ENGLISH, name).format(rung="title, min2")
    counts = dataclasses.replace(COUNTS, may_train=5)
    report = make_report(ladder=ladder, counts=counts, notes=[], unread=2)

    shown = Text()
    shown.feed(write(report, tmp_path, "ko"))

    for name, english in dataclasses.asdict(ENGLISH).items():
        for part in re.split(r"\{\w+\}", english):
            words = part.strip(" ,;.:()“”")
            # words that say as much in either language, or that are also rungs or views
            if name != "formula" and len(words) > 3 and words not in SAME:
                assert words not in shown.text, (name, words)


@pytest.mark.parametrize("name", NOTES)
def test_notes_of_rungs_are_translated(name: str) -> None:
    english = getattr(ENGLISH, name).format(rung="all “data”")

    korean = note_in(english, KOREAN)

    assert korean == getattr(KOREAN, name).format(rung="all “data”")
    assert note_in(english, ENGLISH) == english


@pytest.mark.parametrize("note", ["", "of another set", "thresholds of “x” kept, and more"])
def test_another_note_stays_as_it_is(note: str) -> None:
    assert note_in(note, KOREAN) == note


def test_both_languages_fill_in_the_same_braces() -> None:
    for name, english in dataclasses.asdict(ENGLISH).items():
        korean = getattr(KOREAN, name)
        braces = [
            {part[1] for part in string.Formatter().parse(text) if part[1]}
            for text in (english, korean)
        ]
        assert braces[0] == braces[1], name
        assert re.search("[가-힣]", korean), name
