"""How sure the readout's weights of terms and phrases are: what effects get their intervals from.

Two things make such a weight uncertain. The rows leave it open, and so does the penalty that drew
it to zero: the inverse curvature of the penalised likelihood has both in it (the Laplace
approximation of the posterior). And rows are not independent: a user's share the user, a
listing's share everything about it that no column tells. Clustering by both (Cameron, Gelbach and
Miller, Journal of Business and Economic Statistics 29, 2011) adds what they have in common.

A penalty fits the typical weight of its block, and draws a weight that is far from typical too far
to zero: such a posterior covers on average over all weights, and the large ones, which people ask
for, too seldom. So levers are solved a second time with a sixteenth of their penalties, which
leaves weights four times as large as typical nearly alone, and an interval spans those of both
answers: it covers what either does, and more (docs/decisions.md, "Explaining", has how much).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_solve
from scipy.special import expit
from scipy.stats import norm

from features.arrays import EncodedMarket
from features.storage import ArrayStore
from purchase_predictor.model.readout import Readout
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.evidence import (
    LARGEST,
    REVIVED,
    SMALLEST,
    EvidenceFit,
    factor_of,
)
from purchase_predictor.training.readout import block_numbers

Floats = NDArray[np.float64]

ROWS_AT_ONCE = 4096

RELAXED = 1 / 16
"""Share of a lever's penalty that the second answer keeps: weights may be four times as large."""

STEPS = 2
"""Of Newton's method from one answer to the other: one goes too far where conversions are few."""


@dataclass(frozen=True)
class LeverAnswer:
    """Weights of lever columns under some penalties.

    Attributes:
        weights: float64 [k].
        posterior: float64 [k, k], covariance as if rows were independent.
        shared: float64 [k, k], what rows of one user or one listing add to it; not definite.
    """

    weights: Floats
    posterior: Floats
    shared: Floats

    def variance(self, direction: Floats) -> Floats:
        """Variance of linear combinations of the weights.

        Args:
            direction: [m, k].

        Returns:
            [m]; what clustering adds counts only where it adds something.
        """
        alone = np.einsum("ij,jk,ik->i", direction, self.posterior, direction)
        shared = np.einsum("ij,jk,ik->i", direction, self.shared, direction)
        return alone + np.maximum(shared, 0.0)

    def interval(self, direction: Floats, confidence: float) -> tuple[Floats, Floats]:
        """Bounds of linear combinations of the weights, [m] each.

        Args:
            direction: [m, k].
            confidence: level.
        """
        middle = direction @ self.weights
        reach = norm.isf((1 - confidence) / 2) * np.sqrt(self.variance(direction))
        return middle - reach, middle + reach

    def z(self, direction: Floats) -> Floats:
        """Linear combinations over their errors, [m]; 0 where nothing is moved."""
        error = np.sqrt(self.variance(direction))
        return direction @ self.weights / np.where(error > 0, error, np.inf)


@dataclass(frozen=True)
class LeverErrors:
    """Uncertainty of the weights of lever columns.

    Attributes:
        columns: int64 [k], columns of the readout.
        solved: as the readout has them.
        relaxed: with a share of the penalties of levers, `RELAXED`.
    """

    columns: NDArray[np.int64]
    solved: LeverAnswer
    relaxed: LeverAnswer

    def interval(self, direction: Floats, confidence: float) -> tuple[Floats, Floats]:
        """Bounds of linear combinations of the weights, [m] each, that span both answers.

        Args:
            direction: [m, k].
            confidence: level of each answer's interval.
        """
        both = [answer.interval(direction, confidence) for answer in (self.solved, self.relaxed)]
        low, high = np.array(both).transpose(1, 0, 2)
        return low.min(axis=0), high.max(axis=0)

    def p(self, direction: Floats) -> Floats:
        """Two-sided p that linear combinations are zero, [m]: that of the less sure answer.

        1 where the answers differ in sign, or nothing is moved.
        """
        solved, relaxed = (answer.z(direction) for answer in (self.solved, self.relaxed))
        least = np.minimum(np.abs(solved), np.abs(relaxed))
        return np.where(solved * relaxed > 0, 2 * norm.sf(least), 1.0)

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As a model folder holds it."""
        both = (self.solved, self.relaxed)
        names = [field.name for field in fields(LeverAnswer)]
        stacked = {name: np.stack([getattr(one, name) for one in both]) for name in names}
        return {"columns": self.columns, **stacked}

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray]) -> Self:
        """Undo `tensors`."""
        stacked = {name: found for name, found in tensors.items() if name != "columns"}
        answers = [
            LeverAnswer(**{name: found[place] for name, found in stacked.items()})
            for place in (0, 1)
        ]
        return cls(tensors["columns"], *answers)


def lever_columns(readout: Readout) -> NDArray[np.int64]:
    """Columns that a term or a phrase of the offer moves, int64 [k]."""
    moved = set(readout.lever_blocks)
    return np.flatnonzero([name in moved for name in readout.blocks])


@torch.inference_mode()
def measure_errors(readout: Readout, data: EncodedMarket, fit: EvidenceFit) -> LeverErrors:
    """Measure them at the weights that the readout has, and at those it has with less penalty.

    Args:
        readout: solved on these rows.
        data: the rows, labels known.
        fit: the penalties they were solved under.
    """
    levers = lever_columns(readout)
    weights = torch.cat([readout.linear.weight[0], readout.linear.bias]).double().numpy()
    penalty, used = _penalties(readout, fit, levers)
    place = np.searchsorted(used, levers)
    relaxed = penalty.copy()
    relaxed[levers] = np.maximum(RELAXED * relaxed[levers], SMALLEST)
    # 1. as the readout was solved
    curvature, gradient = _curvature(readout, data, weights, used)
    factors = [factor_of(curvature + np.diag(penalty[used]))]
    # 2. with less penalty, by steps of Newton's method
    less = weights.copy()
    for step in range(STEPS):
        if step:
            curvature, gradient = _curvature(readout, data, less, used)
        factor = factor_of(curvature + np.diag(relaxed[used]))
        less[used] += cho_solve(factor, gradient - relaxed[used] * (less - fit.centre)[used])
    factors.append(factor)
    # 3. how each user, each listing and each row pulls
    inverses = [_columns_of_inverse(factor, place) for factor in factors]
    shared = _shared(readout, data, (weights, less), used, inverses)
    answers = [
        LeverAnswer(found[levers], inverse[place], added)
        for found, inverse, added in zip((weights, less), inverses, shared, strict=True)
    ]
    return LeverErrors(levers, *answers)


def _penalties(
    readout: Readout, fit: EvidenceFit, levers: NDArray[np.int64]
) -> tuple[Floats, NDArray[np.int64]]:
    """Penalty of each column, float64 [n_columns + 1], and the columns that take part, int64."""
    block = block_numbers(readout)
    # a block that the rows said nothing of is not known to be zero
    penalties = np.where(fit.penalties >= LARGEST, REVIVED, fit.penalties)
    live = np.append(fit.penalties < LARGEST, True)[block]
    live[levers] = True
    return np.append(penalties, fit.smallest)[block], np.flatnonzero(live)


def _curvature(
    readout: Readout, data: EncodedMarket, weights: Floats, used: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Of the log-likelihood of U columns at some weights: curvature [U, U] and gradient [U]."""
    curvature, gradient = np.zeros((len(used), len(used))), np.zeros(len(used))
    for x, logits, rows in _chunks(readout, data, [weights], used):
        p = expit(logits[0])
        gradient += x.T @ (data.converted[rows] - p)
        x *= np.sqrt(p * (1 - p)).astype(np.float32)[:, None]
        curvature += x.T @ x
    return curvature, gradient


def _columns_of_inverse(factor: tuple[Floats, bool], place: NDArray[np.int64]) -> Floats:
    """Some columns of the inverse of a matrix [U, U] by its factor, float64 [U, k]."""
    chosen = np.zeros((len(factor[0]), len(place)))
    chosen[place, np.arange(len(place))] = 1.0
    return cho_solve(factor, chosen)


def _shared(
    readout: Readout,
    data: EncodedMarket,
    weights: Sequence[Floats],
    used: NDArray[np.int64],
    inverses: Sequence[Floats],
) -> list[Floats]:
    """What rows of one user or one listing add to the covariance of lever columns, [k, k] each.

    Args:
        readout: solved on these rows.
        data: the rows.
        weights: of each answer, [n_columns + 1].
        used: columns that take part, U of them.
        inverses: of each answer, [U, k], columns of its inverse curvature.
    """
    k = inverses[0].shape[1]
    # half the time, and sums are kept in double
    narrow = np.concatenate(inverses, axis=1).astype(np.float32)
    by_unit, by_product = (
        _Sums(owner, narrow.shape[1], data.store) for owner in (data.unit, data.product)
    )
    of_rows = np.zeros((len(inverses), k, k))
    for x, logits, rows in _chunks(readout, data, weights, used):
        left = (data.converted[rows] - expit(logits)).astype(np.float32)
        pull = (x @ narrow).reshape(len(x), len(inverses), k) * left.T[..., None]
        for sums in (by_unit, by_product):
            sums.add(rows, pull.reshape(len(x), -1))
        by_answer = pull.transpose(1, 0, 2)
        # einsum would not take BLAS for this: half the time of all of it, of 600 levers
        of_rows += by_answer.transpose(0, 2, 1) @ by_answer
    return [
        by_unit.squared(slice(k * number, k * (number + 1)))
        + by_product.squared(slice(k * number, k * (number + 1)))
        - 2 * of_row
        for number, of_row in enumerate(of_rows)
    ]


def _chunks(
    readout: Readout, data: EncodedMarket, weights: Sequence[Floats], used: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float32], Floats, NDArray[np.int64]]]:
    """Columns in use, logits under each of some weights, and places of some rows at a time."""
    for places, batch in Batcher(data, batch_size=ROWS_AT_ONCE).scoring_batches():
        x = readout.design(batch)
        logits = np.stack(
            [(x @ torch.from_numpy(own[:-1]).float()).numpy() + own[-1] for own in weights]
        )
        ones = np.ones((len(places), 1), np.float32)
        whole = np.concatenate([x.numpy(), ones], axis=1)
        yield whole[:, used], logits, places


class _Sums:
    """Sums of vectors by owner."""

    def __init__(self, owner: NDArray[np.integer], width: int, store: ArrayStore) -> None:
        distinct, self.place = np.unique(owner, return_inverse=True)
        self.total = store.zeros((len(distinct), width), np.float64)

    def add(self, rows: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        place = self.place[rows]
        owners, index = np.unique(place, return_inverse=True)
        member = sparse.csr_array(
            (np.ones(len(rows)), (index, np.arange(len(rows)))), shape=(len(owners), len(rows))
        )
        self.total[owners] += member @ values

    def squared(self, columns: slice) -> Floats:
        return self.total[:, columns].T @ self.total[:, columns]
