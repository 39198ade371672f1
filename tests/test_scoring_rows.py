"""Rows in, probabilities out: a row is scored as if it came alone, and as the tables are."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.schema import Tables
from purchase_predictor.errors import DataError
from purchase_predictor.scoring_rows import TERMS, columns, example_rows, score_rows, signature

KINDS = {"position": "number", "device": "category", "is_weekend": "flag"}
ROW = {
    "market": "KR",
    "timestamp": "2024-03-05T10:00:00+09:00",
    "candidates": [
        {"product_id": "p1", "title": "파란 러닝화", "price": 30.0, "context": {"position": 1}},
        {"product_id": "p2", "discount_rate": 0.2, "free_shipping": True},
    ],
    "history": [
        {"timestamp": "2024-03-05T00:59:00Z", "event_type": "view", "product_id": "p1"},
        {"timestamp": "2024-03-05T00:30:00Z", "event_type": "cart", "product_id": "p2",
         "title": "가방", "session_id": "before"},
    ],
}  # fmt: skip


class Model:
    """Remembers the tables it is given; the probability is the price over a hundred."""

    def __init__(self) -> None:
        self.seen: list[Tables] = []
        self.pictures: dict[str, bytes] = {}

    def __call__(self, tables: Tables) -> pl.DataFrame:
        self.seen.append(tables)
        names = tables.products["image"].drop_nulls().to_list()
        self.pictures |= {name: (tables.folder / name).read_bytes() for name in names}
        return tables.impressions.select(
            "impression_id",
            "market",
            probability=pl.col("price") / 100,
            flags=pl.when(pl.col("price") > 50)
            .then(pl.lit(["dear", "odd"]))
            .otherwise(pl.lit([], dtype=pl.List(pl.String))),
        )


def test_a_row_becomes_tables() -> None:
    model = Model()

    score_rows([ROW], KINDS, model)

    tables = model.seen[0]
    shown = tables.impressions
    assert shown["product_id"].to_list() == ["p1", "p2"]
    assert shown["timestamp"].dt.to_string("%H:%M").to_list() == ["01:00", "01:00"]
    assert shown["list_id"].n_unique() == 1
    assert shown["position"].to_list() == [1.0, None]
    assert shown["free_shipping"].to_list() == [None, True]
    assert tables.context == KINDS
    assert tables.products["title"].to_list() == ["파란 러닝화", "가방"]
    events = tables.events
    assert events["product_id"].to_list() == ["p1", "p2"]
    assert (events["session_id"] == shown["session_id"][0]).to_list() == [True, False]


def test_answers_come_in_the_order_of_rows_and_candidates() -> None:
    def priced(*prices: float | None) -> dict[str, Any]:
        offers = [{"product_id": f"p{price}", "price": price} for price in prices]
        return {**ROW, "candidates": offers}

    answers = score_rows([priced(30, 60), priced(), priced(5)], KINDS, Model())

    assert answers == [
        {"probabilities": [0.3, 0.6], "flags": ["", "dear; odd"]},
        {"probabilities": [], "flags": []},
        {"probabilities": [0.05], "flags": [""]},
    ]


def test_rows_without_candidates_need_no_model() -> None:
    model = Model()

    assert score_rows([{**ROW, "candidates": []}], KINDS, model) == [
        {"probabilities": [], "flags": []}
    ]
    assert model.seen == []


def test_a_candidate_that_cannot_be_scored_is_null_with_its_reason() -> None:
    row = {**ROW, "candidates": [{"product_id": "p1", "price": -3.0}, {"price": 10.0}]}

    answer = score_rows([row], KINDS, Model())[0]

    assert answer == {"probabilities": [None, 0.1], "flags": ["price is negative", ""]}


def test_an_event_that_cannot_be_read_is_told_to_its_row_only() -> None:
    broken = {
        **ROW,
        "history": [{"timestamp": "yesterday", "event_type": "view"}, *ROW["history"]],
    }

    answers = score_rows([ROW, broken], KINDS, Model())

    assert answers[0]["flags"] == ["", ""]
    assert (
        answers[1]["flags"] == ["1 earlier rows set aside: timestamp is not a date and time"] * 2
    )


def test_a_row_without_market_is_refused() -> None:
    with pytest.raises(DataError, match="market"):
        score_rows([{**ROW, "market": None}], KINDS, lambda tables: pytest.fail("was scored"))


def test_rows_of_one_user_keep_their_histories_apart() -> None:
    model = Model()
    row = {**ROW, "user_id": "u", "session_id": "s"}

    score_rows([row, row], KINDS, model)

    assert len(model.seen[0].events) == 4
    assert model.seen[0].events["user_id"].n_unique() == 2
    assert model.seen[0].impressions["session_id"].n_unique() == 2


def test_rows_that_describe_a_product_in_two_ways_are_scored_apart() -> None:
    model = Model()
    other = {**ROW, "candidates": [{"product_id": "p1", "title": "other title"}], "history": []}
    neither = {**ROW, "candidates": [{"product_id": "p9"}], "history": []}

    score_rows([ROW, other, neither], KINDS, model)

    titles = [dict(t.products.select("product_id", "title").rows()) for t in model.seen]
    assert titles == [
        {"p9": None},
        {"p1": "파란 러닝화", "p2": "가방"},
        {"p1": "other title"},
    ]


def test_a_product_without_id_keeps_its_description() -> None:
    model = Model()
    row = {**ROW, "candidates": [{"title": "new"}, {"title": "newer"}, {"price": 1.0}]}

    score_rows([row], KINDS, model)

    shown, products = model.seen[0].impressions, model.seen[0].products
    assert shown["product_id"].n_unique() == 3
    assert shown["product_id"][2] is None
    assert set(shown["product_id"].drop_nulls()) <= set(products["product_id"])


def test_pictures_reach_the_tables_as_files() -> None:
    model = Model()
    picture = base64.b64encode(b"bytes of a picture").decode()
    row = {**ROW, "candidates": [{"product_id": "p1", "image": picture},
                                 {"product_id": "p3", "image": "not base64!"}]}  # fmt: skip

    score_rows([row], KINDS, model)

    assert sorted(model.pictures.values()) == [b"bytes of a picture", b"not base64!"]
    assert not model.seen[0].folder.exists()


def test_missing_is_missing_however_it_is_written() -> None:
    written = [
        {**ROW, "user_id": None, "history": None},
        {**ROW, "user_id": float("nan"), "history": float("nan")},
        {**ROW, "history": np.array([], dtype=object)},
        {name: value for name, value in ROW.items() if name != "history"},
    ]

    seen = []
    for row in written:
        model = Model()
        offers = [{**ROW["candidates"][0], "discount_rate": float("nan")}]
        score_rows([{**row, "candidates": np.array(offers, dtype=object)}], KINDS, model)
        seen.append(model.seen[0])

    assert all(tables.events.is_empty() for tables in seen)
    for tables in seen[1:]:
        assert_frame_equal(tables.impressions, seen[0].impressions)
    assert seen[0].impressions["discount_rate"].to_list() == [None]


def test_example_rows_give_the_tables_back(tiny_tables: Tables) -> None:
    model = Model()
    catalogue = tiny_tables.products.select(
        "product_id", "title", "category", "brand", "match_group"
    )

    rows = example_rows(tiny_tables, n_lists=200, max_before=10_000)
    score_rows(rows, tiny_tables.context, model)

    assert len(model.seen) == 1
    made = model.seen[0]
    assert all(row["history"] for row in rows[:50])
    kept = [pl.col("timestamp", "product_id", "market", *TERMS, *KINDS)]
    known = pl.col("product_id").is_in(catalogue["product_id"].implode())
    given = tiny_tables.impressions.with_columns(pl.when(known).then("product_id"))
    asked = made.impressions.filter(pl.col("impression_id").str.contains("candidates"))
    assert_frame_equal(asked.select(kept), given.select(kept), check_row_order=False)
    assert made.products.select(catalogue.columns).join(
        catalogue, on=catalogue.columns, how="anti", nulls_equal=True
    ).is_empty()  # fmt: skip
    assert any(content.startswith(b"\x89PNG") for content in model.pictures.values())


def test_example_rows_hold_what_was_before_and_nothing_later(tiny_tables: Tables) -> None:
    rows = example_rows(tiny_tables, n_lists=175, max_before=10_000)
    row = max((row for row in rows if "user_id" in row), key=lambda row: len(row["earlier"]))
    time = pl.lit(row["timestamp"]).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z")
    before = (pl.col("user_id") == row["user_id"]) & (pl.col("timestamp") < time)

    assert len(row["earlier"]) == tiny_tables.impressions.filter(before).height > 0
    assert len(row["history"]) == tiny_tables.events.filter(before).height


def test_offers_shown_before_are_in_the_tables_but_not_in_the_answer() -> None:
    model = Model()
    before = {"timestamp": "2024-03-05T00:10:00Z", "product_id": "p1", "price": 20.0}
    broken = {**before, "price": -1.0}
    row = {**ROW, "user_id": "u", "earlier": [before, before, broken]}

    answer = score_rows([row], KINDS, model)[0]

    shown = model.seen[0].impressions
    assert shown["price"].to_list() == [20.0, 20.0, 30.0, None]
    assert shown["list_id"].n_unique() == 2
    assert shown["user_id"].n_unique() == 1
    assert answer["probabilities"] == [0.3, None]
    assert answer["flags"] == ["1 earlier rows set aside: price is negative"] * 2


def test_a_picture_outside_the_folder_is_left_out(tiny_tables: Tables, tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    stolen = tiny_tables.products.with_columns(image=pl.lit("../secret.png"))
    tables = replace(tiny_tables, products=stolen, folder=tmp_path / "data")

    rows = example_rows(tables, n_lists=3)

    assert not any("image" in offer for row in rows for offer in row["candidates"])


def test_signature_tells_what_is_needed() -> None:
    described = signature(KINDS)["inputs"]

    assert '"market", "required": true' in described
    assert '"user_id", "required": false' in described
    assert '"event_type": {"type": "string", "required": true}' in described
    assert '"is_weekend": {"type": "boolean", "required": false}' in described
    assert "context" not in signature({})["inputs"]
    assert columns({}).keys() == columns(KINDS).keys()
