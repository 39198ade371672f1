"""Drift: what was predicted and what happened, week by week, and how the scores moved."""

from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl

from purchase_predictor.evaluation.stability import psi, psi_by_chance
from purchase_predictor.following.joining import Joined
from purchase_predictor.following.resampling import Floats, Ints, Sums, resampled_sums
from purchase_predictor.settings import EvaluationSettings

DAYS_OF_WEEKS = 21
"""From this span on, periods are calendar weeks (from Monday, UTC), below it days."""

POOLED = "pooled"
"""The scope of all markets, and its name where a market's would stand."""

SCHEMA: dict[str, Any] = {
    "system": pl.String, "model_version": pl.String, "model": pl.String, "scope": pl.String,
    "market": pl.String, "period": pl.Date, "n": pl.Int64, "n_positive": pl.Int64,
    "rate": pl.Float64, "predicted": pl.Float64, "ratio": pl.Float64, "low": pl.Float64,
    "high": pl.Float64, "psi": pl.Float64, "psi_by_chance": pl.Float64,
}  # fmt: skip
"""Columns of `drift.parquet`."""


def period_of(frame: pl.DataFrame) -> str:
    """`week`, or `day` where the rows span less than three weeks.

    Args:
        frame: rows with `timestamp`.
    """
    span = frame.select(pl.col("timestamp").max() - pl.col("timestamp").min()).item()
    return "week" if span >= timedelta(days=DAYS_OF_WEEKS) else "day"


def drift(joined: Joined, *, settings: EvaluationSettings, seed: int) -> pl.DataFrame:
    """Each model's calibration in the large and score distribution by period.

    `ratio` is the mean prediction over the realised rate, as the metric `mean_ratio`: 1 is right,
    above it the model promises too much. Null where nothing converted.

    Args:
        joined: scores and outcomes.
        settings: resamples of users and level.
        seed: of the resampling.

    Returns:
        Columns of `SCHEMA`, by model, scope, market and period. `psi` compares the scores of the
        period with those of the model's first one in the same scope (0 there).
    """
    every = {"week": "1w", "day": "1d"}[period_of(joined.happened())]
    parts = []
    for model in joined.models:
        rows = joined.happened(model.label).select(
            "unit", "market", "converted", p=model.label,
            period=pl.col("timestamp").dt.truncate(every).dt.date(),
        )  # fmt: skip
        scopes = [rows.with_columns(scope=pl.lit(POOLED), market=pl.lit(POOLED))]
        if rows["market"].n_unique() > 1:
            scopes.append(rows.with_columns(scope=pl.lit("market")))
        for part in scopes:
            table = _by_period(part, settings=settings, seed=seed)
            names = {"system": model.system, "model_version": model.version, "model": model.label}
            parts.append(
                table.with_columns(pl.lit(text).alias(name) for name, text in names.items())
            )
    return pl.concat(part.select(list(SCHEMA)) for part in parts)


def ratios(
    p: Floats,
    y: Floats,
    unit: Ints,
    group: Ints,
    n_groups: int,
    *,
    settings: EvaluationSettings,
    seed: int,
) -> list[dict[str, Any]]:
    """Rate, mean prediction and their ratio in groups of rows.

    Args:
        p: probabilities [n].
        y: outcomes [n].
        unit: of each row [n].
        group: of each row [n].
        n_groups: how many there are.
        settings: resamples and level.
        seed: of the resampling.

    Returns:
        For each group `n, n_positive, rate, predicted, ratio, low, high`; None where undefined.
    """
    sums = resampled_sums(
        np.stack([np.ones_like(p), y, p]), unit, settings=settings, seed=seed,
        group=group, n_groups=n_groups,
    )  # fmt: skip
    n, positive, predicted = sums.value
    ratio = sums.ratio(2, 1)
    found = []
    for g in range(n_groups):
        figure = Sums(ratio.value[g], ratio.draws[g]).figure(settings.confidence)
        found.append(
            {
                "n": int(n[g]),
                "n_positive": int(positive[g]),
                "rate": float(positive[g] / n[g]) if n[g] else None,
                "predicted": float(predicted[g] / n[g]) if n[g] else None,
                "ratio": figure["value"],
                "low": figure["low"],
                "high": figure["high"],
            }
        )
    return found


def flagged(joined: Joined, *, settings: EvaluationSettings, seed: int) -> list[dict[str, Any]]:
    """What happened to rows that scoring raised a flag for: do the fallbacks hold?

    Args:
        joined: scores and outcomes.
        settings: resamples and level.
        seed: of the resampling.

    Returns:
        For each model and flag `model, flag` and what `ratios` gives.
    """
    found = []
    for model in joined.models:
        own = joined.flags.filter(pl.col("model") == model.label).unique()
        rows = joined.happened(model.label).join(own, on="impression_id")
        if rows.is_empty():
            continue
        names = rows["flag"].unique().sort().to_list()
        code = rows["flag"].rank("dense").cast(pl.Int64).to_numpy() - 1
        figures = ratios(
            *_columns(rows, model.label), code, len(names), settings=settings, seed=seed
        )
        found += [
            {"model": model.label, "flag": name, **figure}
            for name, figure in zip(names, figures, strict=True)
        ]
    return found


def _by_period(rows: pl.DataFrame, *, settings: EvaluationSettings, seed: int) -> pl.DataFrame:
    """Figures by scope, market and period."""
    keys = ["scope", "market", "period"]
    groups = rows.select(keys).unique().sort(keys).with_row_index("group")
    coded = rows.join(groups, on=keys, maintain_order="left")
    figures = ratios(
        *_columns(coded, "p"), coded["group"].to_numpy().astype(np.int64), len(groups),
        settings=settings, seed=seed,
    )  # fmt: skip
    scores = dict(coded.group_by("group").agg("p").iter_rows())
    first: dict[str, Floats] = {}
    moved = []
    for group, market in groups.select("group", "market").iter_rows():
        now = np.asarray(scores[group])
        before = first.setdefault(market, now)
        value, n_bins = psi(before, now)
        chance = psi_by_chance(len(before), len(now), n_bins, settings.confidence)
        moved.append({"psi": value, "psi_by_chance": None if before is now else chance})
    found = [{**figure, **move} for figure, move in zip(figures, moved, strict=True)]
    schema = {name: kind for name, kind in SCHEMA.items() if name in found[0]}
    return pl.concat([groups, pl.DataFrame(found, schema=schema)], how="horizontal")


def _columns(rows: pl.DataFrame, probability: str) -> tuple[Floats, Floats, Ints]:
    return (
        rows[probability].to_numpy(),
        rows["converted"].cast(pl.Float64).to_numpy(),
        rows["unit"].rank("dense").cast(pl.Int64).to_numpy(),
    )
