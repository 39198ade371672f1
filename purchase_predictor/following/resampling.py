"""Figures that are functions of sums over units, with intervals: users are resampled."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit, logit
from scipy.stats import norm
from threadpoolctl import threadpool_limits

from purchase_predictor.evaluation.gap import AGAINST, ARM, NOT_ENOUGH, POWER, UNDECIDED
from purchase_predictor.evaluation.intervals import CELLS, percentile_interval, resample
from purchase_predictor.settings import EvaluationSettings

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Figure = dict[str, float | None]


@dataclass(frozen=True)
class Sums:
    """Sums as they are and under resampling.

    Attributes:
        value: float64 [...].
        draws: float64 [..., n_resamples].
    """

    value: Floats
    draws: Floats

    def ratio(self, above: int, below: int) -> "Sums":
        """One sum over another, NaN where that is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.asarray(self.value[above] / self.value[below])
            draws = self.draws[above] / self.draws[below]
        value, draws = (np.where(np.isfinite(x), x, np.nan) for x in (value, draws))
        return Sums(value, draws)

    def minus(self, other: "Sums") -> "Sums":
        """The difference under the same resamples."""
        return Sums(self.value - other.value, self.draws - other.draws)

    def figure(self, confidence: float, *, known: bool = True) -> Figure:
        """`value`, `low` and `high` of a single figure.

        Args:
            confidence: level.
            known: False where nothing converted: resamples of nothing are all alike, and their
                interval would say that 0 is certain.
        """
        found = percentile_interval(float(self.value), self.draws, confidence)
        return found if known else {**found, "low": None, "high": None}

    def rate(self, confidence: float, *, known: bool = True) -> Figure:
        """`value`, `low` and `high` of a rate that few conversions make up.

        Resamples of two dozen conversions lie as far below the rate as above it, but a rate that
        is not known may rather be higher: the percentile interval ends too low. This one is the
        normal interval of the log-odds (as of proportions in surveys: Korn and Graubard 1998),
        with the standard error of the resamples.

        Args:
            confidence: level.
            known: as in `figure`.

        Returns:
            As `figure`, also where the value has no log-odds or the resamples say nothing.
        """
        found = self.figure(confidence, known=known)
        value = found["value"]
        if value is None or found["low"] is None or not 0 < value < 1:
            return found
        spread = float(np.nanstd(self.draws, ddof=1)) / (value * (1 - value))
        reach = float(norm.isf((1 - confidence) / 2)) * spread
        low, high = expit(logit(value) + np.array([-reach, reach]))
        return {"value": value, "low": float(low), "high": float(high)}


def resampled_sums(
    columns: Floats,
    unit: Ints,
    *,
    settings: EvaluationSettings,
    seed: int,
    group: Ints | None = None,
    n_groups: int = 1,
) -> Sums:
    """Sum columns, and sum them again in every resample of the units.

    Args:
        columns: [n_columns, n].
        unit: of each row [n], any codes; all of them are drawn from, whatever their group.
        settings: resamples.
        seed: of the resampling.
        group: of each row [n], 0 .. n_groups - 1; without it all rows are one group.
        n_groups: how many groups there are.

    Returns:
        Sums [n_columns] without groups, else [n_columns, n_groups].
    """
    units, code = np.unique(unit, return_inverse=True)
    of = np.zeros(len(unit), np.int64) if group is None else group
    by_unit = sparse.vstack(
        [
            sparse.coo_array((column, (of, code)), shape=(n_groups, len(units)))
            for column in columns
        ]
    ).tocsr()
    draws = np.empty((by_unit.shape[0], settings.resamples))
    chunk = int(np.clip(CELLS // max(len(units), 1), 4, 64))
    with threadpool_limits(1, user_api="blas"):  # the products are small
        for a, weights in resample(len(units), settings.resamples, chunk, seed):
            draws[:, a : a + weights.shape[1]] = by_unit @ weights
    shape = (len(columns),) if group is None else (len(columns), n_groups)
    value = np.asarray(by_unit.sum(axis=1)).reshape(shape)
    return Sums(value, draws.reshape(*shape, settings.resamples))


def judged(
    difference: Sums, positive: tuple[int, int], settings: EvaluationSettings
) -> dict[str, Any]:
    """A difference *arm − against* of values that are better when higher, and what it says.

    Args:
        difference: a single figure.
        positive: conversions seen by the arm, and by what it is held against.
        settings: level, and the conversions below which there is no verdict.

    Returns:
        `value`, `low`, `high`, `smallest_detectable` (80 % power) and `verdict`.
    """
    alpha = 1 - settings.confidence
    found: dict[str, Any] = dict(difference.figure(settings.confidence, known=sum(positive) > 0))
    known = found["low"] is not None
    reach = float(norm.isf(alpha / 2) + norm.ppf(POWER))
    error = float(np.nanstd(difference.draws, ddof=1)) if known else None
    found["smallest_detectable"] = None if error is None else reach * error
    if not known or min(positive) < settings.min_test_conversions:
        found["verdict"] = NOT_ENOUGH
    elif found["low"] > 0:
        found["verdict"] = ARM
    else:
        found["verdict"] = AGAINST if found["high"] < 0 else UNDECIDED
    return found
