import functools
import importlib
import mmap
import tempfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.memory import STAGES, EnoughError, Watch, nameless_files

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="memory is read from Linux's /proc"
)


@pytest.mark.parametrize(("module", "name"), [(module, name) for _, module, name in STAGES])
def test_every_stage_is_a_function_that_is_there(module: str, name: str) -> None:
    found = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert callable(found)


def test_a_stage_holds_its_peak_and_a_stage_inside_it_is_told_apart() -> None:
    watch = Watch()
    kept = []

    def grow() -> int:
        kept.append(np.ones(8_000_000))
        return 7

    inner = watch("inner", grow)
    assert watch("outer", inner)() == 7
    assert {"outer", "inner"} <= watch.peaks.keys()
    # the thread may count what is held now to any stage, but not to one that ended before
    assert watch.peaks["inner"]["RssAnon"] > watch.peaks["outer"]["RssAnon"] - 1e6


def test_the_last_stage_that_is_wanted_ends_all() -> None:
    watch, ran = Watch(until="second"), []
    stages = [watch(name, functools.partial(ran.append, name)) for name in ("first", "second")]

    stages[0]()
    with pytest.raises(EnoughError):
        stages[1]()

    assert ran == ["first", "second"]
    assert watch.peaks.keys() >= {"first", "second"}


def test_files_without_a_name_are_counted_and_shared_memory_is_not() -> None:
    before = nameless_files()
    with tempfile.TemporaryFile() as file:
        file.truncate(2**20)
        twice = (mmap.mmap(file.fileno(), 2**20) for _ in range(2))
        with mmap.mmap(-1, 2**20), next(twice), next(twice):
            assert nameless_files() == before + 2**20
    assert nameless_files() == before
