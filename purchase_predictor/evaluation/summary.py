"""Everything that `metrics.json` says of a run's test rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.gap import GAP_METRICS, normal_interval, paired_gaps
from purchase_predictor.evaluation.intervals import (
    MACRO,
    POOLED,
    Draws,
    draw,
    percentile_interval,
)
from purchase_predictor.evaluation.metrics import METRICS
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.settings import EvaluationSettings

BASELINE = "lightgbm"
"""The system that every other one is held against."""

CEILINGS = {"true": "p_true", "observable": "p_observable", "fitted": "p_fitted"}
"""Names of the ceilings and their columns in the truth."""


def evaluate(
    predictions: pl.DataFrame,
    *,
    systems: Sequence[str],
    settings: EvaluationSettings,
    seed: int,
    truth: pl.DataFrame | None = None,
    gap_metrics: Sequence[str] = GAP_METRICS,
) -> dict[str, Any]:
    """Measure systems on the rows they predicted, with intervals, ceilings and gaps.

    Args:
        predictions: impression_id, unit, market, list_number, converted, and for each system a
            column of its name with probabilities.
        systems: names of the systems.
        settings: resamples, level and thresholds.
        seed: of the resampling.
        truth: impression_id, p_true, p_observable and perhaps p_fitted, where they are known.
        gap_metrics: metrics in which systems are held against LightGBM.

    Returns:
        What goes into `metrics.json`: `systems`, `ceilings`, `gaps` (every system against
        LightGBM), `markets_averaged`, `markets_left_out` and `intervals` (how they were made).
        JSON-able; None stands where a figure is not defined.

    Raises:
        ValueError: a label is missing or a prediction is not a probability; names the system.
        DataError: the truth does not know an impression.
    """
    ceilings: dict[str, str] = {}
    if truth is not None:
        predictions, ceilings = with_ceilings(predictions, truth)
    rows = Rows.from_frame(predictions, [*systems, *ceilings.values()])
    draws = draw(rows, settings=settings, seed=seed)
    observable = ceilings.get("observable")
    pairs = [(name, BASELINE) for name in systems if name != BASELINE and BASELINE in systems]
    return {
        "systems": {
            name: _describe(draws, name, settings.confidence, observable) for name in systems
        },
        "ceilings": {
            ceiling: _describe(draws, name, settings.confidence, None)
            for ceiling, name in ceilings.items()
        },
        "gaps": paired_gaps(draws, pairs, settings=settings, metrics=gap_metrics),
        "markets_averaged": [
            name for name, kept in zip(draws.markets, draws.averaged, strict=True) if kept
        ],
        "markets_left_out": _left_out(draws, settings.min_test_conversions),
        "intervals": {
            "resamples": settings.resamples,
            "confidence": settings.confidence,
            "resampled": "units (users, or sessions where the user is unknown)",
            "seed": seed,
        },
    }


def _left_out(draws: Draws, least: int) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "n": int(draws.n[POOLED + 1 + k]),
            "n_positive": int(draws.n_positive[POOLED + 1 + k]),
            "reason": f"fewer than {least} test conversions",
        }
        for k, name in enumerate(draws.markets)
        if not draws.averaged[k]
    }


def with_ceilings(
    predictions: pl.DataFrame, truth: pl.DataFrame
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Predictions with the probabilities of the ceilings beside them.

    Args:
        predictions: impression_id and others.
        truth: impression_id and columns of `CEILINGS`, as many as are known.

    Returns:
        The table, and the name of its new column for each ceiling.

    Raises:
        DataError: the truth does not know an impression.
    """
    present = {name: column for name, column in CEILINGS.items() if column in truth.columns}
    known = truth.select(
        "impression_id", *(pl.col(c).alias(f"ceiling {name}") for name, c in present.items())
    )
    joined = predictions.join(known, on="impression_id", how="left", maintain_order="left")
    columns = {name: f"ceiling {name}" for name in present}
    for column in columns.values():
        missing = joined[column].null_count()
        if missing:
            raise DataError(
                f"the truth has no '{CEILINGS[column.removeprefix('ceiling ')]}' for {missing} of "
                f"{len(joined)} impressions; it belongs to other data"
            )
    return joined, columns


def _describe(
    draws: Draws,
    name: str,
    confidence: float,
    observable: str | None,
) -> dict[str, Any]:
    """Macro, pooled and market figures of one system or ceiling."""
    i = draws.systems.index(name)
    scopes = []
    for scope in range(2 + len(draws.markets)):
        figures: dict[str, Any] = {
            metric: draws.interval(name, scope, metric, confidence) for metric in METRICS
        }
        value, variance = float(draws.of(name, "auc")[0][scope]), draws.auc_covariance[scope, i, i]
        figures["auc"] |= normal_interval(value, float(variance), 1 - confidence)
        if observable is not None:
            figures["share_closed"] = _share_closed(draws, name, observable, scope, confidence)
        figures["n"] = int(draws.n[scope])
        figures["n_positive"] = int(draws.n_positive[scope])
        figures["n_units"] = int(draws.n_units[scope])
        scopes.append(figures)
    scopes[MACRO]["n_markets"] = int(draws.averaged.sum())
    return {
        "macro": scopes[MACRO],
        "pooled": scopes[POOLED],
        "markets": dict(zip(draws.markets, scopes[2:], strict=True)),
    }


def _share_closed(
    draws: Draws, name: str, observable: str, scope: int, confidence: float
) -> dict[str, float | None]:
    """Share of the way from the base rate (normalised entropy 1) to the observable ceiling."""
    value, spread = draws.of(name, "normalised_entropy")
    best, best_spread = draws.of(observable, "normalised_entropy")
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(best < 1, (1 - value) / (1 - best), np.nan)[scope]
        shares = (1 - spread[scope]) / (1 - best_spread[scope])
    shares = np.where(best_spread[scope] < 1, shares, np.nan)
    return percentile_interval(float(share), shares, confidence)
