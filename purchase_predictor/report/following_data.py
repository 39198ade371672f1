"""What the report of what happened after scoring shows; plain data."""

from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Followed:
    """All that was found when scores met outcomes.

    Attributes:
        data: name and fingerprint of the outcomes, files of scores, period of the drift, resamples
            and level of the intervals.
        models: `model` (label), `system`, `model_version`, in the order of the files.
        joined: what was joined and what was not.
        realised: calibration and discrimination of each model, by market.
        calibration: the same as a table: `calibration.parquet`.
        reliability: `system` (label), `bin, n, predicted, rate, low, high`.
        drift: each model by market and period: `drift.parquet`.
        flags: what happened to rows with a flag, by model.
        gaps: paired gaps of models on the impressions that both scored.
        apart: differences of conversion rates of models that served different impressions.
        policy: values of ranking by one model instead of another, or why there is none.
    """

    data: dict[str, Any]
    models: list[dict[str, str]]
    joined: dict[str, Any]
    realised: list[dict[str, Any]]
    calibration: pl.DataFrame
    reliability: pl.DataFrame
    drift: pl.DataFrame
    flags: list[dict[str, Any]]
    gaps: list[dict[str, Any]]
    apart: list[dict[str, Any]]
    policy: list[dict[str, Any]]

    def labels(self) -> list[str]:
        """Names of the models."""
        return [model["model"] for model in self.models]


def quoted(entry: dict[str, Any]) -> dict[str, Any]:
    """The figures that stand for a model: the mean of markets, or all rows of fewer than two.

    Args:
        entry: of `Followed.realised`.
    """
    found: dict[str, Any] = entry[quoted_scope(entry)]
    return found


def quoted_scope(entry: dict[str, Any]) -> str:
    """What the figures of `quoted` are over: `macro` or `pooled`."""
    return "macro" if len(entry["markets_averaged"]) > 1 else "pooled"
