"""MLflow runs: what is logged can be read back, and a store that fails costs no work."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from purchase_predictor import tracking
from purchase_predictor.errors import TrackingError
from purchase_predictor.settings import TrackingSettings, load_settings
from purchase_predictor.tracked_values import MAX_VALUE
from purchase_predictor.tracking import MlflowClient, MlflowException, Run, start_run

Opened = Callable[..., Any]


@pytest.fixture
def opened(tracking_settings: TrackingSettings) -> Opened:
    def open_run(**changes: Any) -> Any:
        options = {"experiment": "shop", "run_name": "KR-local", "tags": {"market": "KR"}}
        return start_run(tracking_settings, **{**options, **changes})

    return open_run


def stored(run: Run) -> Any:
    return MlflowClient(run.uri).get_run(run.run_id)


def test_a_run_is_named_tagged_and_finished(opened: Opened) -> None:
    with opened() as run:
        assert stored(run).info.status == "RUNNING"

    info, data = stored(run).info, stored(run).data
    assert (info.run_name, info.status, data.tags["market"]) == ("KR-local", "FINISHED", "KR")
    assert MlflowClient(run.uri).get_experiment(info.experiment_id).name == "shop"


def test_artifacts_lie_beside_the_database(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}", "utf-8")

    with opened() as run:
        run.log_file(tmp_path / "metrics.json", "results")

    place = tmp_path / "mlruns" / "artifacts" / run.run_id / "artifacts"
    assert (place / "results" / "metrics.json").read_text("utf-8") == "{}"


def test_a_folder_is_logged_whole(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "plots" / "deep").mkdir(parents=True)
    (tmp_path / "plots" / "deep" / "roc.html").write_text("<svg>", "utf-8")

    with opened() as run:
        run.log_folder(tmp_path / "plots", "plots")

    found = MlflowClient(run.uri).list_artifacts(run.run_id, "plots/deep")
    assert [file.path for file in found] == ["plots/deep/roc.html"]


def test_settings_are_parameters_and_a_file(opened: Opened) -> None:
    settings = {**load_settings().model_dump(), "many": {f"k{n}": n for n in range(150)}}
    settings["long"] = "x" * 9000

    with opened() as run:
        run.log_settings(settings)

    params = stored(run).data.params
    assert params["training.learning_rate"] == "0.001"
    assert params["baselines.systems"] == '["lightgbm"]'
    assert params["many.k149"] == "149"
    assert len(params["long"]) == MAX_VALUE
    file = mlflow_text(run, "settings.yaml")
    assert yaml.safe_load(file) == settings


def mlflow_text(run: Run, path: str) -> str:
    return Path(MlflowClient(run.uri).download_artifacts(run.run_id, path)).read_text("utf-8")


def test_results_are_flattened(opened: Opened) -> None:
    auc = {"value": 0.7, "low": 0.6, "high": 0.8}
    undefined = {"value": None, "low": None, "high": None}
    result = {
        "fusion": {"macro": {"auc": auc, "ece": undefined}, "markets": {"K/R!": {"auc": auc}}},
        "left_out": ["MX"],
        "n": 3,
        "ok": True,
    }

    with opened() as run:
        run.log_result(result)

    assert stored(run).data.metrics == {
        "fusion.macro.auc": 0.7,
        "fusion.macro.auc.low": 0.6,
        "fusion.macro.auc.high": 0.8,
        "fusion.markets.K_R_.auc": 0.7,
        "fusion.markets.K_R_.auc.low": 0.6,
        "fusion.markets.K_R_.auc.high": 0.8,
        "n": 3.0,
    }


def test_more_figures_than_a_batch_takes(opened: Opened) -> None:
    with opened() as run:
        run.log_result({f"m{number}": float(number) for number in range(1500)})

    assert len(stored(run).data.metrics) == 1500


def test_epochs_are_a_history(opened: Opened) -> None:
    with opened() as run:
        for epoch in range(3):
            run.log_epoch("fusion", epoch, {"log_loss": 0.5 - epoch / 10})

    history = MlflowClient(run.uri).get_metric_history(run.run_id, "fusion.log_loss")
    assert [(metric.step, metric.value) for metric in history] == [(0, 0.5), (1, 0.4), (2, 0.3)]


def test_data_are_a_dataset_and_tags(opened: Opened) -> None:
    with opened() as run:
        run.log_data("f" * 64, "sample", {"read": 10, "used": 9, "set_aside": 1})

    found = stored(run)
    dataset = found.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("sample", "f" * 36)
    assert found.data.tags["data.fingerprint"] == "f" * 64
    assert json.loads(found.data.tags["data.rows"]) == {"read": 10, "used": 9, "set_aside": 1}


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("bug"), "FAILED"), (KeyboardInterrupt(), "KILLED")]
)
def test_a_run_that_breaks_says_so(opened: Opened, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), opened() as run:
        raise error

    assert stored(run).info.status == status


def test_the_environment_wins_and_is_left_as_it_was(
    opened: Opened, tracking_settings: TrackingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = tracking_settings.uri
    elsewhere = tracking_settings.model_copy(update={"uri": "sqlite:///nowhere/else.db"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    with start_run(elsewhere, experiment="e", run_name="r", tags={}) as run:
        assert run.uri == uri

    assert os.environ["MLFLOW_TRACKING_URI"] == uri
    assert not Path("nowhere").exists()


def test_the_environment_is_left_clean(opened: Opened) -> None:
    with opened() as run:
        assert os.environ["MLFLOW_TRACKING_URI"] == run.uri

    assert "MLFLOW_TRACKING_URI" not in os.environ


def test_the_experiment_of_the_settings_wins(tracking_settings: TrackingSettings) -> None:
    named = tracking_settings.model_copy(update={"experiment": "mine"})

    with start_run(named, experiment="shop", run_name="r", tags={}) as run:
        pass

    assert MlflowClient(run.uri).get_experiment_by_name("mine") is not None
    assert MlflowClient(run.uri).get_experiment_by_name("shop") is None


def test_a_deleted_experiment_is_told(opened: Opened) -> None:
    with opened() as run:
        pass
    MlflowClient(run.uri).delete_experiment(stored(run).info.experiment_id)

    with pytest.raises(TrackingError, match="'shop' is deleted"), opened():
        pytest.fail("work began")


def test_a_server_that_is_down_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    with (
        pytest.raises(TrackingError, match="store http://127.0.0.1:9 cannot be used") as told,
        start_run(load_settings().tracking, experiment="e", run_name="r", tags={}),
    ):
        pytest.fail("work began")

    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:///{folder}/broken.db", "not a database"),
        ("mysql://127.0.0.1:9/mlflow", "needs its driver"),
        ("strange://x", "cannot be used"),
    ],
)
def test_a_store_that_cannot_be_used_is_told(
    uri: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database" * 100)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(folder=tmp_path))

    with (
        pytest.raises(TrackingError, match=message),
        start_run(load_settings().tracking, experiment="e", run_name="r", tags={}),
    ):
        pytest.fail("work began")


def test_a_store_that_goes_away_costs_no_epoch(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def away(*_: Any, **__: Any) -> None:
        calls.append(1)
        raise MlflowException("API request failed")

    with opened() as run:
        with monkeypatch.context() as patched:
            patched.setattr(MlflowClient, "log_batch", away)
            run.log_epoch("fusion", 0, {"log_loss": 0.5})
            run.log_epoch("fusion", 1, {"log_loss": 0.4})
            with pytest.raises(TrackingError, match="API request failed"):
                run.log_result({"auc": 0.7})
        run.log_result({})

    assert len(calls) == 2  # the second epoch did not wait for a server known to be away
    assert stored(run).data.metrics == {"fusion.log_loss": 0.4, "auc": 0.7}
    history = MlflowClient(run.uri).get_metric_history(run.run_id, "fusion.log_loss")
    assert len(history) == 2


def test_the_error_of_the_work_is_not_hidden_by_the_store(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise MlflowException("API request failed")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "set_terminated", away)
        with pytest.raises(ValueError, match="bug"), opened():
            raise ValueError("bug")

    assert tracking.mlflow.active_run() is None


FIRST_USE = """
import sys
from purchase_predictor.settings import load_settings
from purchase_predictor.tracking import start_run
with start_run(load_settings().tracking, experiment="shop", run_name=sys.argv[1], tags={}) as run:
    run.log_result({"auc": 0.5})
"""


@pytest.mark.slow
def test_three_processes_may_be_the_first(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    environment.pop("MLFLOW_TRACKING_URI", None)
    started = [
        subprocess.Popen([sys.executable, "-c", FIRST_USE, name], cwd=tmp_path, env=environment)
        for name in "abc"
    ]

    assert [process.wait(timeout=300) for process in started] == [0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlruns"]
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("shop")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["a", "b", "c"]
