"""Shards scored by workers of a cluster."""

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from purchase_predictor import score


def scored(model: Path, data: Path, output: Path, *more: str) -> dict[str, bytes]:
    """The files that scoring in four shards writes, by name."""
    source = ["--model", str(model), "--input", str(data), "--output", str(output)]
    assert score.main([*source, "--shard-rows", "400", "--quiet", *more]) == 0
    return {file.name: file.read_bytes() for file in sorted(output.parent.iterdir())}


def kill_one_at_work(killed: list[int], stop: threading.Event) -> None:
    """Wait until a worker of this process's cluster scores a shard, and kill it."""
    while not stop.is_set():
        for process in psutil.Process().children(recursive=True):
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:  # it ended meanwhile
                continue
            if line.startswith("ray::ShardWorker.finish"):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)
                return
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::ResourceWarning")  # of Ray
def test_workers_of_which_one_is_killed_give_the_bytes_of_one_process(
    small_model_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    expected = scored(small_model_folder, tiny_folder, tmp_path / "local" / "scores.parquet")
    killed: list[int] = []
    stop = threading.Event()
    killer = threading.Thread(target=kill_one_at_work, args=(killed, stop))
    killer.start()

    try:
        found = scored(
            small_model_folder, tiny_folder, tmp_path / "ray" / "scores.parquet",
            "--engine", "ray", "--workers", "2",
        )  # fmt: skip
    finally:
        stop.set()
        killer.join()

    assert len(killed) == 1
    assert found == expected


def test_without_ray_a_sentence_says_what_to_install(
    small_model_folder: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    find: Callable[..., object] = importlib.util.find_spec
    monkeypatch.setattr(
        "purchase_predictor.scoring.engines.find_spec",
        lambda name: None if name == "ray" else find(name),
    )
    source = ["--model", str(small_model_folder), "--input", str(tiny_folder)]
    output = tmp_path / "out" / "scores.parquet"

    assert score.main([*source, "--output", str(output), "--engine", "ray"]) == 2

    assert "pip install 'purchase-predictor[cluster]'" in capsys.readouterr().err
    assert not output.parent.exists()


def test_workers_need_a_cluster(
    small_model_folder: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--model", str(small_model_folder), "--input", str(tiny_folder)]

    assert score.main([*source, "--output", str(tmp_path / "a.parquet"), "--workers", "2"]) == 2

    assert "--workers goes with --engine ray" in capsys.readouterr().err
