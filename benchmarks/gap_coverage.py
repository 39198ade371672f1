"""Whether the gaps that `compare` reports keep their word: coverage, verdicts, power.

    python benchmarks/gap_coverage.py --output runs/gap_coverage.json

Every world (`gap_worlds.py`: four markets, about 60 to 500 test conversions) is drawn anew,
LightGBM learns from all markets and from each, and the package's own `draw_seeds` and
`compare_arms` judge the test.

Coverage: does the interval of a market's gap, global less local, hold the true gap of the two
fitted models, told by known probabilities on ten times as many shoppers? DeLong's interval stands
beside it. Then what the verdicts say: how often the wrong arm is called better, and how often
`equivalent` is said where the true gap is not within the margin.

Power: in one market (B) noise is put on the log-odds of `local` until the true gap is as large as
80 % of tests of that size should find: the smallest detectable difference, by the standard error
over ten times as many shoppers, brought to the size of the test. (A test's own estimate of it errs
along with the gap that it is to judge: in a test that shows too small a gap it is too small, and a
gap as large as what that test reports is found less often than in 80 of 100 worlds.) In the other
markets both arms get noise of their own, so that no gap is there: Holm's procedure should call one
better in 5 of 100 worlds at most.

LightGBM learns in wide steps (0.1, patience 30) with one thread, to be cheap. A run that was ended
goes on where it was.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binomtest

from benchmarks.gap_worlds import (
    KNOWN_TIMES,
    SIZES,
    draw_world,
    fit_arms,
    frame,
    true_gaps,
    true_metrics,
)
from features.arrays import TEST
from purchase_predictor.checkpoint import write_json
from purchase_predictor.comparison.arms import PRIMARY
from purchase_predictor.comparison.verdicts import (
    EQUIVALENT,
    GAPS,
    compare_arms,
    draw_seeds,
)
from purchase_predictor.errors import UserError
from purchase_predictor.evaluation.gap import NOT_ENOUGH, smallest_detectable
from purchase_predictor.evaluation.intervals import POOLED
from purchase_predictor.evaluation.metrics import safe_logit
from purchase_predictor.settings import Settings, load_settings

Floats = NDArray[np.float64]
Gap = dict[str, Any]

CHEAP = (
    "baselines.lightgbm.learning_rate=0.1", "baselines.lightgbm.patience=30",
    "baselines.lightgbm.threads=1",
)  # fmt: skip

POWER_SEEDS = 1_000_000
"""Worlds of the power have other seeds than those of the coverage."""

PLANTED = "B"
NULL_NOISE = 0.3
"""Standard deviation, in log-odds, of the noise on both arms where no gap is planted."""

NOISES = (0.1, 2.0)
"""Between these lies the noise that plants the gap."""

KEPT = (
    "market", "metric", "value", "low", "high", "delong_low", "delong_high",
    "smallest_detectable", "n_test_positive", "verdict",
)  # fmt: skip


def cover(seed: int, settings: Settings) -> list[Gap]:
    """The reported gaps of one world, and the true ones beside them as `true`.

    Args:
        seed: of the world and of LightGBM.
        settings: of LightGBM and of the evaluation.
    """
    rows, known = draw_world(seed)
    test = rows.select(rows.part == TEST)
    tested, of_known = fit_arms(rows, [test, known], settings, seed)
    true = true_gaps(known, of_known)
    draws = draw_seeds([frame(test, tested)], PRIMARY, settings)
    averaged = [name for name, kept in zip(draws.markets, draws.averaged, strict=True) if kept]
    true["macro"] = {name: np.mean([true[one][name] for one in averaged]) for name in GAPS}
    return [
        {name: gap.get(name) for name in KEPT}
        | {"true": float(true[gap["market"]][gap["metric"]])}
        for gap in compare_arms(draws, settings, {})
        if gap["market"] in true
    ]


def plant(seed: int, settings: Settings) -> Gap:
    """One world with a gap as large as 80 % of such tests should find.

    Args:
        seed: of the world and of the noise.
        settings: as for `cover`.

    Returns:
        `true` and `detectable`, equal but for the search; what the test has for it as
        `smallest_detectable`; `value`, whether it was `found`, and whether a gap was `called`
        where there is none.

    Raises:
        ValueError: no noise makes the gap as large.
    """
    rows, known = draw_world(seed)
    test = rows.select(rows.part == TEST)
    tested, of_known = (arms[PRIMARY[0]] for arms in fit_arms(rows, [test, known], settings, seed))
    generator = np.random.default_rng([seed, 1])
    noise, of_truth = generator.normal(size=(2, len(tested))), generator.normal(size=len(known.y))
    place = list(SIZES).index(PLANTED)
    here, there = test.market == place, known.market == place

    def arms(sigma: NDArray[np.float64] | float, p: Floats, of: Floats) -> dict[str, Floats]:
        return dict(zip(PRIMARY, expit(safe_logit(p) + sigma * of), strict=True))

    shoppers, sure = known.select(there), of_known[there]
    like_local = np.stack([np.zeros(there.sum()), of_truth[there]])

    def planted(sigma: float) -> float:
        found = arms(sigma, sure, like_local)
        own, against = (true_metrics(shoppers.p, found[arm])["auc"] for arm in PRIMARY)
        return own - against

    def detectable(sigma: float) -> float:
        draws = draw_seeds([frame(shoppers, arms(sigma, sure, like_local))], PRIMARY, settings)
        spread = np.subtract(*(draws.of(arm, "auc")[1][POOLED] for arm in PRIMARY))
        error = float(spread.std(ddof=1)) * np.sqrt(KNOWN_TIMES)
        return smallest_detectable(error, 1 - settings.evaluation.confidence, len(SIZES))

    def excess(log_sigma: float) -> float:
        sigma = float(np.exp(log_sigma))
        return planted(sigma) - detectable(sigma)

    sigma = float(np.exp(brentq(excess, *np.log(NOISES), xtol=0.02)))
    shown = arms(np.where(here, [[0.0], [sigma]], NULL_NOISE), tested, noise)
    found = compare_arms(draw_seeds([frame(test, shown)], PRIMARY, settings), settings, {})
    own = _of(found, PLANTED)
    others = [_of(found, name) for name in SIZES if name != PLANTED]
    return {
        "noise": sigma,
        "true": planted(sigma),
        "detectable": detectable(sigma),
        **{name: own[name] for name in ("value", "smallest_detectable", "n_test_positive")},
        "found": own["verdict"] == PRIMARY[0],
        "called": any(gap["verdict"] in PRIMARY for gap in others),
    }


def _of(gaps: Sequence[Gap], market: str) -> Gap:
    return next(gap for gap in gaps if (gap["market"], gap["metric"]) == (market, "auc"))


# ---- told


def coverage_rows(worlds: Sequence[Sequence[Gap]]) -> list[dict[str, Any]]:
    """How often the intervals hold the truth, by metric and market.

    Args:
        worlds: of `cover`.

    Returns:
        `metric, market, n` (intervals), `positives` (mean test conversions), `covered` and its
        95 % interval `covered_low`, `covered_high` (Clopper and Pearson), `delong` (coverage of
        DeLong's; AUC only), `true` (mean), `bias` (mean of reported less true), `width` (mean).
    """
    told = []
    flat = [gap for world in worlds for gap in world if gap["low"] is not None]
    for metric in GAPS:
        for market in (*SIZES, "macro"):
            gaps = [gap for gap in flat if (gap["metric"], gap["market"]) == (metric, market)]
            if not gaps:
                continue
            inside = [gap["low"] <= gap["true"] <= gap["high"] for gap in gaps]
            exact = binomtest(sum(inside), len(inside)).proportion_ci()
            row = {
                "metric": metric,
                "market": market,
                "n": len(gaps),
                "positives": float(np.mean([gap["n_test_positive"] for gap in gaps])),
                "covered": float(np.mean(inside)),
                "covered_low": float(exact.low),
                "covered_high": float(exact.high),
                "delong": None,
                "true": float(np.mean([gap["true"] for gap in gaps])),
                "bias": float(np.mean([gap["value"] - gap["true"] for gap in gaps])),
                "width": float(np.mean([gap["high"] - gap["low"] for gap in gaps])),
            }
            if metric == "auc":
                held = [gap["delong_low"] <= gap["true"] <= gap["delong_high"] for gap in gaps]
                row["delong"] = float(np.mean(held))
            told.append(row)
    return told


def verdict_counts(worlds: Sequence[Sequence[Gap]], margin: float) -> dict[str, int]:
    """What the verdicts on markets' AUC said, and how often that was wrong.

    Args:
        worlds: of `cover`.
        margin: of equivalence.

    Returns:
        `verdicts`, `better` (an arm was called better), `wrong_arm` (it is the worse one),
        `equivalent`, `not_within` (the true gap is not within the margin), `not_enough`.
    """
    gaps = [
        gap for world in worlds for gap in world
        if gap["metric"] == "auc" and gap["market"] in SIZES
    ]  # fmt: skip
    better = [gap for gap in gaps if gap["verdict"] in PRIMARY]
    equivalent = [gap for gap in gaps if gap["verdict"] == EQUIVALENT]
    return {
        "verdicts": len(gaps),
        "better": len(better),
        "wrong_arm": sum((gap["true"] > 0) != (gap["verdict"] == PRIMARY[0]) for gap in better),
        "equivalent": len(equivalent),
        "not_within": sum(abs(gap["true"]) >= margin for gap in equivalent),
        "not_enough": sum(gap["verdict"] == NOT_ENOUGH for gap in gaps),
    }


def power_row(planted: Sequence[Gap]) -> dict[str, Any]:
    """How often the planted gap was found, and one where there is none.

    Args:
        planted: of `plant`, in the order of their seeds.

    Returns:
        `worlds`, `found` and its share's 95 % interval, `first_20` (found among the first 20),
        `called` (worlds in which a market without a gap got a verdict), `gap` (mean planted).
    """
    found = [one["found"] for one in planted]
    exact = binomtest(sum(found), len(found)).proportion_ci()
    return {
        "worlds": len(found),
        "found": sum(found),
        "found_low": float(exact.low),
        "found_high": float(exact.high),
        "first_20": sum(found[:20]),
        "called": sum(one["called"] for one in planted),
        "gap": float(np.mean([one["true"] for one in planted])),
    }


def show(document: dict[str, Any]) -> None:
    """Print the tables."""
    print(f"{'metric':20}{'market':8}{'positives':>10}{'covered':>9}{'95 %':>16}{'DeLong':>8}"
          f"{'true gap':>10}{'bias':>9}{'width':>8}")  # fmt: skip
    for row in document["coverage"]:
        delong = "" if row["delong"] is None else f"{row['delong']:.3f}"
        between = f"{row['covered_low']:.3f} to {row['covered_high']:.3f}"
        print(
            f"{row['metric']:20}{row['market']:8}{row['positives']:>10.0f}{row['covered']:>9.3f}"
            f"{between:>16}{delong:>8}{row['true']:>+10.4f}{row['bias']:>+9.4f}{row['width']:>8.4f}"
        )
    if document["coverage"]:
        told = document["verdicts"]
        print(
            f"{told['verdicts']} verdicts: {told['better']} call an arm better, "
            f"{told['wrong_arm']} of them the worse one; {told['equivalent']} say equivalent, "
            f"{told['not_within']} of them beyond the margin; {told['not_enough']} not enough data"
        )
    if document["power"]:
        power = document["power"]
        print(
            f"planted gap (mean {power['gap']:+.4f}): found in {power['found']} of "
            f"{power['worlds']} worlds ({power['found_low']:.0%} to {power['found_high']:.0%}), "
            f"in {power['first_20']} of the first {min(20, power['worlds'])}; a gap called where "
            f"there is none in {power['called']}"
        )


# ---- run


def measured(
    call: Callable[[int, Settings], Any], seeds: Sequence[int], settings: Settings, jobs: int
) -> Iterator[tuple[int, Any]]:
    """Results as they come, with their seeds."""
    if jobs == 1:
        for seed in seeds:
            yield seed, call(seed, settings)
        return
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(call, seed, settings): seed for seed in seeds}
        for future in as_completed(futures):
            yield futures[future], future.result()


def repeat(
    kept: dict[str, Any],
    file: Path,
    name: str,
    seeds: Sequence[int],
    settings: Settings,
    jobs: int,
) -> list[Any]:
    """Measure what is missing, keeping each result as soon as it is there.

    Args:
        kept: what the file holds; changed.
        file: JSON.
        name: `cover` or `planted`.
        seeds: wanted.
        settings: as for both.
        jobs: processes.
    """
    call = {"cover": cover, "planted": plant}[name]
    done = kept["results"].setdefault(name, {})
    missing = [seed for seed in seeds if str(seed) not in done]
    began = time.perf_counter()
    for count, (seed, result) in enumerate(measured(call, missing, settings, jobs), start=1):
        done[str(seed)] = result
        write_json(file, kept)
        each = (time.perf_counter() - began) / count
        left = (len(missing) - count) * each / 60
        print(f"{name}: {len(done)} worlds, {each:.1f} s each, {left:.0f} min left", flush=True)
    return [done[str(seed)] for seed in seeds]


def main(arguments: list[str] | None = None) -> int:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--worlds", type=int, default=200, help="of the coverage")
    parser.add_argument("--power-worlds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args(arguments)
    try:
        settings = load_settings(overrides=[*CHEAP, *options.set])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    kept: dict[str, Any] = {"asked": options.set, "results": {}}
    if options.output.is_file():
        found = json.loads(options.output.read_text("utf-8"))
        if found.get("asked") != options.set:
            print(f"error: {options.output} has results of other settings", file=sys.stderr)
            return 2
        kept = found
    seeds = range(options.worlds)
    covered = repeat(kept, options.output, "cover", seeds, settings, options.jobs)
    seeds = range(POWER_SEEDS, POWER_SEEDS + options.power_worlds)
    planted = repeat(kept, options.output, "planted", seeds, settings, options.jobs)
    kept["coverage"] = coverage_rows(covered)
    kept["verdicts"] = verdict_counts(covered, settings.comparison.margin)
    kept["power"] = power_row(planted) if planted else {}
    write_json(options.output, kept)
    show(kept)
    return 0


if __name__ == "__main__":
    sys.exit(main())
