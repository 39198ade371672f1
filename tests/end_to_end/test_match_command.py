"""The matching job through its command line, on a small catalogue."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from features.schema import load_tables
from features.splits import split_impressions, training_products
from purchase_predictor import match, train
from purchase_predictor.encoders import learning
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.matching.listings import read_listings
from purchase_predictor.settings import TrackingSettings, load_match_settings

QUICK = [
    "text.epochs=1", "text.n_word_pieces=300", "text.batch_size=32",
    "image.epochs=1", "image.size=32", "image.batch_size=32",
    "ladder.union_trials=3", "ladder.blending_trials=3", "ladder.resamples=20",
    "ladder.galleries=[15, 500, 0]", "ladder.smallest_gallery=8", "ladder.veto=true",
]  # fmt: skip
SHORT = ["ladder.galleries=[0]", "ladder.all_data=false", "ladder.untrained=false"]
QUICK_TRAIN = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=0", "training.max_epochs=1", "training.precision=float32",
    "encoders.epochs=0", "evaluation.resamples=20", "data.min_conversions=5",
    "data.validation_fraction=0.2", "baselines.systems=[]",
]  # fmt: skip

REFERENCE = [
    "TF-IDF",
    "image",
    "title",
    "title, min2",
    "concat → normalise",
    "min2",
    "normalise → concat",
    "D1 + D2 − D1·D2",
    "title, min2, all data",
    "all data",
    "union, tuned thresholds",
    "union with TF-IDF",
    "blending",
    "blending: image, title, comb at stage 1, joint thresholds",
    "quantity veto",
]

KILLED_AT = 6
"""A step of the image encoder, after the text encoder of the first generation is done."""

Command = Callable[..., int]


def options(settings: list[str]) -> list[str]:
    return [option for setting in settings for option in ("--set", setting)]


@pytest.fixture
def command(tracking_settings: TrackingSettings, tmp_path: Path) -> Command:
    """`match` with quick settings; `also` are further ones."""

    def call(*arguments: object, also: list[str] | None = None) -> int:
        settings = [
            *QUICK, f"cache={tmp_path / 'cache'}", f"tracking.uri={tracking_settings.uri}",
            *(also or []),
        ]  # fmt: skip
        return match.main([*map(str, arguments), *options(settings)])

    return call


@dataclass(frozen=True)
class Finished:
    """A run that went through: its files, and the store it is logged in."""

    code: int
    data: Path
    output: Path
    uri: str

    def rows(self, name: str = "ladder.json") -> list[dict]:
        return json.loads((self.output / name).read_text("utf-8"))

    @property
    def products(self) -> pl.DataFrame:
        return pl.read_parquet(self.data / "products.parquet")

    @property
    def matches(self) -> pl.DataFrame:
        return pl.read_parquet(self.output / "matches.parquet")


@pytest.fixture(scope="module")
def finished(
    catalogue_folder: Path, migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """One run on titles and pictures, at which many tests look; do not change its files."""
    folder = tmp_path_factory.mktemp("match")
    (folder / "mlruns").mkdir()
    shutil.copyfile(migrated_database, folder / "mlruns" / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    settings = [*QUICK, f"cache={folder / 'cache'}", f"tracking.uri={uri}"]
    output = folder / "out"
    arguments = ["--data", str(catalogue_folder), "--output", str(output), "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        code = match.main([*arguments, *options(settings)])
    return Finished(code, catalogue_folder, output, uri)


# ladder.json


def test_every_rung_of_the_reference_is_climbed_in_its_order(finished: Finished) -> None:
    assert finished.code == 0
    names = [row["rung"] for row in finished.rows()]
    once = ["image, untrained", "title, untrained", *REFERENCE]
    assert names == once * 2


def test_each_row_has_a_figure_inside_its_interval(finished: Finished) -> None:
    for row in finished.rows():
        assert 0.0 <= row["low"] <= row["f1"] <= row["high"] <= 1.0
        assert 0.0 <= row["validation_f1"] <= 1.0
        assert row["seconds"] >= 0.0
        assert row["thresholds"]
    assert len({row["f1"] for row in finished.rows()}) > 5


def test_a_size_beyond_the_part_is_the_part_once(finished: Finished) -> None:
    galleries = list(dict.fromkeys(row["gallery"] for row in finished.rows()))
    whole = max(row["listings"] for row in finished.rows())

    # 500 listings there are none, so 500 and 0 are the same
    assert len(galleries) == 2
    assert galleries[0] <= 15
    assert galleries[1] >= whole > 15


def test_rungs_of_all_data_keep_the_thresholds_found_before(finished: Finished) -> None:
    for gallery in {row["gallery"] for row in finished.rows()}:
        rows = {row["rung"]: row for row in finished.rows() if row["gallery"] == gallery}
        for later, before in [
            ("all data", "normalise → concat"),
            ("title, min2, all data", "title, min2"),
            ("quantity veto", REFERENCE[-2]),
        ]:
            assert rows[later]["thresholds"] == rows[before]["thresholds"]
        assert rows["all data"]["encoders"] == "all"
        assert rows["all data"]["validation_f1"] == rows["normalise → concat"]["validation_f1"]
        assert rows["normalise → concat"]["encoders"] == "base"
        assert rows["title, untrained"]["encoders"] == "untrained"


def test_f1_of_plain_thresholds_does_not_rise_as_the_gallery_grows(finished: Finished) -> None:
    curve = finished.rows("curve.json")
    for rung in ("image", "title", "TF-IDF"):
        points = sorted((row["gallery"], row["f1"]) for row in curve if row["rung"] == rung)
        f1 = [value for _, value in points]
        assert len(points) >= 2
        assert all(larger <= smaller + 1e-12 for smaller, larger in zip(f1, f1[1:], strict=False))


# matches.parquet


def test_matches_have_a_row_for_each_product_itself_first(finished: Finished) -> None:
    table = finished.matches

    assert table["product_id"].to_list() == finished.products["product_id"].to_list()
    assert table["matches"].list.first().to_list() == table["product_id"].to_list()
    assert table["matches"].list.len().to_list() == table["n_matches"].to_list()
    assert table["n_matches"].max() > 1
    assert {
        "cluster", "suggested_category", "category_confidence", "price_low", "price_high",
        "price_spread", "price_market", "title_like", "picture_like", "suspect_score",
    } <= set(table.columns)  # fmt: skip


def test_matches_and_prices_stay_inside_their_cluster(finished: Finished) -> None:
    table = finished.matches
    priced = finished.products.select("product_id", "price")
    labelled = table.join(finished.products.drop_nulls("match_group"), on="product_id")

    # what the encoders match goes beyond the labels, what a cluster joins does not
    mixed = labelled.explode("matches").join(
        labelled.select(matches="product_id", other="match_group"), on="matches"
    )
    assert (mixed["match_group"] != mixed["other"]).any()
    assert (
        labelled.group_by("cluster").agg(pl.col("match_group").n_unique())["match_group"].max()
        == 1
    )
    bounds = (
        table.join(priced, on="product_id")
        .group_by("cluster")
        .agg(pl.col("price").min().alias("low"), pl.col("price").max().alias("high"))
    )
    spread = table.drop_nulls("price_low").join(bounds, on="cluster")
    assert len(spread)
    assert spread["price_low"].to_list() == spread["low"].to_list()
    assert spread["price_high"].to_list() == spread["high"].to_list()


def test_categories_suggested_are_those_of_the_catalogue(finished: Finished) -> None:
    found = finished.matches.drop_nulls("suggested_category")

    assert len(found)
    assert set(found["suggested_category"]) <= set(finished.products["category"])
    assert found["category_confidence"].is_between(0, 1).all()


# report, tracking, encoders


def test_the_page_names_every_rung_and_loads_nothing(finished: Finished) -> None:
    text = (finished.output / "report.html").read_text("utf-8")

    for name in REFERENCE:
        assert name in text
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?:https?:)?//""", text)
    assert "@import" not in text
    assert "data:image/" in text


def test_the_run_is_logged_with_rungs_and_files(finished: Finished) -> None:
    client = mlflow.MlflowClient(finished.uri)
    (experiment,) = client.search_experiments(filter_string="name != 'Default'")
    (run,) = client.search_runs([experiment.experiment_id])

    last = finished.rows()[-1]
    name = f"{last['rung']}.gallery {last['gallery']}.f1"
    assert run.data.metrics[name] == pytest.approx(last["f1"])
    assert sum(name.endswith(".f1") for name in run.data.metrics) == len(finished.rows())
    assert run.data.params["text.epochs"] == "1"
    assert run.info.status == "FINISHED"
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"ladder.json", "curve.json", "matches.parquet", "report.html", "encoders"} <= files


def test_encoders_load_and_know_no_test_product(finished: Finished) -> None:
    content = ContentEncoders.load(finished.output / "encoders")

    encoded = content.encode(finished.products.head(5), finished.data)
    assert len(content.texts) == len(content.images) == 1
    assert encoded.text.shape[1] > 0
    assert np.linalg.norm(encoded.text[0]) == pytest.approx(1, abs=1e-5)
    assert not set(content.trained_on) & set(parts_of(finished.data)["test"])
    assert set(content.trained_on) & set(parts_of(finished.data)["validation"])


def parts_of(folder: Path) -> dict[str, list[str]]:
    """Products of each part, as the job divides them."""
    listings = read_listings(folder, load_match_settings().data, seed=0)
    ids, part = listings.products["product_id"], listings.split.part
    return {name: ids.filter(pl.Series(part == name)).to_list() for name in np.unique(part)}


# other catalogues


def test_titles_alone_have_a_shorter_ladder(
    command: Command, catalogue_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    catalogue_of(data, pictures=False)

    code = command("--data", data, "--output", output, "--quiet", also=SHORT)

    assert code == 0
    rows = json.loads((output / "ladder.json").read_text("utf-8"))
    names = [row["rung"] for row in rows]
    assert names == [
        "TF-IDF", "title", "min2", "union with TF-IDF", "blending", REFERENCE[-2], "quantity veto",
    ]  # fmt: skip
    assert {row["encoders"] for row in rows} == {"base"}
    table = pl.read_parquet(output / "matches.parquet")
    assert table["suspect_score"].null_count() == len(table)


def test_hashes_alone_match_without_an_encoder(
    command: Command, catalogue_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    catalogue_of(data, titles=False, pictures=False, hashes=True)

    code = command("--data", data, "--output", output, "--quiet")

    assert code == 0
    rows = json.loads((output / "ladder.json").read_text("utf-8"))
    names = list(dict.fromkeys(row["rung"] for row in rows))
    assert names[:2] == ["picture hash", "min2"]
    assert not any("title" in name and "joint" not in name for name in names)
    assert min(row["f1"] for row in rows if row["rung"] == "picture hash") > 0.8
    content = ContentEncoders.load(output / "encoders")
    assert (content.texts, content.images, len(content.trained_on)) == ((), (), 0)


def test_rows_set_aside_and_broken_pictures_are_told(
    command: Command,
    catalogue_of: Callable[..., pl.DataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    products = catalogue_of(data)
    twice = pl.concat([products, products.head(2)])
    twice.write_parquet(data / "products.parquet")

    code = command("--data", data, "--output", output, also=SHORT)

    err = capsys.readouterr().err
    assert code == 0
    quarantine = pl.read_parquet(output / "quarantine.parquet")
    kept = pl.read_parquet(output / "matches.parquet")["product_id"]
    assert len(quarantine) + len(kept) == len(twice)
    assert kept.n_unique() == len(kept)
    assert f"products: {len(quarantine)} rows set aside" in err
    assert "picture images/3.png of product p3 is not read" in err
    assert "13 pictures in all are not read" in err


def test_groups_of_one_teach_nothing_and_match_nothing(
    command: Command, catalogue_of: Callable[..., pl.DataFrame], tmp_path: Path
) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    products = catalogue_of(data, pictures=False, hashes=True)
    products.with_columns(match_group="product_id").write_parquet(data / "products.parquet")

    code = command("--data", data, "--output", output, "--quiet", also=SHORT)

    assert code == 0
    rows = json.loads((output / "ladder.json").read_text("utf-8"))
    figures = {row["rung"]: row["f1"] for row in rows}
    assert "title" not in figures
    # nothing is kept, which is right but for the odd threshold that validation lets pass
    assert figures["picture hash"] == pytest.approx(1.0, abs=0.05)
    table = pl.read_parquet(output / "matches.parquet")
    assert table["suspect_score"].null_count() == len(table)


# mistakes


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (pl.col("title"), "No product of .* has a title or a picture"),
        (pl.col("match_group"), "no product has a match_group"),
        (pl.col("product_id"), "product_id"),
    ],
)
def test_a_catalogue_that_cannot_be_matched_is_one_sentence(
    command: Command,
    catalogue_of: Callable[..., pl.DataFrame],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: pl.Expr,
    sentence: str,
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    catalogue_of(data, pictures=False).drop(change.meta.output_name()).write_parquet(
        data / "products.parquet"
    )

    code = command("--data", data, "--output", tmp_path / "out", "--quiet")

    told = capsys.readouterr().err
    errors = [line for line in told.splitlines() if not line.startswith("Warning: ")]
    assert code == 2
    assert len(errors) == 1
    assert re.search(sentence, errors[0])


@pytest.mark.parametrize(
    ("arguments", "also", "sentence"),
    [
        ([], ["ladder.vetoo=true"], "no setting 'ladder.vetoo'; did you mean 'ladder.veto'?"),
        ([], ["ladder.galleries=[]"], "ladder.galleries names no size"),
        ([], ["ladder.galleries=[-3]"], "must be 0"),
        ([], ["ladder.galleries=[1]"], "No gallery of 1 listings of the validation part"),
        (["--text-encoder", "/nowhere"], [], "/nowhere"),
        (["--image-encoder", "no_such_network"], [], "no_such_network"),
        (["--config", "none.yaml"], [], "cannot read settings file"),
        (["--data", "/nowhere"], [], "there is no data folder /nowhere"),
    ],
)
def test_mistakes_end_in_one_sentence_and_code_two(
    command: Command,
    catalogue_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    also: list[str],
    sentence: str,
) -> None:
    base = ["--data", catalogue_folder, "--output", tmp_path / "out", "--quiet"]

    code = command(*base, *arguments, also=["text.epochs=0", "image.epochs=0", *also])

    told = capsys.readouterr().err
    errors = [line for line in told.splitlines() if not line.startswith("Warning: ")]
    assert code == 2
    assert len(errors) == 1
    assert sentence in errors[0]


def test_output_that_is_a_file_is_named(
    command: Command, catalogue_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "taken"
    file.write_text("")

    assert command("--data", catalogue_folder, "--output", file) == 2
    assert "is a file" in capsys.readouterr().err


def test_help_loads_neither_torch_nor_polars() -> None:
    code = (
        "import sys; from purchase_predictor.match import main; code = main(['--help']);"
        "print('loaded', *sorted(m for m in sys.modules if '.' not in m)); sys.exit(code)"
    )

    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True
    )

    text, _, loaded = finished.stdout.rpartition("loaded")
    assert "--text-encoder" in text
    assert not set(loaded.split()) & {"torch", "polars", "mlflow", "numpy", "transformers"}


# killed, and repeated


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def without_seconds(output: Path) -> list[dict]:
    rows = json.loads((output / "ladder.json").read_text("utf-8"))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_killed_in_training_and_called_again_ends_as_if_uninterrupted(
    command: Command,
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, taken = tmp_path / "out", []
    step = learning._Learner.step

    def killed(self: learning._Learner, *batch: object) -> float:
        taken.append(self)
        if len(taken) == KILLED_AT:
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(learning, "SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    arguments = ["--data", finished.data, "--output", output]
    with monkeypatch.context() as patch:
        patch.setattr(learning._Learner, "step", killed)
        assert command(*arguments) == 130
    assert not (output / "ladder.json").exists()
    assert not (output / "encoders").exists()

    capsys.readouterr()
    assert command(*arguments) == 0

    told = capsys.readouterr().err
    assert "small image encoder: goes on at epoch 1, step" in told
    assert told.count("small text encoder: epoch 1/1") == 1  # of validation groups too
    assert files_of(output / "encoders") == files_of(finished.output / "encoders")
    assert without_seconds(output) == without_seconds(finished.output)
    assert_frame_equal(pl.read_parquet(output / "matches.parquet"), finished.matches)


# what `train` takes


@pytest.fixture(scope="module")
def fed(
    tiny_folder: Path, migrated_database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Finished:
    """A run on a folder with impressions; do not change its files."""
    folder = tmp_path_factory.mktemp("fed")
    (folder / "mlruns").mkdir()
    shutil.copyfile(migrated_database, folder / "mlruns" / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    settings = [
        *QUICK, *SHORT, "ladder.all_data=true", "data.validation_fraction=0.2",
        f"cache={folder / 'cache'}", f"tracking.uri={uri}",
    ]  # fmt: skip
    output = folder / "out"
    arguments = ["--data", str(tiny_folder), "--output", str(output), "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        code = match.main([*arguments, *options(settings)])
    return Finished(code, tiny_folder, output, uri)


def train_on(fed: Finished, encoders: Path, uri: str, output: Path) -> int:
    arguments = ["--data", fed.data, "--market", "all", "--encoders", encoders]
    settings = [*QUICK_TRAIN, f"tracking.uri={uri}"]
    return train.main([*map(str, arguments), "--output", str(output), *options(settings)])


def test_only_products_of_the_training_period_teach_where_there_are_impressions(
    fed: Finished,
) -> None:
    tables = load_tables(fed.data)
    split = split_impressions(tables, validation_fraction=0.2, test_fraction=0.2, seed=0)
    training = training_products(tables, split)

    taught = set(ContentEncoders.load(fed.output / "encoders").trained_on)

    early = set(tables.products["product_id"].filter(pl.Series(training)))
    assert fed.code == 0
    assert taught
    assert taught <= early
    assert len(early) < len(tables.products)


def test_train_takes_the_encoders(
    fed: Finished,
    tracking_settings: TrackingSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = train_on(fed, fed.output / "encoders", tracking_settings.uri, tmp_path / "out")

    assert code == 0, capsys.readouterr().err
    assert (tmp_path / "out" / "predictions.parquet").exists()


def test_train_refuses_encoders_that_saw_a_product_of_the_future(
    fed: Finished,
    tracking_settings: TrackingSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    encoders = tmp_path / "encoders"
    shutil.copytree(fed.output / "encoders", encoders)
    fed.products.select("product_id").write_parquet(encoders / "trained_on.parquet")

    code = train_on(fed, encoders, tracking_settings.uri, tmp_path / "out")

    told = capsys.readouterr().err
    errors = [line for line in told.splitlines() if line.startswith("Error: ")]
    assert code == 2
    assert len(errors) == 1
    assert "identity would leak into conversion" in errors[0]
    assert not (tmp_path / "out" / "predictions.parquet").exists()
