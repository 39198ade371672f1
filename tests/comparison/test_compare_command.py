"""The comparison through its command line, on a small data set."""

import json
import re
import shutil
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import mlflow
import polars as pl
import pytest

from features.arrays import STOP
from features.schema import load_tables
from purchase_predictor import compare, train
from purchase_predictor.comparison import held
from purchase_predictor.report.comparing_data import CHANCE
from purchase_predictor.report.comparing_words import ENGLISH
from purchase_predictor.settings import load_settings
from purchase_predictor.training.selection import split_by

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=0", "training.max_epochs=1", "training.precision=float32",
    "encoders.epochs=0", "evaluation.resamples=40", "evaluation.min_test_conversions=3",
    "data.min_conversions=5", "data.validation_fraction=0.2", "baselines.lightgbm.max_rounds=5",
    "baselines.lightgbm.threads=1", "baselines.lightgbm.min_child_samples=5",
    "comparison.curve_conversions=[10]", "comparison.curve_repeats=2",
    "comparison.random_profiles=1", "tracking.register_model=false",
]  # fmt: skip
FIXED = (
    "market", "metric", "arm", "against", "value", "low", "high", "p", "p_holm",
    "smallest_detectable", "n_train", "n_train_positive", "n_test", "n_test_positive", "verdict",
)  # fmt: skip


def options(overrides: list[str]) -> list[str]:
    return [part for text in overrides for part in ("--set", text)]


def store(place: Path) -> str:
    return f"sqlite:///{place}/mlruns/mlflow.db"


@pytest.fixture(autouse=True)
def _inside(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store(place))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def compared(place: Path, tiny_folder: Path) -> Path:
    """A finished comparison, after the train command had made the local model of KR.

    What it told meanwhile is in `told.txt` beside its results.
    """
    told = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(told):
        patch.chdir(place)
        patch.setenv("MLFLOW_TRACKING_URI", store(place))
        data = ["--data", str(tiny_folder)]
        assert train.main(["--market", "KR", *data, *options(QUICK), "--quiet"]) == 0
        command = [*data, "--markets", "KR,MX", "--output", "out", *options(QUICK)]
        assert compare.main(command) == 0
    (place / "told.txt").write_text(told.getvalue())
    return place / "out"


def test_gap_json_has_what_others_rely_on(compared: Path) -> None:
    gaps = json.loads((compared / "gap.json").read_text())

    assert all(set(FIXED) <= set(gap) for gap in gaps)
    primary = [gap for gap in gaps if gap["primary"] and gap["scope"] == "market"]
    assert {gap["market"] for gap in primary} == {"KR", "MX"}
    assert {(gap["arm"], gap["against"]) for gap in primary} == {("global", "local")}
    of_new = {gap["against"]: gap for gap in gaps if gap["market"] == "MX"}
    assert of_new.keys() == {"local", CHANCE}
    # no rows for a model of its own, and none of its test rows converted
    for gap in of_new.values():
        assert (gap["value"], gap["verdict"]) == (None, "not enough data")
        assert gap["reason"]
    served = [gap for gap in gaps if gap["market"] == "KR" and gap["metric"] == "auc"]
    assert {gap["arm"] for gap in served} == {
        "global", "global-with-adapters", "adapted", "pooled",
    }  # fmt: skip


def test_gaps_are_those_of_the_arms(compared: Path) -> None:
    found = json.loads((compared / "comparison.json").read_text())
    gaps = json.loads((compared / "gap.json").read_text())
    for gap in gaps:
        if gap["value"] is None or gap["against"] == CHANCE:
            continue
        arm, against = (
            found["figures"][gap[side]][gap["market"]][gap["metric"]]["value"]
            for side in ("arm", "against")
        )
        assert gap["value"] == pytest.approx(arm - against, abs=1e-9)


def test_finished_runs_are_read_and_only_what_is_missing_is_trained(
    compared: Path, place: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = mlflow.MlflowClient(store(place))
    experiment = runs.get_experiment_by_name(tiny_folder.name)
    assert experiment is not None
    before = runs.search_runs([experiment.experiment_id])
    # the local model of KR came from the train command and was not made again
    of_kr = [
        run
        for run in before
        if (run.data.tags.get("market"), run.data.tags.get("scope")) == ("KR", "local")
    ]
    assert len(of_kr) == 1

    again = ["--data", str(tiny_folder), "--markets", "KR,MX", "--quick", "--output", "again"]
    assert compare.main([*again, *options(QUICK)]) == 0

    told = capsys.readouterr()
    assert "read from a finished run" in told.out + told.err
    assert "training 1 of" not in told.out + told.err
    assert ENGLISH.left_out in told.out
    assert len(runs.search_runs([experiment.experiment_id])) == len(before) + 1
    first, second = (json.loads((f / "gap.json").read_text()) for f in (compared, place / "again"))
    assert first == second


def test_each_training_is_announced_as_one_of_those_that_are_missing(
    compared: Path, place: Path
) -> None:
    told = (place / "told.txt").read_text()

    # the local model of KR is there, and MX is too small for models of its own
    announced = re.findall(r"training (\d of \d): (.+)", told)
    assert announced == [
        ("1 of 4", "global, all"), ("2 of 4", "global-with-adapters, all"),
        ("3 of 4", "adapted, KR"), ("4 of 4", "global-without-country, all"),
    ]  # fmt: skip
    assert told.index("local, KR: read from a finished run") < told.index("training 1 of")


@pytest.fixture(scope="module")
def unstopped(place: Path, tiny_folder: Path) -> Path:
    """A data folder in whose STOP half no row of KR converted."""
    data = place / "unstopped"
    shutil.copytree(tiny_folder, data)
    tables = load_tables(data)
    stop = pl.Series(split_by(tables, load_settings(None, QUICK)).part == STOP)
    bought = pl.col("converted") & ~(stop & (pl.col("market") == "KR"))
    impressions = pl.read_parquet(data / "impressions.parquet").with_columns(converted=bought)
    impressions.write_parquet(data / "impressions.parquet")
    return data


def test_a_market_that_cannot_be_stopped_has_models_of_its_own(
    place: Path,
    unstopped: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = [*QUICK, "training.max_epochs=3", "training.patience=1"]
    command = ["--data", str(unstopped), "--markets", "KR", "--quick", *options(long)]
    assert compare.main([*command, "--output", "first"]) == 0

    told = capsys.readouterr().err
    assert "training 1 of 5: global, all" in told
    assert told.count("trees, as told") == 2
    first = json.loads((place / "first" / "gap.json").read_text())
    gap = next(gap for gap in first if gap["primary"] and gap["scope"] == "market")
    assert (gap["market"], gap["against"]) == ("KR", "local")
    assert gap["value"] is not None
    assert json.loads((place / "first" / "comparison.json").read_text())["unstopped"] == ["KR"]
    runs = mlflow.MlflowClient(store(place))
    experiment = runs.get_experiment_by_name("unstopped")
    assert experiment is not None
    of_arm = {
        run.data.tags.get("arm"): run for run in runs.search_runs([experiment.experiment_id])
    }
    rounds = {
        name: mlflow.artifacts.load_dict(f"{of_arm[name].info.artifact_uri}/rounds.json")
        for name in ("global", "local", "adapted")
    }
    assert rounds["local"] == rounds["adapted"] == rounds["global"]
    assert {name for name, run in of_arm.items() if "unstopped" in run.data.tags} == {
        "local", "adapted",
    }  # fmt: skip
    local = of_arm["local"].info.run_id
    # no log-loss of rows without a conversion was asked
    assert runs.get_metric_history(local, "fusion.log_loss") == []
    assert [m.step for m in runs.get_metric_history(local, "fusion.train_loss")] == [0, 1, 2]

    # the local run gone, the rounds are read from the run of the model for all
    runs.delete_run(local)
    assert compare.main([*command, "--output", "second"]) == 0
    assert "training 1 of 1: local, KR" in capsys.readouterr().err
    assert json.loads((place / "second" / "gap.json").read_text()) == first

    # and where that lacks them, as runs of earlier versions do, it is trained again
    for run in runs.search_runs([experiment.experiment_id], "tags.arm = 'local'"):
        runs.delete_run(run.info.run_id)
    monkeypatch.setattr(held, "ROUNDS", "of-another-version.json")
    assert compare.main([*command, "--output", "third"]) == 0
    announced = re.findall(r"training (\d of \d): (.+)", capsys.readouterr().err)
    assert announced == [("1 of 2", "global, all"), ("2 of 2", "local, KR")]


def test_rows_set_aside_are_told_and_written(
    place: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = place / "spoilt"
    shutil.copytree(tiny_folder, data)
    impressions = pl.read_parquet(data / "impressions.parquet")
    first = pl.int_range(pl.len()) == 0
    spoilt = impressions.with_columns(market=pl.when(~first).then("market"))
    spoilt.write_parquet(data / "impressions.parquet")

    command = ["--data", str(data), "--output", "spoilt-out", "--markets", "KP"]
    assert compare.main(command) == 2  # after the tables were read

    told = capsys.readouterr()
    assert re.search(r"impressions\W+700\W+699\W+1\b", told.out)
    assert "impressions: 1 row set aside: " in told.err
    assert pl.read_parquet("spoilt-out/quarantine.parquet").height == 1


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_report_opens_offline_in_both_languages(
    compared: Path, place: Path, tiny_folder: Path, language: str
) -> None:
    command = ["--data", str(tiny_folder), "--markets", "KR", "--quick", "--output", language]
    assert compare.main([*command, "--language", language, "--quiet", *options(QUICK)]) == 0
    page = (place / language / "report.html").read_text("utf-8")

    assert f'<html lang="{language}">' in page
    assert ("한 모델" in page or "하나의 모델" in page) == (language == "ko")
    without_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="http', without_scripts)
    assert page.count('<div class="chart"') == 2
    assert (compared / "report.html").read_text("utf-8").count('<div class="chart"') >= 5


def test_the_comparison_is_a_run_of_its_own(
    place: Path, compared: Path, tiny_folder: Path
) -> None:
    runs = mlflow.MlflowClient(store(place))
    experiment = runs.get_experiment_by_name(tiny_folder.name)
    assert experiment is not None
    run = runs.search_runs([experiment.experiment_id], filter_string="tags.scope = 'comparison'")[
        -1
    ]
    assert {item.path for item in runs.list_artifacts(run.info.run_id)} >= {
        "gap.json", "comparison.json", "report.html", "quarantine.parquet",
    }  # fmt: skip
    gaps = json.loads((compared / "gap.json").read_text())
    kr = next(gap for gap in gaps if gap["primary"] and gap["market"] == "KR")
    assert run.data.metrics["gap.KR"] == pytest.approx(kr["value"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--markets", "KR,USA"], "no market 'USA' among"),
        (["--markets", "KR", "--system", "fusoin"], "did you mean 'fusion'"),
        (["--markets", "MX", "--seed", "9"], "no market has rows enough for a model of its own"),
        (["--full"], "--quick leaves out what --full is about"),
    ],
)
def test_a_mistake_ends_in_one_sentence(
    compared: Path, tiny_folder: Path, arguments: list[str], sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    command = ["--data", str(tiny_folder), "--output", "no", "--quick", *arguments]
    assert compare.main([*command, *options(QUICK)]) == 2
    shown = re.sub(r"\s+", " ", capsys.readouterr().err)
    assert sentence in shown
    assert "training 1 of" not in shown  # told before the work
    assert pl.__name__ not in shown
