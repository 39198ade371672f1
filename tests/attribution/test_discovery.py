"""Phrases found among contributions: joined as people write them, and only where they are sure."""

from types import SimpleNamespace

import numpy as np
import pytest

from purchase_predictor.attribution.discovery import PhraseFinder, overlap, plain, worded
from purchase_predictor.attribution.titles import TitleWords

TITLES = {
    "KR": ("빨간 선착순 할인 러닝화", [(0, 2), (3, 6), (7, 9), (10, 13)]),
    "JP": ("赤い靴早割中", [(0, 2), (2, 3), (3, 5), (5, 6)]),
    "TH": ("รองเท้าแดงลดพิเศษ", [(0, 7), (7, 10), (10, 12), (12, 17)]),
    "VN": ("Giày đỏ  Giá Sốc", [(0, 4), (5, 7), (9, 12), (13, 16)]),
}  # fmt: skip
"""A title of each market; its second and third word, or third and fourth, are worth most."""

WORTH = {"KR": [-0.1, 0.5, 0.4, -0.1], "JP": [-0.1, -0.1, 0.9, -0.1],
         "TH": [-0.1, -0.1, 0.3, 0.6], "VN": [0.1, 0.1, -0.4, -0.5]}  # fmt: skip


def finder_of(n: int) -> PhraseFinder:
    """`n` impressions of each market, each of a user and a listing of its own."""
    markets = np.repeat(list(TITLES), n)
    rng = np.random.default_rng(0)
    titles = [TITLES[market] for market in markets]

    def title_of(product: int) -> tuple[str, TitleWords]:
        title, spans = titles[product]
        return title, TitleWords(tuple(spans), np.arange(len(spans)))

    def title_tokens(places: np.ndarray, values: np.ndarray) -> list[list[tuple[str, float]]]:
        return [
            [(titles[place][0][a:b], float(v)) for (a, b), v in zip(titles[place][1], own)]  # noqa: B905
            for place, own in zip(places, values, strict=True)
        ]

    rows = np.arange(len(markets))
    sample = SimpleNamespace(product=rows, unit=rows, market_label=markets)
    finder = PhraseFinder(
        SimpleNamespace(sample=sample, title_of=title_of, title_tokens=title_tokens)
    )
    values = np.array([WORTH[market] for market in markets])
    part = SimpleNamespace(
        places=rows, gradients=values + 0.01 * rng.normal(size=values.shape),
        gated=SimpleNamespace(grid=SimpleNamespace(n_words=4)),
    )  # fmt: skip
    finder(part)
    return finder


def test_candidates_are_written_as_people_write_them() -> None:
    found = finder_of(30).candidates(1, known={}, confidence=0.95)
    assert found == {
        "선착순 할인": {"KR": ["선착순 할인"]},
        "早割": {"JP": ["早割"]},
        "ลดพิเศษ": {"TH": ["ลดพิเศษ"]},
        "giá sốc": {"VN": ["giá sốc"]},
    }


def test_what_is_known_already_or_of_few_shoppers_is_no_candidate() -> None:
    known = {"sale": {"KR": ["할인"]}}
    found = finder_of(30).candidates(1, known=known, confidence=0.95)
    korean = [text for text, markets in found.items() if "KR" in markets]
    assert korean
    assert not any("할인" in text for text in korean)
    assert finder_of(5).candidates(3, known={}, confidence=0.95) == {}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("한정 수량", "한정수량", True), ("sale", "big sale", True), ("sale", "gift", False)],
)
def test_a_part_of_a_phrase_is_the_phrase(first: str, second: str, expected: bool) -> None:
    assert overlap(first, second) is expected


def test_one_form_of_each_phrase() -> None:
    assert plain("ＦＲＥＥ  Shipping") == "free shipping"
    assert not worded("1 / 2")
    assert not worded("x" * 50)
