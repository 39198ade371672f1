from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import numpy as np
import polars as pl
import pytest

from features.arrays import CALIBRATE, LEFT_OUT, STOP, TEST, TRAIN
from features.schema import Tables
from features.splits import (
    Cuts,
    Split,
    event_parts,
    select_markets,
    split_impressions,
    stable_hash,
    training_products,
)

MakeTables = Callable[..., Tables]


def by_time(tables: Tables, seed: int = 0) -> Split:
    return split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=seed)


def one_a_session(seconds: list[float], **columns: list) -> list[dict]:
    return [
        {
            "session_id": f"s{number}",
            "timestamp": second,
            **{name: values[number] for name, values in columns.items()},
        }
        for number, second in enumerate(seconds)
    ]


def test_ten_sessions_are_split_seven_one_two_by_their_start(make_tables: MakeTables) -> None:
    tables = make_tables(one_a_session([90, 80, 70, 60, 50, 40, 30, 20, 10, 0]))
    part = by_time(tables).part
    assert part[:2].tolist() == [TEST, TEST]
    assert part[2] in (STOP, CALIBRATE)
    assert part[3:].tolist() == [TRAIN] * 7


def test_a_session_starts_with_its_first_event(
    make_tables: MakeTables, after_noon: Callable[[float], datetime]
) -> None:
    seconds = [10.0 * number for number in range(10)]
    events = [{"session_id": "s9", "timestamp": 65}]
    cuts = by_time(make_tables(one_a_session(seconds), events)).cuts
    # starts: 0, 10, …, 60, 65, 70, 80
    assert cuts == Cuts(after_noon(65), after_noon(70))


def test_sessions_without_impressions_do_not_move_the_cuts(make_tables: MakeTables) -> None:
    rows = one_a_session([10.0 * number for number in range(10)])
    events = [{"session_id": f"e{number}", "timestamp": number} for number in range(50)]
    assert by_time(make_tables(rows)).cuts == by_time(make_tables(rows, events)).cuts


def test_a_session_on_both_sides_of_a_cut_is_left_out_and_counted(make_tables: MakeTables) -> None:
    rows = one_a_session([10.0 * number for number in range(10)])
    events = [
        {"session_id": "s6", "timestamp": 70},  # ends exactly at the validation cut
        {"session_id": "s7", "timestamp": 79},
        {"session_id": "s3", "timestamp": 200},
    ]
    split = by_time(make_tables(rows, events))
    assert split.n_straddling == 2
    assert np.flatnonzero(split.part == LEFT_OUT).tolist() == [3, 6]
    assert split.part[7] in (STOP, CALIBRATE)


def test_the_split_column_overrides_the_time(make_tables: MakeTables) -> None:
    rows = one_a_session([0, 1, 2], split=["test", "train", "validation"])
    split = by_time(make_tables(rows))
    assert split.part[:2].tolist() == [TEST, TRAIN]
    assert split.part[2] in (STOP, CALIBRATE)
    assert split.cuts is None
    assert split.n_straddling == 0


def test_rows_whose_split_is_not_given_are_split_by_time(make_tables: MakeTables) -> None:
    given: list[str | None] = [None] * 10
    given[0] = "test"
    rows = one_a_session([10.0 * number for number in range(10)], split=given)
    part = by_time(make_tables(rows)).part
    assert part[[0, 1, 9]].tolist() == [TEST, TRAIN, TEST]


def test_validation_units_are_halved_whole_and_the_same_in_any_data(
    make_tables: MakeTables,
) -> None:
    users = [f"u{number % 300}" for number in range(900)]
    rows = one_a_session(list(range(900)), user_id=users, split=["validation"] * 900)
    part = by_time(make_tables(rows)).part
    halves = pl.DataFrame({"user": users, "part": part}).group_by("user").agg(
        pl.col("part").n_unique()
    )  # fmt: skip
    assert halves["part"].max() == 1
    assert 0.4 < (part == STOP).mean() < 0.6
    assert (by_time(make_tables(rows[200:])).part == part[200:]).all()
    assert (by_time(make_tables(rows), seed=1).part != part).any()


def test_the_hash_is_the_one_that_old_models_used() -> None:
    texts = pl.Series(["", "a", "user 1", "세션", "session 1"])
    # computed with Python's own integers
    assert stable_hash(texts, 0).tolist() == [
        5116207949633151788, 17615916189189171272, 14898049795089068007, 6365084985146037808,
        2516391628653116006,
    ]  # fmt: skip
    assert len(set(stable_hash(pl.Series([f"u{n}" for n in range(5000)]), 3).tolist())) == 5000


def test_cuts_survive_json(make_tables: MakeTables) -> None:
    cuts = by_time(make_tables(one_a_session([0.000001 * n for n in range(10)]))).cuts
    assert cuts is not None
    assert Cuts.from_dict(cuts.to_dict()) == cuts


def test_events_learn_only_before_the_cut_in_sessions_that_end_there(
    make_tables: MakeTables,
) -> None:
    rows = one_a_session([10.0 * number for number in range(10)])
    events = [
        {"session_id": "s1", "timestamp": 11},
        {"session_id": "s6", "timestamp": 61},  # its session goes on past the cut
        {"session_id": "s6", "timestamp": 75},
        {"session_id": "s9", "timestamp": 91},
        {"session_id": "no impressions", "timestamp": 20},
        {"session_id": "no impressions, late", "timestamp": 70},
    ]
    tables = make_tables(rows, events)
    learn = event_parts(tables, by_time(tables)) == TRAIN
    assert learn.tolist() == [True, False, False, False, True, False]


def test_with_a_split_column_no_event_follows_its_units_own_held_out_impression(
    make_tables: MakeTables,
) -> None:
    rows = [
        {"session_id": "train", "user_id": "u", "timestamp": 10, "split": "train"},
        {"session_id": "test", "user_id": "u", "timestamp": 20, "split": "test"},
        {"session_id": "mixed", "timestamp": 5, "split": "train"},
        {"session_id": "mixed", "timestamp": 30, "split": "test"},
        {"session_id": "other", "timestamp": 40, "split": "train"},
    ]
    events = [
        {"session_id": "train", "user_id": "u", "timestamp": 1},
        {"session_id": "train", "user_id": "u", "timestamp": 21},
        {"session_id": "mixed", "timestamp": 1},
        {"session_id": "other", "timestamp": 41},
        {"session_id": "none", "timestamp": 19},
        {"session_id": "none, late", "timestamp": 20},
    ]
    tables = make_tables(rows, events)
    learn = event_parts(tables, by_time(tables)) == TRAIN
    assert learn.tolist() == [True, False, False, True, True, False]


def test_training_products_were_seen_before_the_cut(make_tables: MakeTables) -> None:
    products = ["a", "a", "a", "a", "a", "a", "a", "b", "b", "b"]
    rows = one_a_session([10.0 * number for number in range(10)], product_id=products)
    events = [
        {"session_id": "s6", "timestamp": 60, "product_id": "c"},
        {"session_id": "s6", "timestamp": 75, "product_id": "d"},
    ]
    tables = make_tables(rows, events)
    assert training_products(tables, by_time(tables)).tolist() == [True, False, True, False]


def test_training_products_of_a_split_column_are_those_of_training_rows(
    make_tables: MakeTables,
) -> None:
    rows = one_a_session([0, 1], split=["train", "test"], product_id=["a", "b"])
    events = [{"session_id": "s0", "timestamp": 0, "product_id": "c"}]
    tables = make_tables(rows, events)
    assert training_products(tables, by_time(tables)).tolist() == [True, False, True, False]


def test_a_selected_market_keeps_its_split_and_the_whole_history_of_its_units(
    make_tables: MakeTables,
) -> None:
    rows = one_a_session(
        [10.0 * number for number in range(10)],
        market=["KR", "US"] * 5,
        user_id=["u", "u", *[None] * 8],
    )
    events = [
        {"session_id": "s1", "user_id": "u", "timestamp": 9},
        {"session_id": "s3", "timestamp": 29},
        {"session_id": "s4", "timestamp": 39},
    ]
    tables = make_tables(rows, events)
    split = by_time(tables)
    selected, part = select_markets(tables, split, ["KR"])
    assert selected.impressions["session_id"].to_list() == ["s0", "s2", "s4", "s6", "s8"]
    assert selected.events["session_id"].to_list() == ["s1", "s4"]
    assert part.part.tolist() == split.part[::2].tolist()
    assert part.cuts == split.cuts


@pytest.mark.parametrize("part", [STOP, CALIBRATE, TEST])
def test_a_part_may_be_empty(tiny_tables: Tables, tiny_split: Split, part: int) -> None:
    split = replace(tiny_split, part=np.full_like(tiny_split.part, part))
    assert set(event_parts(tiny_tables, split)) <= {TRAIN, LEFT_OUT}
