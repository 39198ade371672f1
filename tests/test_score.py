"""Batch scoring through its command line."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from purchase_predictor import score, train
from purchase_predictor.predictor import PurchasePredictor

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=0", "training.max_epochs=1", "training.precision=float32",
    "encoders.epochs=0", "evaluation.resamples=20", "data.validation_fraction=0.2",
    "baselines.lightgbm.max_rounds=5", "baselines.lightgbm.threads=1",
]  # fmt: skip
COLUMNS = ["impression_id", "market", "probability", "system", "model_version", "flags"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder in which a model was trained and registered."""
    folder = tmp_path_factory.mktemp("place")
    overrides = [part for text in QUICK for part in ("--set", text)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlruns/mlflow.db")
        command = ["--data", str(tiny_folder), "--output", "run", *overrides, "--quiet"]
        assert train.main(command) == 0
    return folder


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlruns/mlflow.db")


def test_every_row_is_scored_or_set_aside_with_its_reason(
    tiny_folder: Path, tmp_path: Path, place: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_folder, data)
    rows = pl.read_parquet(data / "impressions.parquet").drop("converted")
    broken = rows.with_row_index("i").with_columns(
        timestamp=pl.when(pl.col("i") < 3).then(None).otherwise("timestamp")
    )
    broken.drop("i").write_parquet(data / "impressions.parquet")
    output = tmp_path / "out" / "scores.parquet"

    command = ["--model", "run/model", "--input", str(data), "--output", str(output)]
    assert score.main([*command, "--system", "fusion", "--quiet"]) == 0

    scores = pl.read_parquet(output)
    assert scores.columns == COLUMNS
    assert scores["impression_id"].to_list() == rows["impression_id"][3:].to_list()
    aside = pl.read_parquet(output.with_name("scores.quarantine.parquet"))
    assert set(aside.filter(pl.col("table") == "impressions")["row"]) == {0, 1, 2}
    manifest = json.loads(output.with_name("scores.manifest.json").read_text())
    assert manifest["rows"] == {
        "read": len(rows), "scored": len(rows) - 3, "set_aside": 3,
    }  # fmt: skip
    because = [row for row in manifest["set_aside_because"] if row["table"] == "impressions"]
    assert [row["rows"] for row in because] == [3]
    assert f"impressions: 3 rows set aside: {because[0]['reason']}" in manifest["warnings"]
    for name, facts in manifest["files"].items():
        assert facts["sha256"] == hashlib.sha256((output.parent / name).read_bytes()).hexdigest()
    assert sorted(file.name for file in output.parent.iterdir()) == [
        "scores.drift.json", "scores.manifest.json", "scores.parquet", "scores.quarantine.parquet",
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="impressions: 3 rows set aside"):
        expected = PurchasePredictor.load(place / "run/model").predict_proba(data, "fusion")
    assert_frame_equal(
        scores.drop("system", "model_version"), expected, check_exact=False, abs_tol=1e-6
    )


def test_a_registered_model_gives_the_same_bytes_again(tiny_folder: Path, tmp_path: Path) -> None:
    written = []
    for name in ("a", "b"):
        output = tmp_path / name / "scores.parquet"
        model = "models:/purchase-predictor-global@champion"
        command = ["--model", model, "--input", str(tiny_folder), "--output", str(output)]
        assert score.main([*command, "--shard-rows", "400", "--quiet"]) == 0
        written.append(output.read_bytes())
    assert written[0] == written[1]
    scores = pl.read_parquet(output)
    assert scores["model_version"].unique().to_list() == ["purchase-predictor-global/1"]
    assert scores["system"].n_unique() == 1


def test_a_manifest_does_not_outlive_the_scores_it_vouches_for(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "scores.parquet"
    command = ["--model", "run/model", "--input", str(tiny_folder), "--output", str(output)]
    assert score.main([*command, "--quiet"]) == 0
    before = output.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("purchase_predictor.scoring.job.score_shards", full)
        assert score.main([*command, "--quiet"]) != 0

    assert [file.name for file in tmp_path.iterdir()] == ["scores.parquet"]
    assert output.read_bytes() == before


def test_a_market_never_seen_is_scored_by_its_profile_and_flagged(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "data", tmp_path / "scores.parquet"
    shutil.copytree(tiny_folder, data)
    rows = pl.read_parquet(data / "impressions.parquet")
    new = pl.col("session_id").is_in(rows["session_id"].unique().sort()[:9].implode())
    rows = rows.with_columns(market=pl.when(new).then(pl.lit("Atlantis")).otherwise("market"))
    rows.write_parquet(data / "impressions.parquet")
    n_new = int((rows["market"] == "Atlantis").sum())
    dimensions = {"PDI": 90, "IDV": 5, "MAS": 5, "UAI": 95, "LTO": 100, "IVR": 0}
    profiles = tmp_path / "markets.yaml"
    profiles.write_text(json.dumps({"markets": {"Atlantis": {"dimensions": dimensions}}}))
    command = ["--model", "run/model", "--input", str(data), "--output", str(output)]

    assert score.main([*command, "--system", "lightgbm"]) == 0
    told = re.sub(r"\s+", " ", capsys.readouterr().err)
    unknown = pl.read_parquet(output)
    assert score.main([*command, "--set", f"data.market_profiles={profiles}"]) == 0
    retold = re.sub(r"\s+", " ", capsys.readouterr().err)

    assert f"market Atlantis was not in training: {n_new} rows are predicted by what all" in told
    assert "alone: no whole profile of this market is known (setting data.market_profiles)" in told
    assert "and by its profile" in retold
    assert unknown["flags"].list.contains("unknown_profile").sum() == n_new
    learned = unknown["flags"].list.contains("training_period")
    of_known = ~learned & (unknown["market"] != "Atlantis")
    report = json.loads(output.with_name("scores.drift.json").read_text())
    assert 0 < report["n"] == of_known.sum() < (~learned).sum()
    known = pl.read_parquet(output)
    flagged = known.filter(pl.col("flags").list.contains("unseen_market"))
    assert (len(flagged), set(flagged["market"])) == (n_new, {"Atlantis"})
    assert not known["flags"].list.contains("unknown_profile").any()
    manifest = json.loads((tmp_path / "scores.manifest.json").read_text())
    assert manifest["unseen_markets"] == {"Atlantis": {"rows": n_new, "profile": True}}
    assert manifest["flags"]["unseen_market"] == n_new
    profiles.write_text("markets: {Atlantis: {dimensions: {PDI: 1, wealth: 2}}}")
    assert score.main([*command, "--set", f"data.market_profiles={profiles}"]) == 2
    assert "the dimension 'wealth'" in re.sub(r"\s+", " ", capsys.readouterr().err)


def test_tables_and_columns_that_are_not_there_are_told(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = pl.read_parquet(tiny_folder / "impressions.parquet").head(40)
    rows.rename({"discount_rate": "discount"}).write_parquet(data / "impressions.parquet")
    (data / "event.parquet").touch()

    output = tmp_path / "s.parquet"
    command = ["--model", "run/model", "--input", str(data), "--output", str(output), "--quiet"]
    assert score.main(command) == 0

    shown = re.sub(r"\s+", " ", "".join(capsys.readouterr()))
    assert "no table 'products': every title" in shown
    assert "no table 'events' (did you mean 'event.parquet'?): every shopper" in shown
    assert "no column 'discount_rate'; did you mean 'discount'?" in shown
    assert "no column 'price'" not in shown


def test_drift_is_told_of_rows_that_are_newer_than_what_was_learned(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "scores.parquet"
    command = ["--model", "run/model", "--output", str(output), "--input"]
    assert score.main([*command, str(tiny_folder), "--quiet"]) == 0

    learned = pl.read_parquet(output)["flags"].list.contains("training_period")
    report = json.loads(output.with_name("scores.drift.json").read_text())
    assert 0 < report["n"] == (~learned).sum() < len(learned)
    assert report["n"] == report["n_before"]
    assert {row["psi"] for row in report["inputs"]} <= {0.0, None}
    assert report["warnings"] == []

    old = tmp_path / "old"
    shutil.copytree(tiny_folder, old)
    rows = pl.read_parquet(old / "impressions.parquet")
    rows.filter(learned).write_parquet(old / "impressions.parquet")
    assert score.main([*command, str(old)]) == 0
    told = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "no drift report: no row is newer than what the model learned from and of a" in told
    assert not output.with_name("scores.drift.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"--model": "nowhere"}, "there is no model folder nowhere"),
        ({"--model": "models:/purchase"}, "write models:/NAME@ALIAS"),
        ({"--model": "models:/shop@champion"}, "there is no registered model"),
        (
            {"--model": "run"},
            "is not a model folder: it has no manifest.json; did you mean run/model?",
        ),
        ({"--input": "nowhere"}, "there is no data folder nowhere"),
        ({"--output": "scores.csv"}, "must end in .parquet"),
        ({"--system": "lightgbn"}, "did you mean 'lightgbm'"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    arguments: dict[str, str], sentence: str, tiny_folder: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    output = tmp_path / "s.parquet"
    given = {"--model": "run/model", "--input": str(tiny_folder), "--output": str(output)}
    command = [part for pair in {**given, **arguments}.items() for part in pair]

    assert score.main(command) == 2

    shown = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert sentence in shown
    assert "Traceback" not in shown
    assert not list(tmp_path.iterdir())
