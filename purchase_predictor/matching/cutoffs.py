"""Exact thresholds: mean F1 of a view's matches as a function of where its neighbours end.

Mean F1 is a step function of a threshold: it changes only at distances that occur, and each
neighbour that is taken in adds the same amount whatever the view's other threshold. So the best
threshold of a view, with min2's second one, needs a sort and a running sum, and no grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.matching.neighbours import Neighbours

Ends = tuple[float, float]
"""Threshold and second threshold of a view."""

_BELOW = 0.02
"""A threshold that keeps nothing lies half of this below the smallest distance, 0 included."""

_DECIMALS = 12
"""F1 is compared to this many decimals, or the order of a sum would decide between equals."""


@dataclass(frozen=True)
class Cutoff:
    """Thresholds of one view, as cosine distances, and the mean F1 they give.

    Attributes:
        threshold: up to this distance neighbours are kept.
        second: min2: up to this distance the nearest other listing is kept; None without min2.
        f1: mean F1 of the scored listings.
    """

    threshold: float
    second: float | None
    f1: float

    @property
    def ends(self) -> "Ends":
        """Threshold and second threshold; the threshold again where there is no min2."""
        return self.threshold, self.threshold if self.second is None else self.second


@dataclass(frozen=True)
class Pairs:
    """Every pair of a scored listing and another that is its neighbour in some view.

    Attributes:
        row: the listing, 0 .. n_scored - 1 [n_pairs].
        hit: whether the two are of one group [n_pairs].
        size: listings in the group of each scored listing [n_scored].
        views: how each view sees them.
    """

    row: NDArray[np.int64]
    hit: NDArray[np.bool_]
    size: NDArray[np.int64]
    views: tuple["Sight", ...]

    @classmethod
    def collect(
        cls,
        views: Sequence[Neighbours],
        groups: NDArray[np.int64],
        rows_scored: NDArray[np.bool_] | None,
        cap: int,
    ) -> "Pairs":
        """Number the pairs of all views."""
        n = len(groups)
        scored = np.arange(n) if rows_scored is None else np.flatnonzero(rows_scored)
        if not len(scored):
            raise ValueError("no listing is scored; a threshold needs at least one.")
        keys, distances, firsts = [], [], []
        for view in views:
            index = view.index[scored, :cap].astype(np.int64)
            row, place = np.nonzero((index >= 0) & (index != scored[:, None]))
            keys.append(row * n + index[row, place])
            distances.append(np.float32(1) - view.similarity[scored[row], place])
            firsts.append(np.append(True, row[1:] != row[:-1])[: len(row)])
        key, place = np.unique(np.concatenate(keys), return_inverse=True)
        places = np.split(place, np.cumsum([len(own) for own in keys])[:-1])
        _, code, size = np.unique(groups, return_inverse=True, return_counts=True)
        row, column = np.divmod(key, n)
        return cls(
            row=row,
            hit=code[column] == code[scored[row]],
            size=size[code[scored]],
            views=tuple(map(Sight, places, distances, firsts)),
        )

    def nothing(self) -> NDArray[np.bool_]:
        """No pair is kept, bool [n_pairs]."""
        return np.zeros(len(self.row), bool)

    def kept(self, ends: Sequence[Ends], *, but: int | None = None) -> NDArray[np.bool_]:
        """Pairs that the views keep, bool [n_pairs]; without the one numbered `but`."""
        kept = self.nothing()
        for number, (sight, own) in enumerate(zip(self.views, ends, strict=True)):
            if number != but:
                kept[sight.within(own)] = True
        return kept

    def f1(self, ends: Sequence[Ends]) -> float:
        """Mean F1 of the union of the views' matches."""
        return self._mean_f1(self.kept(ends))

    def climb(self, ends: Sequence[Ends]) -> list[Ends]:
        """Set one view after another to its best, given the others, while that gains."""
        ends, best = list(ends), self.f1(ends)
        while True:
            before = best
            for view in range(len(self.views)):
                found = self.sweep(view, self.kept(ends, but=view), second=True)
                if found.f1 > best:
                    ends[view], best = found.ends, found.f1
            if best <= before + 1e-9:
                return ends

    def sweep(self, view: int, kept: NDArray[np.bool_], *, second: bool) -> Cutoff:
        """Best thresholds of a view whose matches join those that are kept already.

        With min2 the nearest other listing is kept by the second threshold and the rest by the
        first, so mean F1 is a sum of a function of either; the second is at least the first.
        """
        sight = self.views[view]
        gain = self._gains(sight, kept)
        at, place = np.unique(sight.distance, return_inverse=True)
        by_second, by_first = (
            np.append(0.0, np.bincount(place[own], gain[own], minlength=len(at)).cumsum())
            for own in (sight.first, ~sight.first)
        )
        if second:
            by_second = np.round(by_second, _DECIMALS)
            # the best second threshold at or beyond each first one
            beyond = np.maximum.accumulate(by_second[::-1])[::-1]
            end = int(np.argmax(np.round(beyond + by_first, _DECIMALS)))
            far = end + int(np.argmax(by_second[end:]))
        else:
            end = far = int(np.argmax(np.round(by_second + by_first, _DECIMALS)))
        ends = _between(at, end), _between(at, far)
        joined = kept.copy()
        joined[sight.within(ends)] = True
        return Cutoff(ends[0], ends[1] if second else None, self._mean_f1(joined))

    def _mean_f1(self, kept: NDArray[np.bool_]) -> float:
        n_kept, n_hits = self._counted(kept)
        return float((2 * n_hits / (n_kept + self.size)).mean())

    def _counted(self, kept: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Matches of each scored listing and those that are right, itself in both."""
        n = len(self.size)
        n_kept = np.bincount(self.row[kept], minlength=n) + 1
        return n_kept, np.bincount(self.row[kept & self.hit], minlength=n) + 1

    def _gains(self, sight: "Sight", kept: NDArray[np.bool_]) -> NDArray[np.float64]:
        """What each neighbour adds to mean F1 when the nearer ones of its listing are there."""
        n_kept, n_hits = self._counted(kept)
        row, new = self.row[sight.pair], ~kept[sight.pair]
        hit = self.hit[sight.pair] & new
        run = np.flatnonzero(sight.first)
        length = np.diff(np.append(run, len(row)))
        more, right = (_running(own, run, length) for own in (new, hit))
        after = 2 * (n_hits[row] + right) / (n_kept[row] + more + self.size[row])
        before = 2 * (n_hits[row] + right - hit) / (n_kept[row] + more - new + self.size[row])
        return (after - before) / len(self.size)


@dataclass(frozen=True)
class Sight:
    """The pairs that one view has, listing by listing, nearest first.

    Attributes:
        pair: number of the pair [n_seen].
        distance: float32 [n_seen].
        first: whether it is the nearest other listing [n_seen].
    """

    pair: NDArray[np.int64]
    distance: NDArray[np.float32]
    first: NDArray[np.bool_]

    def within(self, ends: Ends) -> NDArray[np.int64]:
        """Numbers of the pairs that are kept; a second threshold under the first has no effect."""
        threshold, second = ends
        reach = np.where(self.first, max(threshold, second), threshold)
        return self.pair[self.distance <= reach]


def _running(
    flag: NDArray[np.bool_], run: NDArray[np.int64], length: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Running count of a flag within runs that begin at `run` and have these lengths."""
    count = np.cumsum(flag, dtype=np.int64)
    return count - np.repeat(count[run] - flag[run], length)


def _between(at: NDArray[np.float32], n_kept: int) -> float:
    """A threshold that keeps the n_kept smallest of these distances.

    Args:
        at: distances that occur, increasing.
        n_kept: how many of them are within the threshold.
    """
    if n_kept == len(at):
        return float(at[-1]) if len(at) else 0.0
    reached = float(at[n_kept - 1]) if n_kept else min(float(at[0]), 0.0) - _BELOW
    middle = np.float32((reached + float(at[n_kept])) / 2)
    # neighbours in float32 have no number between them
    return float(middle) if middle < at[n_kept] else reached
