"""What the report of the comparison shows; plain data."""

from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Transfer:
    """What markets are to one another.

    Attributes:
        matrix: `trained_on, market, auc, n_test_positive`: AUC on a market of a model trained on
            another, and of the model of all markets in the rows of `EVERY`.
        gaps: of a market never seen against all markets: as `gap.json` has them.
        culture: of what a model is told of a market never seen: gaps against being told nothing.
        beyond: likewise, of being told cultural dimensions against each draw of random numbers.
    """

    matrix: pl.DataFrame
    gaps: list[dict[str, Any]]
    culture: list[dict[str, Any]]
    beyond: list[dict[str, Any]]


EVERY = "all markets"
"""Trained on all of them, in `Transfer.matrix`."""

DIMENSIONS = "cultural dimensions"
"""Arm of `Transfer.culture` that is told the published ones; all others are told random ones."""

CHANCE = "chance"
"""What the model for all is held against where a market's own rows train no model: AUC 0.5."""


@dataclass(frozen=True)
class Comparison:
    """All that a comparison found.

    Attributes:
        data: name, fingerprint, rows and conversions of each market, seeds, system, level.
        figures: metrics of every arm: arm, scope, metric.
        gaps: as `gap.json` has them; the primary contrast has `primary`.
        across: meta-analysis of every contrast, the primary first (see `across_markets`).
        kappa: conversions at which a market's own model counts half; one for each seed.
        reasons: why a market has no model of its own.
        unstopped: markets without rows of both outcomes to stop training by, under one seed at
            least.
        curves: points of the learning curves; None where they were not asked for.
        break_even: of each market: market, conversions, low, high, largest, smallest.
        transfer: None where it was not asked for.
    """

    data: dict[str, Any]
    figures: dict[str, dict[str, dict[str, Any]]]
    gaps: list[dict[str, Any]]
    across: list[dict[str, Any]]
    kappa: list[float]
    reasons: dict[str, str]
    unstopped: list[str]
    curves: pl.DataFrame | None
    break_even: list[dict[str, Any]]
    transfer: Transfer | None

    def primary(self) -> list[dict[str, Any]]:
        """The gap of the primary contrast in each market."""
        return [gap for gap in self.gaps if gap["primary"] and gap["scope"] == "market"]

    def over_chance(self) -> dict[str, dict[str, Any]]:
        """The gap of the model for all over chance, of each market without a model of its own."""
        return {gap["market"]: gap for gap in self.gaps if gap["against"] == CHANCE}
