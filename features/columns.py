"""A place to gather columns in, and the arithmetic that features share."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import Column, Group
from features.storage import IN_MEMORY, ArrayStore

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_LARGEST = float(np.finfo(np.float32).max)
_BLOCK_ROWS = 2048
_BLOCK_COLUMNS = 64


@dataclass
class ColumnSet:
    """Number and category columns of n rows, in the order in which they were added.

    Attributes:
        store: where numbers and matrices lie.
    """

    store: ArrayStore = IN_MEMORY
    number_columns: list[Column] = field(default_factory=list)
    numbers: list[NDArray[np.float32]] = field(default_factory=list)
    category_columns: list[Column] = field(default_factory=list)
    categories: list[NDArray[np.int32]] = field(default_factory=list)

    def number(
        self, name: str, group: Group, block: str, values: NDArray, known: Bools | None = None
    ) -> None:
        """Add a number column.

        Args:
            name: of the column.
            group: modality.
            block: token.
            values: [n]; NaN where missing.
            known: bool [n], where the values hold; missing elsewhere.
        """
        x = np.clip(values.astype(np.float64), -_LARGEST, _LARGEST).astype(np.float32)
        self._keep(x if known is None else np.where(known, x, np.float32(np.nan)))
        self.number_columns.append(Column(name, group, block))

    def _keep(self, values: NDArray[np.float32]) -> None:
        """Copy into a block of columns: every file in the store costs an open one."""
        place = len(self.numbers) % _BLOCK_COLUMNS
        if not place:
            self._block = self.store.zeros((_BLOCK_COLUMNS, len(values)), np.float32)
        self._block[place] = values
        self.numbers.append(self._block[place])

    def category(
        self, name: str, group: Group, block: str, codes: NDArray[np.int32], n_codes: int
    ) -> None:
        """Add a category column."""
        self.categories.append(codes)
        self.category_columns.append(Column(name, group, block, n_codes))

    def number_matrix(self, n: int) -> NDArray[np.float32]:
        """float32 [n, n_numbers]."""
        return self._side_by_side(self.numbers, n, np.float32)

    def category_matrix(self, n: int) -> NDArray[np.int32]:
        """int32 [n, n_categories]."""
        return self._side_by_side(self.categories, n, np.int32)

    def _side_by_side(self, columns: Sequence[NDArray], n: int, dtype: type) -> NDArray:
        """Columns as one matrix, a block of rows at a time: a block stays in the cache."""
        matrix = self.store.zeros((n, len(columns)), dtype)
        for start in range(0, n, _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            for place, column in enumerate(columns):
                matrix[rows, place] = column[rows]
        return matrix


class Occasions:
    """What happened, by key and in order, to be asked for what lies before a place.

    Args:
        key: int64 [m], group of each occasion, not negative.
        place: int64 [m], increasing order of the occasions that every key shares.
        width: larger than any place that will be asked for.

    Attributes:
        given: int64 [m], places in the order they were given in, as `running` takes values.
    """

    def __init__(self, key: Ints, place: Ints, width: int) -> None:
        order = np.lexsort((place, key))
        self.order = order
        self.given = place
        self.place = place[order]
        self.width = width + 1
        self.keys, self.start = np.unique(key[order], return_index=True)
        code = np.repeat(
            np.arange(len(self.keys)), np.diff(np.append(self.start, len(order)))
        ).astype(np.int64)
        self.composite = code * self.width + self.place

    def __len__(self) -> int:
        return len(self.place)

    def before(self, key: Ints, place: Ints) -> "Past":
        """Occasions of a key strictly before a place; both int64 [n], a key may be unknown."""
        code = np.minimum(np.searchsorted(self.keys, key), max(len(self.keys) - 1, 0))
        if not len(self.keys):
            none = np.zeros(len(key), np.int64)
            return Past(self, none, none)
        known = self.keys[code] == key
        begin = np.where(known, self.start[code], 0)
        end = np.searchsorted(self.composite, code * self.width + place)
        return Past(self, begin, np.where(known, end, 0))

    def running(self, values: NDArray) -> Floats:
        """Sums of `values` [m] over the sorted occasions, float64 [m + 1], from 0."""
        return np.append(0.0, np.cumsum(values[self.order], dtype=np.float64))


@dataclass(frozen=True)
class Past:
    """For each of n rows, a run of sorted occasions: `[begin, end)`."""

    occasions: Occasions
    begin: Ints
    end: Ints

    @property
    def count(self) -> Ints:
        """How many, int64 [n]."""
        return self.end - self.begin

    @property
    def any(self) -> Bools:
        """Whether there is one, bool [n]."""
        return self.end > self.begin

    def sum(self, running: Floats) -> Floats:
        """Sum of what `Occasions.running` summed, float64 [n]."""
        return running[self.end] - running[self.begin]

    @property
    def last(self) -> Ints:
        """Place of the last one, int64 [n]; -1 where there is none."""
        return self._place(self.end - 1)

    @property
    def first(self) -> Ints:
        """Place of the first one, int64 [n]; -1 where there is none."""
        return self._place(self.begin)

    def _place(self, index: Ints) -> Ints:
        if not len(self.occasions):
            return np.full(len(index), -1)
        return np.where(self.any, self.occasions.place[np.where(self.any, index, 0)], -1)


def floats(column: pl.Series) -> Floats:
    """Numbers or flags of a table's column, NaN where missing."""
    return column.cast(pl.Float64).fill_null(np.nan).to_numpy()


def log_seconds(micros: NDArray) -> Floats:
    """log1p of seconds, from microseconds."""
    return np.log1p(np.maximum(micros, 0) / 1e6)


def ratio(part: NDArray, whole: NDArray) -> Floats:
    """`part / whole`, NaN where `whole` is 0 or unknown."""
    whole = whole.astype(np.float64)
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


class Lists:
    """Runs of rows that were shown together.

    Args:
        number: int64 [n], non-decreasing, from 0.
    """

    def __init__(self, number: Ints) -> None:
        self.number = number
        self.start = np.flatnonzero(np.diff(number, prepend=-1))
        self.size = np.diff(np.append(self.start, len(number)))

    def place(self) -> Ints:
        """Place of each row in its list, from 0."""
        return np.arange(len(self.number)) - np.repeat(self.start, self.size)

    def spread(self, values: NDArray) -> NDArray:
        """A value of each list to each of its rows."""
        return np.repeat(values, self.size)

    def sum(self, values: NDArray) -> Floats:
        """Sum of each list, to its rows; missing values count nothing."""
        known = np.nan_to_num(values.astype(np.float64), nan=0.0)
        return self.spread(np.add.reduceat(known, self.start)) if len(self.start) else known

    def min(self, values: Floats) -> Floats:
        """Least known value of each list, to its rows; NaN where none is known."""
        return self.spread(np.fmin.reduceat(values, self.start)) if len(self.start) else values

    def max(self, values: Floats) -> Floats:
        """Greatest known value of each list, to its rows; NaN where none is known."""
        return self.spread(np.fmax.reduceat(values, self.start)) if len(self.start) else values

    def mean(self, values: Floats) -> Floats:
        """Mean of the known values of each list, to its rows."""
        return ratio(self.sum(values), self.sum(~np.isnan(values)))

    def median(self, values: Floats) -> Floats:
        """Median of the known values of each list, to its rows."""
        if not len(self.start):
            return values
        ordered = values[np.lexsort((values, self.number))]  # NaN last
        known = np.add.reduceat((~np.isnan(values)).astype(np.int64), self.start)
        low = ordered[self.start + np.maximum(known - 1, 0) // 2]
        high = ordered[self.start + np.minimum(known // 2, self.size - 1)]
        return self.spread(np.where(known > 0, (low + high) / 2, np.nan))

    def rank(self, values: Floats) -> Floats:
        """Rank among the known values of the list, from 0 for the least; ties share the least."""
        order = np.lexsort((values, self.number))
        value, number = values[order], self.number[order]
        new = np.append(True, (value[1:] != value[:-1]) | (number[1:] != number[:-1]))
        place = np.maximum.accumulate(np.where(new[: len(value)], np.arange(len(value)), 0))
        rank = np.empty(len(values))
        rank[order] = place - np.repeat(self.start, self.size)
        return np.where(np.isnan(values), np.nan, rank)
