"""What a user is told of the markets in the data, before anything is learned."""

from unicodedata import normalize

import polars as pl
import pytest

from purchase_predictor.told_tables import MARKETS_SHOWN, market_rows, written_alike


def impressions(sizes: dict[str, tuple[int, int]]) -> pl.DataFrame:
    rows = [
        {"market": market, "converted": row < positive}
        for market, (n, positive) in sizes.items()
        for row in range(n)
    ]
    return pl.DataFrame(rows)


def test_markets_are_listed_from_the_largest_with_their_conversions() -> None:
    rows = market_rows(impressions({"KR": (3, 1), "US": (1_200, 7), "DE": (3, 0)}))

    assert rows == [["US", "1,200", "7"], ["DE", "3", "0"], ["KR", "3", "1"]]


def test_the_smallest_of_many_markets_share_a_row() -> None:
    sizes = {f"M{n:02}": (100 - n, 2) for n in range(MARKETS_SHOWN + 3)}

    rows = market_rows(impressions(sizes))

    assert len(rows) == MARKETS_SHOWN
    assert rows[-2] == ["M18", "82", "2"]
    assert rows[-1] == ["4 others", str(81 + 80 + 79 + 78), "8"]


@pytest.mark.parametrize(
    ("markets", "alike"),
    [
        (["KR", "US", "kr"], [["'KR'", "'kr'"]]),
        (["PL", "CZ", "pl "], [["'PL'", "'pl '"]]),
        (["GB", "UK", "el", "GR"], [["'GB'", "'UK'"], ["'GR'", "'el'"]]),
        (["서울", normalize("NFD", "서울")], [[f"'{normalize('NFD', '서울')}'", "'서울'"]]),
        (["KR", "KZ", "Seoul"], []),
    ],
)
def test_names_that_are_probably_of_one_market_are_found(
    markets: list[str], alike: list[list[str]]
) -> None:
    assert written_alike(markets) == alike
