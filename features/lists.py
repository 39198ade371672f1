"""What is shown together, and what was shown before: a price is cheap beside its neighbours.

Features of a list never use its labels; those of lists shown before use lists strictly before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.aggregates import Behaviour
from features.columns import (
    Bools,
    ColumnSet,
    Floats,
    Ints,
    Lists,
    Occasions,
    floats,
    log_seconds,
    ratio,
)
from features.context import Kind


@dataclass(frozen=True)
class Offers:
    """The terms of each impression, rows sorted as the impressions are.

    Attributes:
        price: float64 [n], NaN where missing; likewise the others.
        discount_rate: float64 [n].
        free_shipping: float64 [n], 0 or 1.
        position: float64 [n], where the impression stood: the context column `position`, or its
            place in the list in row order.
    """

    price: Floats
    discount_rate: Floats
    free_shipping: Floats
    position: Floats

    @classmethod
    def of(cls, shown: pl.DataFrame, lists: Lists, context: Mapping[str, Kind]) -> Self:
        """The terms of sorted impressions."""
        position = lists.place().astype(np.float64)
        if context.get("position") == "number":
            position = floats(shown["position"])
        return cls(
            price=floats(shown["price"]),
            discount_rate=floats(shown["discount_rate"]),
            free_shipping=floats(shown["free_shipping"]),
            position=position,
        )


def add_terms(offers: Offers, columns: ColumnSet) -> None:
    """The offer itself: one block for each term."""
    columns.number("log_price", "terms", "price", np.log1p(offers.price))
    columns.number("discount_rate", "terms", "discount_rate", offers.discount_rate)
    columns.number("free_shipping", "terms", "free_shipping", offers.free_shipping)


def add_list_terms(offers: Offers, lists: Lists, columns: ColumnSet) -> None:
    """The offer beside those shown with it."""
    log_price = np.log1p(offers.price)
    rank = lists.rank(offers.price)
    known = lists.sum(~np.isnan(offers.price))
    place = lists.place()
    above = np.where(place > 0, np.roll(log_price, 1), np.nan)
    below = np.where(place < lists.spread(lists.size) - 1, np.roll(log_price, -1), np.nan)
    for name, values in (
        ("price_rank_in_list", rank),
        ("price_rank_share_in_list", ratio(rank, known - 1)),
        ("log_price_to_list_mean", log_price - lists.mean(log_price)),
        ("log_price_to_list_median", log_price - lists.median(log_price)),
        ("log_price_to_list_min", log_price - lists.min(log_price)),
        ("log_price_to_list_max", log_price - lists.max(log_price)),
        ("log_price_to_one_above", log_price - above),
        ("log_price_to_one_below", log_price - below),
        ("list_price_spread", lists.max(log_price) - lists.min(log_price)),
    ):
        columns.number(name, "terms", "list prices", values)
    discount = offers.discount_rate
    for name, values in (
        ("discount_rank_in_list", lists.rank(-discount)),
        ("discount_to_list_mean", discount - lists.mean(discount)),
        ("share_free_shipping_in_list", lists.mean(offers.free_shipping)),
    ):
        columns.number(name, "terms", "list offers", values)


def add_list_place(offers: Offers, lists: Lists, columns: ColumnSet) -> None:
    """Size of the list and the place in it."""
    size, place = lists.spread(lists.size), lists.place()
    for name, values in (
        ("list_size", size),
        ("place_in_list", place),
        ("places_to_list_end", size - 1 - place),
        ("position_from_list_top", offers.position - lists.min(offers.position)),
    ):
        columns.number(name, "context", "place", values)


def add_list_touches(
    behaviour: Behaviour, offers: Offers, lists: Lists, columns: ColumnSet
) -> None:
    """Which of the products shown together were touched before, and where they stand."""
    past, session = behaviour.of_product, behaviour.of_product_in_session
    touched = past.any
    last = np.where(touched, past.last, np.nan).astype(np.float64)
    latest = lists.max(last)
    is_latest = touched & (last == latest)
    # NaN positions of the others drop out of the maximum
    latest_position = lists.max(np.where(is_latest, offers.position, np.nan))
    distance = offers.position - latest_position
    n_touched = lists.sum(touched)
    up, down = _nearest_touched(offers.position, touched, lists)
    for name, values in (
        ("n_list_products_touched", n_touched),
        ("is_list_latest_touched", is_latest),
        ("recency_rank_in_list", lists.rank(-last)),
        ("position_from_latest_touched", distance),
        ("distance_from_latest_touched", np.abs(distance)),
        ("positions_to_touched_above", up),
        ("positions_to_touched_below", down),
        ("share_of_list_touches", ratio(past.count, lists.sum(past.count))),
        ("touch_rank_in_list", lists.rank(-past.count.astype(np.float64))),
        ("share_of_list_session_touches", ratio(session.count, lists.sum(session.count))),
    ):
        columns.number(name, "clickstream", "list touches", values)


def _nearest_touched(position: Floats, touched: Bools, lists: Lists) -> tuple[Floats, Floats]:
    """Positions to the nearest touched product before and after in the list, NaN for none."""
    rows = np.arange(len(position))
    begin = lists.spread(lists.start)
    end = begin + lists.spread(lists.size)
    latest = np.maximum.accumulate(np.where(touched, rows, -1))
    above = np.append(-1, latest[:-1])[: len(rows)]
    following = np.minimum.accumulate(np.where(touched, rows, len(rows))[::-1])[::-1]
    below = np.append(following[1:], len(rows))[: len(rows)]
    padded = np.append(position, np.nan)
    up = np.where(above >= begin, position - padded[above], np.nan)
    down = np.where(below < end, padded[np.minimum(below, len(rows))] - position, np.nan)
    return up, down


def add_shown_before(
    behaviour: Behaviour, offers: Offers, lists: Lists, columns: ColumnSet
) -> None:
    """What the unit was shown strictly before: this product, its place and its price then."""
    shown = behaviour.stream.shown
    n = len(shown)
    unit, time = shown.unit[lists.start], shown.time[lists.start]
    moments = _Moments(unit, time)
    before = moments.lists_until(unit, time, inclusive=False)
    list_cut = lists.spread(before)
    opening = np.searchsorted(unit, unit)
    n_lists = lists.spread(before - opening)
    previous = np.where(n_lists > 0, list_cut - 1, -1)
    key = shown.unit * len(behaviour.category) + shown.product
    rows = np.arange(n)
    # rows are in the order of their lists, so a row is a place as good as its list
    past = Occasions(key, rows, n).before(key, np.append(lists.start, n)[list_cut])
    last = past.last
    again = (shown.product > 0) & past.any
    last_list = np.where(again, lists.number[last], -1)
    since_touch = _shown_since_touch(behaviour, moments, lists, key)
    known = shown.product > 0
    since_list = _since(shown.time, np.append(time, 0)[previous])
    for name, values, where in (
        ("log_lists_before", np.log1p(n_lists), None),
        ("log_seconds_since_list", since_list, previous >= 0),
        ("log_times_shown", np.log1p(past.count), known),
        ("log_times_shown_since_touch", np.log1p(since_touch), known),
        ("was_in_list_before", again & (last_list == previous), known & (previous >= 0)),
        ("log_seconds_since_shown", _since(shown.time, shown.time[last]), again),
        ("position_change", offers.position - offers.position[last], again),
        ("log_price_change", np.log1p(offers.price) - np.log1p(offers.price[last]), again),
        ("share_of_list_shown_before", lists.mean(again.astype(np.float64)), previous >= 0),
    ):
        columns.number(name, "clickstream", "shown before", values, where)


def _since(now: Ints, then: Ints) -> Floats:
    return log_seconds(now - then)


class _Moments:
    """Lists in the order of unit and time, to be counted up to a moment."""

    def __init__(self, unit: Ints, time: Ints) -> None:
        self.times, ranks = np.unique(time, return_inverse=True)
        self.width = len(self.times) + 1
        self.keys = unit * self.width + ranks

    def lists_until(self, unit: Ints, time: Ints, *, inclusive: bool) -> Ints:
        """One past the unit's last list before a time (or at it, where inclusive)."""
        rank = np.searchsorted(self.times, time, side="right" if inclusive else "left")
        return np.searchsorted(self.keys, unit * self.width + rank)


def _shown_since_touch(
    behaviour: Behaviour, moments: _Moments, lists: Lists, key: Ints
) -> NDArray[np.int64]:
    """How often the product was shown after its last touch: seen again and passed over."""
    events, shown = behaviour.stream.events, behaviour.stream.shown
    n = len(shown)
    starts = np.append(lists.start, n)
    times = np.append(events.time, 0)
    last = behaviour.of_product.last
    after = moments.lists_until(shown.unit, times[last], inclusive=True)
    now = moments.lists_until(shown.unit, shown.time, inclusive=False)
    occasions = Occasions(key, np.arange(n), n)
    until_now = occasions.before(key, starts[now]).count
    until_touch = occasions.before(key, starts[after]).count
    return np.where(last >= 0, until_now - until_touch, until_now)
