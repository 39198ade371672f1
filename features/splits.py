"""Training, validation and test: by time over all markets, or as the data say.

A session belongs to the period in which it starts; one that starts before a cut and ends at or
after it is left out, so that nothing of the future is learned from. The `split` column overrides
the time. Validation is halved by unit: STOP ends training, CALIBRATE fits
calibration and the stack.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import CALIBRATE, LEFT_OUT, STOP, TEST, TRAIN
from features.clickstream import session_units
from features.schema import Tables

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FACTOR, _MIX, _GOLDEN = 0x100000001B3, 0xFF51AFD7ED558CCD, 0x9E3779B97F4A7C15
_WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Cuts:
    """Where validation and test begin: a session belongs to them from its start."""

    validation: datetime
    test: datetime

    def to_dict(self) -> dict[str, str]:
        """As JSON holds it."""
        return {"validation": self.validation.isoformat(), "test": self.test.isoformat()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(*(datetime.fromisoformat(values[name]) for name in ("validation", "test")))


@dataclass(frozen=True)
class Split:
    """Which part each impression belongs to.

    Attributes:
        part: int8 [n], rows of `tables.impressions`; codes of `features.arrays`.
        cuts: None where the `split` column says it for every row.
        n_straddling: sessions left out because they lie on both sides of a cut.
    """

    part: NDArray[np.int8]
    cuts: Cuts | None
    n_straddling: int


def split_impressions(
    tables: Tables, *, validation_fraction: float, test_fraction: float, seed: int
) -> Split:
    """Split the impressions of all markets; select a market afterwards.

    Args:
        tables: checked tables of all markets.
        validation_fraction: share of the sessions with impressions, by start.
        test_fraction: share of them, the last.
        seed: of the halves of the validation units.
    """
    sessions = _spans(tables)
    given = tables.impressions["split"]
    cuts = None
    period = pl.lit(None, dtype=pl.String)
    n_straddling = 0
    if given.null_count():
        cuts = _cuts(sessions, validation_fraction, test_fraction)
        period = _period(cuts)
        by_time = tables.impressions.filter(pl.col("split").is_null()).select("session_id")
        n_straddling = (
            sessions.filter(period == "left out").join(by_time, on="session_id", how="semi").height
        )
    rows = tables.impressions.select("session_id", "split").join(
        sessions.with_columns(period.alias("period")),
        on="session_id", how="left", maintain_order="left",
    )  # fmt: skip
    half = np.where(_coin(rows["unit"], seed), STOP, CALIBRATE)
    where = rows.select(pl.coalesce("split", "period").alias("where"))["where"].to_numpy()
    part = np.select(
        [where == "train", where == "validation", where == "test"], [TRAIN, half, TEST], LEFT_OUT
    )
    return Split(part.astype(np.int8), cuts, n_straddling)


def event_parts(tables: Tables, split: Split) -> NDArray[np.int8]:
    """TRAIN for the events that pre-training and counts may learn from, else LEFT_OUT.

    An event is TRAIN if its session ended before the validation cut. Where the `split` column
    decides instead, it is TRAIN if all impressions of its session are, or, in a session without
    impressions, if that ended before the earliest impression held out. In any case it lies before
    its unit's own first impression held out.

    Returns:
        int8 [n_events], rows of `tables.events`.
    """
    shown = tables.impressions.select("session_id", "timestamp").with_columns(
        pl.Series("part", split.part)
    )
    held_out = shown.filter(pl.col("part").is_in([STOP, CALIBRATE, TEST]))
    limit = split.cuts.validation if split.cuts else held_out["timestamp"].min()
    before = pl.lit(True) if limit is None else pl.col("end") < pl.lit(limit)
    sessions = _spans(tables)
    only_train = shown.group_by("session_id").agg((pl.col("part") == TRAIN).all().alias("train"))
    first_held_out = (
        held_out.join(sessions, on="session_id")
        .group_by("unit")
        .agg(pl.col("timestamp").min().alias("held_out_at"))
    )
    sessions = (
        sessions.join(only_train, on="session_id", how="left")
        .join(first_held_out, on="unit", how="left")
        .with_columns(pl.coalesce("train", before).alias("train"))
    )
    learn = tables.events.select("session_id", "timestamp").join(
        sessions, on="session_id", how="left", maintain_order="left"
    ).select(
        pl.col("train") & (pl.col("timestamp") < pl.col("held_out_at")).fill_null(True)
    )  # fmt: skip
    return np.where(learn.to_series().to_numpy(), TRAIN, LEFT_OUT).astype(np.int8)


def training_products(tables: Tables, split: Split) -> NDArray[np.bool_]:
    """Products first seen, in an event or an impression, before the validation cut.

    Where the `split` column decides for every row: those in training impressions or events.

    Returns:
        bool [n_products], rows of `tables.products`.
    """
    if split.cuts is None:
        shown = tables.impressions.filter(pl.Series(split.part == TRAIN))
        events = tables.events.filter(pl.Series(event_parts(tables, split) == TRAIN))
    else:
        before = pl.col("timestamp") < pl.lit(split.cuts.validation)
        shown, events = tables.impressions.filter(before), tables.events.filter(before)
    seen = pl.concat([shown["product_id"], events["product_id"]]).drop_nulls().unique()
    return tables.products["product_id"].is_in(seen.implode()).to_numpy()


def select_markets(tables: Tables, split: Split, markets: Sequence[str]) -> tuple[Tables, Split]:
    """The impressions of some markets, with all events of the units that they were shown to."""
    rows = tables.impressions["market"].is_in(list(markets))
    impressions = tables.impressions.filter(rows)
    sessions = session_units(tables)
    units = sessions.join(impressions.select("session_id"), on="session_id", how="semi")
    kept = sessions.join(units.select("unit").unique(), on="unit", how="semi")
    events = tables.events.join(kept, on="session_id", how="semi", maintain_order="left")
    return (
        replace(tables, impressions=impressions, events=events),
        replace(split, part=split.part[rows.to_numpy()]),
    )


def stable_hash(texts: pl.Series, seed: int) -> NDArray[np.uint64]:
    """A hash of each text that no version of any library changes, uint64 [n].

    A polynomial over the UTF-8 bytes modulo 2⁶⁴, mixed as in MurmurHash3.
    """
    length = texts.str.len_bytes().to_numpy().astype(np.int64)
    flat = np.frombuffer("".join(texts.to_list()).encode(), np.uint8).astype(np.uint64)
    stop = np.cumsum(length)
    place = np.arange(len(flat)) - np.repeat(stop - length, length)
    longest = int(length.max(initial=0))
    powers = np.cumprod(np.full(longest, _FACTOR, np.uint64))
    total = np.append(np.uint64(0), np.cumsum((flat + np.uint64(1)) * powers[place]))
    value = total[stop] - total[stop - length]
    value ^= np.uint64((seed + 1) * _GOLDEN & _WORD)
    for _ in range(2):
        value ^= value >> np.uint64(33)
        value *= np.uint64(_MIX)
    return value ^ (value >> np.uint64(33))


def _spans(tables: Tables) -> pl.DataFrame:
    """`session_id`, `start`, `end`, `unit` and `shown` (has impressions) of each session."""
    parts = [
        table.lazy().select("session_id", "timestamp", pl.lit(shown).alias("shown"))
        for table, shown in ((tables.impressions, True), (tables.events, False))
    ]
    return (
        pl.concat(parts)
        .group_by("session_id")
        .agg(
            pl.col("timestamp").min().alias("start"),
            pl.col("timestamp").max().alias("end"),
            pl.col("shown").any(),
        )
        .collect()
        .join(session_units(tables), on="session_id")
    )


def _cuts(sessions: pl.DataFrame, validation_fraction: float, test_fraction: float) -> Cuts:
    starts = sessions.filter("shown")["start"].sort().to_physical()
    # fractions are decimal: 1 - 0.1 - 0.2 must be seven tenths
    shares = (round(1 - validation_fraction - test_fraction, 9), round(1 - test_fraction, 9))
    places = (min(int(share * len(starts) + 1e-6), len(starts) - 1) for share in shares)
    return Cuts(*(_EPOCH + timedelta(microseconds=int(starts[place])) for place in places))


def _period(cuts: Cuts) -> pl.Expr:
    start, end = pl.col("start"), pl.col("end")
    straddles = pl.any_horizontal(
        (start < pl.lit(cut)) & (end >= pl.lit(cut)) for cut in (cuts.validation, cuts.test)
    )
    return (
        pl.when(straddles)
        .then(pl.lit("left out"))
        .when(start < pl.lit(cuts.validation))
        .then(pl.lit("train"))
        .when(start < pl.lit(cuts.test))
        .then(pl.lit("validation"))
        .otherwise(pl.lit("test"))
    )


def _coin(units: pl.Series, seed: int) -> NDArray[np.bool_]:
    """A fair coin for each unit, the same wherever the unit appears."""
    distinct = units.unique()
    heads = stable_hash(distinct, seed) >> np.uint64(63) == 0
    return units.is_in(distinct.filter(pl.Series(heads)).implode()).to_numpy()
