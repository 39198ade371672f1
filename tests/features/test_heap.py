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
product = torch.nn.Linear(64, 64).bfloat16()
with torch.no_grad():
    for repeat in range(2):
        for rows in range(1, 41):  # each another kernel
            product(torch.ones(rows, 64).bfloat16())
"""


@pytest.mark.parametrize(("told", "kept"), [(None, False), ("100", True)])
def test_kernels_of_another_batch_are_not_kept(told: str | None, kept: bool) -> None:
    env = dict(os.environ, ONEDNN_VERBOSE="2", PYTHONPATH=str(Path.cwd()))
    env.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
    if told is not None:
        env["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = told
    ran = subprocess.run(
        [sys.executable, "-c", KERNELS], check=True, capture_output=True, text=True, env=env
    )
    if "create:cache_miss" not in ran.stdout:
        pytest.skip("torch multiplies without oneDNN here")
    assert ("create:cache_hit" in ran.stdout) == kept


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
