"""What the matching encoders are worth to the fusion: trained, untrained, the run's own, none.

    python benchmarks/encoder_value.py --data data/sample --work runs/encoder-value --seeds 0,1,2

Trains `match` twice (once without any epoch), then the fusion once for each arm and seed on the
same rows, and prints the gaps in test AUC and normalised entropy with paired intervals over
users. Each seed's gap has its own row; the mean over seeds, whose interval is over users and
seeds, is the figure to quote (a published claim takes five seeds). What is finished in the work
folder is not run again.
"""

import argparse
import json
import subprocess
import sys
from functools import reduce
from pathlib import Path

import numpy as np
import polars as pl

from purchase_predictor.evaluation.intervals import MACRO, POOLED, Draws, draw, percentile_interval
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.settings import load_settings

ARMS = ("trained", "own", "untrained", "none")
"""Encoders of `match`; the small ones that `train` makes by itself; random weights; none."""

PAIRS = (("trained", "untrained"), ("trained", "none"), ("trained", "own"), ("own", "none"))
UNTRAINED = [
    "text.epochs=0", "image.epochs=0", "ladder.untrained=false", "ladder.galleries=[0]",
    "ladder.union_trials=1", "ladder.blending_trials=1",
]  # fmt: skip


def main() -> None:
    """Run what is missing, then compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder with impressions")
    parser.add_argument("--work", type=Path, required=True, help="where the runs go")
    parser.add_argument("--seeds", default="0", help="comma-separated seeds of the fusion")
    parser.add_argument("--match", default="", help="further --set of match, comma-separated")
    options = parser.parse_args()
    seeds = [int(seed) for seed in options.seeds.split(",")]
    folders = match_runs(options.data, options.work, [*filter(None, options.match.split(","))])
    runs = [
        train_run(options.data, options.work, arm, seed, folders) for seed in seeds for arm in ARMS
    ]
    keys = ["impression_id", "market", "converted"]
    predictions = reduce(lambda left, right: left.join(right, on=keys), runs)
    rows = compare(with_units(predictions, options.data), seeds)
    (options.work / "encoder_value.json").write_text(json.dumps(rows, indent=1))
    for row in rows:
        print(
            f"{row['arm']} − {row['against']}, {row['metric']}, {row['scope']}, "
            f"seed {row['seed']}: {row['value']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})"
        )


def match_runs(data: Path, work: Path, settings: list[str]) -> dict[str, Path]:
    """Encoders trained by matching, and the same without training."""
    folders = {}
    for arm, own in (("trained", settings), ("untrained", [*settings, *UNTRAINED])):
        output = work / f"match-{arm}"
        folders[arm] = output / "encoders"
        if not folders[arm].is_dir():
            run("match", data, output, own, [])
    return folders


def train_run(
    data: Path, work: Path, arm: str, seed: int, folders: dict[str, Path]
) -> pl.DataFrame:
    """The fusion's test predictions with one arm's encoders, in a column `ARM-SEED`."""
    output = work / f"train-{arm}-{seed}"
    if not (output / "predictions.parquet").is_file():
        options = ["--market", "all", "--baselines", "", "--seed", str(seed)]
        if arm in folders:
            options += ["--encoders", str(folders[arm])]
        settings = ["encoders.epochs=0"] if arm == "none" else []
        run("train", data, output, settings, options)
    return pl.read_parquet(output / "predictions.parquet").select(
        "impression_id", "market", "converted", pl.col("fusion").alias(f"{arm}-{seed}")
    )


def run(command: str, data: Path, output: Path, settings: list[str], options: list[str]) -> None:
    """Run a command of the package; what it prints goes to a file beside its results."""
    output.mkdir(parents=True, exist_ok=True)
    arguments = [part for setting in settings for part in ("--set", setting)]
    with (output / "printed.txt").open("w") as printed:
        subprocess.run(
            [
                sys.executable, "-m", f"purchase_predictor.{command}", "--data", str(data),
                "--output", str(output), *options, *arguments,
            ],
            check=True,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )  # fmt: skip


def with_units(predictions: pl.DataFrame, data: Path) -> pl.DataFrame:
    """The user of each row, else its session, as a number; each row is a list of its own."""
    shown = pl.read_parquet(data / "impressions.parquet").select(
        "impression_id", name=pl.coalesce("user_id", "session_id")
    )
    joined = predictions.join(shown, on="impression_id", how="left", maintain_order="left")
    return joined.with_columns(
        unit=pl.col("name").rank("dense").cast(pl.Int64),
        list_number=pl.int_range(pl.len(), dtype=pl.Int64),
    )


def compare(predictions: pl.DataFrame, seeds: list[int]) -> list[dict[str, object]]:
    """Gaps of each pair of arms: of each seed, and on average over seeds."""
    settings = load_settings().evaluation
    systems = [f"{arm}-{seed}" for seed in seeds for arm in ARMS]
    draws = draw(Rows.from_frame(predictions, systems), settings=settings, seed=0)
    rows = []
    for metric in ("auc", "normalised_entropy"):
        for scope, name in ((MACRO, "macro"), (POOLED, "pooled")):
            for pair in PAIRS:
                gaps = [gap(draws, pair, seed, metric, scope) for seed in seeds]
                mean = average(gaps)
                for seed, (value, spread) in zip([*seeds, "mean"], [*gaps, mean], strict=True):
                    found = percentile_interval(value, spread, settings.confidence)
                    rows.append(
                        {
                            "arm": pair[0], "against": pair[1], "metric": metric, "scope": name,
                            "seed": seed, **found,
                        }
                    )  # fmt: skip
    return rows


def average(gaps: list[tuple[float, np.ndarray]]) -> tuple[float, np.ndarray]:
    """Mean over seeds; a resample draws seeds, too: models vary as much as users do."""
    spreads = np.array([spread for _, spread in gaps])
    n_seeds, n_resamples = spreads.shape
    drawn = np.random.default_rng(0).integers(0, n_seeds, (n_seeds, n_resamples))
    resampled = np.take_along_axis(spreads, drawn, axis=0).mean(axis=0)
    return float(np.mean([value for value, _ in gaps])), resampled


def gap(
    draws: Draws, pair: tuple[str, str], seed: int, metric: str, scope: int
) -> tuple[float, np.ndarray]:
    """Difference of two arms of one seed, and under resampling."""
    values = [draws.of(f"{arm}-{seed}", metric) for arm in pair]
    return (
        float(values[0][0][scope] - values[1][0][scope]),
        values[0][1][scope] - values[1][1][scope],
    )


if __name__ == "__main__":
    main()
