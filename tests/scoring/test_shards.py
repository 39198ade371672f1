import copy
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.schema import load_tables
from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scored import TRAINING_PERIOD
from purchase_predictor.scoring.scorer import UNITS
from purchase_predictor.scoring.shards import CHECKED, IDS, SESSIONS, score_shards
from purchase_predictor.scoring.work import WorkFolder


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    """The tiny folder, its tables open to change."""
    copy = tmp_path / "data"
    copy.mkdir()
    for table in ("products", "events", "impressions"):
        pl.read_parquet(tiny_folder / f"{table}.parquet").write_parquet(copy / f"{table}.parquet")
    (copy / "images").symlink_to(tiny_folder / "images")
    return copy


@pytest.mark.parametrize("system", ["fusion", "lightgbm", "stack"])
@pytest.mark.parametrize("shard_rows", [400, 10**9])
def test_shards_give_what_the_whole_gives(
    small_model: PurchasePredictor, tiny_folder: Path, tmp_path: Path, system: str, shard_rows: int
) -> None:
    output = tmp_path / "scores.parquet"

    told = score_shards(small_model, tiny_folder, output, system=system, shard_rows=shard_rows)

    whole = small_model.predict_proba(tiny_folder, system)
    assert_frame_equal(pl.read_parquet(output), whole, check_exact=False, abs_tol=1e-6)
    n, n_shards = len(whole), 4 if shard_rows == 400 else 1
    assert (told.n_read, told.n_scored, told.n_set_aside, told.n_shards) == (n, n, 0, n_shards)
    assert told.counts is not None
    learned = whole["flags"].list.contains(TRAINING_PERIOD)
    assert 0 < told.counts.n == (~learned).sum() < n
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


@pytest.mark.parametrize("shard_rows", [400, 100])
def test_files_grow_in_step_with_the_shards(
    small_model: PurchasePredictor, tiny_folder: Path, tmp_path: Path, shard_rows: int
) -> None:
    work = WorkFolder(tmp_path / "work")
    work.folder.mkdir()

    told = score_shards(
        small_model, tiny_folder, tmp_path / "scores.parquet",
        system="lightgbm", shard_rows=shard_rows, work=work,
    )  # fmt: skip

    spilled = _files(work, UNITS)
    assert told.n_shards >= 4
    assert told.n_shards <= len(spilled) <= 2 * told.n_shards
    assert not [file for folder in (SESSIONS, IDS, CHECKED) for file in _files(work, folder)]


def test_a_part_whose_rows_are_all_set_aside_stops_nothing(
    small_model: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    rows = pl.read_parquet(folder / "impressions.parquet")
    one = rows["session_id"][0]
    bad = pl.when(pl.col("session_id") == one).then(-1.0).otherwise("price")
    rows.with_columns(price=bad).write_parquet(folder / "impressions.parquet")
    n_bad = len(rows.filter(pl.col("session_id") == one))

    told = score_shards(
        small_model, folder, tmp_path / "scores.parquet", system="lightgbm", shard_rows=10
    )

    # more hashes than sessions: some have that session alone, some none at all
    assert told.n_shards > rows["session_id"].n_unique()
    assert (told.n_set_aside, told.n_scored) == (n_bad, len(rows) - n_bad)


def _files(work: WorkFolder, folder: str) -> list[Path]:
    return [path for path in (work.folder / folder).rglob("*") if path.is_file()]


def test_the_market_is_hidden_in_every_shard_from_a_model_without_it(
    small_model: PurchasePredictor, tiny_folder: Path, tmp_path: Path
) -> None:
    settings = small_model.settings
    preparation = copy.copy(small_model.preparation_)
    preparation.settings = settings.model_copy(
        update={"model": settings.model.model_copy(update={"market": "none"})}
    )
    blind = copy.copy(small_model)
    blind.preparation_ = preparation
    output = tmp_path / "scores.parquet"

    score_shards(blind, tiny_folder, output, system="fusion", shard_rows=400)

    whole = blind.predict_proba(tiny_folder, "fusion")
    assert_frame_equal(pl.read_parquet(output), whole, check_exact=False, abs_tol=1e-6)
    seeing = small_model.predict_proba(tiny_folder, "fusion")
    assert (whole["probability"] - seeing["probability"]).abs().max() > 1e-4


def test_a_user_known_from_one_row_joins_all_rows_of_its_sessions(
    small_model: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    """Only the first impression of each session names its user; the events name none."""
    shown = pl.read_parquet(folder / "impressions.parquet")
    first = pl.col("timestamp").rank("ordinal").over("session_id") == 1
    shown.with_columns(user_id=pl.when(first).then("user_id")).write_parquet(
        folder / "impressions.parquet"
    )
    clicks = pl.read_parquet(folder / "events.parquet").with_columns(
        user_id=pl.lit(None, pl.String)
    )
    clicks.write_parquet(folder / "events.parquet")

    score_shards(
        small_model, folder, tmp_path / "scores.parquet", system="lightgbm", shard_rows=400
    )

    whole = small_model.predict_proba(folder, "lightgbm")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


def test_sessions_as_numbers_meet_whatever_their_type(
    small_model: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    number = pl.col("session_id").str.slice(1)
    for table, dtype in (("impressions", pl.Int64), ("events", pl.Float64)):
        rows = pl.read_parquet(folder / f"{table}.parquet")
        rows.with_columns(number.cast(dtype)).write_parquet(folder / f"{table}.parquet")

    score_shards(
        small_model, folder, tmp_path / "scores.parquet", system="lightgbm", shard_rows=400
    )

    whole = small_model.predict_proba(folder, "lightgbm")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


@pytest.mark.filterwarnings("ignore:.*set aside: ")
def test_rows_set_aside_are_those_of_the_whole(
    small_model: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    shown = pl.read_parquet(folder / "impressions.parquet").with_row_index("place")
    place = pl.col("place")
    bad = (
        shown.with_columns(
            # ids that two sessions use, a negative price, a missing session
            impression_id=pl.when(place >= 690)
            .then(pl.format("i{}", place - 690))
            .otherwise("impression_id"),
            price=pl.when(place == 50).then(-1.0).otherwise("price"),
            session_id=pl.when(place != 70).then("session_id"),
        )
        .drop("place")
    )  # fmt: skip
    bad.write_parquet(folder / "impressions.parquet")

    told = score_shards(
        small_model, folder, tmp_path / "scores.parquet", system="lightgbm", shard_rows=400
    )

    expected = load_tables(folder, require_labels=False).quarantine
    assert told.n_set_aside == len(expected) == 12
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.quarantine.parquet"), expected)
    whole = small_model.predict_proba(folder, "lightgbm")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


def test_works_without_events(
    small_model: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    (folder / "events.parquet").unlink()

    score_shards(small_model, folder, tmp_path / "scores.parquet", system="fusion", shard_rows=400)

    with pytest.warns(UserWarning, match="there is no table 'events'"):
        whole = small_model.predict_proba(folder, "fusion")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


def test_what_cannot_be_scored_leaves_no_file(
    small_model: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "scores.parquet"
    with pytest.raises(SettingsError, match="no system 'fushion'"):
        score_shards(small_model, folder, output, system="fushion")
    shown = pl.read_parquet(folder / "impressions.parquet").drop("session_id")
    shown.write_parquet(folder / "impressions.parquet")

    with pytest.raises(DataError, match="has no column 'session_id'"):
        score_shards(small_model, folder, output, shard_rows=400)

    assert list(output.parent.iterdir()) == []
