from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.schema import load_tables
from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scoring_shards import ScoredShards, score_shards
from purchase_predictor.settings import load_settings

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=1", "pretraining.n_folds=2", "pretraining.batch_events=200",
    "pretraining.n_negatives=16",
    "training.max_epochs=1", "training.precision=float32", "encoders.epochs=0",
    "encoders.n_word_pieces=300", "baselines.lightgbm.max_rounds=20",
    "baselines.lightgbm.threads=1", "data.min_conversions=5", "data.validation_fraction=0.2",
]  # fmt: skip


@pytest.fixture(scope="module")
def fitted(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> PurchasePredictor:
    cache = tmp_path_factory.mktemp("cache")
    settings = load_settings(overrides=[*QUICK, f"encoders.cache={cache}"])
    return PurchasePredictor(settings).fit(load_tables(tiny_folder))


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
    fitted: PurchasePredictor, tiny_folder: Path, tmp_path: Path, system: str, shard_rows: int
) -> None:
    output = tmp_path / "scores.parquet"

    told = score_shards(fitted, tiny_folder, output, system=system, shard_rows=shard_rows)

    whole = fitted.predict_proba(tiny_folder, system)
    assert_frame_equal(pl.read_parquet(output), whole, check_exact=False, abs_tol=1e-6)
    assert told == ScoredShards(len(whole), 0, 4 if shard_rows == 400 else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def test_a_user_known_from_one_row_joins_all_rows_of_its_sessions(
    fitted: PurchasePredictor, folder: Path, tmp_path: Path
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

    score_shards(fitted, folder, tmp_path / "scores.parquet", system="lightgbm", shard_rows=400)

    whole = fitted.predict_proba(folder, "lightgbm")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


def test_sessions_as_numbers_meet_whatever_their_type(
    fitted: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    number = pl.col("session_id").str.slice(1)
    for table, dtype in (("impressions", pl.Int64), ("events", pl.Float64)):
        rows = pl.read_parquet(folder / f"{table}.parquet")
        rows.with_columns(number.cast(dtype)).write_parquet(folder / f"{table}.parquet")

    score_shards(fitted, folder, tmp_path / "scores.parquet", system="lightgbm", shard_rows=400)

    whole = fitted.predict_proba(folder, "lightgbm")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


@pytest.mark.filterwarnings("ignore:.*rows are set aside")
def test_rows_set_aside_are_those_of_the_whole(
    fitted: PurchasePredictor, folder: Path, tmp_path: Path
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
        fitted, folder, tmp_path / "scores.parquet", system="lightgbm", shard_rows=400
    )

    expected = load_tables(folder, require_labels=False).quarantine
    assert told.n_set_aside == len(expected) == 12
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.quarantine.parquet"), expected)
    whole = fitted.predict_proba(folder, "lightgbm")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


def test_works_without_events(fitted: PurchasePredictor, folder: Path, tmp_path: Path) -> None:
    (folder / "events.parquet").unlink()

    score_shards(fitted, folder, tmp_path / "scores.parquet", system="fusion", shard_rows=400)

    whole = fitted.predict_proba(folder, "fusion")
    assert_frame_equal(pl.read_parquet(tmp_path / "scores.parquet"), whole, abs_tol=1e-6)


def test_what_cannot_be_scored_leaves_no_file(
    fitted: PurchasePredictor, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out" / "scores.parquet"
    with pytest.raises(SettingsError, match="no system 'fushion'"):
        score_shards(fitted, folder, output, system="fushion")
    shown = pl.read_parquet(folder / "impressions.parquet").drop("session_id")
    shown.write_parquet(folder / "impressions.parquet")

    with pytest.raises(DataError, match="has no column 'session_id'"):
        score_shards(fitted, folder, output, shard_rows=400)

    assert list(output.parent.iterdir()) == []
