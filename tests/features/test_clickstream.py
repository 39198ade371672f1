from collections.abc import Callable

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from features.clickstream import build_clickstream, session_units
from features.schema import Tables

MakeTables = Callable[..., Tables]


def built(tables: Tables, history: int = 3):  # noqa: ANN201
    products = tables.products.select("product_id").with_row_index("product", offset=1)
    return build_clickstream(tables, products, history=history)


def test_the_unit_is_the_user_where_known_else_the_session(make_tables: MakeTables) -> None:
    tables = make_tables(
        [
            {"session_id": "known", "user_id": "x", "timestamp": 5},
            {"session_id": "x", "user_id": None, "timestamp": 5},
            {"session_id": "by event", "user_id": None, "timestamp": 5},
            {"session_id": "named later", "user_id": None, "timestamp": 5},
        ],
        [
            {"session_id": "known", "user_id": "y", "timestamp": 1},
            {"session_id": "by event", "user_id": "x", "timestamp": 1},
            {"session_id": "named later", "user_id": "x", "timestamp": 5},
            {"session_id": "no impressions", "user_id": "x", "timestamp": 9},
        ],
    )
    assert dict(session_units(tables).iter_rows()) == {
        "known": "user x",
        "x": "session x",
        "by event": "user x",
        "named later": "session named later",
        "no impressions": "user x",
    }


def test_the_cut_is_strictly_before_and_spans_the_users_sessions(make_tables: MakeTables) -> None:
    events = [
        {"session_id": "old", "user_id": "u", "timestamp": 0, "event_type": "first"},
        {"session_id": "s", "user_id": "u", "timestamp": 5},
        {"session_id": "s", "user_id": "u", "timestamp": 7, "event_type": "same time"},
        {"session_id": "other", "user_id": "v", "timestamp": 1},
    ]
    tables = make_tables([{"user_id": "u", "timestamp": 7}], events)
    stream = built(tables)
    seen = stream.events.order[stream.events.first[stream.shown.unit[0]] : stream.shown.cut[0]]
    assert seen.tolist() == [0, 1]


def test_events_of_one_time_keep_their_row_order(make_tables: MakeTables) -> None:
    events = [{"timestamp": 1, "event_type": str(number)} for number in range(20)]
    tables = make_tables([{"timestamp": 2}], events)
    assert built(tables).events.order.tolist() == list(range(20))
    shuffled = Tables(**{**vars(tables), "events": tables.events.sample(fraction=1, shuffle=True)})
    stream = built(shuffled)
    assert shuffled.events["row"].to_numpy()[stream.events.order].tolist() == list(range(20))


def test_a_product_that_is_not_in_the_catalogue_is_the_missing_one(
    make_tables: MakeTables,
) -> None:
    tables = make_tables(
        [{"timestamp": 2, "product_id": "z"}, {"timestamp": 3, "product_id": None}],
        [
            {"timestamp": 0, "product_id": "z"},
            {"timestamp": 1, "product_id": None},
            {"timestamp": 1, "product_id": "b"},
        ],
    )
    stream = built(tables)
    assert stream.events.product.tolist() == [0, 0, 2]
    assert stream.shown.product.tolist() == [0, 0]


def test_lists_are_the_list_id_else_the_session_and_time(make_tables: MakeTables) -> None:
    rows = [
        {"timestamp": 5, "list_id": "l"},
        {"timestamp": 1, "list_id": None},
        {"timestamp": 4, "list_id": "l"},
        {"timestamp": 1, "list_id": None, "session_id": "t"},
        {"timestamp": 1, "list_id": None},
        {"timestamp": 2, "list_id": None},
        {"timestamp": 4, "list_id": "l", "session_id": "t"},
    ]
    stream = built(make_tables(rows, [{"timestamp": 4.5}]))
    together = [
        stream.shown.order[stream.shown.list_number == number].tolist()
        for number in range(stream.shown.list_number[-1] + 1)
    ]
    assert sorted(together) == [[0, 2], [1, 4], [3], [5], [6]]
    # a list is shown when its first row is: the event at 4.5 is no history of it
    assert (stream.shown.cut == stream.events.first[stream.shown.unit]).all()
    assert stream.shown.order[stream.shown.late].tolist() == [0]


def test_sequences_are_chunks_c_minus_one_and_c(make_tables: MakeTables) -> None:
    events = [{"timestamp": number} for number in range(8)]
    shown = [{"timestamp": number + 0.5} for number in (-1, 1, 2, 4, 5, 7)]
    stream = built(make_tables(shown, events), history=3)
    assert stream.shown.cut.tolist() == [0, 2, 3, 5, 6, 8]
    assert stream.shown.sequence.tolist() == [0, 0, 1, 1, 2, 2]
    assert stream.sequence_start.tolist() == [0, 0, 3]
    assert stream.sequence_stop.tolist() == [2, 5, 8]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=25),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=12),
    st.integers(1, 4),
)
def test_every_impression_sees_the_last_events_before_it(
    make_tables: MakeTables, clicks: list, shown: list, history: int
) -> None:
    events = [{"session_id": f"s{unit}", "timestamp": time} for unit, time in clicks]
    rows = [{"session_id": f"s{unit}", "timestamp": time} for unit, time in shown]
    stream = built(make_tables(rows, events), history=history)
    part, sorted_events = stream.shown, stream.events
    for row, (unit, time) in enumerate(shown):
        place = int(np.flatnonzero(part.order == row)[0])
        before = [n for n, (other, at) in enumerate(clicks) if other == unit and at < time]
        before.sort(key=lambda n: (clicks[n][1], n))
        start = stream.sequence_start[part.sequence[place]]
        visible = sorted_events.order[start : part.cut[place]].tolist()
        assert visible == before[len(before) - len(visible) :]
        assert min(history, len(before)) <= len(visible) < 2 * history
        assert stream.sequence_stop[part.sequence[place]] >= part.cut[place]
    assert (np.diff(part.sequence) >= 0).all()
    assert (np.diff(part.list_number) >= 0).all()
    assert (np.diff(sorted_events.unit) >= 0).all()
    key = pl.DataFrame(
        {
            "sequence": part.sequence,
            "cut": part.cut,
            "list": part.list_number,
            "row": part.order,
        }
    )
    assert key.equals(key.sort("sequence", "cut", "list", "row"))
