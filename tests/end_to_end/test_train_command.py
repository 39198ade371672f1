"""The main job through its command line, on the tiny folder."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import polars as pl
import pytest

from purchase_predictor import job, train
from purchase_predictor.settings import TrackingSettings
from purchase_predictor.training.loop import Loop

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=1", "pretraining.batch_events=200", "pretraining.n_negatives=16",
    "training.max_epochs=2", "training.precision=float32", "training.checkpoint_every=2",
    "encoders.epochs=1", "encoders.n_word_pieces=300", "baselines.lightgbm.max_rounds=20",
    "baselines.lightgbm.threads=1", "baselines.tabnet.max_epochs=1", "evaluation.resamples=20",
    "data.min_conversions=5", "data.validation_fraction=0.2",
]  # fmt: skip

Command = Callable[..., int]


@pytest.fixture(scope="session")
def encoder_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture
def command(tracking_settings: TrackingSettings, encoder_cache: Path) -> Command:
    def call(*arguments: object) -> int:
        settings = [
            *QUICK, f"tracking.uri={tracking_settings.uri}", f"encoders.cache={encoder_cache}",
        ]  # fmt: skip
        options = [option for setting in settings for option in ("--set", setting)]
        return train.main([*map(str, arguments), *options])

    return call


def metrics(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_main_job_writes_logs_and_registers(
    command: Command,
    tiny_folder: Path,
    tracking_settings: TrackingSettings,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "out"

    code = command(
        "--data", tiny_folder, "--market", "all", "--output", output,
        "--baselines", "lightgbm,tabnet",
    )  # fmt: skip

    printed = capsys.readouterr().out
    assert code == 0
    predictions = pl.read_parquet(output / "predictions.parquet")
    systems = ["fusion", "lightgbm", "tabnet", "stack"]
    assert predictions.columns[:3] == ["impression_id", "market", "converted"]
    assert set(predictions.columns[3:]) == set(systems)
    result = metrics(output)
    assert result["rows"]["read"] == result["rows"]["used"] + result["rows"]["set_aside"]
    assert set(result["systems"]) == set(systems)
    assert {"auc", "mrr", "lift_10"} <= result["systems"]["fusion"]["pooled"].keys()
    for word in ("impressions", "700", "context columns: position (number)", "champion"):
        assert word in printed
    assert "<script" in (output / "report.html").read_text()
    assert not (output / "checkpoints").exists()
    client = mlflow.MlflowClient(tracking_settings.uri)
    version = client.get_model_version_by_alias("purchase-predictor-global", "champion")
    run = client.get_run(version.run_id)
    assert run.data.metrics["fusion.pooled.auc"] == pytest.approx(
        result["systems"]["fusion"]["pooled"]["auc"]["value"]
    )
    assert run.data.params["model.d_model"] == "16"
    assert run.data.tags["scope"] == "global"
    assert len(client.get_metric_history(version.run_id, "fusion.log_loss")) == 2


@pytest.mark.parametrize("killed_at", [1, 3])
def test_killed_and_resumed_ends_as_if_uninterrupted(
    command: Command,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed_at: int,
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    common = ["--data", tiny_folder, "--market", "KR", "--quiet"]
    assert command(*common, "--output", whole) == 0
    step, steps = Loop.train_step, []

    def killed(self: Loop, batch: object) -> float:
        steps.append(self.task.name)
        if steps.count("fusion") == killed_at:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(Loop, "train_step", killed)
    assert command(*common, "--output", broken) == 130
    assert not (broken / "metrics.json").exists()
    monkeypatch.setattr(Loop, "train_step", step)

    assert command(*common, "--output", broken, "--resume") == 0

    assert metrics(broken)["systems"] == metrics(whole)["systems"]
    first, second = (pl.read_parquet(f / "predictions.parquet") for f in (whole, broken))
    assert first.equals(second)


def test_resuming_under_other_settings_is_refused(
    command: Command,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def killed(self: Loop, batch: object) -> float:
        raise KeyboardInterrupt

    common = ["--data", tiny_folder, "--market", "KR", "--quiet", "--output", tmp_path / "out"]
    assert command(*common, "--resume") == 2
    assert "nothing to resume" in capsys.readouterr().err
    monkeypatch.setattr(Loop, "train_step", killed)
    other = {"data": {"name": "shop", "fingerprint": "another"}}
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "metrics.json").write_text(json.dumps(other))
    assert command(*common) == 130
    assert "holds a run on other data ('shop')" in " ".join(capsys.readouterr().err.split())
    assert command(*common, "--resume", "--seed", 5) == 2
    assert "settings changed since" in capsys.readouterr().err
    monkeypatch.setattr(job, "LAYOUT", job.LAYOUT + 1)
    assert command(*common, "--resume") == 2
    assert "version changed since" in capsys.readouterr().err


def test_rows_set_aside_are_written_counted_and_told(
    command: Command, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(tiny_folder, data)
    impressions = pl.read_parquet(data / "impressions.parquet")
    row = pl.int_range(pl.len())
    impressions.with_columns(
        price=pl.when(row == 3).then(-1.0).otherwise("price"),
        product_id=pl.when(row == 9).then(pl.lit("unheard of")).otherwise("product_id"),
    ).write_parquet(data / "impressions.parquet")
    (data / "images" / "broken.png").write_bytes(b"not a picture")
    products = pl.read_parquet(data / "products.parquet")
    products.with_columns(
        image=pl.when(pl.int_range(pl.len()) == 0)
        .then(pl.lit("images/broken.png"))
        .when(pl.int_range(pl.len()) == 1)
        .then(pl.lit("../outside.png"))
        .otherwise("image")
    ).write_parquet(data / "products.parquet")

    code = command("--data", data, "--output", output)

    out, err = capsys.readouterr()
    assert code == 0
    assert pl.read_parquet(output / "quarantine.parquet").height == 1
    rows = metrics(output)["data"]["tables"]["impressions"]
    assert rows == {"read": 700, "used": 699, "set_aside": 1}
    assert metrics(output)["data"]["pictures_not_read"] == 2
    assert "1 row set aside" in err
    assert "broken.png" in err
    assert "unknown products" in out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--market", "KP"], "there is no market 'KP'"),
        (["--market", "MX"], "--market all"),
        (["--market", "all", "--scope", "local"], "needs one market"),
        (["--baselines", "lightgmb"], "lightgbm"),
        (["--set", "model.width=3"], "no setting 'model.width'"),
        (["--config", "none.yaml"], "cannot read settings file"),
        (["--encoders", "nowhere"], "nowhere"),
        (["--image-encoder", "no_such_network"], "no_such_network"),
    ],
)
def test_mistakes_end_in_one_sentence_and_code_two(
    command: Command,
    tiny_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    code = command("--data", tiny_folder, "--output", tmp_path / "out", "--quiet", *options)
    told = capsys.readouterr().err
    errors = [line for line in told.splitlines() if not line.startswith("Warning: ")]
    assert code == 2
    assert len(errors) == 1
    assert sentence in errors[0]


def test_a_market_that_is_not_there_leaves_what_can_be_resumed(
    command: Command, tiny_folder: Path, tmp_path: Path, tracking_settings: TrackingSettings
) -> None:
    begun = tmp_path / "out" / "checkpoints" / "run" / "begun"
    begun.mkdir(parents=True)

    assert command("--data", tiny_folder, "--market", "ZZ", "--output", tmp_path / "out") == 2

    assert begun.exists()
    runs = mlflow.MlflowClient(tracking_settings.uri).search_experiments()
    assert tiny_folder.name not in {experiment.name for experiment in runs}


def test_output_that_is_a_file_is_named(
    command: Command, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "taken"
    file.write_text("")
    assert command("--data", tiny_folder, "--output", file) == 2
    assert "is a file" in capsys.readouterr().err


def test_data_folder_that_is_not_there_is_named(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("--data", tmp_path / "no-data", "--output", tmp_path / "out") == 2
    assert "no-data" in capsys.readouterr().err
