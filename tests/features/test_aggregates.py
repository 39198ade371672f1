"""The vectorised counts against plain loops over the tables."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from features.arrays import EncodedMarket
from features.clickstream import session_units
from features.encoding import FeatureEncoder
from features.schema import Tables
from features.splits import Split, split_impressions

MakeTables = Callable[..., Tables]
MAX_DWELL = 1800


def column(data: EncodedMarket, name: str) -> np.ndarray:
    names = [column.name for column in data.number_columns]
    return data.numbers[:, names.index(name)]


def codes(data: EncodedMarket, name: str) -> np.ndarray:
    names = [column.name for column in data.category_columns]
    return data.categories[:, names.index(name)]


def test_counts_and_recency_are_those_of_plain_loops(
    tiny_tables: Tables, tiny_encoder: FeatureEncoder, tiny_data: EncodedMarket
) -> None:
    table = Plain(tiny_tables)
    columns = {c.name: tiny_data.numbers[:, n] for n, c in enumerate(tiny_data.number_columns)}
    types = tiny_encoder.vocabularies_["event_type"].names
    for place in range(0, len(tiny_data), 5):
        expected = table.expected(int(tiny_data.row[place]))
        for name, value in expected.items():
            if name.startswith("last_event_type"):
                code = codes(tiny_data, name)[place]
                assert types[code] == ("(missing)" if value is None else value), name
            else:
                np.testing.assert_allclose(
                    columns[name][place], value, rtol=1e-5, atol=1e-6, err_msg=name
                )


class Plain:
    """Aggregates of one impression, counted by hand."""

    def __init__(self, tables: Tables) -> None:
        self.units = dict(session_units(tables).iter_rows())
        self.events = tables.events.sort("timestamp", "row").to_dicts()
        self.shown = {row["row"]: row for row in tables.impressions.iter_rows(named=True)}
        self.products = {row["product_id"]: row for row in tables.products.iter_rows(named=True)}

    def expected(self, row: int) -> dict[str, Any]:
        at = self.known(self.shown[row])
        unit, session = self.units[at["session_id"]], at["session_id"]
        past = [
            self.known(event)
            for event in self.events
            if self.units[event["session_id"]] == unit and event["timestamp"] < at["timestamp"]
        ]
        here = [event for event in past if event["session_id"] == session]
        earlier = [event for event in past if event["session_id"] != session]
        touches = [event for event in past if event["product_id"]]
        found: dict[str, Any] = {
            "log_session_events": np.log1p(len(here)),
            "log_earlier_events": np.log1p(len(earlier)),
            "log_session_products": distinct(here),
            "log_unit_products": distinct(past),
            "log_seconds_since_event": since(at, past[-1:]),
            "log_seconds_since_touch": since(at, touches[-1:]),
            "log_session_seconds": since(at, here[:1]),
            "log_sessions_before": np.log1p(len({event["session_id"] for event in earlier})),
            "last_event_type": past[-1]["event_type"] if past else None,
        }
        for name in ("view", "cart", "search"):
            found[f"log_session_events: {name}"] = of_type(here, name)
            found[f"log_earlier_events: {name}"] = of_type(earlier, name)
        return found | self.of_product(at, past, here) | self.of_category(at, past, here)

    def known(self, row: dict) -> dict[str, Any]:
        """The row; a product that is not in the catalogue is none."""
        product = row["product_id"] if row["product_id"] in self.products else None
        return {**row, "product_id": product}

    def of_product(self, at: dict, past: list, here: list) -> dict[str, Any]:
        same = [n for n, event in enumerate(past) if event["product_id"] == at["product_id"]]
        mine = [past[n] for n in same]
        mine_here = [event for event in here if event["product_id"] == at["product_id"]]
        touched = [event["product_id"] for event in past if event["product_id"]]
        dwell = 0.0
        for n in same:
            until = past[n + 1]["timestamp"] if n + 1 < len(past) else at["timestamp"]
            dwell += min((until - past[n]["timestamp"]).total_seconds(), MAX_DWELL)
        steps = np.log1p(len(past) - 1 - same[-1]) if same else np.nan
        found = {
            "log_seconds_since_product": since(at, mine[-1:]),
            "log_seconds_since_product_first": since(at, mine[:1]),
            "log_events_since_product": steps,
            "is_product_last_touched": float(touched[-1:] == [at["product_id"]]),
            "share_of_session_on_product": len(mine_here) / len(here) if here else np.nan,
            "log_dwell_on_product": np.log1p(dwell),
            "log_session_events_on_product": np.log1p(len(mine_here)),
            "log_history_events_on_product": np.log1p(len(mine)),
            "log_history_events_on_product: cart": of_type(mine, "cart"),
            "log_session_events_on_product: view": of_type(mine_here, "view"),
        }
        if at["product_id"] is None:
            return {**dict.fromkeys(found, np.nan), "last_event_type_on_product": None}
        return {**found, "last_event_type_on_product": mine[-1]["event_type"] if mine else None}

    def of_category(self, at: dict, past: list, here: list) -> dict[str, Any]:
        category = self.products.get(at["product_id"], {}).get("category")
        if category is None:
            return dict.fromkeys(
                ("log_session_events_on_category", "log_seconds_since_category"), np.nan
            )
        same, same_here = (
            [
                event
                for event in events
                if event["product_id"]
                and self.products[event["product_id"]]["category"] == category
            ]
            for events in (past, here)
        )
        return {
            "log_session_events_on_category": np.log1p(len(same_here)),
            "log_history_events_on_category": np.log1p(len(same)),
            "log_seconds_since_category": since(at, same[-1:]),
            "share_of_session_on_category": len(same_here) / len(here) if here else np.nan,
        }


def distinct(events: list) -> float:
    return np.log1p(len({event["product_id"] for event in events} - {None}))


def of_type(events: list, name: str) -> float:
    return np.log1p(sum(event["event_type"] == name for event in events))


def since(at: dict, events: list) -> float:
    if not events:
        return np.nan
    return np.log1p((at["timestamp"] - events[0]["timestamp"]).total_seconds())


@pytest.fixture
def one_row(
    make_tables: MakeTables, fit_encoder: Callable[[Tables, Split], FeatureEncoder]
) -> Callable[..., EncodedMarket]:
    """The first of the given impressions, encoded."""

    def encode(impressions: list[dict], events: list[dict], **options: Any) -> EncodedMarket:
        tables = make_tables([{"split": "train", **row} for row in impressions], events, **options)
        split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
        data = fit_encoder(tables, split).transform(tables, split)
        return data.select(data.row == 0)

    return encode


def test_an_impression_without_history_has_no_recency_but_counts_of_zero(
    one_row: Callable[..., EncodedMarket],
) -> None:
    data = one_row([{"timestamp": 5}], [{"timestamp": 5}, {"session_id": "other", "timestamp": 0}])
    assert np.isnan(column(data, "log_seconds_since_event"))
    assert np.isnan(column(data, "log_seconds_since_product"))
    assert np.isnan(column(data, "share_of_session_on_product"))
    assert column(data, "log_session_events") == 0
    assert column(data, "is_product_last_touched") == 0
    assert data.flags["empty_history"].all()


def test_an_impression_without_product_has_no_counts_of_it(
    one_row: Callable[..., EncodedMarket],
) -> None:
    data = one_row([{"timestamp": 5, "product_id": None}], [{"timestamp": 1, "product_id": None}])
    assert np.isnan(column(data, "log_session_events_on_product"))
    assert np.isnan(column(data, "is_product_last_touched"))
    assert np.isnan(column(data, "log_times_shown"))
    assert column(data, "log_session_events") == np.float32(np.log(2))


def test_interleaved_sessions_of_a_user_are_told_apart(
    one_row: Callable[..., EncodedMarket],
) -> None:
    user = {"user_id": "u"}
    data = one_row(
        [{"timestamp": 10, **user}],
        [
            {"timestamp": 1, "session_id": "t", **user},
            {"timestamp": 2, **user},
            {"timestamp": 3, "session_id": "t", **user},
            {"timestamp": 4, **user},
        ],
    )
    assert column(data, "log_session_events") == np.float32(np.log(3))
    assert column(data, "log_earlier_events") == np.float32(np.log(3))
    assert column(data, "log_sessions_before") == np.float32(np.log(2))
    assert column(data, "log_session_seconds") == np.float32(np.log1p(8))
    assert column(data, "log_seconds_since_session_before") == np.float32(np.log1p(9))


def test_the_time_spent_on_the_last_event_ends_with_the_impression(
    one_row: Callable[..., EncodedMarket],
) -> None:
    shown = [{"timestamp": 10}]
    soon, late = (
        column(one_row(shown, [{"timestamp": 4}, {"timestamp": after}]), "log_dwell_on_product")
        for after in (11, 5000)
    )
    assert soon == late == np.float32(np.log1p(6))


def test_counts_exist_only_for_types_that_training_saw(
    make_tables: MakeTables, fit_encoder: Callable[[Tables, Split], FeatureEncoder]
) -> None:
    rows = [{"timestamp": 1, "split": "train"}, {"timestamp": 5, "split": "test"}]
    events = [
        {"timestamp": 0, "event_type": "search", "product_id": None, "session_id": "x"},
        {"timestamp": 0, "event_type": "view", "session_id": "x"},
        {"timestamp": 4, "event_type": "later"},
    ]
    tables = make_tables(rows, events)
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    data = fit_encoder(tables, split).transform(tables, split)
    names = {column.name for column in data.number_columns}
    assert {"log_session_events: search", "log_session_events: view"} <= names
    assert "log_session_events_on_product: search" not in names
    assert not any("later" in name for name in names)
    assert codes(data, "last_event_type").tolist() == [1, 2]  # missing, unseen
