"""Whether `follow`'s off-policy values agree with what policies are truly worth.

    python -m benchmarks.policy_worlds --output runs/policy_worlds.json --worlds 20

Every world is a sample marketplace of its own, drawn without pictures and with the share of
offers left to chance as it is (a tenth). LightGBM on simple columns learns from the first 30 % of
the time, once from all markets (`global`) and once from each (`local`), and scores the later
lists that count: those with two offers or more left to chance. In a world of 180,000 impressions
these are about 1,500, and some dozens of the offers that a policy shows convert. Scores and
outcomes are written as `score` and `sample` write them and go through the reading, joining and
valuing of `follow`.

Two ways of logging are asked. `drawn` is the marketplace's own: every offer that chance drew was
shown, and all three estimators are the same number. `chosen` is made from it: chance shows one of
a list's candidates, with a known propensity between 1 and 3 parts of the whole, and hides the
outcomes of the others; here the estimators part, and about half the conversions are seen.

**The truth** is the mean `p_true` of what each policy shows on exactly those lists, worked out
apart from the code that is judged: each list differs in the user and the moment, and it is their
chances, not the coins that fell, which the values are to tell. The intervals resample users and so
allow also for other lists than these. That is a little more than the truth used here needs, but
little: at rates near 2 % nearly all of the spread between lists is that of the coins.

A run that was ended goes on where it was.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import binomtest

from features.arrays import TEST
from features.culture import load_profiles
from features.schema import Tables, load_tables
from features.splits import split_impressions
from purchase_predictor.checkpoint import write_json
from purchase_predictor.comparison.flat import FlatModels
from purchase_predictor.data.marketplace.simulation import draw
from purchase_predictor.data.marketplace.tables import (
    events_table,
    impressions_table,
    product_ids,
    products_table,
)
from purchase_predictor.data.marketplace.world import SampleSize, sample_size
from purchase_predictor.errors import DataError, UserError
from purchase_predictor.following.drift import POOLED
from purchase_predictor.following.joining import join, read_outcomes, read_scores
from purchase_predictor.following.policy import CHOSEN, DRAWN, ESTIMATORS, policy_values
from purchase_predictor.settings import Settings, load_settings

World = dict[str, Any]

CHEAP = (
    "baselines.lightgbm.learning_rate=0.1", "baselines.lightgbm.patience=30",
    "baselines.lightgbm.threads=1",
)  # fmt: skip
"""As `gap_coverage.py` learns: in wide steps, with one thread."""

STOP_SHARE, LATER_SHARE = 0.08, 0.7
"""Shares of the sessions that tell when training stops, and that are scored."""

LOCAL, GLOBAL = "lightgbm local", "lightgbm global"
"""Labels that `follow` gives the models; the later one is the arm."""

LOGGINGS = (DRAWN, CHOSEN)
SIDES = ("arm", "against", "difference")


def measure(seed: int, size: SampleSize, settings: Settings) -> list[World]:
    """One world, as `follow` and as truth value it.

    Args:
        seed: of the world, of LightGBM and of the resampling.
        size: of the world.
        settings: of LightGBM and of the evaluation.

    Returns:
        For each way of logging `logging`, `true` (of `SIDES`), `markets` with a local model, and
        what `policy_values` says over all markets.

    Raises:
        RuntimeError: the lists that were valued are not those whose truth is told.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        p_true = write_world(folder / DRAWN, seed, size)
        scores = write_scores(load_tables(folder / DRAWN), folder, settings, seed)
        write_chosen(folder / DRAWN, folder / CHOSEN, seed)
        truth = true_values(folder / DRAWN, scores, p_true)
        found = []
        for logging in LOGGINGS:
            outcomes = read_outcomes(
                folder / logging, max_title_chars=settings.data.max_title_chars
            )
            joined = join(read_scores(scores), outcomes)
            (value,) = (
                entry
                for entry in policy_values(
                    joined,
                    bad_propensity=outcomes.bad_propensity,
                    settings=settings.evaluation,
                    seed=seed,
                )
                if entry["scope"] == POOLED
            )
            if value["refused"] is None and (
                (value["logging"], value["n_lists"]) != (logging, truth["n_lists"])
                or (value["arm"], value["against"]) != (GLOBAL, LOCAL)
            ):
                raise RuntimeError(f"world {seed}: the truth told is not that of {value}")
            found.append({**value, "logging": logging, "true": truth})
    return found


def write_world(folder: Path, seed: int, size: SampleSize) -> pl.DataFrame:
    """Write a sample marketplace without pictures.

    Its own `split` is left out: models shall learn from an early part.

    Returns:
        `impression_id` and `p_true`.
    """
    drawn = draw(size, seed=seed, culture="on", progress=lambda _line: None)
    ids = product_ids(drawn.world, drawn.catalogue)
    impressions = impressions_table(
        drawn.catalogue, drawn.sessions, drawn.offers, drawn.converted, ids
    ).drop("split")
    folder.mkdir()
    impressions.write_parquet(folder / "impressions.parquet")
    events_table(drawn.sessions, ids).write_parquet(folder / "events.parquet")
    products = products_table(drawn.world, drawn.catalogue, ids).drop("image")
    products.write_parquet(folder / "products.parquet")
    return impressions.select("impression_id").with_columns(p_true=drawn.p_true)


def write_scores(tables: Tables, folder: Path, settings: Settings, seed: int) -> list[Path]:
    """Learn from the early rows and score the later lists; files as `score` writes them.

    A market with too few early rows to learn from has no local scores, and `follow` leaves its
    lists out.
    """
    split = split_impressions(
        tables, validation_fraction=STOP_SHARE, test_fraction=LATER_SHARE, seed=seed
    )
    # other rows are not needed, and encoding them would take most of the time
    counts = (pl.col("propensity").count().over("list_id") > 1) & pl.col("list_id").is_not_null()
    used = (split.part != TEST) | tables.impressions.select(counts).to_series().to_numpy()
    tables = replace(tables, impressions=tables.impressions.filter(pl.Series(used)))
    models = FlatModels(tables, replace(split, part=split.part[used]), settings)
    profiles = load_profiles(settings.data.profiles_file)
    local = []
    for market in models.markets:
        try:
            local.append(models.predict([market], [market], seed=seed, profiles=profiles))
        except DataError as error:
            print(f"world {seed}: no local model of {market}: {error}", flush=True)
    whole = models.predict(models.markets, models.markets, seed=seed, profiles=profiles)
    files = []
    for label, rows in ((LOCAL, pl.concat(local)), (GLOBAL, whole)):
        system, version = label.split(" ")
        files.append(folder / f"{version}.parquet")
        rows.select(
            "impression_id",
            "market",
            probability="p",
            system=pl.lit(system),
            model_version=pl.lit(version),
            flags=pl.lit([], dtype=pl.List(pl.String)),
        ).write_parquet(files[-1])
    return files


def write_chosen(source: Path, folder: Path, seed: int) -> None:
    """The same impressions, had chance shown one of each list's candidates alone."""
    folder.mkdir()
    rows = pl.read_parquet(source / "impressions.parquet")
    rng = np.random.default_rng([seed, 1])
    candidate = pl.col("propensity").is_not_null() & pl.col("list_id").is_not_null()
    liking, lot = rng.uniform(1, 3, len(rows)), rng.exponential(size=len(rows))
    rows = rows.with_columns(candidate=candidate, liking=liking, lot=pl.Series(lot / liking))
    of_list = ["list_id", "candidate"]
    # the least of exponential lots falls to each with its share of the rates
    first = pl.col("lot") == pl.col("lot").min().over(of_list)
    rows.with_columns(
        propensity=pl.when("candidate").then(
            pl.col("liking") / pl.col("liking").sum().over(of_list)
        ),
        converted=pl.when(~pl.col("candidate") | first).then("converted"),
    ).drop("candidate", "liking", "lot").write_parquet(folder / "impressions.parquet")
    for name in ("events.parquet", "products.parquet"):
        (folder / name).symlink_to((source / name).resolve())


def true_values(data: Path, scores: Sequence[Path], p_true: pl.DataFrame) -> dict[str, float]:
    """Mean `p_true` of what the policies show.

    Args:
        data: folder of the world as it was drawn.
        scores: files of `local` and of `global`.
        p_true: by impression.

    Returns:
        `SIDES`, and `n_lists`.
    """
    rows = pl.read_parquet(data / "impressions.parquet").drop_nulls(["propensity", "list_id"])
    rows = rows.select("impression_id", "list_id").join(p_true, on="impression_id")
    names = ("against", "arm")
    for name, file in zip(names, scores, strict=True):
        given = pl.read_parquet(file).select("impression_id", pl.col("probability").alias(name))
        rows = rows.join(given, on="impression_id", how="left")
    lists = (
        rows.group_by("list_id")
        .agg(
            pl.len().alias("n"),
            pl.all_horizontal(pl.col(*names).is_not_null()).all().alias("ranked"),
            *(
                pl.col("p_true").filter(pl.col(name) == pl.col(name).max()).mean().alias(name)
                for name in names
            ),
        )
        .filter("ranked", pl.col("n") > 1)
    )
    arm, against = (float(lists[name].to_numpy().mean()) for name in ("arm", "against"))
    return {
        "arm": arm, "against": against, "difference": arm - against, "n_lists": len(lists)
    }  # fmt: skip


# ---- told


def agreement(worlds: Sequence[Sequence[World]]) -> list[dict[str, Any]]:
    """How often the intervals hold the truth.

    Args:
        worlds: of `measure`, in the order of their seeds.

    Returns:
        For each way of logging, estimator and side `logging, estimator, side, n` (worlds with an
        interval), `refused`, `held` with the share's 95 % interval `low`, `high` (Clopper and
        Pearson), `first_20` (held among the first 20 worlds), and over worlds the means `true`,
        `bias` (estimate less truth) with its standard error `error`, `width`, `effective` (lists,
        the smaller of both policies) and `positive` (conversions seen, likewise).
    """
    told = []
    for place, logging in enumerate(LOGGINGS):
        entries = [world[place] for world in worlds]
        given = [entry for entry in entries if entry["refused"] is None]
        for estimator in ESTIMATORS:
            for side in SIDES:
                row: dict[str, Any] = {"logging": logging, "estimator": estimator, "side": side}
                row["refused"] = len(entries) - len(given)
                told.append(row | _agreement(given, estimator, side))
    return told


def _agreement(entries: Sequence[World], estimator: str, side: str) -> dict[str, Any]:
    """One row of `agreement`; entries that were refused are not among them."""
    pairs = [(entry["estimates"][estimator][side], entry["true"][side]) for entry in entries]
    known = [(figure, true) for figure, true in pairs if figure["low"] is not None]
    if not known:
        return {"n": 0}
    held = [figure["low"] <= true <= figure["high"] for figure, true in known]
    exact = binomtest(sum(held), len(held)).proportion_ci()
    off = np.array([figure["value"] - true for figure, true in known])
    return {
        "n": len(known),
        "held": sum(held),
        "low": float(exact.low),
        "high": float(exact.high),
        "first_20": sum(held[:20]),
        "true": float(np.mean([true for _, true in known])),
        "bias": float(off.mean()),
        "error": float(off.std(ddof=1) / np.sqrt(len(off))) if len(off) > 1 else None,
        "width": float(np.mean([figure["high"] - figure["low"] for figure, _ in known])),
        "effective": float(np.mean([min(entry["effective"].values()) for entry in entries])),
        "positive": float(np.mean([min(entry["n_positive"].values()) for entry in entries])),
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'logging':8}{'estimator':10}{'side':11}{'held':>9}{'95 %':>15}{'first 20':>9}"
          f"{'true':>9}{'bias':>9}{'± error':>9}{'width':>8}{'lists':>7}{'seen':>6}"
          f"{'refused':>8}")  # fmt: skip
    for row in rows:
        names = f"{row['logging']:8}{row['estimator']:10}{row['side']:11}"
        if not row["n"]:
            print(f"{names}{'no interval':>9}; refused {row['refused']}")
            continue
        held = f"{row['held']} of {row['n']}"
        between = f"{row['low']:.3f} to {row['high']:.3f}"
        error = "" if row["error"] is None else f"{row['error']:.5f}"
        print(f"{names}{held:>9}{between:>15}{row['first_20']:>9}{row['true']:>9.5f}"
              f"{row['bias']:>+9.5f}{error:>9}{row['width']:>8.5f}{row['effective']:>7.0f}"
              f"{row['positive']:>6.0f}{row['refused']:>8}")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--worlds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first world")
    parser.add_argument("--impressions", type=int, default=180_000, help="of a world")
    parser.add_argument("--listings", type=int, default=2_000, help="of a world")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(overrides=[*CHEAP, *options.set])
        size = sample_size(SampleSize(options.impressions, options.listings))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    asked = {"set": options.set, "impressions": options.impressions, "listings": options.listings}
    kept: dict[str, Any] = {"asked": asked, "results": {}}
    if options.output.is_file():
        kept = json.loads(options.output.read_text("utf-8"))
        if kept.get("asked") != asked:
            print(f"error: {options.output} has results of other settings", file=sys.stderr)
            return 2
    seeds = range(options.seed, options.seed + options.worlds)
    done = kept["results"]
    missing = [seed for seed in seeds if str(seed) not in done]
    began = time.perf_counter()
    for count, seed in enumerate(missing, start=1):
        done[str(seed)] = measure(seed, size, settings)
        write_json(options.output, kept)
        each = (time.perf_counter() - began) / count
        left = (len(missing) - count) * each / 60
        print(
            f"{count} of {len(missing)} worlds, {each:.0f} s each, {left:.0f} min left", flush=True
        )
    kept["agreement"] = agreement([done[str(seed)] for seed in seeds])
    write_json(options.output, kept)
    show(kept["agreement"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
