import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from benchmarks import policy_worlds

SMALL = ["--impressions", "6000", "--listings", "300", "--worlds", "1"]
QUICK = ["--set", "evaluation.resamples=60", "--set", "baselines.lightgbm.max_rounds=5"]


def test_the_truth_is_that_of_what_each_model_ranks_first(tmp_path: Path) -> None:
    # lists a: models differ; b: a tie, shared; c: one candidate; d: not ranked by both
    names = ["a1", "a2", "b1", "b2", "c1", "d1", "d2", "x"]
    lists = ["a", "a", "b", "b", "c", "d", "d", "a"]
    p = [0.1, 0.3, 0.2, 0.4, 0.9, 0.8, 0.8, 0.7]
    chance = [0.5] * 7 + [None]
    pl.DataFrame({"impression_id": names, "list_id": lists, "propensity": chance}).write_parquet(
        tmp_path / "impressions.parquet"
    )
    files = [tmp_path / "local.parquet", tmp_path / "global.parquet"]
    for file, given in zip(files, ([2, 1, 1, 1, 1, 1, 1, 3], [1, 2, 1, 2, 1, 1]), strict=True):
        pl.DataFrame({"impression_id": names[: len(given)], "probability": given}).write_parquet(
            file
        )

    found = policy_worlds.true_values(
        tmp_path, files, pl.DataFrame({"impression_id": names, "p_true": p})
    )

    assert found["n_lists"] == 2
    assert found["against"] == pytest.approx((0.1 + 0.3) / 2)
    assert found["arm"] == pytest.approx((0.3 + 0.4) / 2)


def test_one_candidate_of_each_list_is_left_with_its_propensity(tmp_path: Path) -> None:
    n = 400
    rows = pl.DataFrame(
        {
            "impression_id": [str(number) for number in range(4 * n)],
            "list_id": [str(number // 4) for number in range(4 * n)],
            "propensity": [None, 0.1, 0.1, 0.1] * n,
            "converted": [True] * (4 * n),
        }
    )
    source = tmp_path / "drawn"
    source.mkdir()
    rows.write_parquet(source / "impressions.parquet")

    policy_worlds.write_chosen(source, tmp_path / "chosen", seed=3)

    found = pl.read_parquet(tmp_path / "chosen" / "impressions.parquet")
    candidates = found.drop_nulls("propensity")
    of_list = candidates.group_by("list_id").agg(
        pl.col("propensity").sum(), pl.col("converted").count()
    )
    assert len(candidates) == 3 * n
    assert of_list["propensity"].to_numpy() == pytest.approx(1.0)
    assert (of_list["converted"] == 1).all()
    assert found.filter(pl.col("propensity").is_null())["converted"].all()
    # weighed by the inverse of their propensity those shown stand for all candidates
    weight = candidates.drop_nulls("converted").select((1 / pl.col("propensity")).sum()).item()
    assert weight / (3 * n) == pytest.approx(1.0, abs=0.05)


def _world(value: float, refused: str | None = None) -> list[dict[str, Any]]:
    figure = {"value": value, "low": value - 0.1, "high": value + 0.1}
    entry: dict[str, Any] = {
        "refused": refused,
        "true": {"arm": 0.5, "against": 0.5, "difference": 0.5},
        "estimates": {
            estimator: dict.fromkeys(policy_worlds.SIDES, figure)
            for estimator in policy_worlds.ESTIMATORS
        },
        "effective": {"arm": 90.0, "against": 80.0},
        "n_positive": {"arm": 9, "against": 8},
    }
    return [entry, entry]


def test_worlds_whose_interval_holds_the_truth_are_counted() -> None:
    rows = policy_worlds.agreement([_world(0.5), _world(0.7), _world(0.0, "effective")])
    assert len(rows) == 2 * 3 * 3
    for row in rows:
        assert (row["n"], row["held"], row["refused"]) == (2, 1, 1)
        assert (row["bias"], row["width"]) == (pytest.approx(0.1), pytest.approx(0.2))
        assert (row["effective"], row["positive"]) == (80.0, 8.0)


def test_a_world_goes_through_follow_and_a_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    command = ["--output", str(file), *SMALL, *QUICK]

    assert policy_worlds.main(command) == 0
    first = json.loads(file.read_text())
    assert policy_worlds.main(command) == 0

    assert json.loads(file.read_text()) == first
    drawn, chosen = first["results"]["0"]
    assert (drawn["refused"], drawn["logging"], chosen["logging"]) == (None, "drawn", "chosen")
    assert drawn["true"] == chosen["true"]
    assert drawn["n_lists"] == drawn["true"]["n_lists"] >= 30
    assert capsys.readouterr().out.count("worlds, ") == 1
    assert policy_worlds.main([*command, "--set", "seed=3"]) == 2
