"""What converters share whose data say what was taken, and not what else was on show.

Beside the true item a list shows items drawn from the other rows of the same market, so an item
is drawn as often as it is taken there: how popular an item is says nothing about which of a list
is the true one (and little in a market of few items, since those of a list are all different).
Everything drawn depends on the seed, the market and the number of the row alone, and not on how
many rows are held in memory at once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from polars.io.plugins import register_io_source

from features.splits import stable_hash

CHUNK = 50_000
"""Lists in memory at once."""

NONE = -1
"""Stands for an item where none was found."""

N_SAMPLED = 9
"""Items drawn for each list unless told otherwise."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Refused = Callable[[Ints, Ints], Bools]
"""Of row numbers and item codes: which of these items may not be drawn for these rows."""

_ATTEMPTS, _ATTEMPTS_A_WINDOW = 48, 4
_SHUFFLE = 1 << 20
_GOLDEN, _MIX, _MIX_AGAIN = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@dataclass(frozen=True)
class DrawnLists:
    """Lists of items in a random order.

    Attributes:
        item: int64 [n_lists, n_sampled + 1], codes; `NONE` at the end of lists that are short.
        converted: bool, likewise; the true item.
    """

    item: Ints
    converted: Bools

    @property
    def n_short(self) -> int:
        """Lists for which fewer items were found than asked for."""
        return int((self.item[:, -1] == NONE).sum())


def draw_lists(
    rows: Ints,
    items: Ints,
    *,
    n_sampled: int,
    window: int,
    seed: int,
    refused: Refused | None = None,
) -> DrawnLists:
    """Show the item of each row among items of other rows.

    Args:
        rows: [n_lists], numbers of the rows to make a list of.
        items: [n], the item of every row of the market, in order of time.
        n_sampled: items beside the true one; those of a list are all different.
        window: they are drawn from so many rows before and after, and from twice as many each
            time that four draws in a row would not do.
        seed: of this market.
        refused: what may not be drawn, besides what the list already shows.
    """
    shown = [items[rows]]
    for slot in range(n_sampled):
        found = np.full(len(rows), NONE)
        left = np.flatnonzero(shown[-1] != NONE)
        for attempt in range(_ATTEMPTS):
            if not len(left):
                break
            here = rows[left]
            half = min(window << (attempt // _ATTEMPTS_A_WINDOW), len(items))
            first, stop = np.maximum(here - half, 0), np.minimum(here + half + 1, len(items))
            word = random_words(seed, here, slot, attempt)
            drawn = items[first + (word % (stop - first).astype(np.uint64)).astype(np.int64)]
            bad = np.any([column[left] == drawn for column in shown], axis=0)
            if refused is not None:
                bad |= refused(here, drawn)
            found[left[~bad]] = drawn[~bad]
            left = left[bad]
        shown.append(found)
    table = np.stack(shown, axis=1)
    key = random_words(seed, rows[:, None], _SHUFFLE + np.arange(n_sampled + 1)[None])
    key[table == NONE] = np.iinfo(np.uint64).max
    order = np.argsort(key, axis=1, kind="stable")
    return DrawnLists(np.take_along_axis(table, order, axis=1), order == 0)


def listed(lists: pl.DataFrame, drawn: DrawnLists, items: pl.DataFrame) -> pl.DataFrame:
    """Impressions of lists.

    Args:
        lists: one row a list, `list_id` and whatever its impressions share.
        drawn: what they show.
        items: one row an item, by its code.

    Returns:
        The columns of both, `impression_id` and `converted`; one row an item shown.
    """
    here = drawn.item != NONE
    row, place = np.nonzero(here)
    return pl.concat([lists[row], items[drawn.item[here]]], how="horizontal").with_columns(
        pl.format("{}-{}", "list_id", pl.Series(place)).alias("impression_id"),
        pl.Series("converted", drawn.converted[here]),
    )


def market_seed(seed: int, market: str) -> int:
    """A seed of its own for each market."""
    return int(stable_hash(pl.Series([market]), seed)[0])


def random_words(seed: int, *keys: Ints | int) -> NDArray[np.uint64]:
    """A random word for each combination of keys, the same on every machine (SplitMix64).

    Args:
        seed: any whole number.
        keys: of shapes that broadcast.
    """
    value = np.asarray([seed % (1 << 64)], np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            value = (value + np.uint64(_GOLDEN)) ^ np.asarray(key).astype(np.uint64)
            value = (value ^ (value >> np.uint64(30))) * np.uint64(_MIX)
            value = (value ^ (value >> np.uint64(27))) * np.uint64(_MIX_AGAIN)
            value = value ^ (value >> np.uint64(31))
    return value


def streamed(
    batches: Callable[[], Iterator[pl.DataFrame]], schema: dict[str, pl.DataType]
) -> pl.LazyFrame:
    """A table that is made piece by piece while it is written, and never held whole.

    Args:
        batches: makes the pieces; called once each time that the table is read.
        schema: of the pieces.
    """

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        for batch in batches():
            piece = batch if n_rows is None else batch.head(n_rows)
            n_rows = None if n_rows is None else n_rows - len(piece)
            piece = piece if predicate is None else piece.filter(predicate)
            yield piece.select(list(schema) if columns is None else columns)

    return register_io_source(source, schema=schema)
