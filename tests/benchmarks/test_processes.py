import argparse
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import processes


def test_a_shift_beyond_the_noise_is_told() -> None:
    one = np.array([0.70, 0.72, 0.71, 0.69])
    same = processes.judge(one, one + np.array([0.01, -0.01, 0.01, -0.01]))
    assert same["low"] < 0 < same["high"]
    shifted = processes.judge(one, one - 0.05 + np.array([0.001, -0.001, 0.001, -0.001]))
    assert shifted["high"] < 0
    assert shifted["mean_difference"] == pytest.approx(-0.05)
    assert shifted["deviation_between_seeds"] == pytest.approx(one.std(ddof=1))


def test_finished_runs_are_read_and_not_trained_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def train(line: list[str], check: bool) -> None:
        """What a training leaves, without the training."""
        folder = Path(line[line.index("--output") + 1])
        trained.append(folder.name)
        n, seed = (int(folder.name.split("-")[place]) for place in (0, 3))
        folder.mkdir()
        macro = {
            "auc": {"value": 0.7 + 0.01 * seed},
            "log_loss": {"value": 0.1 + (0.02 if n == 2 else 0.0) + 0.001 * seed * n},
        }
        found = {"systems": {"fusion": {"macro": macro}}}
        (folder / "metrics.json").write_text(json.dumps(found))

    monkeypatch.setattr(processes.subprocess, "run", train)
    output = tmp_path / "found.json"
    line = ["--data", "none", "--seeds", "3", "--work", str(tmp_path), "--output", str(output)]
    assert processes.main(line) == 0
    assert len(trained) == 6
    assert processes.main(line) == 0
    assert len(trained) == 6
    found = json.loads(output.read_text())["metrics"]
    assert found["auc"]["mean_difference"] == pytest.approx(0, abs=1e-12)
    assert found["log_loss"]["low"] > 0.018
    assert processes.main([*line, "--market", "JP"]) == 0
    assert len(trained) == 12  # of another market
    assert "auc: 2 processes less one, 3 seeds: +0.00000" in capsys.readouterr().out


def test_several_processes_are_launched_by_torchrun(tmp_path: Path) -> None:
    options = argparse.Namespace(data=tmp_path, market="KR", set=["training.max_epochs=1"])
    alone, shared = (processes.command(options, n, 4, tmp_path) for n in (1, 2))
    assert "torch.distributed.run" not in alone
    assert shared[shared.index("--nproc-per-node") + 1] == "2"
    assert (
        alone[alone.index("purchase_predictor.train") :]
        == shared[shared.index("purchase_predictor.train") :]
    )
