"""Behaviour before an impression, counted: all of it strictly before the impression's time.

A softmax over a history cannot count, so everything here is an input of every
system. `session` is the impression's own session, `earlier` the unit's sessions before it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from features.arrays import MISSING, N_RESERVED
from features.clickstream import Clickstream
from features.columns import Bools, ColumnSet, Floats, Ints, Occasions, Past, log_seconds, ratio

MAX_DWELL = 1800 * 10**6
"""Microseconds after which an event no longer counts as being looked at."""


@dataclass(frozen=True)
class Behaviour:
    """The clickstream with what the counts need.

    Attributes:
        stream: sorted events and impressions.
        event_type: int64 [E], codes of the sorted events.
        types: codes and names of the event types that are counted apart.
        touch_types: those of them that touch a product.
        n_types: size of the event-type vocabulary.
        category: int64 [n_products], code of each row of the catalogue, MISSING where unknown.
        brand: int64 [n_products], likewise.
        attributes: which of the two training products had: the columns of a model stay the same
            where nothing that is scored has one.
    """

    stream: Clickstream
    event_type: Ints
    types: tuple[tuple[int, str], ...]
    touch_types: tuple[tuple[int, str], ...]
    n_types: int
    category: Ints
    brand: Ints
    attributes: tuple[str, ...]

    def past_of(self, event_key: Ints, key: Ints, known: Bools) -> Past:
        """The events of a key before each impression.

        Args:
            event_key: int64 [E].
            key: int64 [n].
            known: bool [E], the events that have a key.
        """
        places = np.flatnonzero(known)
        occasions = Occasions(event_key[places], places, len(known))
        return occasions.before(key, self.stream.shown.cut)

    @cached_property
    def session(self) -> Past:
        """The session's events before each impression."""
        events, shown = self.stream.events, self.stream.shown
        return self.past_of(events.session, shown.session, np.ones(len(events), bool))

    def touches(self, of: Ints, within: str, least: int = 1) -> Past:
        """Events on the same product, category or brand before each impression.

        Args:
            of: int64 [n_products], what counts as the same.
            within: `unit` or `session`.
            least: smallest code that counts; a lower one is no value.
        """
        events, shown = self.stream.events, self.stream.shown
        width = int(of.max(initial=0)) + 1
        value = of[events.product]
        return self.past_of(
            getattr(events, within) * width + value,
            getattr(shown, within) * width + of[shown.product],
            value >= least,
        )

    @cached_property
    def of_product(self) -> Past:
        """The unit's events on the impression's product."""
        return self.touches(np.arange(len(self.category)), "unit")

    @cached_property
    def of_product_in_session(self) -> Past:
        """The session's events on the impression's product."""
        return self.touches(np.arange(len(self.category)), "session")

    @cached_property
    def last_touched(self) -> Ints:
        """Place of the unit's last event on any product, int64 [n]; -1 where there is none."""
        events, shown = self.stream.events, self.stream.shown
        latest = np.maximum.accumulate(np.where(events.product > 0, np.arange(len(events)), -1))
        place = np.append(latest, -1)[shown.cut - 1]
        return np.where(place >= events.first[shown.unit], place, -1)

    def seconds_since(self, place: Ints) -> Floats:
        """log1p seconds since the event at each place; NaN where the place is -1."""
        shown = self.stream.shown
        times = np.append(self.stream.events.time, 0)
        return np.where(place >= 0, log_seconds(shown.time - times[place]), np.nan)


def add_aggregates(behaviour: Behaviour, columns: ColumnSet) -> None:
    """Add everything that is counted in the history of each impression."""
    attributes = {"category": behaviour.category, "brand": behaviour.brand}
    _add_counts(behaviour, columns)
    _add_recency(behaviour, columns)
    _add_product(behaviour, columns)
    _add_product_counts(behaviour, columns)
    for kind in behaviour.attributes:
        _add_kind(behaviour, columns, kind, attributes[kind])


def _add_counts(behaviour: Behaviour, columns: ColumnSet) -> None:
    """Events by type, in the session and before it."""
    events, shown = behaviour.stream.events, behaviour.stream.shown
    session = behaviour.session
    first = events.first[shown.unit]
    earlier = shown.cut - first - session.count
    columns.number("log_session_events", "clickstream", "session counts", np.log1p(session.count))
    columns.number("log_earlier_events", "clickstream", "earlier counts", np.log1p(earlier))
    for code, name in behaviour.types:
        is_type = behaviour.event_type == code
        in_session = session.sum(session.occasions.running(is_type))
        total = np.append(0, np.cumsum(is_type))
        in_history = total[shown.cut] - total[first]
        columns.number(
            f"log_session_events: {name}", "clickstream", "session counts", np.log1p(in_session)
        )
        columns.number(
            f"log_earlier_events: {name}",
            "clickstream",
            "earlier counts",
            np.log1p(in_history - in_session),
        )
    # an event is the first on its product if nothing of that product lies before it
    for within, past, block in (
        ("session", session, "session counts"),
        ("unit", None, "earlier counts"),
    ):
        new = _first_of_product(getattr(events, within), events.product)
        if past is not None:
            distinct = past.sum(past.occasions.running(new))
        else:
            total = np.append(0, np.cumsum(new))
            distinct = total[shown.cut] - total[first]
        columns.number(f"log_{within}_products", "clickstream", block, np.log1p(distinct))


def _first_of_product(owner: Ints, product: Ints) -> Bools:
    """Events that are their owner's first on their product, bool [E]."""
    order = np.lexsort((product, owner))  # stable: a product's events keep their order
    new = np.zeros(len(owner), bool)
    owner, sorted_product = owner[order], product[order]
    changed = np.append(True, (np.diff(owner) != 0) | (np.diff(sorted_product) != 0))
    new[order] = changed[: len(owner)]
    return new & (product > 0)


def _add_recency(behaviour: Behaviour, columns: ColumnSet) -> None:
    """How long ago: the last event, the session's start, the session before."""
    events, shown = behaviour.stream.events, behaviour.stream.shown
    session = behaviour.session
    first = events.first[shown.unit]
    last = np.where(shown.cut > first, shown.cut - 1, -1)
    opening = np.where(session.any, session.first, shown.cut)
    before = np.where(opening > first, opening - 1, -1)
    new = _first_of_session(events.session)
    total = np.append(0, np.cumsum(new))
    sessions = total[shown.cut] - total[first] - session.any
    since = behaviour.seconds_since
    for name, values in (
        ("log_seconds_since_event", since(last)),
        ("log_seconds_since_touch", since(behaviour.last_touched)),
        ("log_session_seconds", since(session.first)),
        ("log_seconds_since_session_before", since(before)),
        ("log_sessions_before", np.log1p(sessions)),
    ):
        columns.number(name, "clickstream", "recency", values)
    codes = _type_at(behaviour, last)
    columns.category("last_event_type", "clickstream", "recency", codes, behaviour.n_types)


def _first_of_session(session: Ints) -> Bools:
    """Events that open a session, bool [E]; sessions of a unit may interleave."""
    new = np.zeros(len(session), bool)
    new[np.unique(session, return_index=True)[1]] = True
    return new


def _type_at(behaviour: Behaviour, place: Ints) -> NDArray[np.int32]:
    """Type of the event at each place; MISSING where the place is -1."""
    types = np.append(behaviour.event_type, MISSING)
    return np.where(place >= 0, types[place], MISSING).astype(np.int32)


def _add_product(behaviour: Behaviour, columns: ColumnSet) -> None:
    """When and how this product was touched; missing where the impression has no product."""
    shown = behaviour.stream.shown
    past, session = behaviour.of_product, behaviour.of_product_in_session
    known = shown.product > 0
    steps = np.where(past.any, shown.cut - 1 - past.last, np.nan)
    dwell, longest = _dwell(behaviour, past), behaviour.session.count
    for name, values in (
        ("log_seconds_since_product", behaviour.seconds_since(past.last)),
        ("log_seconds_since_product_first", behaviour.seconds_since(past.first)),
        ("log_events_since_product", np.log1p(steps)),
        ("is_product_last_touched", past.any & (past.last == behaviour.last_touched)),
        ("share_of_session_on_product", ratio(session.count, longest)),
        ("log_dwell_on_product", np.log1p(dwell)),
    ):
        columns.number(name, "clickstream", "this product", values, known)
    codes = np.where(known, _type_at(behaviour, past.last), MISSING).astype(np.int32)
    columns.category(
        "last_event_type_on_product",
        "clickstream",
        "this product",
        codes,
        behaviour.n_types,
    )


def _dwell(behaviour: Behaviour, past: Past) -> Floats:
    """Seconds from each of the events to the unit's next one, or to the impression."""
    events, shown = behaviour.stream.events, behaviour.stream.shown
    gap = np.append(np.diff(events.time), 0)
    same = np.append(np.diff(events.unit) == 0, False)
    gap = np.where(same, np.minimum(gap, MAX_DWELL), 0)
    total = past.sum(past.occasions.running(gap[past.occasions.given]))
    # the last event before the impression was looked at until then: what follows is the future
    is_last = past.any & (past.last == shown.cut - 1)
    last = np.where(is_last, shown.cut - 1, 0)
    if not len(events):
        return total
    own = np.minimum(shown.time - events.time[last], MAX_DWELL)
    return np.where(is_last, total - gap[last] + own, total) / 1e6


def _add_product_counts(behaviour: Behaviour, columns: ColumnSet) -> None:
    """Events on this product by type, in the session and in the whole history."""
    known = behaviour.stream.shown.product > 0
    for within, past in (
        ("session", behaviour.of_product_in_session),
        ("history", behaviour.of_product),
    ):
        name, block = f"log_{within}_events_on_product", f"this product, {within}"
        columns.number(name, "clickstream", block, np.log1p(past.count), known)
        for code, kind in behaviour.touch_types:
            is_type = behaviour.event_type[past.occasions.given] == code
            count = past.sum(past.occasions.running(is_type))
            columns.number(f"{name}: {kind}", "clickstream", block, np.log1p(count), known)


def _add_kind(behaviour: Behaviour, columns: ColumnSet, kind: str, of: Ints) -> None:
    """Touches of the same category or brand."""
    shown = behaviour.stream.shown
    known = of[shown.product] >= N_RESERVED
    history = behaviour.touches(of, "unit", N_RESERVED)
    session = behaviour.touches(of, "session", N_RESERVED)
    for name, values in (
        (f"log_session_events_on_{kind}", np.log1p(session.count)),
        (f"log_history_events_on_{kind}", np.log1p(history.count)),
        (f"log_seconds_since_{kind}", behaviour.seconds_since(history.last)),
        (f"share_of_session_on_{kind}", ratio(session.count, behaviour.session.count)),
    ):
        columns.number(name, "clickstream", f"this {kind}", values, known)
