import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import LEFT_OUT, STOP, TRAIN
from features.schema import Tables, load_tables
from features.splits import split_impressions
from purchase_predictor.errors import DataError
from purchase_predictor.training.selection import (
    check_rows,
    fingerprint,
    select_market,
    stopping_markets,
)


def test_fingerprint_is_of_the_rows(tiny_tables: Tables) -> None:
    moved = replace(tiny_tables, folder=Path("elsewhere"))
    dearer = tiny_tables.impressions.with_columns(pl.col("price") + 0.01)
    assert fingerprint(tiny_tables) == fingerprint(moved)
    assert fingerprint(tiny_tables) != fingerprint(replace(tiny_tables, impressions=dearer))


def test_fingerprint_does_not_depend_on_how_rows_lie_in_memory(tiny_tables: Tables) -> None:
    rows = tiny_tables.products.rechunk()
    pieces = pl.concat([rows.head(7), rows.tail(len(rows) - 7)], rechunk=False)
    assert pieces.n_chunks() == 2
    assert fingerprint(tiny_tables) == fingerprint(replace(tiny_tables, products=pieces))


def test_fingerprint_is_that_of_the_tables_written_one_after_another(tiny_tables: Tables) -> None:
    digest = hashlib.sha256()
    for frame in (tiny_tables.products, tiny_tables.events, tiny_tables.impressions):
        written = io.BytesIO()
        frame.rechunk().write_ipc(
            written, compression="uncompressed", compat_level=pl.CompatLevel.oldest()
        )
        digest.update(written.getvalue())
    # another would disown the finished runs that `compare` and `tune` look for
    assert fingerprint(tiny_tables) == digest.hexdigest()[:16]


def test_fingerprint_is_the_same_when_the_data_come_to_be_explained(tiny_folder: Path) -> None:
    labelled, any_rows = load_tables(tiny_folder), load_tables(tiny_folder, require_labels=False)
    assert fingerprint(labelled) == fingerprint(any_rows)


def test_market_is_selected_after_the_cut_times_were_taken(tiny_tables: Tables) -> None:
    split = split_impressions(tiny_tables, validation_fraction=0.2, test_fraction=0.2, seed=0)
    local = select_market(tiny_tables, split, "KR")
    kept = (tiny_tables.impressions["market"] == "KR").to_numpy()
    assert local.split.cuts == split.cuts
    np.testing.assert_array_equal(local.split.part, split.part[kept])
    with pytest.raises(DataError, match="did you mean 'KR'"):
        select_market(tiny_tables, split, "KRR")


def test_too_few_conversions_are_told_with_what_to_do(tiny_tables: Tables) -> None:
    split = split_impressions(tiny_tables, validation_fraction=0.2, test_fraction=0.2, seed=0)
    selection = select_market(tiny_tables, split, "KR")
    n = int(
        selection.tables.impressions["converted"].to_numpy()[selection.split.part == TRAIN].sum()
    )
    check_rows(selection, "KR", n)
    with pytest.raises(DataError, match=f"market KR has {n} training conversions.*--market all"):
        check_rows(selection, "KR", n + 1)


def test_validation_of_one_outcome_stops_nothing(tiny_tables: Tables) -> None:
    split = split_impressions(tiny_tables, validation_fraction=0.2, test_fraction=0.2, seed=0)
    there = (tiny_tables.impressions["market"] == "KR").to_numpy()
    bought = tiny_tables.impressions["converted"].to_numpy()
    part = np.where((split.part == STOP) & there & bought, LEFT_OUT, split.part)
    unstopped = replace(split, part=part.astype(np.int8))
    assert "KR" in stopping_markets(tiny_tables, split)
    assert "KR" not in stopping_markets(tiny_tables, unstopped)

    selection = select_market(tiny_tables, unstopped, "KR")
    with pytest.raises(DataError, match="both outcomes are needed"):
        check_rows(selection, "KR", 1)
    check_rows(selection, "KR", 1, stops=False)
