"""Comparisons that the benchmarks quote, all by `purchase_predictor.evaluation`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit

from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.gap import paired_gaps
from purchase_predictor.evaluation.intervals import MACRO, POOLED, draw, percentile_interval
from purchase_predictor.evaluation.metrics import normalised_entropy, safe_logit
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.evaluation.summary import BASELINE, with_ceilings
from purchase_predictor.panel import FUSION
from purchase_predictor.settings import EvaluationSettings

GAP_METRICS = ("auc", "normalised_entropy", "average_precision", "mrr", "log_loss")
"""Metrics in which every system is held against LightGBM."""


WIDEST_CHANGE = 20.0
"""Log-odds between which a level is looked for."""


def shares(result: Mapping[str, Any]) -> dict[str, dict[str, dict[str, float | None]]]:
    """How far each system comes from the base rate to each ceiling, in normalised entropy.

    Args:
        result: what `evaluate` returned.

    Returns:
        (1 − NE) / (1 − NE of the ceiling), by system, then scope (macro, pooled), then ceiling.
        The interval of the share of the observable ceiling is `share_closed` of the result.
    """
    found: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, system in result["systems"].items():
        found[name] = {}
        for scope in ("macro", "pooled"):
            reached = system[scope]["normalised_entropy"]["value"]
            found[name][scope] = {
                ceiling: _share(reached, figures[scope]["normalised_entropy"]["value"])
                for ceiling, figures in result["ceilings"].items()
            }
    return found


def _share(reached: float | None, best: float | None) -> float | None:
    if reached is None or best is None or best >= 1:
        return None
    return (1 - reached) / (1 - best)


def levelled_shares(
    predictions: pl.DataFrame, truth: pl.DataFrame, result: Mapping[str, Any]
) -> dict[str, float]:
    """The way to the observable ceiling that is left when the level is put right.

    The ceiling knows how much the test months convert, which nothing before them tells. Here each
    system's logits are moved by one constant, to the mean of the best observable probability: what
    the system lacks beside that.

    Args:
        predictions: test rows with a column for each system.
        truth: impression_id and p_observable, if that is known.
        result: what `evaluate` returned of both.

    Returns:
        (1 − NE) / (1 − NE of the ceiling) by system, NE averaged over the markets that `result`
        averages, the level set on all rows; empty where there is no ceiling or no such market.

    Raises:
        DataError: the truth does not know an impression.
    """
    known, ceilings = with_ceilings(predictions, truth)
    averaged = result["markets_averaged"]
    if "observable" not in ceilings or not averaged:
        return {}
    reached = result["ceilings"]["observable"]["macro"]["normalised_entropy"]["value"]
    mean = known[ceilings["observable"]].mean()
    y = known["converted"].to_numpy().astype(np.float64)
    markets = [(known["market"] == name).to_numpy() for name in averaged]
    levelled = {}
    for name in result["systems"]:
        logits = safe_logit(known[name].to_numpy())
        change = brentq(
            lambda c, z=logits: expit(z - c).mean() - mean, -WIDEST_CHANGE, WIDEST_CHANGE
        )
        p = expit(logits - change)
        entropy = np.mean([normalised_entropy(y[rows], p[rows]) for rows in markets])
        share = _share(float(entropy), reached)
        if share is not None:
            levelled[name] = share
    return levelled


def calibration_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Calibration of every system on every market, the markets with most conversions first.

    Args:
        result: what `evaluate` returned.

    Returns:
        `system, market, n_positive, base_rate, ece, ece_share` (of the base rate), `slope`,
        `mean_ratio`; the market `all` is all rows pooled. Where the best observable probability
        is known also `best_ece_share`, what noise alone makes of these rows, and
        `ratio_to_best`, the mean prediction over its mean, which the chance of the conversions
        leaves alone; None elsewhere.
    """
    rows = []
    best = result["ceilings"].get("observable")
    for name, system in result["systems"].items():
        for market in ["all", *system["markets"]]:
            figures = _of_market(system, market)
            n, n_positive = figures["n"], figures["n_positive"]
            rate = n_positive / n if n else 0.0
            ece, ratio = (figures[metric]["value"] for metric in ("ece", "mean_ratio"))
            best_ece = best_ratio = None
            if best is not None:
                noise = _of_market(best, market)
                best_ece, best_ratio = (noise[metric]["value"] for metric in ("ece", "mean_ratio"))
            rows.append(
                {
                    "system": name,
                    "market": market,
                    "n_positive": n_positive,
                    "base_rate": rate,
                    "ece": ece,
                    "ece_share": _ratio(ece, rate),
                    "slope": figures["slope"]["value"],
                    "mean_ratio": ratio,
                    "best_ece_share": _ratio(best_ece, rate),
                    "ratio_to_best": _ratio(ratio, best_ratio),
                }
            )
    return sorted(rows, key=lambda row: (row["market"] != "all", -row["n_positive"]))


def _of_market(system: Mapping[str, Any], market: str) -> Mapping[str, Any]:
    return system["pooled"] if market == "all" else system["markets"][market]


def _ratio(value: float | None, to: float | None) -> float | None:
    return None if value is None or not to else value / to


def fusion_gaps(
    predictions: pl.DataFrame, arms: Sequence[str], settings: EvaluationSettings, seed: int
) -> list[dict[str, Any]]:
    """What each changed fusion loses to the whole one: a gap in log-loss above zero is a loss.

    Args:
        predictions: test rows with the columns `fusion` and those of the arms.
        arms: changed fusions, without a modality for example.
        settings: resamples and level.
        seed: of the resampling.

    Returns:
        `paired_gaps` of each arm, `ARM − fusion`: macro, pooled, each market.
    """
    draws = draw(Rows.from_frame(predictions, [FUSION, *arms]), settings=settings, seed=seed)
    pairs = [(arm, FUSION) for arm in arms]
    return paired_gaps(draws, pairs, settings=settings, metrics=("log_loss", "auc"))


def over_seeds(
    frames: Mapping[int, pl.DataFrame], systems: Sequence[str], settings: EvaluationSettings
) -> list[dict[str, Any]]:
    """Mean difference to LightGBM over seeds, with both sources of variance.

    A resample draws units, the same for every seed and system, and then seeds. The mean over
    drawn seeds varies by (n − 1) / n of what it should, n being the number of seeds; its
    deviations are stretched by as much.

    Args:
        frames: test predictions of each seed, of the same rows.
        systems: names; LightGBM among them.
        settings: resamples and level.

    Returns:
        `arm, against, metric, scope` (macro, pooled), `value, low, high, by_seed`, `n_seeds`.

    Raises:
        DataError: the seeds judge different rows.
    """
    joined = _side_by_side(frames, systems)
    names = [f"{name}@{seed}" for seed in frames for name in systems]
    draws = draw(Rows.from_frame(joined, names), settings=settings, seed=0)
    gaps = []
    for metric in GAP_METRICS:
        for scope, label in ((MACRO, "macro"), (POOLED, "pooled")):
            for arm in systems:
                if arm == BASELINE:
                    continue
                values, spreads = [], []
                for seed in frames:
                    a, b = (
                        draws.of(f"{arm}@{seed}", metric),
                        draws.of(f"{BASELINE}@{seed}", metric),
                    )
                    values.append(float(a[0][scope] - b[0][scope]))
                    spreads.append(a[1][scope] - b[1][scope])
                mean = resampled_mean(np.array(spreads))
                gap = percentile_interval(float(np.mean(values)), mean, settings.confidence)
                gaps.append(
                    {
                        "arm": arm, "against": BASELINE, "metric": metric, "scope": label, **gap,
                        "by_seed": [None if np.isnan(value) else value for value in values],
                        "n_seeds": len(values),
                    }
                )  # fmt: skip
    return gaps


def resampled_mean(spreads: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean over seeds under resampling of units and seeds.

    Args:
        spreads: float64 [n_seeds, n_resamples], each seed's figure under resampled units.

    Returns:
        float64 [n_resamples].
    """
    n_seeds, n_resamples = spreads.shape
    mean = spreads.mean(axis=0)
    if n_seeds == 1:
        return mean
    drawn = np.random.default_rng(0).integers(0, n_seeds, (n_seeds, n_resamples))
    deviation = np.take_along_axis(spreads, drawn, axis=0).mean(axis=0) - mean
    return mean + np.sqrt(n_seeds / (n_seeds - 1)) * deviation


def _side_by_side(frames: Mapping[int, pl.DataFrame], systems: Sequence[str]) -> pl.DataFrame:
    """The rows of the first seed with a column `SYSTEM@SEED` for each."""
    first, *_ = frames.values()
    joined = first.select("impression_id", "market", "converted", "unit", "list_number")
    for seed, frame in frames.items():
        named = frame.select("impression_id", **{f"{n}@{seed}": pl.col(n) for n in systems})
        joined = joined.join(named, on="impression_id", how="left", maintain_order="left")
        if len(frame) != len(first) or joined[joined.columns[-1]].null_count():
            raise DataError(f"seed {seed} judges other test rows than the seeds before it")
    return joined
