"""Whether models that differ in their seed alone tell the same story.

    python -m benchmarks.seed_stability --data data/sample --market KR --work runs/seeds \
        --output seeds.json

Trains the fusion with each seed (encoders, halves of validation, initial weights, order), explains
the same impressions with each model, and holds every pair of models against each other: effects
over markets and levers, contributions within each impression. Models and explanations that are in
the work folder are not made again.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from benchmarks.table import markdown
from purchase_predictor.errors import SettingsError

SEED_OF_EXPLAIN = 0
"""The same for all models, so that the same impressions are explained."""


def make(options: argparse.Namespace, seed: int) -> Path:
    """Train and explain with a seed, unless that is there.

    Args:
        options: of the command line.
        seed: of the model.

    Returns:
        The folder of explanations.

    Raises:
        CalledProcessError: a command failed, and has said why.
    """
    run, explained = (options.work / f"{name}-{seed}" for name in ("run", "explained"))
    if not (run / "metrics.json").is_file():
        sets = ["baselines.systems=[]", "tracking.register_model=false", *options.set]
        given = ["--market", options.market, "--seed", str(seed), "--output", str(run)]
        _command("train", options.data, given + [text for one in sets for text in ("--set", one)])
    if not (explained / "report.html").is_file():
        given = ["--model", str(run / "model"), "--output", str(explained)]
        given += ["--impressions", str(options.impressions), "--seed", str(SEED_OF_EXPLAIN)]
        _command("explain", options.data, given)
    return explained


def _command(name: str, data: Path, given: list[str]) -> None:
    command = [sys.executable, "-m", "purchase_predictor", name, "--data", str(data), "--quiet"]
    subprocess.run([*command, *given], check=True)


def _refuse_other(options: argparse.Namespace) -> None:
    """See that models and explanations in the work folder are of these options.

    Raises:
        SettingsError: it was made by others.
    """
    made_by = {
        "data": str(options.data.resolve()), "market": options.market,
        "impressions": options.impressions, "set": options.set,
    }  # fmt: skip
    file: Path = options.work / "made-by.json"
    if not file.is_file():
        options.work.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(made_by))
    elif json.loads(file.read_text()) != made_by:
        raise SettingsError(f"{options.work} was made by other options: take another --work")


def agreement(first: Path, second: Path) -> dict[str, float]:
    """How far two models tell the same.

    Args:
        first: folder of explanations.
        second: likewise, of the same impressions.

    Returns:
        `effects`: rank correlation over markets and levers. For each method of contributions,
        `METHOD`: mean rank correlation over tokens within an impression, where a token that has
        nothing counts as zero; `METHOD, largest`: share of impressions whose largest token in size
        is the same.
    """
    keys = ["market", "lever", "phrase"]
    effects = [pl.read_parquet(folder / "effects.parquet") for folder in (first, second)]
    both = effects[0].join(effects[1], on=keys, suffix="_other")
    found = {"effects": float(spearmanr(both["logit"], both["logit_other"])[0])}
    tokens = ["impression_id", "method", "modality", "token"]
    values = [
        pl.read_parquet(folder / "contributions.parquet")
        .group_by(tokens)
        .agg(pl.col("value").sum().alias(name))
        for folder, name in ((first, "one"), (second, "other"))
    ]
    if set(values[0]["impression_id"]) != set(values[1]["impression_id"]):
        raise ValueError(f"{first} and {second} explain different impressions")
    joined = values[0].join(values[1], on=tokens, how="full", coalesce=True).fill_null(0.0)
    largest = [
        (pl.col(name).abs().arg_max().alias(f"largest_{name}")) for name in ("one", "other")
    ]
    rows = (
        joined.sort(tokens)
        .group_by("method", "impression_id")
        .agg(pl.corr("one", "other", method="spearman").alias("rank"), *largest)
    )
    for (method,), part in rows.group_by("method"):
        found[str(method)] = float(np.nanmean(part["rank"].to_numpy()))
        same = part["largest_one"] == part["largest_other"]
        found[f"{method}, largest"] = float(np.mean(same.to_numpy()))
    return dict(sorted(found.items()))


def summary(pairs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Mean, least and largest over pairs of models of each figure."""
    names = list(dict.fromkeys(name for pair in pairs for name in pair["agreement"]))
    rows = []
    for name in names:
        values = [pair["agreement"][name] for pair in pairs if name in pair["agreement"]]
        rows.append([name, f"{np.mean(values):.2f}", f"{min(values):.2f}", f"{max(values):.2f}"])
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Train, explain, compare, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--market", default="all", help="a market, or all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="of models")
    parser.add_argument("--impressions", type=int, default=500, help="explained, about")
    parser.add_argument("--set", action="append", default=[], help="key.path=value")
    parser.add_argument("--work", type=Path, required=True, help="folder of models")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    try:
        _refuse_other(options)
        folders = {seed: make(options, seed) for seed in options.seeds}
    except subprocess.CalledProcessError as error:
        print(f"error: {error.cmd[3]} failed", file=sys.stderr)
        return 2
    except SettingsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    pairs = [
        {"seeds": [one, other], "agreement": agreement(folders[one], folders[other])}
        for one, other in combinations(folders, 2)
    ]
    options.output.write_text(json.dumps(pairs, indent=1) + "\n")
    print(markdown(["agreement", f"mean of {len(pairs)} pairs", "least", "most"], summary(pairs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
