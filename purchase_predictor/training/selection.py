"""Which rows a model learns from: of one market or of all, and whether they are enough."""

import hashlib
import io
from dataclasses import dataclass
from typing import Any

import polars as pl

from features import splits
from features.arrays import CALIBRATE, STOP, TEST, TRAIN
from features.clickstream import session_units
from features.schema import Tables
from features.splits import Split
from purchase_predictor.counted import Counted
from purchase_predictor.errors import DataError, nearest_market
from purchase_predictor.settings import Settings

ALL_MARKETS = "all"

PART_NAMES = {TRAIN: "training", STOP: "validation (stopping)", CALIBRATE: "validation "
              "(calibration)", TEST: "test"}  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """The rows a model is made of.

    Attributes:
        tables: of one market or of all.
        split: of these rows.
    """

    tables: Tables
    split: Split


def split_by(tables: Tables, settings: Settings) -> Split:
    """Split by the settings' shares of time.

    Args:
        tables: of all markets.
        settings: shares, and the seed of the halves of validation.
    """
    return splits.split_impressions(
        tables,
        validation_fraction=settings.data.validation_fraction,
        test_fraction=settings.data.test_fraction,
        seed=settings.seed,
    )


def fingerprint(tables: Tables) -> str:
    """A hash of the checked rows, the same for the same data in any folder.

    Args:
        tables: whole, before a market is selected.
    """
    hashed = _Hashed()
    with io.BufferedWriter(hashed) as file:
        for frame in (tables.products, tables.events, tables.impressions):
            # in one piece, texts one after another: as they come, both depend on threads
            whole = frame.rechunk()
            whole.write_ipc(file, compression="uncompressed", compat_level=pl.CompatLevel.oldest())
    return hashed.digest.hexdigest()[:16]


class _Hashed(io.RawIOBase):
    """A file that is only hashed: the tables as bytes would need as much memory once more."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, written: Any, /) -> int:
        """Take bytes, or what is read as bytes, and say how many they were."""
        self.digest.update(written)
        return memoryview(written).nbytes


def select_market(tables: Tables, split: Split, market: str) -> Selection:
    """Keep one market's impressions and the events of their units.

    Args:
        tables: of all markets.
        split: whose cut times were taken over all markets.
        market: a name, or `all`.

    Raises:
        DataError: if there is no such market; lists what there is.
    """
    check_market(tables, market)
    if market == ALL_MARKETS:
        return Selection(tables, split)
    return Selection(*splits.select_markets(tables, split, [market]))


def check_market(tables: Tables, market: str) -> None:
    """Refuse a market that no impression is of.

    Raises:
        DataError: if there is no such market; lists what there is.
    """
    markets = tables.impressions["market"].unique().sort().to_list()
    if market not in (ALL_MARKETS, *markets):
        hint = nearest_market(market, markets)
        raise DataError(f"there is no market '{market}' among {', '.join(markets)}{hint}")


def stopping_markets(tables: Tables, split: Split) -> set[str]:
    """Markets whose STOP rows can stop training: both outcomes are among them."""
    stop = tables.impressions.filter(pl.Series(split.part == STOP))
    outcomes = stop.group_by("market").agg(pl.col("converted").n_unique())
    return set(outcomes.filter(pl.col("converted") == 2)["market"])


def check_rows(
    selection: Selection, market: str, min_conversions: int, *, stops: bool = True
) -> None:
    """Refuse rows that nothing can be learned from or judged on.

    Args:
        selection: the rows.
        market: their name, or `all`.
        min_conversions: fewest in training.
        stops: whether the rows have to stop training, for which both outcomes are needed.

    Raises:
        DataError: names the market, says how many conversions there are and what to do.
    """
    converted = selection.tables.impressions["converted"].cast(pl.Int8).to_numpy()
    part = selection.split.part
    where = "the data" if market == ALL_MARKETS else f"market {market}"
    advice = "" if market == ALL_MARKETS else "; train on all markets with --market all"
    for code, name in PART_NAMES.items():
        rows = converted[part == code]
        if not len(rows):
            raise DataError(f"{where} has no {name} rows after the split{advice}")
        learns = code == TRAIN or (code == STOP and stops)
        if learns and rows.min() == rows.max():
            of_all = f"{Counted(len(rows)):{name} row|{name} rows} of {where}"
            told = f"{rows.sum():,} of {of_all} converted: both outcomes are needed"
            raise DataError(told + advice)
    held = selection.tables.impressions.filter(pl.Series(part == CALIBRATE))
    units = session_units(selection.tables).join(held, on="session_id", how="semi")["unit"]
    if units.n_unique() < 2:
        raise DataError(
            f"{where} has one user alone in the half of validation that calibrates, two or more "
            f"are needed (setting data.validation_fraction){advice}"
        )
    n = int(converted[part == TRAIN].sum())
    if n < min_conversions:
        raise DataError(
            f"{where} has {Counted(n):training conversion|training conversions}, "
            f"at least {min_conversions} are needed (setting data.min_conversions){advice}"
        )
