"""Target statistics: how often a product, category or brand was shown, touched and bought so far.

They learn from training rows and training events only: a training row is told what happened
strictly before it, every other row what had happened by the end of training (handbook: method, 4).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.columns import Bools, ColumnSet, Floats, Ints, Lists, Occasions

MIN_STRENGTH, MAX_STRENGTH = 5.0, 200.0
"""Bounds of how many impressions at the base rate every rate is smoothed with."""


@dataclass(frozen=True)
class Totals:
    """Counts over the training period, by code; all float64 [n_codes]."""

    shown: Floats
    converted: Floats
    events: Floats

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {name: getattr(self, name).astype(int).tolist() for name in _KINDS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(**{name: np.array(values[name], np.float64) for name in _KINDS})


_KINDS = ("shown", "converted", "events")


@dataclass(frozen=True)
class Seen:
    """What statistics are counted from: rows and events, each with whether it may be counted.

    Attributes:
        code: int64 [n], what each impression is counted under; -1 for what training never saw.
        known: bool [n], whether there is anything to count under.
        time: int64 [n], microseconds.
        converted: float64 [n].
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

    @staticmethod
    def totals_of(code: Ints, converted: Floats, event_code: Ints, n_codes: int) -> Totals:
        """Counts of training rows and training events; a negative code counts nowhere."""
        rows, clicks = code >= 0, event_code >= 0
        return Totals(
            shown=np.bincount(code[rows], minlength=n_codes).astype(np.float64),
            converted=np.bincount(code[rows], converted[rows], minlength=n_codes),
            events=np.bincount(event_code[clicks], minlength=n_codes).astype(np.float64),
        )

    def so_far(self, totals: Totals) -> Totals:
        """Counts before each row, [n]: running in training rows, frozen in the others."""
        times = np.unique(np.concatenate([self.time, self.event_time]))
        now = np.searchsorted(times, self.time)
        rows = np.flatnonzero(self.learn & (self.code >= 0))
        clicks = np.flatnonzero(self.event_learn & (self.event_code >= 0))
        shown = Occasions(self.code[rows], now[rows], len(times))
        touched = Occasions(
            self.event_code[clicks],
            np.searchsorted(times, self.event_time[clicks]),
            len(times),
        )
        past = shown.before(self.code, now)
        frozen = self._frozen(totals)
        return Totals(
            shown=np.where(self.learn, past.count, frozen.shown),
            converted=np.where(
                self.learn, past.sum(shown.running(self.converted[rows])), frozen.converted
            ),
            events=np.where(self.learn, touched.before(self.code, now).count, frozen.events),
        )

    def _frozen(self, totals: Totals) -> Totals:
        known = self.code >= 0
        code = np.where(known, self.code, 0)
        return Totals(
            *(
                np.where(known, np.append(getattr(totals, name), 0.0)[code], 0.0)
                for name in _KINDS
            )
        )


@dataclass(frozen=True)
class Popularity:
    """Fitted totals of each level (`product`, `category`, `brand`) and the base rate."""

    base_rate: float
    totals: dict[str, Totals] = field(default_factory=dict)

    @property
    def strength(self) -> float:
        """Impressions at the base rate that every rate is smoothed with: about one conversion."""
        return float(np.clip(1 / max(self.base_rate, 1e-9), MIN_STRENGTH, MAX_STRENGTH))

    def log_rate(self, counts: Totals) -> Floats:
        """Log of the smoothed rate over the base rate."""
        expected = self.strength * self.base_rate
        rate = (counts.converted + expected) / (counts.shown + self.strength)
        return np.log(rate / self.base_rate) if self.base_rate > 0 else np.zeros(len(rate))

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        totals = {level: totals.to_dict() for level, totals in self.totals.items()}
        return {"base_rate": self.base_rate, "totals": totals}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        totals = {level: Totals.from_dict(part) for level, part in values["totals"].items()}
        return cls(values["base_rate"], totals)


def add_popularity(
    popularity: Popularity, seen: Mapping[str, Seen], lists: Lists, columns: ColumnSet
) -> None:
    """Counts and rates of each level, and how the product stands in its list."""
    for level, part in seen.items():
        counts, known = part.so_far(popularity.totals[level]), part.known
        rate, touches = popularity.log_rate(counts), np.log1p(counts.events)
        block = "popularity" if level == "product" else f"popularity of {level}"
        for name, values in (
            (f"log_{level}_shown", np.log1p(counts.shown)),
            (f"log_{level}_events", touches),
            (f"log_{level}_events_to_shown", touches - np.log1p(counts.shown)),
            (f"log_{level}_rate", rate),
        ):
            columns.number(name, "context", block, values, known)
        if level == "product":
            _add_in_list(np.where(known, touches, np.nan), rate, lists, columns)


def _add_in_list(
    touches: Floats, rate: NDArray[np.float64], lists: Lists, columns: ColumnSet
) -> None:
    for name, values in (
        ("events_rank_in_list", lists.rank(-touches)),
        ("log_events_to_list_mean", touches - lists.mean(touches)),
        ("rate_rank_in_list", lists.rank(-rate)),
        ("log_rate_to_list_mean", rate - lists.mean(rate)),
    ):
        columns.number(name, "context", "popularity in list", values)
