"""What is counted before the first training of a comparison."""

import polars as pl
import pytest

from features.schema import Tables
from purchase_predictor.cli import Reporter
from purchase_predictor.comparison.arms import ADAPTED, ARMS, LOCAL, Arm
from purchase_predictor.comparison.held import HeldRows, Trainings
from purchase_predictor.settings import load_settings

SETTINGS = load_settings(None, ["data.min_conversions=5", "data.validation_fraction=0.2"])


@pytest.mark.parametrize(
    ("missing", "n"),
    [
        ([], 0),
        ([LOCAL], 1),  # of KR: MX is too small for a model of its own
        ([ADAPTED], 2),  # and the global model that it begins with, whose run does not hold it
        (list(ARMS), 5),
    ],
)
def test_trainings_are_what_no_finished_run_has(
    tiny_tables: Tables, missing: list[Arm], n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(Reporter(quiet=True))

    def read(_held: HeldRows, arm: Arm, _trained_on: str) -> pl.DataFrame | None:
        return None if arm in missing else pl.DataFrame()

    monkeypatch.setattr(HeldRows, "_read", read)
    for seed in (0, 2):  # under 1 KR is too small as well
        held = HeldRows(
            tiny_tables,
            SETTINGS.model_copy(update={"seed": seed}),
            name="tiny",
            reporter=Reporter(quiet=True),
            trainings=trainings,
        )
        held.look_up(ARMS, ["KR", "MX"])
    assert trainings.n == 2 * n


def test_each_training_has_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    trainings = Trainings(Reporter())
    trainings.n = 7
    for what in ("global, all", "local, KR, seed 3"):
        trainings.begin(what)
    assert "training 2 of 7: local, KR, seed 3" in capsys.readouterr().err
