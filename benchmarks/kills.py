"""Kills: scoring is killed at random moments and resumed; the file must be that of one whole run.

    python benchmarks/kills.py --model MODEL --data DIR --work runs/kills --kills 30

Every kill is a SIGKILL of a real process after a random share of the seconds that a run takes,
imports and loading included; then it is resumed to its end. A moment counts where the process was
killed, not where it had ended. Exit code 1 where a single byte differs from the uninterrupted
run's, where something is left behind, or where a manifest vouched for half an output.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SCORE = [sys.executable, "-m", "purchase_predictor.score", "--quiet"]


def command(options: argparse.Namespace, output: Path, *more: str) -> list[str]:
    """The command line."""
    rows = ["--shard-rows", str(options.shard_rows)]
    model = ["--model", str(options.model), "--input", str(options.data)]
    return [*SCORE, *model, "--output", str(output), *rows, *more]


def files(folder: Path) -> dict[str, bytes]:
    """Content by name, of what is not hidden."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }


def killed_after(seconds: float, line: list[str]) -> bool:
    """Whether a command was killed, not at its end, after some seconds."""
    process = subprocess.Popen(line)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    return process.wait() == -signal.SIGKILL


def seconds_of(line: list[str]) -> float:
    """Seconds that a command takes; it must succeed."""
    began = time.perf_counter()
    subprocess.run(line, check=True)
    return time.perf_counter() - began


def stage(folder: Path) -> str:
    """How far a killed run had come."""
    if (folder / "scores.manifest.json").exists():
        return "all finished"
    work = folder / ".scores.work"
    if not work.is_dir():
        return "before the rows"
    records = sorted(path.stem for path in (work / "steps").glob("*.json"))
    if not records:
        return "laying out the rows"
    n = len([record for record in records if record.startswith("scores")])
    return f"{n} shards finished"


def main() -> int:
    """Kill, resume, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="model folder or models:/NAME@ALIAS")
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--work", type=Path, required=True, help="where the outputs go")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--shard-rows", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    whole, place = options.work / "whole", options.work / "killed"
    shutil.rmtree(options.work, ignore_errors=True)
    seconds = seconds_of(command(options, whole / "scores.parquet"))
    expected = files(whole)
    print(f"uninterrupted: {seconds:.1f} s, {len(expected)} files", flush=True)
    kills, faults = 0, []
    while kills < options.kills:
        shutil.rmtree(place, ignore_errors=True)
        moment = draw.uniform(0, seconds)
        began = time.perf_counter()
        if not killed_after(moment, command(options, place / "scores.parquet")):
            seconds = time.perf_counter() - began  # the machine is less busy than it was
            continue
        kills += 1
        found = stage(place)
        print(f"kill {kills}: after {moment:.1f} of {seconds:.1f} s, {found}", flush=True)
        if (place / "scores.manifest.json").exists() and files(place) != expected:
            faults.append(f"kill {kills}: a manifest beside half an output")
        seconds_of(command(options, place / "scores.parquet", "--resume"))
        if files(place) != expected:
            faults.append(f"kill {kills}: the files differ")
        left = [path.name for path in place.iterdir() if path.name.startswith(".")]
        if left:
            faults.append(f"kill {kills}: {', '.join(left)} left behind")
    print(f"{kills} kills, {len(faults)} faults")
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
