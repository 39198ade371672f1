"""Paired bootstrap over units: every metric of every system under the same resamples.

A resample is a count of each unit. Rows are sorted once for each system and market; after that
each metric is a function of weighted sums, which one sparse and one dense product with the
matrix of counts give for many resamples at once. No resample copies or sorts a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from threadpoolctl import threadpool_limits

from purchase_predictor.evaluation import metrics
from purchase_predictor.evaluation.delong import scope_covariances
from purchase_predictor.evaluation.metrics import METRICS
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.settings import EvaluationSettings

Floats = NDArray[np.float64]

CELLS = 2_000_000
"""Numbers in the largest array of a chunk of resamples (16 MB), which bounds the memory."""

MAX_UNDEFINED = 0.05
"""An interval is withheld where the metric is undefined in a larger share of the resamples."""

MACRO, POOLED = 0, 1
"""The first two scopes of `Draws`; the markets follow."""

NOISE = len(METRICS)
"""Slot of the calibration error that sampling alone would show, after the metrics' own."""

BIASED = ("average_precision", "ece")
"""Metrics that a sample inflates, and a resample of it again: their intervals are pivotal."""


@dataclass(frozen=True)
class Draws:
    """Metrics of systems, as they are and under resampling.

    A *scope* is the macro average (0), all rows pooled (1) or a market (2 onwards).

    Attributes:
        systems: names.
        markets: names; market i has scope 2 + i.
        averaged: bool [n_markets], markets in the macro average.
        n: int64 [n_scopes], rows; of the macro average: of its markets.
        n_positive: int64 [n_scopes], conversions.
        n_units: int64 [n_scopes], distinct units.
        auc_covariance: float64 [n_scopes, n_systems, n_systems], by DeLong, of the AUCs.
        value: float64 [n_systems, n_scopes, n_metrics], metrics in the order of `METRICS`.
        draws: float64 [n_systems, n_scopes, n_metrics + 1, n_resamples]; the last is `NOISE`.
    """

    systems: tuple[str, ...]
    markets: tuple[str, ...]
    averaged: NDArray[np.bool_]
    n: NDArray[np.int64]
    n_positive: NDArray[np.int64]
    n_units: NDArray[np.int64]
    auc_covariance: Floats
    value: Floats
    draws: Floats

    def of(self, system: str, metric: str) -> tuple[Floats, Floats]:
        """One metric of one system: values [n_scopes] and draws [n_scopes, n_resamples]."""
        i, k = self.systems.index(system), METRICS.index(metric)
        return self.value[i, :, k], self.draws[i, :, k]

    def interval(
        self, system: str, scope: int, metric: str, confidence: float
    ) -> dict[str, float | None]:
        """Interval of one metric: percentile, or pivotal for the metrics in `BIASED`.

        A sample inflates average precision and calibration error, and a resample inflates them
        again, so percentiles lie above the truth (simulated coverage of a 95 % interval over ten
        markets: 0.74 and 0.00). The pivotal interval takes the bias off; that of the calibration
        error also reaches down to 0 where sampling alone would show as much.

        Returns:
            `value`, `low` and `high`, None where undefined.
        """
        values, draws = self.of(system, metric)
        value, spread = float(values[scope]), draws[scope]
        plain = percentile_interval(value, spread, confidence)
        low, high = plain["low"], plain["high"]
        if metric not in BIASED or low is None or high is None:
            return plain
        low, high = max(0.0, min(value, 2 * value - high)), min(1.0, max(value, 2 * value - low))
        if metric == "ece":
            noise = self.draws[self.systems.index(system), scope, NOISE]
            if value <= np.nanquantile(noise, (1 + confidence) / 2):
                low = 0.0
        return {"value": value, "low": low, "high": high}


def draw(rows: Rows, *, settings: EvaluationSettings, seed: int) -> Draws:
    """Measure every system on every market, on all rows and on average, and resample the units.

    Args:
        rows: predictions.
        settings: resamples (each serves all systems, metrics and markets), bins, and the
            conversions below which a market is left out of the macro average.
        seed: of the resampling.
    """
    n_bins, n_resamples = settings.ece_bins, settings.resamples
    groups = [np.arange(len(rows)), *rows.groups()]
    shape = (len(rows.systems), 1 + len(groups), len(METRICS))
    value = np.full(shape, np.nan)
    draws = np.full((*shape[:2], 1 + len(METRICS), n_resamples), np.nan)
    units: list[NDArray[np.int64]] = []
    plans: list[list[Plan]] = []
    for g, group in enumerate(groups):
        present, unit = np.unique(rows.unit[group], return_inverse=True)
        units.append(present)
        plans.append([])
        for i in range(len(rows.systems)):
            y, p, lists = rows.y[group], rows.p[i, group], rows.lists[group]
            measured = metrics.measure(y, p, lists, n_bins=n_bins)
            value[i, 1 + g] = list(measured.values())
            plans[g].append(Plan.prepare(y, p, lists, unit, len(present), n_bins))
    if len(rows):
        chunk = int(np.clip(CELLS // len(rows), 4, 64))
        # the products are small: BLAS threads would wait for one another longer than they work
        with threadpool_limits(1, user_api="blas"):
            for a, weights in resample(rows.n_units, n_resamples, chunk, seed):
                for g, present in enumerate(units):
                    own = weights if len(present) == len(weights) else weights[present]
                    for i, plan in enumerate(plans[g]):
                        draws[i, 1 + g, :, a : a + weights.shape[1]] = plan.evaluate(own)
    n_positive = np.array([int(rows.y[group].sum()) for group in groups])
    averaged = n_positive[1:] >= settings.min_test_conversions
    inside = averaged[rows.market]
    value[:, MACRO] = _macro(value[:, 2:], value[:, 2:], averaged)
    reference = np.concatenate([value[:, 2:], value[:, 2:, [METRICS.index("ece")]]], axis=2)
    draws[:, MACRO] = _macro(draws[:, 2:], reference, averaged)
    return Draws(
        systems=rows.systems,
        markets=rows.markets,
        averaged=averaged,
        n=np.array([inside.sum(), *map(len, groups)]),
        n_positive=np.array([rows.y[inside].sum(), *n_positive]),
        n_units=np.array([len(np.unique(rows.unit[inside])), *map(len, units)]),
        auc_covariance=scope_covariances(rows, averaged),
        value=value,
        draws=draws,
    )


def percentile_interval(value: float, draws: Floats, confidence: float) -> dict[str, float | None]:
    """Percentile interval of a figure.

    Args:
        value: the figure on the rows as they are.
        draws: the figure under resampling [n_resamples].
        confidence: level.

    Returns:
        `value`, `low` and `high`; None where the figure is undefined, the interval also where it
        is in more than `MAX_UNDEFINED` of the resamples (fewer than about three units converted).
    """
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    defined = draws[np.isfinite(draws)]
    if len(defined) < (1 - MAX_UNDEFINED) * len(draws):
        return {"value": float(value), "low": None, "high": None}
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return {"value": float(value), "low": float(low), "high": float(high)}


def resample(
    n_units: int, n_resamples: int, chunk: int, seed: int
) -> Iterator[tuple[int, Floats]]:
    """Draw units with replacement.

    Args:
        n_units: how many there are, and how many each resample draws.
        n_resamples: resamples in all.
        chunk: resamples handed out at once; the draws do not depend on it.
        seed: of the draws.

    Yields:
        The number of the first resample of the chunk and the counts, float64 [n_units, chunk].
    """
    generator = np.random.default_rng(seed)
    for a in range(0, n_resamples, chunk):
        size = min(chunk, n_resamples - a)
        weights = np.empty((n_units, size))
        for r in range(size):
            drawn = generator.integers(0, n_units, n_units)
            weights[:, r] = np.bincount(drawn, minlength=n_units)
        yield a, weights


@dataclass(frozen=True)
class Plan:
    """One system on one set of rows, made ready to be measured under any counts of the units.

    Let the distinct predictions of the conversions be s_1 < … < s_K. Whatever the weights, AUC,
    average precision and lift depend on the other rows only through their weight at each s_k and
    between one and the next: 2K + 1 bins.

    Attributes:
        binned: sparse [3K + 1 + n_bins, n_units], rows without conversion in the 2K + 1 bins,
            conversions at each of the K predictions, outcome minus prediction in each
            equal-mass bin.
        sums: float64 [16, n_units], everything that enters as a plain sum.
        n_tied: K.
        residual: float64 [n_bins], outcome minus prediction in each bin of the rows as they are.
        slope: calibration slope of the rows as they are, NaN where it is not defined.
    """

    binned: sparse.csr_array
    sums: Floats
    n_tied: int
    residual: Floats
    slope: float

    @classmethod
    def prepare(
        cls,
        y: NDArray[np.bool_],
        p: Floats,
        lists: NDArray[np.int64],
        unit: NDArray[np.int64],
        n_units: int,
        n_bins: int,
    ) -> "Plan":
        """Sort the rows into bins and sum them by unit.

        Args:
            y: outcomes [n].
            p: probabilities [n].
            lists: the list of each row [n].
            unit: the unit of each row [n], 0 .. n_units - 1.
            n_units: columns of the plan.
            n_bins: equal-mass bins.
        """
        at = np.unique(p[y])
        left, right = np.searchsorted(at, p, "left"), np.searchsorted(at, p, "right")
        k = len(at)
        place = np.where(y, 2 * k + 1 + left, left + right)
        ece_bin = 3 * k + 1 + (metrics.equal_mass_bins(p, n_bins) if len(p) else place)
        entries = np.concatenate([np.ones(len(p)), y - p])
        cells = (np.concatenate([place, ece_bin]), np.concatenate([unit, unit]))
        binned = sparse.coo_array((entries, cells), shape=(3 * k + 1 + n_bins, n_units)).tocsr()
        intercept, slope = metrics.calibration_line(y, p)
        columns = [np.ones(len(p)), y, p, metrics.row_log_loss(y, p), (y - p) ** 2]
        columns += _slope_terms(y, p, intercept, slope)
        sums = [np.bincount(unit, weights=column, minlength=n_units) for column in columns]
        first, reciprocal = metrics.reciprocal_ranks(y, p, lists)
        sums.append(np.bincount(unit[first], minlength=n_units).astype(float))
        sums.append(np.bincount(unit[first], weights=reciprocal, minlength=n_units))
        return cls(
            binned=binned,
            sums=np.stack(sums),
            n_tied=k,
            residual=binned[3 * k + 1 :].sum(axis=1),
            slope=slope,
        )

    def evaluate(self, weights: Floats) -> Floats:
        """All metrics under counts of the units.

        Args:
            weights: float64 [n_units, n_resamples].

        Returns:
            float64 [n_metrics + 1, n_resamples], in the order of `METRICS` and then `NOISE`, NaN
            where undefined.
        """
        binned, sums = self.binned @ weights, self.sums @ weights
        n, positive, predicted, log_loss, brier = sums[:5]
        with np.errstate(divide="ignore", invalid="ignore"):
            ranking = self._ranking(binned, positive, n - positive)
            residual = binned[3 * self.n_tied + 1 :]
            log_loss = log_loss / n
            values = {
                **ranking,
                "log_loss": log_loss,
                "normalised_entropy": log_loss / metrics.entropy(positive / n),
                "brier": brier / n,
                "ece": np.abs(residual).sum(0) / n,
                "slope": self.slope + _slope_change(sums[5:14]),
                "mean_ratio": predicted / positive,
                "mrr": sums[15] / sums[14],
            }
            noise = np.abs(residual - self.residual[:, None]).sum(0) / n
        result = np.stack([*(values[name] for name in METRICS), noise])
        result[~np.isfinite(result)] = np.nan
        return result

    def _ranking(self, binned: Floats, positive: Floats, negative: Floats) -> dict[str, Floats]:
        k = self.n_tied
        pos = binned[2 * k + 1 : 3 * k + 1]
        through = np.cumsum(binned[: 2 * k + 1], axis=0)  # negatives in this bin or below
        below, tied = through[0 : 2 * k : 2], binned[1 : 2 * k : 2]
        found = np.cumsum(pos[::-1], axis=0)[::-1]  # conversions predicted this high or higher
        reached = found + negative - below  # rows predicted this high or higher
        precision = found / np.where(pos > 0, reached, 1)
        wanted = metrics.LIFT_SHARE * (positive + negative)
        block = np.where(pos > 0, pos + tied, 1)
        share = np.clip((wanted - (reached - pos - tied)) / block, 0, 1)
        one_class = np.where((positive > 0) & (negative > 0), 0.0, np.nan)
        return {
            "auc": (pos * (below + tied / 2)).sum(0) / (positive * negative) + one_class,
            "average_precision": (pos * precision).sum(0) / positive + one_class,
            "lift_10": (pos * share).sum(0) / positive / metrics.LIFT_SHARE,
        }


def _slope_terms(y: NDArray[np.bool_], p: Floats, intercept: float, slope: float) -> list[Floats]:
    """Derivatives of the log-likelihood at its maximum, of each row: first, second and third."""
    x = metrics.safe_logit(p)
    mu = expit(intercept + slope * x) if np.isfinite(slope) else np.full(len(x), np.nan)
    x = x - x.mean() if len(x) else x  # for the sake of conditioning
    variance = mu * (1 - mu)
    third = variance * (1 - 2 * mu)
    first = [(y - mu) * x**power for power in range(2)]
    second = [variance * x**power for power in range(3)]
    return first + second + [third * x**power for power in range(4)]


def _slope_change(terms: Floats) -> Floats:
    """How far a resample moves the maximum likelihood slope, by Chebyshev's third-order step.

    Args:
        terms: float64 [9, n_resamples], sums of `_slope_terms` under the weights.
    """
    g0, g1, h00, h01, h11, t0, t1, t2, t3 = terms
    determinant = h00 * h11 - h01**2
    a = (h11 * g0 - h01 * g1) / determinant
    b = (h00 * g1 - h01 * g0) / determinant
    g0 = g0 - (t0 * a * a + 2 * t1 * a * b + t2 * b * b) / 2
    g1 = g1 - (t1 * a * a + 2 * t2 * a * b + t3 * b * b) / 2
    return (h00 * g1 - h01 * g0) / determinant


def _macro(values: Floats, reference: Floats, averaged: NDArray[np.bool_]) -> Floats:
    """Average over the markets that are averaged and where the metric is defined at all."""
    used = np.isfinite(reference) & averaged[:, None]
    used = used.reshape(*used.shape, *[1] * (values.ndim - used.ndim))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(used, values, 0.0).sum(1) / used.sum(1)
