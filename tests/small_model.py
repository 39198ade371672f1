"""A small fitted model that several files of tests share."""

from pathlib import Path

import pytest

from features.schema import Tables
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import load_settings

QUICK = [
    "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
    "pretraining.epochs=1", "pretraining.n_folds=2", "pretraining.batch_events=200",
    "pretraining.n_negatives=16",
    "training.max_epochs=1", "training.precision=float32", "encoders.epochs=0",
    "encoders.n_word_pieces=300", "baselines.lightgbm.max_rounds=20",
    "baselines.lightgbm.threads=1", "data.min_conversions=5", "data.validation_fraction=0.2",
]  # fmt: skip


@pytest.fixture(scope="session")
def small_model(
    tiny_tables: Tables, tmp_path_factory: pytest.TempPathFactory
) -> PurchasePredictor:
    """Fusion, LightGBM and stack, fitted on `tiny_tables`; share it, do not change it."""
    cache = tmp_path_factory.mktemp("cache")
    settings = load_settings(overrides=[*QUICK, f"encoders.cache={cache}"])
    return PurchasePredictor(settings).fit(tiny_tables)


@pytest.fixture(scope="session")
def small_model_folder(
    small_model: PurchasePredictor, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The model folder of `small_model`."""
    folder = tmp_path_factory.mktemp("small") / "model"
    small_model.save(folder)
    return folder
