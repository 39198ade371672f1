"""What happened after scoring, through the command line."""

import json
import re
import shutil
from datetime import timedelta
from pathlib import Path

import mlflow
import numpy as np
import polars as pl
import pytest

from purchase_predictor import follow
from purchase_predictor.evaluation import metrics
from tests.following.cases import MONDAY, expit, write_scores

N_LISTS, K = 800, 3
FEW = ["--set", "evaluation.resamples=60", "--set", "evaluation.min_test_conversions=10"]
HOSTILE = "<b>v2"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, migrated_database: Path) -> Path:
    """A folder with outcomes of five weeks, scores of three models, and a tracking store."""
    folder = tmp_path_factory.mktemp("follow")
    rng = np.random.default_rng(5)
    n = N_LISTS * K
    number = np.arange(n) // K
    x = rng.normal(size=n)
    y = rng.random(n) < expit(x - 1.5)
    ids = np.array([f"i{row}" for row in range(n)])
    data = folder / "shop"
    data.mkdir()
    pl.DataFrame(
        {
            "impression_id": ids,
            "session_id": [f"s{k // 2}" for k in number],
            "user_id": [f"u{k // 4}" if k % 3 else None for k in number],
            "timestamp": [MONDAY + timedelta(hours=float(k)) for k in number],
            "market": [("KR", "US")[k // 4 % 2] for k in number],
            "list_id": [f"l{k}" for k in number],
            "converted": y,
            "propensity": [1 / 6] * n,
        }
    ).write_parquet(data / "impressions.parquet")
    blunt = expit(0.3 * x + rng.normal(size=n) - 1.0)
    flags = [["unknown_product"] if row % 9 == 0 else [] for row in range(n)]
    write_scores(folder / "old.parquet", ids, blunt, version="v1", flags=flags)
    write_scores(folder / "new.parquet", ids, expit(x - 1.5), version=HOSTILE)
    half = number % 8 < 4
    for name, part in (("left", half), ("right", ~half)):
        write_scores(folder / f"{name}.parquet", ids[part], blunt[part], version=name)
    (folder / "mlruns").mkdir()
    shutil.copyfile(migrated_database, folder / "mlruns" / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def followed(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        command = ["--scores", "old.parquet", "--scores", "new.parquet", "--outcomes", "shop"]
        assert follow.main([*command, "--quiet", *FEW]) == 0
    return place / "runs" / "follow"


def test_follow_json_has_everything(followed: Path, place: Path) -> None:
    found = json.loads((followed / "follow.json").read_text("utf-8"))

    assert [model["model"] for model in found["models"]] == ["fusion v1", f"fusion {HOSTILE}"]
    assert found["joined"]["joined"] == N_LISTS * K
    assert found["data"]["period"] == "week"
    old, new = found["realised"]
    outcomes = pl.read_parquet(place / "shop" / "impressions.parquet")
    p = pl.read_parquet(place / "new.parquet")["probability"].to_numpy()
    assert new["pooled"]["auc"]["value"] == pytest.approx(
        metrics.auc(outcomes["converted"].to_numpy(), p)
    )
    assert old["pooled"]["mean_ratio"]["low"] > 1  # it promised too much
    assert set(new["markets"]) == {"KR", "US"}
    gap = next(
        g for g in found["same_impressions"] if (g["scope"], g["metric"]) == ("macro", "auc")
    )
    assert gap["verdict"] == "arm better"
    assert found["different_impressions"] == []
    policy = found["policy"][0]
    assert (policy["logging"], policy["n_lists"]) == ("drawn", N_LISTS)
    assert policy["estimates"]["dr"]["difference"]["low"] > 0
    assert {entry["flag"] for entry in found["flags"]} == {"unknown_product"}


def test_tables_agree_with_it(followed: Path) -> None:
    found = json.loads((followed / "follow.json").read_text("utf-8"))
    calibration = pl.read_parquet(followed / "calibration.parquet")
    drift = pl.read_parquet(followed / "drift.parquet")

    row = calibration.filter(
        pl.col("model_version") == "v1", pl.col("scope") == "pooled", pl.col("metric") == "slope"
    )
    assert row["value"].item() == found["realised"][0]["pooled"]["slope"]["value"]
    pooled = drift.filter(pl.col("model_version") == "v1", pl.col("scope") == "pooled")
    assert pooled["n"].sum() == N_LISTS * K
    assert len(pooled) == 5
    assert len(drift) == len(found["drift"])


def test_the_report_opens_offline_and_escapes_names(followed: Path) -> None:
    page = (followed / "report.html").read_text("utf-8")
    without_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)

    assert '<html lang="en">' in page
    assert not re.findall(r'(?:src|href)="http', without_scripts)
    assert "<b>v2" not in without_scripts
    assert "&lt;b&gt;v2" in without_scripts
    assert page.count('<div class="chart"') == page.count("<details") == 7


def test_it_is_a_run_of_its_own(followed: Path, place: Path) -> None:
    runs = mlflow.MlflowClient(f"sqlite:///{place}/mlruns/mlflow.db")
    experiment = runs.get_experiment_by_name("shop")
    assert experiment is not None
    (run,) = runs.search_runs(
        [experiment.experiment_id],
        filter_string="tags.scope = 'follow' and tags.models = 'fusion v1, fusion <b>v2'",
    )
    assert run.info.status == "FINISHED"
    assert {item.path for item in runs.list_artifacts(run.info.run_id)} >= {
        "follow.json", "calibration.parquet", "drift.parquet", "report.html",
    }  # fmt: skip
    found = json.loads((followed / "follow.json").read_text("utf-8"))
    wanted = found["realised"][0]["macro"]["auc"]["value"]
    assert run.data.metrics["fusion v1.auc"] == pytest.approx(wanted)


def test_rows_that_models_may_have_learned_are_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    learned = pl.lit(["training_period"])
    old, new = pl.read_parquet("old.parquet"), pl.read_parquet("new.parquet")
    some = pl.int_range(pl.len()) < 7
    old.with_columns(flags=pl.when(some).then(learned).otherwise("flags")).write_parquet(
        "o.parquet"
    )
    new.with_columns(flags=learned).write_parquet("n.parquet")
    command = ["--scores", "o.parquet", "--scores", "n.parquet", "--outcomes", "shop"]

    assert follow.main([*command, "--output", "learned", *FEW]) == 0

    told = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert "7 rows of scores are left out" in told
    assert "every row that fusion <b>v2 scored is of the time that it learned from" in told
    assert "every row that fusion v1" not in told


def test_models_that_served_apart_in_korean(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    pl.read_parquet("shop/impressions.parquet").drop("propensity").with_columns(
        market=pl.lit("KR")
    ).write_parquet("plain.parquet")
    (place / "plain").mkdir()
    shutil.move(place / "plain.parquet", place / "plain" / "impressions.parquet")
    command = ["--scores", "left.parquet", "--scores", "right.parquet", "--scores", "new.parquet"]
    options = ["--outcomes", "plain", "--output", "ko", "--language", "ko", *FEW]

    assert follow.main([*command, *options]) == 0

    printed = capsys.readouterr().out
    assert "fusion left, over all rows: predicted" in printed
    assert "no impression scored has a propensity" in re.sub(r"\s+", " ", printed)
    found = json.loads((place / "ko" / "follow.json").read_text("utf-8"))
    (apart,) = found["different_impressions"]
    assert (apart["arm"], apart["against"]) == ("fusion right", "fusion left")
    assert apart["verdict"] == "undecided"
    assert {entry["refused"] for entry in found["policy"]} == {"missing"}
    page = (place / "ko" / "report.html").read_text("utf-8")
    assert '<html lang="ko">' in page
    assert "다른 노출" in page
    assert "propensity(무작위로 노출된 확률)가 없습니다" in page


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--scores", "odl.parquet", "--outcomes", "shop"], "did you mean 'old.parquet'?"),
        (["--scores", "old.parquet", "--outcomes", "shopp"], "did you mean 'shop'?"),
        (["--scores", "shop", "--outcomes", "shop"], "there is no file of scores shop"),
        (
            ["--scores", "renamed.parquet", "--outcomes", "shop"],
            "have no column 'probability' (they have impression_id, market, probabilities",
        ),
        (["--scores", "strange.parquet", "--outcomes", "shop"], "is among the 2400"),
        (["--scores", "old.parquet", "--outcomes", "unlabelled"], "no column 'converted'"),
        (["--scores", "old.parquet", "--outcomes", "shop", "--set", "sed=1"], "mean 'seed'?"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    place: Path, arguments: list[str], sentence: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(place)
    scores = pl.read_parquet("old.parquet")
    scores.rename({"probability": "probabilities"}).write_parquet("renamed.parquet")
    write_scores(place / "strange.parquet", ["x1", "x2"], [0.1, 0.2])
    (place / "unlabelled").mkdir(exist_ok=True)
    shop = pl.read_parquet("shop/impressions.parquet")
    shop.drop("converted").write_parquet("unlabelled/impressions.parquet")

    assert follow.main([*arguments, "--output", "no"]) == 2

    told = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert sentence in told
    assert "Traceback" not in told
    assert not (place / "no").exists()
