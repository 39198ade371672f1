import json
import mmap
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features import encoding, storage
from features.arrays import TRAIN
from features.errors import UserError
from features.schema import Tables
from purchase_predictor import score
from purchase_predictor.errors import DataError, ModelFolderError, SettingsError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import load_settings
from purchase_predictor.training import picture_phrases

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=1", "pretraining.batch_events=200", "pretraining.n_negatives=16",
    "training.max_epochs=2", "training.precision=float32", "encoders.epochs=1",
    "encoders.n_word_pieces=300", "baselines.lightgbm.max_rounds=20",
    "baselines.lightgbm.threads=1", "evaluation.resamples=50", "data.min_conversions=5",
    "data.validation_fraction=0.2",
]  # fmt: skip
SETTINGS = load_settings(Path("configs/quick.yaml"), QUICK)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def fitted(tiny_tables: Tables, cache: str) -> PurchasePredictor:
    settings = load_settings(Path("configs/quick.yaml"), [*QUICK, f"encoders.cache={cache}"])
    return PurchasePredictor(settings).fit(tiny_tables)


@pytest.fixture(scope="module")
def saved(fitted: PurchasePredictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    fitted.save(folder)
    return folder


def _owner(x: np.ndarray) -> object:
    """Whose memory an array shows."""
    while isinstance(x, np.ndarray):
        x = x.base
    return x


def test_arrays_on_disk_change_no_bit_of_a_model(
    saved: Path,
    tiny_tables: Tables,
    cache: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storage, "KEPT_BYTES", 1)  # these rows are few
    work = tmp_path / "work"
    changes = [
        f"encoders.cache={cache}",
        "training.storage=disk",
        f"training.storage_folder={work}",
    ]
    settings = load_settings(Path("configs/quick.yaml"), [*QUICK, *changes])
    tables = tiny_tables.stored(settings.training.array_store)
    predictor = PurchasePredictor(settings).fit(tables)
    data = predictor.data_
    assert data.store.folder == work
    some = data.select(data.part == TRAIN)
    for x in (data.numbers, data.time, data.events.time, data.flags["late_in_list"], some.cut):
        assert isinstance(_owner(x), mmap.mmap)
    assert not list(work.iterdir())  # its files have no names
    predictor.save(tmp_path / "model")
    # manifests tell when they were written, settings where arrays lay
    files = {path.relative_to(saved) for path in saved.rglob("*") if path.is_file()}
    compared = {f for f in files if f.name != "manifest.json"} - {Path("settings.json")}
    assert Path("fusion/weights.safetensors") in compared
    for file in compared:
        assert (tmp_path / "model" / file).read_bytes() == (saved / file).read_bytes(), file


def test_predicts_every_row_in_the_order_of_the_input(
    fitted: PurchasePredictor, tiny_tables: Tables
) -> None:
    scored = fitted.predict_proba(tiny_tables)
    assert scored.columns == ["impression_id", "market", "probability", "flags"]
    assert scored["impression_id"].to_list() == tiny_tables.impressions["impression_id"].to_list()
    assert scored["probability"].is_between(0, 1).all()


def test_rows_of_the_time_that_was_learned_from_are_flagged(
    fitted: PurchasePredictor, tiny_tables: Tables
) -> None:
    scored = fitted.predict_proba(tiny_tables)
    learned = scored.filter(pl.col("flags").list.contains("training_period"))["impression_id"]
    held_out = set(fitted.predict_test()["impression_id"])
    assert 0 < len(learned) < len(scored)
    assert held_out.isdisjoint(learned)
    assert set(fitted.data_.impression_id[fitted.data_.before_test()]) <= set(learned)
    # sessions on both sides of the cut are neither learned from nor tested on
    assert len(learned) + len(held_out) >= 0.95 * len(scored)


@pytest.mark.parametrize("system", ["fusion", "lightgbm", "stack"])
def test_test_rows_score_the_same_when_they_come_alone(
    fitted: PurchasePredictor, tiny_tables: Tables, system: str
) -> None:
    """What `fit` held out and what a later batch gives must agree: one path, no leak."""
    held_out = fitted.predict_test().select("impression_id", expected=system)
    scored = fitted.predict_proba(tiny_tables, system=system)
    both = held_out.join(scored, on="impression_id")
    assert len(both) == len(held_out)
    np.testing.assert_allclose(both["expected"], both["probability"], atol=1e-6)


def test_saved_moved_and_loaded_in_another_process_predicts_the_same(
    fitted: PurchasePredictor, saved: Path, tiny_folder: Path, tiny_tables: Tables, tmp_path: Path
) -> None:
    moved = tmp_path / "elsewhere" / "m"
    shutil.copytree(saved, moved)
    code = (
        "import sys; from pathlib import Path\n"
        "from purchase_predictor import PurchasePredictor\n"
        "model = PurchasePredictor.load(Path(sys.argv[1]))\n"
        "for name in model.system_names:\n"
        "    model.predict_proba(Path(sys.argv[2]), name).drop('flags')"
        ".write_parquet(sys.argv[3] + name + '.parquet')\n"
    )
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, moved, tiny_folder, f"{tmp_path}/"],
        check=True, cwd=tmp_path, env={"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    for name in fitted.system_names:
        there = pl.read_parquet(tmp_path / f"{name}.parquet")
        here = fitted.predict_proba(tiny_tables, name).drop("flags")
        assert there.equals(here)


def test_model_folder_holds_no_pickle_and_checks_its_files(saved: Path, tmp_path: Path) -> None:
    suffixes = {path.suffix for path in saved.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt", ".parquet"}
    for path in saved.rglob("*"):
        if path.is_file():
            assert path.read_bytes()[:2] not in (b"\x80\x02", b"\x80\x04", b"\x80\x05", b"PK")
    changed = tmp_path / "changed"
    shutil.copytree(saved, changed)
    facts = changed / "facts.json"
    facts.write_text(facts.read_text().replace("global", "glObal"))
    with pytest.raises(ModelFolderError, match=r"facts\.json"):
        PurchasePredictor.load(changed)


def test_what_pictures_say_travels_with_the_model(
    fitted: PurchasePredictor,
    with_badges: Tables,
    cache: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert fitted.facts_.picture_phrases == ()  # too few titles hold a phrase
    monkeypatch.setattr(picture_phrases, "MIN_TITLES", 5)
    quick = [*QUICK, f"encoders.cache={cache}", "pretraining.epochs=0", "training.max_epochs=1"]
    model = PurchasePredictor(load_settings(Path("configs/quick.yaml"), quick)).fit(with_badges)
    assert "free_shipping" in model.facts_.picture_phrases
    model.save(tmp_path / "model")
    loaded = PurchasePredictor.load(tmp_path / "model")
    products = with_badges.products
    bare = products.with_columns(image=pl.lit("0.png"))
    for name in ("fusion", "lightgbm"):
        here = model.predict_proba(with_badges, name)
        assert loaded.predict_proba(with_badges, name).equals(here)
    # other pictures are heard
    moved = loaded.predict_proba(replace(with_badges, products=bare), "fusion")["probability"]
    assert (moved - model.predict_proba(with_badges, "fusion")["probability"]).abs().max() > 1e-6


def test_pictures_that_cannot_be_read_are_told_and_flagged(
    fitted: PurchasePredictor, tiny_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for table in ("products", "events", "impressions"):
        shutil.copy(tiny_folder / f"{table}.parquet", tmp_path)
    products = pl.read_parquet(tmp_path / "products.parquet")
    named = products.filter(pl.col("image").is_not_null())["product_id"]
    shown = pl.read_parquet(tmp_path / "impressions.parquet")["product_id"]
    n_named = shown.is_in(named.implode()).sum()

    with pytest.warns(UserWarning, match="not read") as warned:
        scored = fitted.predict_proba(tmp_path)
    told = f"{len(named)} pictures in all are not read and count as missing"
    assert told in [str(one.message) for one in warned]

    whole = fitted.predict_proba(tiny_folder)
    missing = pl.col("flags").list.contains("missing_image")
    assert 0 < n_named == len(scored.filter(missing)) - len(whole.filter(missing))
    # and by the command
    fitted.save(tmp_path / "model")
    where = {"--model": "model", "--input": ".", "--output": "out/scores.parquet"}
    command = [part for name, place in where.items() for part in (name, str(tmp_path / place))]
    assert score.main([*command, "--quiet"]) == 0
    assert told in " ".join("".join(capsys.readouterr()).split())
    manifest = json.loads((tmp_path / "out" / "scores.manifest.json").read_text())
    assert manifest["flags"]["missing_image"] == len(scored.filter(missing))


def test_a_model_of_other_features_is_refused(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "FORMAT", encoding.FORMAT + 1)
    with pytest.raises(ModelFolderError, match="another version"):
        PurchasePredictor.load(saved)


def test_missing_views_score_finite_and_are_flagged(
    fitted: PurchasePredictor, tiny_tables: Tables
) -> None:
    blank = replace(
        tiny_tables,
        products=tiny_tables.products.with_columns(title=None, image=None).cast(
            {"title": pl.String, "image": pl.String}
        ),
        events=tiny_tables.events.clear(),
        impressions=tiny_tables.impressions.with_columns(
            product_id=pl.when(pl.col("row") % 2 == 0).then("product_id"),
            price=pl.lit(None, pl.Float64),
            discount_rate=pl.lit(None, pl.Float64),
            free_shipping=pl.lit(None, pl.Boolean),
            market=pl.lit("ZZ"),
        ),
    )
    with pytest.warns(UserWarning, match="market ZZ was not in training"):
        scored = fitted.predict_proba(blank, "fusion")
    assert scored["probability"].is_finite().all()
    flags = scored["flags"].explode().value_counts()
    counts = dict(zip(flags["flags"], flags["count"], strict=True))
    assert counts["unseen_market"] == counts["empty_history"] == len(scored)
    assert counts["missing_product"] == int((tiny_tables.impressions["row"] % 2 == 1).sum())


def test_evaluation_has_every_metric_with_its_interval(fitted: PurchasePredictor) -> None:
    result = fitted.evaluate()
    assert set(result["systems"]) == {"fusion", "lightgbm", "stack"}
    for system in result["systems"].values():
        figure = system["pooled"]["auc"]
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert json.loads(json.dumps(result)) == result


def test_facts_tell_how_the_model_was_made(fitted: PurchasePredictor) -> None:
    facts = fitted.facts_
    assert (facts.market, facts.scope) == ("all", "global")
    assert facts.champion == min(
        facts.validation_log_loss, key=facts.validation_log_loss.__getitem__
    )
    assert 0 < facts.n_train_conversions < facts.n_train
    assert facts.next_click_auc.keys() == {"training", "validation"}


def test_local_model_learns_from_its_market_alone(tiny_tables: Tables, cache: str) -> None:
    settings = load_settings(Path("configs/quick.yaml"), [*QUICK, f"encoders.cache={cache}"])
    predictor = PurchasePredictor(settings, market="KR").fit(tiny_tables)
    assert set(predictor.data_.market_label) == {"KR"}
    assert set(predictor.predict_test()["market"]) == {"KR"}
    assert predictor.facts_.encoders_saw_other_markets


def test_adapted_model_starts_global_and_is_judged_on_its_market(
    tiny_tables: Tables, cache: str
) -> None:
    settings = load_settings(Path("configs/quick.yaml"), [*QUICK, f"encoders.cache={cache}"])
    predictor = PurchasePredictor(settings, market="KR", scope="adapted").fit(tiny_tables)
    assert set(predictor.data_.market_label) > {"KR"}
    assert set(predictor.predict_test()["market"]) == {"KR"}


@pytest.mark.parametrize(
    ("market", "sentence"),
    [("ZZ", "there is no market 'ZZ' among JP, KR, MX, US"), ("MX", "--market all")],
)
def test_market_that_cannot_be_learned(tiny_tables: Tables, market: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        PurchasePredictor(SETTINGS, market=market).fit(tiny_tables)


def test_one_class_only_is_refused(tiny_tables: Tables) -> None:
    never = tiny_tables.impressions.with_columns(converted=pl.lit(False))
    with pytest.raises(DataError, match="0 of .* converted: both outcomes"):
        PurchasePredictor(SETTINGS).fit(replace(tiny_tables, impressions=never))


def test_no_rows_after_the_split_is_refused(tiny_tables: Tables) -> None:
    train = tiny_tables.impressions.with_columns(split=pl.lit("train"))
    with pytest.raises(DataError, match="no validation .* rows after the split"):
        PurchasePredictor(SETTINGS).fit(replace(tiny_tables, impressions=train))


@pytest.mark.parametrize(
    ("market", "scope", "sentence"),
    [("all", "local", "needs one market"), ("KR", "regional", "there is no scope 'regional'")],
)
def test_scope_that_cannot_be(market: str, scope: str, sentence: str) -> None:
    with pytest.raises(SettingsError, match=sentence):
        PurchasePredictor(SETTINGS, market=market, scope=scope)  # type: ignore[arg-type]


def _with_impressions(impressions: pl.DataFrame, source: Path, place: Path) -> Path:
    """A copy of a data folder with other impressions."""
    data = place / "data"
    shutil.copytree(source, data)
    impressions.write_parquet(data / "impressions.parquet")
    return data


def test_folder_may_be_text_and_rows_that_are_not_scored_are_told(
    saved: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """What the README shows."""
    impressions = pl.read_parquet(tiny_folder / "impressions.parquet")
    dear = pl.when(pl.int_range(pl.len()) == 0).then(-5.0).otherwise("price")
    data = _with_impressions(impressions.with_columns(price=dear), tiny_folder, tmp_path)
    model = PurchasePredictor.load(str(saved))
    assert len(model.predict_proba(str(tiny_folder))) == len(impressions)
    with pytest.warns(UserWarning, match="impressions: 1 row set aside: "):
        scored = model.predict_proba(str(data), "lightgbm")
    assert len(scored) == len(impressions) - 1


def test_a_renamed_column_and_what_is_no_data_are_told(
    saved: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    impressions = pl.read_parquet(tiny_folder / "impressions.parquet")
    renamed = impressions.rename({"discount_rate": "discount"})
    data = _with_impressions(renamed, tiny_folder, tmp_path)
    model = PurchasePredictor.load(saved)
    renamed_column = "no column 'discount_rate'; did you mean 'discount'"
    with pytest.warns(UserWarning, match=renamed_column) as told:
        assert len(model.predict_proba(data)) == len(impressions)
    assert told[0].filename == __file__
    with pytest.raises(UserError, match="not DataFrame: features.schema.tables_from_frames"):
        model.predict_proba(impressions)  # type: ignore[arg-type]


def test_unknown_system_names_the_nearest(fitted: PurchasePredictor, tiny_tables: Tables) -> None:
    with pytest.raises(UserError, match="did you mean 'lightgbm'"):
        fitted.predict_proba(tiny_tables, "lightgm")
