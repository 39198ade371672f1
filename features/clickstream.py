"""Point-in-time history: every impression's unit, list, and cut of the unit's events before it.

The unit is the user where known, else the session. The history of an impression is the unit's
events strictly before its time; events of one time keep their row order. Impressions shown
together are shown at the time of the first of them.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.schema import Tables
from features.storage import ArrayStore

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Events:
    """The clickstream, sorted by unit, time and row; E events.

    Attributes:
        order: int64 [E], rows of `tables.events`.
        unit: int64 [E].
        session: int64 [E].
        time: int64 [E], microseconds since 1970.
        product: int64 [E], row of the catalogue, 0 for none.
        first: int64 [n_units + 1], first event of each unit.
    """

    order: Ints
    unit: Ints
    session: Ints
    time: Ints
    product: Ints
    first: Ints

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True)
class Shown:
    """Impressions, sorted by sequence, cut, list and row; n impressions.

    Attributes:
        order: int64 [n], rows of `tables.impressions`.
        unit: int64 [n].
        session: int64 [n].
        time: int64 [n], microseconds since 1970; of the list.
        late: bool [n], true where the row's own time is after that of its list.
        product: int64 [n], row of the catalogue, 0 for none.
        list_number: int64 [n], non-decreasing, from 0.
        cut: int64 [n], one past the unit's last event strictly before.
        sequence: int64 [n], non-decreasing, from 0.
    """

    order: Ints
    unit: Ints
    session: Ints
    time: Ints
    late: Bools
    product: Ints
    list_number: Ints
    cut: Ints
    sequence: Ints

    def __len__(self) -> int:
        return len(self.unit)


@dataclass(frozen=True)
class Clickstream:
    """Events, impressions and the sequences that join them.

    Attributes:
        events: sorted events.
        shown: sorted impressions.
        sequence_start: int64 [n_sequences], as `EncodedMarket` has them; likewise the next two.
        sequence_stop: int64 [n_sequences].
        sequence_unit: int64 [n_sequences].
    """

    events: Events
    shown: Shown
    sequence_start: Ints
    sequence_stop: Ints
    sequence_unit: Ints

    def stored(self, store: ArrayStore) -> "Clickstream":
        """The same, its arrays of events and impressions where `store` says.

        Raises:
            UserError: the store's disk has no room.
        """
        events, shown = (store.keep(vars(part)) for part in (self.events, self.shown))
        return replace(self, events=Events(**events), shown=Shown(**shown))


def session_units(tables: Tables) -> pl.DataFrame:
    """The unit of each session: its user where known, else the session itself.

    A session belongs to the first user that its impressions name, else to the first that its
    events before its first impression name: what is only learned later changes no history.

    Returns:
        `session_id` and `unit`, sorted by `session_id`; users and sessions never share a label.
    """
    shown = tables.impressions.lazy().select("session_id", "user_id", "timestamp", "row")
    events = tables.events.lazy().select("session_id", "user_id", "timestamp", "row")
    by_impressions = (
        shown.sort("timestamp", "row")
        .group_by("session_id")
        .agg(pl.col("user_id").drop_nulls().first().alias("shown_to"), pl.col("timestamp").min())
    )
    by_events = (
        events.join(by_impressions, on="session_id", how="left", suffix="_shown")
        .filter((pl.col("timestamp") < pl.col("timestamp_shown")).fill_null(True))
        .sort("timestamp", "row")
        .group_by("session_id")
        .agg(pl.col("user_id").drop_nulls().first().alias("clicked_by"))
    )
    sessions = pl.concat([shown.select("session_id"), events.select("session_id")]).unique()
    user = pl.coalesce("shown_to", "clicked_by")
    return (
        sessions.join(by_impressions, on="session_id", how="left")
        .join(by_events, on="session_id", how="left")
        .select(
            "session_id",
            pl.when(user.is_not_null())
            .then(pl.format("user {}", user))
            .otherwise(pl.format("session {}", "session_id"))
            .alias("unit"),
        )
        .sort("session_id")
        .collect()
    )


def build_clickstream(tables: Tables, product_of: pl.DataFrame, *, history: int) -> Clickstream:
    """Sort events and impressions and cut each history at its impressions.

    Args:
        tables: checked tables.
        product_of: `product_id` and its row in the catalogue, `product`.
        history: events in a chunk (see `EncodedMarket`).

    Returns:
        The clickstream; a session's number is its row in `session_units`.
    """
    sessions = session_units(tables).with_columns(
        (pl.col("unit").rank("dense").cast(pl.Int64) - 1).alias("unit_code")
    )
    codes = sessions.select("session_id", "unit_code").with_row_index("session")
    events = _sort_events(_coded(tables.events, codes, product_of), _n_units(sessions))
    return _cut(_coded(tables.impressions, codes, product_of), events, history)


def events_strictly_before(events: Events, unit: Ints, time: Ints) -> Ints:
    """One past the unit's last event before a time.

    Args:
        events: sorted events.
        unit: int64 [n].
        time: int64 [n], microseconds.

    Returns:
        int64 [n], places in the sorted events, at least the unit's first.
    """
    times, ranks = np.unique(np.concatenate([events.time, time]), return_inverse=True)
    keys = events.unit * len(times) + ranks[: len(events)]
    return np.searchsorted(keys, unit * len(times) + ranks[len(events) :])


def _n_units(sessions: pl.DataFrame) -> int:
    return 0 if sessions.is_empty() else int(sessions["unit_code"].max()) + 1  # type: ignore[arg-type]


def _coded(table: pl.DataFrame, codes: pl.DataFrame, product_of: pl.DataFrame) -> pl.DataFrame:
    """The table's order with codes for its ids; a product that is not known has code 0."""
    lists = [pl.col("list_id")] if "list_id" in table.columns else []
    return (
        table.select("session_id", "product_id", "row", pl.col("timestamp").to_physical(), *lists)
        .join(codes, on="session_id", how="left", maintain_order="left")
        .join(product_of, on="product_id", how="left", maintain_order="left")
        .with_columns(pl.col("product").fill_null(0).cast(pl.Int64))
    )


def _sort_events(coded: pl.DataFrame, n_units: int) -> Events:
    unit, time, session, product, row = (
        coded[name].to_numpy().astype(np.int64)
        for name in ("unit_code", "timestamp", "session", "product", "row")
    )
    order = np.lexsort((row, time, unit))
    first = np.searchsorted(unit[order], np.arange(n_units + 1))
    return Events(order, unit[order], session[order], time[order], product[order], first)


def _lists(coded: pl.DataFrame) -> pl.DataFrame:
    """`together` (a number for what was shown together), `shown_at` and `opens` of each row."""
    apart = pl.when(pl.col("list_id").is_null()).then("timestamp")
    return coded.with_columns(
        pl.struct("session", "list_id", apart.alias("apart")).rank("dense").alias("together")
    ).with_columns(
        pl.col("timestamp").min().over("together").alias("shown_at"),
        pl.col("row").min().over("together").alias("opens"),
    )


def _cut(coded: pl.DataFrame, events: Events, history: int) -> Clickstream:
    listed = _lists(coded)
    unit, time, own_time, opens, row, session, product = (
        listed[name].to_numpy().astype(np.int64)
        for name in ("unit_code", "shown_at", "timestamp", "opens", "row", "session", "product")
    )
    # cuts grow with time within a unit, so this order is also by sequence and cut
    order = np.lexsort((row, opens, time, unit))
    unit, time, opens = unit[order], time[order], opens[order]
    cut = events_strictly_before(events, unit, time)
    chunk = (cut - events.first[unit]) // history
    opening = _changes(unit, chunk)
    sequence = np.cumsum(opening) - 1
    first, chunk_of = events.first[unit[opening]], chunk[opening]
    last = np.append(np.flatnonzero(opening)[1:], len(unit)) - 1
    shown = Shown(
        order=order,
        unit=unit,
        session=session[order],
        time=time,
        late=own_time[order] > time,
        product=product[order],
        list_number=np.cumsum(_changes(unit, opens)) - 1,
        cut=cut,
        sequence=sequence,
    )
    return Clickstream(
        events=events,
        shown=shown,
        sequence_start=np.maximum(first, first + (chunk_of - 1) * history),
        sequence_stop=cut[last],
        sequence_unit=unit[opening],
    )


def _changes(*keys: Ints) -> Bools:
    """Where any of the keys differs from the row before; the first row counts."""
    changed = np.zeros(len(keys[0]), bool)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return changed
