"""A tracking store for each test, copied from one that was migrated once."""

import shutil
from pathlib import Path

import pytest

from purchase_predictor.settings import TrackingSettings


@pytest.fixture(scope="session")
def migrated_database(request: pytest.FixtureRequest) -> Path:
    """An empty MLflow database; making one takes seconds, so pytest's cache keeps it."""
    from purchase_predictor import tracking

    folder = request.config.cache.mkdir("mlflow")
    database = Path(folder) / f"{tracking.mlflow.__version__}.db"
    tracking._make_database(f"sqlite:///{database}")
    return database


@pytest.fixture
def tracking_settings(
    migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TrackingSettings:
    """Settings of a store of its own, in `mlruns` of the test's folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = tmp_path / "mlruns" / "mlflow.db"
    database.parent.mkdir()
    shutil.copyfile(migrated_database, database)
    return TrackingSettings(uri=f"sqlite:///{database}", experiment="", register_model=True)
