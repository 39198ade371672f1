"""A real model from MLflow, in a process of its own, gives the predictor's numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.schema import Tables
from purchase_predictor.scoring_rows import TERMS, example_rows, score_rows
from purchase_predictor.settings import TrackingSettings, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.end_to_end]

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=1", "pretraining.batch_events=200", "pretraining.n_negatives=16",
    "training.max_epochs=2", "training.precision=float32", "encoders.epochs=1",
    "encoders.n_word_pieces=300", "baselines.lightgbm.max_rounds=20",
    "baselines.lightgbm.threads=1", "data.min_conversions=5",
]  # fmt: skip

SCORE = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/shop@champion")
answer = model.predict(pandas.DataFrame(json.load(open("rows.json"))))
import purchase_predictor
json.dump(
    {
        "probabilities": answer["probabilities"].tolist(),
        "code": purchase_predictor.__file__,
        "imported": sorted(name for name in sys.modules if "." not in name),
    },
    open("answer.json", "w"),
)
"""


def test_the_registered_model_gives_the_numbers_of_the_predictor(
    tiny_tables: Tables, tracking_settings: TrackingSettings, tmp_path: Path
) -> None:
    from purchase_predictor.predictor import PurchasePredictor
    from purchase_predictor.tracking import start_run

    cache = f"encoders.cache={tmp_path / 'cache'}"
    predictor = PurchasePredictor(load_settings(Path("configs/quick.yaml"), [*QUICK, cache]))
    predictor.fit(tiny_tables).save(tmp_path / "model")
    rows = example_rows(tiny_tables, n_lists=175, max_before=10_000)

    scored = []

    def predict(tables: Tables) -> pl.DataFrame:
        scored.append((tables, predictor.predict_proba(tables)))
        return scored[-1][1]

    answers = score_rows(rows, tiny_tables.context, predict)
    alone = [
        score_rows([row], tiny_tables.context, predictor.predict_proba)[0] for row in rows[:9]
    ]
    with start_run(tracking_settings, experiment="e", run_name="r", tags={}) as run:
        run.log_model(
            tmp_path / "model",
            input_example=rows[:2],
            registered_name="shop",
            aliases=["champion"],
            context=tiny_tables.context,
        )
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "rows.json").write_text(json.dumps(rows[:9]), "utf-8")
    subprocess.run(
        [sys.executable, "-c", SCORE],
        check=True,
        cwd=tmp_path / "elsewhere",
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": run.uri,
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
    )

    # one list at a time, and in another process, as all lists together
    together = [answer["probabilities"] for answer in answers[:9]]
    np.testing.assert_allclose([a["probabilities"] for a in alone], together, atol=1e-6)
    served = json.loads((tmp_path / "elsewhere" / "answer.json").read_text("utf-8"))
    np.testing.assert_allclose(served["probabilities"], together, atol=1e-6)
    assert "/code/" in served["code"]
    # not among what a registered model requires
    assert not {"altair", "vl_convert", "typer", "optuna"} & set(served["imported"])
    # rows as tables
    given = _by_offer(tiny_tables, predictor.predict_proba(tiny_tables))
    nested = _by_offer(*scored[0])
    assert len(given) == len(nested) == len(tiny_tables.impressions)
    np.testing.assert_allclose(nested, given, atol=1e-5)


def _by_offer(tables: Tables, predicted: pl.DataFrame) -> np.ndarray:
    """Probabilities in an order that rows and tables share."""
    shown = tables.impressions.filter(~pl.col("impression_id").str.contains("earlier"))
    order = ["timestamp", *TERMS, *tables.context]
    joined = shown.join(predicted.select("impression_id", "probability"), on="impression_id")
    return joined.sort(*order, "probability")["probability"].to_numpy()
