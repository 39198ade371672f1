"""Aliases of registered models: who serves, who waits."""

from pathlib import Path

import mlflow
import pytest

from purchase_predictor.settings import TrackingSettings
from purchase_predictor.tracked import CHALLENGER, CHAMPION, appoint

NAME = "shop"


@pytest.fixture
def client(tracking_settings: TrackingSettings) -> mlflow.MlflowClient:
    client = mlflow.MlflowClient(tracking_settings.uri)
    client.create_registered_model(NAME)
    return client


def test_a_better_version_on_the_same_rows_takes_the_place(
    client: mlflow.MlflowClient, tracking_settings: TrackingSettings, tmp_path: Path
) -> None:
    appointed = []
    for log_loss, rows in (
        (0.30, "a"),
        (0.31, "a"),
        (0.2900007, "a"),
        (0.10, "b"),
        (0.2900007, "a"),
    ):
        version = client.create_model_version(NAME, tmp_path.as_uri()).version
        alias = appoint(
            tracking_settings, NAME, str(version), log_loss=log_loss, judged_on=rows,
            description=f"loss {log_loss}",
        )  # fmt: skip
        holders = {
            name: int(client.get_model_version_by_alias(NAME, name).version)
            for name in client.get_registered_model(NAME).aliases
        }
        appointed.append((alias, holders.get(CHAMPION), holders.get(CHALLENGER)))

    assert appointed == [
        (CHAMPION, 1, None),
        (CHALLENGER, 1, 2),  # worse
        (CHAMPION, 3, 1),  # better: the old champion waits
        (CHALLENGER, 3, 4),  # judged on other rows: not to be ranked
        (CHALLENGER, 3, 5),  # no better
    ]
    assert client.get_model_version(NAME, "4").description == "loss 0.1"
    assert "champion" in client.get_registered_model(NAME).description


def test_a_champion_of_before_versions_were_judged_stays(
    client: mlflow.MlflowClient, tracking_settings: TrackingSettings, tmp_path: Path
) -> None:
    for _ in range(2):
        client.create_model_version(NAME, tmp_path.as_uri())
    client.set_registered_model_alias(NAME, CHAMPION, "1")

    alias = appoint(tracking_settings, NAME, "2", log_loss=0.1, judged_on="a", description="new")

    assert alias == CHALLENGER
    assert client.get_model_version_by_alias(NAME, CHAMPION).version in (1, "1")
