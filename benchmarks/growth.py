"""Growth: time and peak memory of training and of scoring as rows become many.

    python benchmarks/growth.py --work runs/growth --output growth.json

Sample marketplaces of 30,000, 120,000 and 480,000 impressions, each with users, sessions and
listings of its own in proportion; training takes the same epochs and trees at every size, and one
model, that of the smallest, scores all of them: shard by shard (`score_shards`), and for
comparison all rows at once (`predict_proba`). Every measurement has a process of its own; its
seconds begin when the packages, and in scoring the model, are loaded. The exponent is the slope
of log seconds, or of log peak memory, over log rows: 1 is linear, 0 is flat. What is finished in
the work folder is not measured again, and said to be so: take a new folder after a change of the
code.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SIZES = (30_000, 120_000, 480_000)
ROWS_A_LISTING = 60
SEED = 0
PHASES = ("train", "score in shards", "score at once")


def make(folder: Path, n: int) -> None:
    """Write a marketplace of n impressions, unless it is there."""
    from purchase_predictor.data.marketplace import write_sample
    from purchase_predictor.data.marketplace.world import SMALLEST, SampleSize

    if not folder.is_dir():
        listings = max(SMALLEST.n_listings, n // ROWS_A_LISTING)
        write_sample(folder, size=SampleSize(n, listings), seed=SEED)


def train(data: Path, model: Path, overrides: list[str], threads: int) -> float:
    """Seconds to read a data folder, fit a model and save it."""
    import torch

    from purchase_predictor.predictor import PurchasePredictor
    from purchase_predictor.settings import load_settings

    torch.set_num_threads(threads)
    began = time.perf_counter()
    PurchasePredictor(load_settings(overrides=overrides)).fit(data).save(model)
    return time.perf_counter() - began


def score_in_shards(data: Path, model: Path, output: Path, threads: int, shard_rows: int) -> float:
    """Seconds to score a data folder shard by shard."""
    import torch

    from purchase_predictor.predictor import PurchasePredictor
    from purchase_predictor.scoring.shards import score_shards

    torch.set_num_threads(threads)
    predictor = PurchasePredictor.load(model)
    began = time.perf_counter()
    score_shards(predictor, data, output, system="fusion", shard_rows=shard_rows)
    return time.perf_counter() - began


def score_at_once(data: Path, model: Path, output: Path, threads: int) -> float:
    """Seconds to score a data folder with all of it in memory."""
    import torch

    from purchase_predictor.predictor import PurchasePredictor

    torch.set_num_threads(threads)
    predictor = PurchasePredictor.load(model)
    began = time.perf_counter()
    predictor.predict_proba(data, "fusion").write_parquet(output)
    return time.perf_counter() - began


def measured(run: Callable[..., float], *arguments: Any) -> dict[str, float]:
    """Seconds that a call tells and the peak memory of its process, imports included.

    The seconds are without imports and loading: a constant would make growth look slow.
    """
    seconds = run(*arguments)
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"seconds": seconds, "peak_bytes": float(peak)}


def in_a_process(run: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns in a process that begins with nothing."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(run, *arguments).result()


def exponent(rows: Sequence[float], values: Sequence[float]) -> float:
    """Slope of log values over log rows.

    Raises:
        ValueError: if there are fewer than two sizes.
    """
    if len(set(rows)) < 2:
        raise ValueError("an exponent takes two sizes or more")
    return float(np.polyfit(np.log(rows), np.log(values), 1)[0])


def settings_of(options: argparse.Namespace) -> list[str]:
    """What keeps the work per row the same at every size."""
    return [
        f"training.max_epochs={options.epochs}", f"training.patience={options.epochs}",
        f"pretraining.epochs={options.epochs}", "encoders.epochs=1", "encoders.cache=''",
        "training.precision=float32", "baselines.lightgbm.max_rounds=100",
        "baselines.lightgbm.patience=100", f"baselines.lightgbm.threads={options.threads}",
        *options.set,
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by phase and size; each is kept as soon as it is there."""
    kept = options.work / "growth.json"
    found: dict[str, dict[str, dict[str, float]]] = {phase: {} for phase in PHASES}
    asked = [settings_of(options), options.threads, options.shard_rows]
    if kept.is_file():
        state = json.loads(kept.read_text())
        found = state["figures"] if state["asked"] == asked else found
    smallest = options.work / f"model-{min(options.sizes)}"
    scores, threads = options.work / "scores.parquet", options.threads
    for n in sorted(options.sizes):
        data, model = options.work / f"data-{n}", options.work / f"model-{n}"
        in_a_process(make, data, n)
        calls: dict[str, tuple[Any, ...]] = {
            "train": (train, data, model, settings_of(options), threads),
            "score in shards": (
                score_in_shards, data, smallest, scores, threads, options.shard_rows,
            ),
            "score at once": (score_at_once, data, smallest, scores, threads),
        }  # fmt: skip
        for phase, call in calls.items():
            if str(n) in found[phase]:
                print(f"{phase}, {n:,} rows: measured before")
            else:
                found[phase][str(n)] = in_a_process(measured, *call)
                kept.write_text(json.dumps({"asked": asked, "figures": found}, indent=1))
    return found


def rows_of_table(figures: dict[str, dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """A row for each phase and size, then the phase's exponents."""
    table = []
    for phase, by_size in figures.items():
        rows = sorted(map(int, by_size))
        seconds = [by_size[str(n)]["seconds"] for n in rows]
        peaks = [by_size[str(n)]["peak_bytes"] for n in rows]
        for n, second, peak in zip(rows, seconds, peaks, strict=True):
            table.append(
                {
                    "phase": phase, "rows": n, "seconds": second, "rows_per_second": n / second,
                    "peak_gb": peak / 1e9,
                }
            )  # fmt: skip
        if len(rows) > 1:
            table.append(
                {
                    "phase": phase, "rows": "exponent", "seconds": exponent(rows, seconds),
                    "peak_gb": exponent(rows, peaks),
                }
            )  # fmt: skip
    return table


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where data and models go")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="impressions")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--shard-rows", type=int, default=100_000, help="rows of a shard")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    table = rows_of_table(measure(options))
    print(f"{'phase':16} {'rows':>10} {'seconds':>9} {'rows/s':>8} {'peak GB':>8}")
    for row in table:
        n = row["rows"] if isinstance(row["rows"], str) else f"{row['rows']:,}"
        rate = f"{row['rows_per_second']:,.0f}" if "rows_per_second" in row else ""
        print(f"{row['phase']:16} {n:>10} {row['seconds']:9.2f} {rate:>8} {row['peak_gb']:8.2f}")
    options.output.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
