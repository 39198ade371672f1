"""What is counted before the first training of a comparison."""

import polars as pl
import pytest

from features.schema import Tables
from purchase_predictor.cli import Reporter
from purchase_predictor.comparison import held
from purchase_predictor.comparison.arms import ADAPTED, ARMS, LOCAL, Arm
from purchase_predictor.comparison.held import HeldRows, Trainings
from purchase_predictor.settings import load_settings
from purchase_predictor.training.stopping import StoppedAt

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
        rows = HeldRows(
            tiny_tables,
            SETTINGS.model_copy(update={"seed": seed}),
            name="tiny",
            reporter=Reporter(quiet=True),
            trainings=trainings,
        )
        rows.look_up(ARMS, ["KR", "MX"])
    assert trainings.n == 2 * n


@pytest.mark.parametrize(("told", "n"), [(None, 2), (StoppedAt(1, (1.0, 0.0, 0.0), {}), 1)])
def test_the_model_for_all_is_trained_again_where_its_run_does_not_tell_when_it_stopped(
    tiny_tables: Tables, told: StoppedAt | None, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = Trainings(Reporter(quiet=True))

    def read(_held: HeldRows, arm: Arm, _trained_on: str) -> pl.DataFrame | None:
        return None if arm == LOCAL else pl.DataFrame()

    monkeypatch.setattr(HeldRows, "_read", read)
    monkeypatch.setattr(HeldRows, "_read_stopped", lambda _held: told)
    monkeypatch.setattr(held, "stopping_markets", lambda _tables, _split: {"JP", "US"})
    rows = HeldRows(
        tiny_tables, SETTINGS, name="tiny", reporter=Reporter(quiet=True), trainings=trainings
    )
    rows.look_up(ARMS, ["KR"])

    assert rows.unstopped == {"KR", "MX"}
    assert trainings.n == n


def test_each_training_has_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    trainings = Trainings(Reporter())
    trainings.n = 7
    for what in ("global, all", "local, KR, seed 3"):
        trainings.begin(what)
    assert "training 2 of 7: local, KR, seed 3" in capsys.readouterr().err
