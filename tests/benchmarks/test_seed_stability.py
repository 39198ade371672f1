import subprocess
from pathlib import Path

import polars as pl
import pytest

from benchmarks.seed_stability import agreement, main, summary


def explanation(folder: Path, effects: list[float], tokens: dict[str, float]) -> Path:
    folder.mkdir()
    pl.DataFrame(
        {
            "market": ["KR", "US", "JP"], "lever": ["phrase"] * 3, "phrase": ["sale"] * 3,
            "logit": effects,
        }
    ).write_parquet(folder / "effects.parquet")  # fmt: skip
    n = len(tokens)
    pl.DataFrame(
        {
            "impression_id": ["i1"] * n, "market": ["KR"] * n, "modality": ["text"] * n,
            "token": list(tokens), "value": list(tokens.values()), "method": ["shapley"] * n,
        }
    ).write_parquet(folder / "contributions.parquet")  # fmt: skip
    return folder


def test_models_that_tell_the_same_agree_and_a_token_without_contribution_counts_as_zero(
    tmp_path: Path,
) -> None:
    told = {"a": 0.5, "b": -0.1, "c": 0.2}
    one = explanation(tmp_path / "one", [0.3, 0.1, -0.2], told)
    same = explanation(tmp_path / "same", [0.6, 0.2, -0.4], {k: 2 * v for k, v in told.items()})
    other = explanation(tmp_path / "other", [-0.3, 0.1, 0.2], {"b": -0.7, "d": 0.1})

    assert agreement(one, same) == pytest.approx(
        {"effects": 1.0, "shapley": 1.0, "shapley, largest": 1.0}
    )
    found = agreement(one, other)
    # ranks of a, b, c, d: 4 1 3 2 and 2.5 1 2.5 4
    assert found["shapley"] == pytest.approx(0.316, abs=1e-3)
    assert (found["effects"], found["shapley, largest"]) == (pytest.approx(-1.0), 0.0)
    pl.read_parquet(other / "contributions.parquet").with_columns(
        impression_id=pl.lit("i2")
    ).write_parquet(other / "contributions.parquet")
    with pytest.raises(ValueError, match="different impressions"):
        agreement(one, other)
    cells = summary([{"agreement": {"effects": 1.0}}, {"agreement": {"effects": 0.5}}])
    assert cells == [["effects", "0.75", "0.50", "1.00"]]


def test_models_are_made_once_and_not_taken_for_those_of_other_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def run(command: list[str], **_: object) -> None:
        made.append(command[3])
        folder = Path(command[command.index("--output") + 1])
        if command[3] == "train":
            folder.mkdir()
            (folder / "metrics.json").touch()
        else:
            explanation(folder, [0.3, 0.1, -0.2], {"a": 0.5, "b": -0.1})
            (folder / "report.html").touch()

    monkeypatch.setattr(subprocess, "run", run)
    given = ["--data", "data", "--work", str(tmp_path / "work"), "--seeds", "0", "1"]
    given += ["--output", str(tmp_path / "seeds.json")]
    assert main(given) == 0
    assert made == ["train", "explain"] * 2
    assert main(given) == 0
    assert len(made) == 4
    assert "effects | 1.00" in capsys.readouterr().out
    assert main([*given, "--market", "KR"]) == 2
    assert "made by other options" in capsys.readouterr().err
