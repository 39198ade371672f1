"""Words come out as people write them, whatever the script."""

import unicodedata

import polars as pl
import pytest

from features.products import phrase_flags, phrase_spans
from purchase_predictor.attribution.titles import (
    title_words,
    without_phrases,
    words_of_phrases,
)
from purchase_predictor.encoders.words import WordPieces

TITLES = [
    "Giày chạy bộ màu xanh, miễn phí", "파란 러닝화 무료배송! 한정 수량",
    "送料無料 青いシューズ", "限量 红色背包 包邮", "รองเท้าวิ่ง ส่งฟรี", "Blue shoes, free-shipping",
]  # fmt: skip


@pytest.fixture(scope="module")
def pieces() -> WordPieces:
    """Few enough that most words are cut into several pieces."""
    return WordPieces.fit(pl.Series([*TITLES, *TITLES, "送料", "送料", "ส่ง", "ส่ง"]), 320)


def words(title: str, pieces: WordPieces, max_words: int = 64) -> list[str]:
    (found,) = title_words([title], pieces.tokenizer(max_words))
    return [title[start:stop] for start, stop in found.spans]


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (TITLES[0], ["Giày", "chạy", "bộ", "màu", "xanh", ",", "miễn", "phí"]),
        (TITLES[1], ["파란", "러닝화", "무료배송", "!", "한정", "수량"]),
        (TITLES[5], ["Blue", "shoes", ",", "free", "-", "shipping"]),
        # decomposed letters, wide letters, an emoji of several characters, letters never seen
        ("Gia\u0300y cha\u0323y", ["Gia\u0300y", "cha\u0323y"]),
        ("\uff26\uff32\uff25\uff25 Qwxk", ["\uff26\uff32\uff25\uff25", "Qwxk"]),
        ("👩\u200d👧 gift ❤\ufe0f", ["👩\u200d👧", "gift", "❤\ufe0f"]),
        ("مرحبا حذاء", ["مرحبا", "حذاء"]),
    ],
)
def test_words_lie_between_spaces(title: str, expected: list[str], pieces: WordPieces) -> None:
    assert words(title, pieces) == expected


@pytest.mark.parametrize("title", [TITLES[2], TITLES[3], TITLES[4]])
def test_scripts_without_spaces_are_parted_between_characters(
    title: str, pieces: WordPieces
) -> None:
    found = words(title, pieces)
    assert "".join(found) == title.replace(" ", "")
    assert not any(unicodedata.category(word[0]).startswith("M") for word in found)


@pytest.mark.parametrize("title", [*TITLES, "", "   ", "👩\u200d👧 ❤\ufe0f x3"])
def test_every_piece_that_the_model_reads_belongs_to_a_word(
    title: str, pieces: WordPieces
) -> None:
    for max_words in (3, 64):
        (found,) = title_words([title], pieces.tokenizer(max_words))
        codes = pieces.encode(pl.Series([title]), max_words)[0]
        assert len(found.word_of_piece) == (codes != 0).sum()
        assert sorted(set(found.word_of_piece.tolist())) == list(range(len(found.spans)))


def test_phrases_are_found_in_the_words(pieces: WordPieces) -> None:
    title = "Blue ＦＲＥＥ-Shipping 한정 수량 送料無料!"
    (found,) = title_words([title], pieces.tokenizer(64))
    for phrase in ("free-shipping", "한정 수량", "送料無料"):
        places = words_of_phrases(title, found.spans, [phrase])
        assert "".join(title[slice(*found.spans[place])] for place in places).lower() in (
            phrase.replace(" ", ""), "ｆｒｅｅ-shipping",
        )  # fmt: skip
    assert words_of_phrases(title, found.spans, ["sale"]) == []


@pytest.mark.parametrize(
    ("title", "phrase", "left"),
    [
        ("운동화 한정수량 특가", "한정 수량", "운동화 특가"),
        ("wholesale shoes", "sale", "wholesale shoes"),
        (unicodedata.normalize("NFD", "Giày miễn phí"), "miễn phí", "Gia\u0300y"),
        ("sale sale\u3000SALE! resale", "sale", "! resale"),
        (" Ｂig\t ＳＡＬＥ ", "big sale", ""),
        ("11위 1위", "1위", "11위"),
        ("ｻｰﾋﾞｽ靴", "サービス", "靴"),
        (unicodedata.normalize("NFD", "무료 배송 신발"), "무료배송", None),
        ("große Aktion", "GROSSE aktion", ""),
        ("ΤΕΛΟΣ εποχής", "τέλος", "ΤΕΛΟΣ εποχής"),
        ("ΤΕΛΟΣ εποχής", "τελος", "εποχής"),
        ("d\u0301\u0323x 1+1", "1+1", "d\u0301\u0323x"),
        ("sal\u0301e", "sale", "sal\u0301e"),
        ("a\x1cb sale", "a b", "a\x1cb sale"),
        ("", "sale", ""),
    ],
)
def test_phrases_are_taken_out_by_the_rule_of_the_model_s_flags(
    title: str, phrase: str, left: str | None
) -> None:
    flag = phrase_flags(pl.Series([title]), {"group": {"KR": [phrase]}})[0, 0]
    assert bool(phrase_spans(title, [phrase])) == flag
    found = without_phrases(title, [phrase])
    assert (found != title) == flag
    if left is not None:
        assert found == left
    assert not phrase_flags(pl.Series([found]), {"group": {"KR": [phrase]}})[0, 0]
