"""How memory is kept between shards, each in a process of its own: limits of malloc stay set."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

FREED = """
import resource

import numpy as np
from features.heap import map_large_arrays

def resident():
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * resource.getpagesize() / 2**20

if {mapped}:
    map_large_arrays()
once = np.ones(30 * 2**17)  # freed, it raises glibc's own limit to 30 MB
del once
before, large, small = resident(), [], []
for _ in range(20):
    large.append(np.ones(9 * 2**17))
    small.append(np.ones(2**13))
large.clear()
print(resident() - before)
"""


KERNELS = """
import torch
from features.heap import keep_few_kernels

keep_few_kernels()
for repeat in range(2):
    for rows in range(1, 41):  # each another kernel
        torch.nn.functional.gelu(torch.ones(rows, 64))
"""


@pytest.mark.parametrize(("told", "n_found_again"), [(None, 0), ("100", 40)])
def test_kernels_of_earlier_batches_are_not_kept(told: str | None, n_found_again: int) -> None:
    env = dict(os.environ, ONEDNN_VERBOSE="2", PYTHONPATH=str(Path(__file__).parents[2]))
    env.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    if told is not None:
        env["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = told
    ran = subprocess.run(
        [sys.executable, "-c", KERNELS], check=True, capture_output=True, text=True, env=env
    )
    gelu = [line for line in ran.stdout.splitlines() if "eltwise" in line]
    if not any("create:cache_miss" in line for line in gelu):
        pytest.skip("torch has no kernels of oneDNN for GELU here")
    assert sum("create:cache_hit" in line for line in gelu) == n_found_again


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc alone")
@pytest.mark.parametrize(("mapped", "low", "high"), [(True, -1, 40), (False, 100, 300)])
def test_large_arrays_between_small_ones_are_given_back(
    mapped: bool, low: float, high: float
) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", FREED.format(mapped=mapped)],
        check=True, capture_output=True, text=True, env=env,
    )  # fmt: skip
    assert low < float(found.stdout) < high
