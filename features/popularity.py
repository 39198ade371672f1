"""Target statistics: how often a product, category or brand was shown, touched and bought so far.

They learn from training rows and training events only: a training row is told what happened
strictly before it, every other row what had happened by the end of training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from features.arrays import N_RESERVED
from features.clickstream import Clickstream
from features.columns import Bools, ColumnSet, Floats, Ints, Lists, Occasions, floats
from features.vocabulary import Vocabulary

LEVELS = {"product": "product_id", "category": "category", "brand": "brand"}
"""What is counted under, and its column in the catalogue."""

MIN_STRENGTH, MAX_STRENGTH = 5.0, 200.0
"""Bounds of how many impressions at the base rate every rate is smoothed with."""

_KINDS = ("shown", "converted", "events")


@dataclass(frozen=True)
class Counts:
    """Impressions, conversions and events; float64 arrays of one length."""

    shown: Floats
    converted: Floats
    events: Floats


@dataclass(frozen=True)
class Seen:
    """What is counted, and for which rows.

    Attributes:
        code: int64 [n], what each impression is counted under; -1 for what training never saw.
        known: bool [n], whether there is anything to count under.
        time: int64 [n], microseconds.
        converted: float64 [n], 0 where unknown.
        learn: bool [n], training rows.
        event_code: int64 [E], likewise for events.
        event_time: int64 [E].
        event_learn: bool [E].
    """

    code: Ints
    known: Bools
    time: Ints
    converted: Floats
    learn: Bools
    event_code: Ints
    event_time: Ints
    event_learn: Bools

    def so_far(self, totals: Counts) -> Counts:
        """Counts before each row, [n]: running in training rows, frozen in the others."""
        # the code -1 of what training never saw finds the zero at the end
        frozen = [np.append(getattr(totals, name), 0.0)[self.code] for name in _KINDS]
        if not self.learn.any():  # scoring: nothing runs
            return Counts(*frozen)
        # repeated times do no harm: equal ones share the first place
        times = np.sort(np.concatenate([self.time, self.event_time]))
        now = np.searchsorted(times, self.time)
        rows = np.flatnonzero(self.learn & (self.code >= 0))
        clicks = np.flatnonzero(self.event_learn & (self.event_code >= 0))
        shown = Occasions(self.code[rows], now[rows], len(times))
        touched = Occasions(
            self.event_code[clicks], np.searchsorted(times, self.event_time[clicks]), len(times)
        )
        past = shown.before(self.code, now)
        running = [
            past.count,
            past.sum(shown.running(self.converted[rows])),
            touched.before(self.code, now).count,
        ]
        both = zip(running, frozen, strict=True)
        return Counts(*(np.where(self.learn, ran, froze) for ran, froze in both))

    def average_so_far(self, totals: Counts) -> tuple[Floats, Floats]:
        """Impressions and events of the average value before each row, each [n]; as `so_far`."""
        n_values = max(len(totals.shown), 1)
        shown, touched = (
            np.searchsorted(np.sort(times), self.time)
            for times in (
                self.time[self.learn & (self.code >= 0)],
                self.event_time[self.event_learn & (self.event_code >= 0)],
            )
        )
        return (
            np.where(self.learn, shown, totals.shown.sum()) / n_values,
            np.where(self.learn, touched, totals.events.sum()) / n_values,
        )


@dataclass(frozen=True)
class Popularity:
    """Counts at the end of training.

    Attributes:
        base_rate: conversions per training impression.
        values: what was seen in training at each level.
        totals: its counts, in the order of the values' codes.
    """

    base_rate: float
    values: dict[str, Vocabulary]
    totals: dict[str, Counts]

    @classmethod
    def fit(cls, shown: pl.DataFrame, events: pl.DataFrame, products: pl.DataFrame) -> Self:
        """Count.

        Args:
            shown: training impressions.
            events: training events.
            products: the catalogue; ids that it does not hold are not counted.
        """
        # a product id that is not in the catalogue is the missing product everywhere
        attributes = products.select(
            "product_id", *(pl.col(name).alias(level) for level, name in LEVELS.items())
        )
        rows, clicks = (
            table.select("product_id").join(
                attributes, on="product_id", how="left", maintain_order="left"
            )
            for table in (shown, events)
        )
        converted = np.nan_to_num(floats(shown["converted"]))
        values, totals = {}, {}
        for level in LEVELS:
            words = Vocabulary.fit(pl.concat([rows[level], clicks[level]]))
            if not words.values:
                continue
            code, event_code = (_codes(words, part[level]) for part in (rows, clicks))
            n, here = len(words.values), code >= 0
            values[level] = words
            totals[level] = Counts(
                shown=np.bincount(code[here], minlength=n).astype(np.float64),
                converted=np.bincount(code[here], converted[here], n).astype(np.float64),
                events=np.bincount(event_code[event_code >= 0], minlength=n).astype(np.float64),
            )
        return cls(float(converted.mean()) if len(converted) else 0.0, values, totals)

    def seen(
        self,
        products: pl.DataFrame,
        stream: Clickstream,
        shown: pl.DataFrame,
        learn: Bools,
        event_learn: Bools,
    ) -> dict[str, Seen]:
        """What is counted at each level.

        Args:
            products: the catalogue.
            stream: sorted events and impressions.
            shown: the impressions in that order.
            learn: bool [n], training rows.
            event_learn: bool [E], training events.
        """
        seen = {}
        for level, words in self.values.items():
            column = products[LEVELS[level]]
            code = np.append(-1, _codes(words, column))
            known = np.append(False, column.is_not_null().to_numpy())
            seen[level] = Seen(
                code=code[stream.shown.product],
                known=known[stream.shown.product],
                time=stream.shown.time,
                converted=np.nan_to_num(floats(shown["converted"])),
                learn=learn,
                event_code=code[stream.events.product],
                event_time=stream.events.time,
                event_learn=event_learn,
            )
        return seen

    def log_rate(self, counts: Counts) -> Floats:
        """Log of the smoothed rate over the base rate.

        Every rate starts from the base rate, as if it had been seen over as many impressions as
        bring about one conversion.
        """
        if self.base_rate <= 0:
            return np.zeros(len(counts.shown))
        strength = float(np.clip(1 / self.base_rate, MIN_STRENGTH, MAX_STRENGTH))
        rate = (counts.converted + strength * self.base_rate) / (counts.shown + strength)
        return np.log(rate / self.base_rate)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        totals = {
            level: {name: getattr(counts, name).astype(int).tolist() for name in _KINDS}
            for level, counts in self.totals.items()
        }
        values = {level: words.to_dict() for level, words in self.values.items()}
        return {"base_rate": self.base_rate, "values": values, "totals": totals}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        totals = {
            level: Counts(*(np.array(part[name], np.float64) for name in _KINDS))
            for level, part in state["totals"].items()
        }
        values = {level: Vocabulary.from_dict(part) for level, part in state["values"].items()}
        return cls(state["base_rate"], values, totals)


def add_popularity(
    popularity: Popularity, seen: Mapping[str, Seen], lists: Lists, columns: ColumnSet
) -> None:
    """Counts and rates of each level, and how the product stands in its list."""
    for level, part in seen.items():
        counts = part.so_far(popularity.totals[level])
        rate, touches = popularity.log_rate(counts), np.log1p(counts.events)
        # plain counts grow with time, and would be larger in all held-out rows than in training
        mean_shown, mean_events = part.average_so_far(popularity.totals[level])
        block = "popularity" if level == "product" else f"popularity of {level}"
        for name, values in (
            (f"log_{level}_shown_to_average", np.log1p(counts.shown) - np.log1p(mean_shown)),
            (f"log_{level}_events_to_average", touches - np.log1p(mean_events)),
            (f"log_{level}_events_to_shown", touches - np.log1p(counts.shown)),
            (f"log_{level}_rate", rate),
        ):
            columns.number(name, "context", block, values, part.known)
        if level == "product":
            touches, rate = (np.where(part.known, x, np.nan) for x in (touches, rate))
            for name, values in (
                ("events_rank_in_list", lists.rank(-touches)),
                ("log_events_to_list_mean", touches - lists.mean(touches)),
                ("rate_rank_in_list", lists.rank(-rate)),
                ("log_rate_to_list_mean", rate - lists.mean(rate)),
            ):
                columns.number(name, "context", "popularity in list", values)


def _codes(words: Vocabulary, values: pl.Series) -> Ints:
    """Codes from 0; -1 for values that training never held."""
    return np.maximum(words.encode(values).astype(np.int64) - N_RESERVED, -1)
