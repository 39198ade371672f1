import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gap_coverage, gap_worlds
from benchmarks.gap_worlds import Size

SMALL = {"A": Size(400, 200), "B": Size(600, 800), "C": Size(300, 150), "D": Size(300, 150)}
QUICK = ["--set", "evaluation.resamples=60", "--set", "baselines.lightgbm.max_rounds=20"]


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in SMALL.items():
        monkeypatch.setitem(gap_worlds.SIZES, name, size)
    monkeypatch.setattr(gap_worlds, "KNOWN_TIMES", 2)
    monkeypatch.setattr(gap_coverage, "KNOWN_TIMES", 2)


def test_expected_metrics_are_those_of_all_outcomes_weighed_by_their_probability() -> None:
    p, said = np.array([0.1, 0.4, 0.7]), np.array([0.3, 0.3, 0.6])
    above = sum(
        p[i] * (1 - p[j]) * ((said[i] > said[j]) + (said[i] == said[j]) / 2)
        for i in range(3)
        for j in range(3)
    )
    lost = -(p * np.log(said) + (1 - p) * np.log(1 - said)).mean()

    found = gap_worlds.true_metrics(p, said)

    assert found["auc"] == pytest.approx(above / (p.sum() * (1 - p).sum()))
    rate = p.mean()
    base = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert found["normalised_entropy"] == pytest.approx(lost / base)


def test_a_shopper_is_in_one_part_and_one_market() -> None:
    rows, known = gap_worlds.draw_world(1)
    of = np.unique(np.column_stack([rows.unit, rows.part, rows.market]), axis=0)
    assert len(of) == len(np.unique(rows.unit))
    assert rows.y.mean() == pytest.approx(rows.p.mean(), abs=0.01)
    assert len(np.unique(known.unit)) == sum(10 * s.n_test for s in gap_worlds.SIZES.values())


def _gap(low: float, high: float, true: float, verdict: str, market: str = "A") -> dict:
    return {
        "market": market, "metric": "auc", "value": (low + high) / 2, "low": low, "high": high,
        "delong_low": low, "delong_high": high + 1, "smallest_detectable": 0.1,
        "n_test_positive": 50, "verdict": verdict, "true": true,
    }  # fmt: skip


def test_coverage_and_wrong_verdicts_are_counted() -> None:
    worlds = [
        [_gap(0.0, 0.2, 0.1, "global"), _gap(0.1, 0.2, -0.3, "global", "B")],
        [_gap(0.0, 0.2, 0.3, "equivalent"), _gap(-0.1, 0.2, 0.0, "not enough data", "B")],
    ]

    a, b = gap_coverage.coverage_rows(worlds)

    assert (a["market"], a["covered"], a["delong"]) == ("A", 0.5, 1.0)
    assert (b["market"], b["covered"], b["n"]) == ("B", 0.5, 2)
    assert gap_coverage.verdict_counts(worlds, margin=0.01) == {
        "verdicts": 4, "better": 2, "wrong_arm": 1, "equivalent": 1, "not_within": 1,
        "not_enough": 1,
    }  # fmt: skip


def test_power_counts_the_first_twenty_worlds_apart() -> None:
    planted = [{"found": seed < 18, "called": seed == 3, "true": 0.02} for seed in range(40)]
    row = gap_coverage.power_row(planted)
    assert (row["worlds"], row["found"], row["first_20"], row["called"]) == (40, 18, 18, 1)


@pytest.mark.usefixtures("_small")
def test_a_run_plants_what_can_be_found_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    command = ["--output", str(file), "--worlds", "1", *QUICK]

    assert gap_coverage.main([*command, "--power-worlds", "0"]) == 0
    first = json.loads(file.read_text())
    assert gap_coverage.main([*command, "--power-worlds", "1"]) == 0

    found = json.loads(file.read_text())
    assert found["results"]["cover"] == first["results"]["cover"]
    (planted,) = found["results"]["planted"].values()
    assert planted["true"] == pytest.approx(planted["detectable"], rel=0.1)
    assert planted["detectable"] == pytest.approx(planted["smallest_detectable"], rel=0.15)
    assert capsys.readouterr().out.count("cover: ") == 1
    assert gap_coverage.main([*command, "--set", "seed=3"]) == 2
