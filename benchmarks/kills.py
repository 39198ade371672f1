"""Kills: scoring is killed at random moments and resumed; the file must be that of one whole run.

    python benchmarks/kills.py --model MODEL --data DIR --work runs/kills --kills 30

Every kill is a SIGKILL of a real `score --resume` after a random share of the seconds that an
uninterrupted run takes; with `--chain` kills before a run is left to finish (1 by default), a
resumed run may be killed again. A moment counts once the process is found killed, not ended. The
drawn moments cover the whole run, imports and loading included, and the last one hundredth, where
files are put in their places. Exit code 1 where a single byte differs, or where output that looks
finished (a manifest) was there before its end.
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
    """Whether a command was killed, and not at its end, after some seconds."""
    process = subprocess.Popen(line)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def stage(folder: Path) -> str:
    """How far a killed run had come."""
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
    parser.add_argument("--chain", type=int, default=1, help="kills before a run may finish")
    parser.add_argument("--shard-rows", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    whole, place = options.work / "whole", options.work / "killed"
    shutil.rmtree(options.work, ignore_errors=True)
    began = time.perf_counter()
    subprocess.run(command(options, whole / "scores.parquet"), check=True)
    seconds = time.perf_counter() - began
    expected = files(whole)
    print(f"uninterrupted: {seconds:.1f} s, {len(expected)} files", flush=True)
    kills, faults = 0, []
    while kills < options.kills:
        shutil.rmtree(place, ignore_errors=True)
        for _ in range(options.chain):
            moment = draw.uniform(0, seconds)
            line = command(options, place / "scores.parquet", "--resume")
            if killed_after(moment, line):
                kills += 1
                found = stage(place) if place.is_dir() else "before the rows"
                print(f"kill {kills}: after {moment:.1f} s, {found}", flush=True)
                if (place / "scores.manifest.json").exists() and files(place) != expected:
                    faults.append(f"kill {kills}: a manifest beside half an output")
        subprocess.run(command(options, place / "scores.parquet", "--resume"), check=True)
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
