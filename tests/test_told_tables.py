"""What a user is told of the data: rows set aside, and markets, before anything is learned."""

from dataclasses import replace
from unicodedata import normalize

import polars as pl
import pytest

from purchase_predictor.facts import Facts
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scored import (
    MAX_TOLD,
    rows_by_reason,
    set_aside_sentences,
    unseen_sentences,
)
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


def test_rows_set_aside_are_counted_by_reason_from_the_commonest() -> None:
    quarantine = pl.DataFrame(
        [("events", "no time")] * 2 + [("impressions", "no time")] + [("events", "a; b")] * 3,
        schema=["table", "reason"],
        orient="row",
    )

    counted = rows_by_reason(quarantine.lazy())

    assert [tuple(row.values()) for row in counted] == [
        ("events", "a; b", 3), ("events", "no time", 2), ("impressions", "no time", 1),
    ]  # fmt: skip
    assert set_aside_sentences(counted) == [
        "events: 3 rows set aside: a; b",
        "events: 2 rows set aside: no time",
        "impressions: 1 row set aside: no time",
    ]


def test_the_rarest_reasons_share_a_sentence() -> None:
    counted = [{"table": "events", "reason": f"{n}", "rows": 20 - n} for n in range(MAX_TOLD + 2)]

    told = set_aside_sentences(counted)

    assert len(told) == MAX_TOLD + 1
    assert told[-1] == "29 rows set aside for 2 more reasons"


@pytest.fixture(scope="module")
def of_all(small_model: PurchasePredictor) -> Facts:
    """Facts of a model of all markets."""
    return small_model.facts_


def test_markets_never_seen_share_a_sentence_and_slips_have_a_hint(of_all: Facts) -> None:
    unseen = {
        name: {"rows": rows, "profile": name != "XX"}
        for name, rows in (("BR", 5), ("US", 7), ("kr ", 1), ("XX", 2))
    }

    assert unseen_sentences(unseen, of_all, ["KR", "JP"]) == [
        "markets BR, US were not in training: 12 rows are predicted by what all markets share and "
        "by their profiles",
        "market 'kr ' was not in training: 1 row is predicted by what all markets share and by "
        "its profile; did you mean 'KR'?",
        "market XX was not in training: 2 rows are predicted by what all markets share "
        "alone: no whole profile of this market is known (setting data.market_profiles)",
    ]


def test_of_many_markets_never_seen_some_are_named(of_all: Facts) -> None:
    unseen = {f"M{n}": {"rows": 1, "profile": True} for n in range(MAX_TOLD + 2)}

    (told,) = unseen_sentences(unseen, replace(of_all, market="KR", scope="local"), ["KR"])

    assert told.startswith(
        "markets M0, M1, M2, M3, M4 and 2 more were not in training: 7 rows are"
    )
    assert "by what KR does and by their profiles" in told
