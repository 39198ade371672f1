"""Processes that share a study prepare its rows one after another."""

import threading
from pathlib import Path

import pytest
from filelock import FileLock

from purchase_predictor.tuning.prepared import LOCK, one_at_a_time


def test_whoever_comes_second_waits_until_the_first_has_prepared(tmp_path: Path) -> None:
    store, order, told = tmp_path / "prepared", [], []
    waits = threading.Event()

    def progress(line: str) -> None:
        told.append(line)
        waits.set()

    def second() -> None:
        with one_at_a_time(store, progress):
            order.append("second")

    thread = threading.Thread(target=second)
    with one_at_a_time(store, progress):
        assert not told
        thread.start()
        assert waits.wait(timeout=60)
        order.append("first")
    thread.join(timeout=60)

    assert order == ["first", "second"]
    assert told == ["another process prepares these rows: waiting for it"]


def test_a_failure_lets_the_next_one_in(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), one_at_a_time(tmp_path, lambda _: None):
        raise OSError("the disk is full")
    with FileLock(tmp_path / LOCK, timeout=0) as lock:
        assert lock.is_locked
