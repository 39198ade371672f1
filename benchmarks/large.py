"""Time and peak memory of scoring as rows become millions, by system.

    python benchmarks/large.py --model M --work runs/large --worlds 2 21 --output large.json

A world is a sample marketplace of size `claims` with a seed, users, sessions and listings of its
own: 480,000 impressions, no copies. So many of them lie side by side in partitioned folders, and
`python -m purchase_predictor.score` scores them in a process of its own, whose largest resident
memory the kernel tells. What is made in the work folder is not made again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.table import markdown
from purchase_predictor.checkpoint import write_file
from purchase_predictor.data.marketplace import write_sample

IDS = {
    "products": ("product_id", "match_group"),
    "events": ("session_id", "user_id", "product_id"),
    "impressions": ("impression_id", "session_id", "user_id", "product_id", "list_id"),
}
LABELS = ("converted", "split")


def make_world(work: Path, seed: int) -> None:
    """Write a world's tables beside those of the others, unless they are there."""
    done = work / "worlds" / f"{seed:03d}"
    if done.is_dir():
        return
    made = work / f"making-{seed:03d}"
    shutil.rmtree(made, ignore_errors=True)
    write_sample(made, size="claims", seed=seed)
    for table, ids in IDS.items():
        rows = pl.read_parquet(made / f"{table}.parquet").drop(LABELS, strict=False)
        rows = rows.with_columns(pl.format(f"w{seed}-{{}}", name).alias(name) for name in ids)
        if table == "products":
            place = pl.col("image").str.strip_prefix("images/")
            rows = rows.with_columns(image=pl.format(f"images/{seed:03d}/{{}}", place))
        rows.write_parquet(made / f"{table}.parquet")
    shutil.rmtree(made / "truth")
    done.parent.mkdir(parents=True, exist_ok=True)
    made.replace(done)


def side_by_side(work: Path, n_worlds: int) -> Path:
    """A data folder of the first worlds, whose files are those of the worlds."""
    folder = work / f"data-{n_worlds}"
    shutil.rmtree(folder, ignore_errors=True)
    for seed in range(n_worlds):
        world = work / "worlds" / f"{seed:03d}"
        for table in IDS:
            part = folder / table / f"{seed:03d}.parquet"
            part.parent.mkdir(parents=True, exist_ok=True)
            os.link(world / f"{table}.parquet", part)
        shutil.copytree(world / "images", folder / "images" / world.name, copy_function=os.link)
    return folder


def score(model: Path, data: Path, system: str, output: Path) -> dict[str, Any]:
    """Score a folder in a process of its own; what the kernel says that it took."""
    command = [
        sys.executable, "-m", "purchase_predictor.score", "--model", str(model),
        "--input", str(data), "--output", str(output), "--system", system,
    ]  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    rows = pl.scan_parquet(output).select(pl.len()).collect().item()
    return {
        "system": system,
        "rows": rows,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss * 1024 / 1e9,
    }


def main() -> None:
    """Make, score, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--work", type=Path, required=True, help="folder of worlds and scores")
    parser.add_argument("--worlds", type=int, nargs="+", default=[2, 21])
    parser.add_argument("--systems", nargs="+", default=["fusion", "lightgbm"])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in range(max(options.worlds)):
        make_world(options.work, seed)
        print(f"world {seed} is there", file=sys.stderr, flush=True)
    for n_worlds in options.worlds:
        data = side_by_side(options.work, n_worlds)
        for system in options.systems:
            output = options.work / f"scores-{n_worlds}-{system}.parquet"
            found.append(score(options.model, data, system, output))
            text = json.dumps(found, indent=1) + "\n"
            write_file(options.output, lambda path, text=text: path.write_text(text))
    rows = [
        [
            one["system"], f"{one['rows']:,}", f"{one['seconds']:,.0f}",
            f"{one['rows'] / one['seconds']:,.0f}", f"{one['cpu_seconds']:,.0f}",
            f"{one['peak_gb']:.2f}",
        ]
        for one in found
    ]  # fmt: skip
    print(markdown(["system", "rows", "s", "rows/s", "CPU s", "peak GB"], rows))


if __name__ == "__main__":
    main()
