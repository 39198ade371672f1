"""What is counted before the first training of a comparison."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from features.arrays import CALIBRATE, STOP
from features.schema import Tables
from purchase_predictor.cli import Reporter
from purchase_predictor.comparison.arms import ADAPTED, ARMS, LOCAL, Arm
from purchase_predictor.comparison.held import HeldRows, Trainings, unstopped_markets
from purchase_predictor.comparison.job import ComparisonJob
from purchase_predictor.settings import load_settings
from purchase_predictor.training.selection import split_by

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


def unstopped_in_one_half(tables: Tables) -> Tables:
    """Of the sessions of KR in validation, one alone has conversions."""
    part = split_by(tables, SETTINGS).part
    validation = tables.impressions.filter(
        pl.Series(np.isin(part, (STOP, CALIBRATE))), pl.col("market") == "KR", pl.col("converted")
    )
    spoilt = validation["session_id"].unique(maintain_order=True)[1:]
    bought = pl.col("converted") & ~pl.col("session_id").is_in(spoilt.implode())
    return replace(tables, impressions=tables.impressions.with_columns(converted=bought))


def test_a_market_is_treated_alike_under_all_seeds(tiny_tables: Tables) -> None:
    tables = unstopped_in_one_half(tiny_tables)
    seeds = [SETTINGS.model_copy(update={"seed": seed}) for seed in range(6)]
    each = ["KR" in unstopped_markets(tables, [settings]) for settings in seeds]

    assert set(each) == {True, False}  # one purchase is now in this half, now in the other
    assert "KR" in unstopped_markets(tables, seeds)


def test_no_seed_of_a_comparison_refuses_such_a_market(
    tiny_tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = ComparisonJob(
        SETTINGS, markets=["KR"], n_seeds=6, system="fusion", source=tmp_path, folder=tmp_path,
        quick=True, reporter=Reporter(quiet=True),
    )  # fmt: skip
    monkeypatch.setattr(HeldRows, "_read", lambda _held, _arm, _trained_on: None)
    monkeypatch.setattr(HeldRows, "_read_rounds", lambda _held: None)

    of_seeds = job._look_up(unstopped_in_one_half(tiny_tables), ["KR"])

    assert len(of_seeds) == 6
    for of_seed in of_seeds:
        assert "KR" in of_seed.unstopped
        assert "both outcomes" not in of_seed.refused.get("KR", "")


def test_beside_a_baseline_that_chooses_for_itself_every_market_has_to_be_stopped(
    tiny_tables: Tables,
) -> None:
    tabnet = load_settings(None, ["baselines.systems=[lightgbm, tabnet]"])
    assert unstopped_markets(tiny_tables, [SETTINGS]) == {"MX"}
    assert unstopped_markets(tiny_tables, [tabnet]) == set()


def test_each_training_has_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    trainings = Trainings(Reporter())
    trainings.n = 7
    for what in ("global, all", "local, KR, seed 3"):
        trainings.begin(what)
    assert "training 2 of 7: local, KR, seed 3" in capsys.readouterr().err
