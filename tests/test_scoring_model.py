"""The registered model: found by its alias, loaded without a pickle, fed with frames and JSON."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Self

import numpy as np
import pandas as pd
import polars as pl
import pytest

from features.schema import Tables
from purchase_predictor.checkpoint import read_folder, write_folder
from purchase_predictor.errors import SettingsError
from purchase_predictor.scoring_rows import example_rows
from purchase_predictor.settings import TrackingSettings
from purchase_predictor.tracking import MlflowClient, MlflowException, mlflow, start_run

NAME = "purchase-predictor-KR"
SYSTEMS = {"fusion": 1.0, "lightgbm": 0.5}


class DearIsLikely:
    """Stands for the predictor: reads a model folder, and the probability is the price's share."""

    def __init__(self, most: float) -> None:
        self.most = most
        self.settings = SimpleNamespace(data=SimpleNamespace(max_title_chars=100))

    @classmethod
    def load(cls, folder: str) -> Self:
        return cls(read_folder(Path(folder)).document("facts")["most"])

    def predict_proba(self, tables: Tables, system: str | None) -> pl.DataFrame:
        if system not in {None, *SYSTEMS}:
            raise SettingsError(f"the model has no system '{system}'")
        share = SYSTEMS[system or "fusion"] * pl.col("price") / self.most
        return tables.impressions.select(
            "impression_id",
            "market",
            probability=share.fill_null(0.0),
            flags=pl.lit([], dtype=pl.List(pl.String)),
        )


@pytest.fixture(autouse=True)
def _bytecode_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """As by default, whatever the environment says."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)


@pytest.fixture(autouse=True)
def predictor(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("purchase_predictor.predictor")
    module.PurchasePredictor = DearIsLikely
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")


@pytest.fixture(scope="module")
def rows(tiny_tables: Tables) -> list[dict[str, Any]]:
    return example_rows(tiny_tables, n_lists=3)


@pytest.fixture
def registered(
    tracking_settings: TrackingSettings,
    tiny_tables: Tables,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """The URI of the store in which a model is registered, and which MLflow now asks."""
    folder = tmp_path / "a run of KR" / "model"
    write_folder(folder, documents={"facts": {"most": 1000.0}})
    with start_run(tracking_settings, experiment="shop", run_name="KR", tags={}) as run:
        version = run.log_model(
            folder,
            input_example=rows[:2],
            registered_name=NAME,
            aliases=["champion"],
            context=tiny_tables.context,
        )
    assert version == "1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", run.uri)
    return run.uri


def test_the_champion_scores_frames_and_json(registered: str, rows: list[dict[str, Any]]) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")
    frame = pd.DataFrame(rows)

    scored = model.predict(frame)

    expected = [
        [(offer.get("price") or 0.0) / 1000 for offer in row["candidates"]] for row in rows
    ]
    np.testing.assert_allclose(scored["probabilities"].tolist(), expected)
    assert scored["flags"].tolist() == [[""] * len(row["candidates"]) for row in rows]
    # as `mlflow models serve` reads the body of a request
    for orient in ("split", "records"):
        body = json.dumps({f"dataframe_{orient}": json.loads(frame.to_json(orient=orient))})
        answer = served(model, body)
        np.testing.assert_allclose([row["probabilities"] for row in answer], expected)
    half = model.predict(frame, params={"system": "lightgbm"})
    assert half["probabilities"][0] == pytest.approx([p / 2 for p in expected[0]])


def served(model: Any, body: str) -> list[dict[str, Any]]:
    from mlflow.pyfunc.scoring_server import invocations

    response = invocations(body, "application/json", model, model.metadata.get_input_schema())
    assert response.status == 200, response.response
    return json.loads(response.response)["predictions"]


def test_what_cannot_be_used_is_told(registered: str, rows: list[dict[str, Any]]) -> None:
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@champion")

    with pytest.raises(MlflowException, match="no system 'fusoin'"):
        model.predict(pd.DataFrame(rows), params={"system": "fusoin"})
    with pytest.raises(MlflowException, match="prce"):
        model.predict(pd.DataFrame([{**rows[0], "candidates": [{"prce": 3.0}]}]))
    with pytest.raises(MlflowException, match="market"):
        model.predict(pd.DataFrame(rows).drop(columns="market"))


def test_the_model_travels_with_its_code_and_requirements(registered: str, tmp_path: Path) -> None:
    client = MlflowClient(registered)
    version = client.get_model_version_by_alias(NAME, "champion")
    folder = Path(mlflow.artifacts.download_artifacts(
        version.source, dst_path=str(tmp_path / "download")
    ))  # fmt: skip
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}

    assert {
        "scoring_model.py",
        "code/purchase_predictor/predictor.py",
        "code/features/schema.py",
        "code/configs/default.yaml",
        "artifacts/model/manifest.json",
        "input_example.json",
    } <= files
    assert not {file for file in files if file.endswith((".pkl", ".pickle", ".pyc", ".joblib"))}
    requirements = (folder / "requirements.txt").read_text("utf-8").split()
    assert f"polars=={pl.__version__}" in requirements
    assert all("==" in line and "+" not in line for line in requirements)
    assert os.sep + "runs" + os.sep not in (folder / "MLmodel").read_text("utf-8")


def test_nothing_is_registered_without_a_name(
    tracking_settings: TrackingSettings,
    rows: list[dict[str, Any]],
    tmp_path: Path,
    tiny_tables: Tables,
) -> None:
    write_folder(tmp_path / "model", documents={"facts": {"most": 1000.0}})

    with start_run(tracking_settings, experiment="shop", run_name="KR", tags={}) as run:
        version = run.log_model(
            tmp_path / "model", input_example=rows[:1], registered_name=None,
            context=tiny_tables.context,
        )  # fmt: skip

    assert version is None
    assert MlflowClient(run.uri).search_registered_models() == []
