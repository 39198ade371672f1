"""Kills: scoring is killed at random moments and resumed; the file must be that of one whole run.

    python benchmarks/kills.py --model MODEL --data DIR --work runs/kills --kills 30

Every kill is a SIGKILL of a process of its own after a random share of the seconds that a run
takes; then it is resumed to its end. The packages are imported once and the processes are forks
of that (so, not on Windows or macOS): moments fall into the work, from reading the model to the
last rename. A moment counts where the process was killed, not where it had ended. Exit code 1
where a single byte differs from the uninterrupted run's, where something is left behind, or where
a manifest vouched for half an output.
"""

import argparse
import multiprocessing
import random
import shutil
import signal
import sys
import time
from multiprocessing.context import ForkProcess
from pathlib import Path

# imported before the first fork, and for that alone
import purchase_predictor.scoring.job  # noqa: F401
from purchase_predictor import score


def started(options: argparse.Namespace, output: Path, *more: str) -> ForkProcess:
    """The command in a process of its own."""
    rows = ["--shard-rows", str(options.shard_rows), "--quiet"]
    model = ["--model", str(options.model), "--input", str(options.data)]
    line = [*model, "--output", str(output), *rows, *more]
    process = multiprocessing.get_context("fork").Process(target=_main, args=(line,))
    process.start()
    return process


def _main(line: list[str]) -> None:
    sys.exit(score.main(line))


def seconds_of(process: ForkProcess) -> float:
    """Seconds until a process just started has ended; it must succeed."""
    began = time.perf_counter()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"scoring ended with exit code {process.exitcode}")
    return time.perf_counter() - began


def killed_after(seconds: float, process: ForkProcess) -> bool:
    """Whether a process was killed, not at its end, after some seconds."""
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def files(folder: Path) -> dict[str, bytes]:
    """Content by name, of what is not hidden."""
    return {
        path.name: path.read_bytes()
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".")
    }


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
    seconds = seconds_of(started(options, whole / "scores.parquet"))
    expected = files(whole)
    print(f"uninterrupted: {seconds:.1f} s, {len(expected)} files", flush=True)
    kills, faults = 0, []
    while kills < options.kills:
        shutil.rmtree(place, ignore_errors=True)
        moment = draw.uniform(0, seconds)
        began = time.perf_counter()
        if not killed_after(moment, started(options, place / "scores.parquet")):
            seconds = time.perf_counter() - began  # the machine is less busy than it was
            continue
        kills += 1
        found = stage(place)
        print(f"kill {kills}: after {moment:.1f} of {seconds:.1f} s, {found}", flush=True)
        if (place / "scores.manifest.json").exists() and files(place) != expected:
            faults.append(f"kill {kills}: a manifest beside half an output")
        seconds_of(started(options, place / "scores.parquet", "--resume"))
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
