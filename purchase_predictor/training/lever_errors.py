"""How sure the readout's weights of terms and phrases are: what effects get their intervals from.

Two things make such a weight uncertain. The rows leave it open, and so does the penalty that drew
it to zero: the inverse curvature of the penalised likelihood has both in it (the Laplace
approximation of the posterior). And rows are not independent: a user's share the user, a
listing's share everything about it that no column tells. Clustering by both (Cameron, Gelbach and
Miller, Journal of Business and Economic Statistics 29, 2011) adds what they have in common.

A penalty fits the typical weight of its block, and draws a weight that is far from typical too far
to zero: such a posterior covers on average over all weights, and the large ones, which people ask
for, too seldom. So levers are solved a second time with hardly any penalty, and an interval spans
both answers (docs/decisions.md has what each alone covers).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
from purchase_predictor.training.evidence import LARGEST, REVIVED, EvidenceFit, factor_of
from purchase_predictor.training.readout import block_numbers

Floats = NDArray[np.float64]

ROWS_AT_ONCE = 4096


RELAXED = 1 / 16
"""Share of a lever's penalty that the second answer keeps: weights may be four times as large."""


PARTS = ("weights", "posterior", "shared")
"""Of a `LeverAnswer`."""


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
        reach = norm.isf((1 - confidence) / 2)
        middle, error = self._both(direction)
        return (middle - reach * error).min(axis=0), (middle + reach * error).max(axis=0)

    def p(self, direction: Floats) -> Floats:
        """Two-sided p that linear combinations are zero, [m]: that of the less sure answer.

        1 where the answers differ in sign, or nothing is moved.
        """
        middle, error = self._both(direction)
        moved = (error > 0).all(axis=0) & (middle[0] * middle[1] > 0)
        z = np.abs(middle) / np.where(error > 0, error, 1.0)
        return np.where(moved, 2 * norm.sf(z.min(axis=0)), 1.0)

    def _both(self, direction: Floats) -> tuple[Floats, Floats]:
        """Estimates and errors of both answers, [2, m] each."""
        answers = (self.solved, self.relaxed)
        middle = np.stack([direction @ answer.weights for answer in answers])
        return middle, np.sqrt(np.stack([answer.variance(direction) for answer in answers]))

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As a model folder holds it."""
        both = (self.solved, self.relaxed)
        return {
            "columns": self.columns,
            **{name: np.stack([getattr(one, name) for one in both]) for name in PARTS},
        }

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray]) -> Self:
        """Undo `tensors`."""
        answers = [
            LeverAnswer(**{name: tensors[name][place] for name in PARTS}) for place in (0, 1)
        ]
        return cls(tensors["columns"], *answers)


def lever_columns(readout: Readout) -> NDArray[np.int64]:
    """Columns that a term or a phrase of the offer moves, int64 [k]."""
    moved = set(readout.lever_blocks)
    return np.flatnonzero([name in moved for name in readout.blocks])


@torch.inference_mode()
def measure_errors(readout: Readout, data: EncodedMarket, fit: EvidenceFit) -> LeverErrors:
    """Measure them at the weights that the readout has.

    Args:
        readout: solved on these rows.
        data: the rows, labels known.
        fit: the penalties they were solved under.
    """
    block = block_numbers(readout)
    levers = lever_columns(readout)
    weights = torch.cat([readout.linear.weight[0], readout.linear.bias]).double().numpy()
    # a block that the rows said nothing of is not known to be zero
    penalties = np.where(fit.penalties >= LARGEST, REVIVED, fit.penalties)
    penalty = np.append(penalties, fit.smallest)[block]
    live = np.append(fit.penalties < LARGEST, True)[block]
    live[levers] = True
    used = np.flatnonzero(live)
    away = (weights - fit.centre)[used]
    # 1. the curvature, and what the rows ask for
    curvature, gradient = np.zeros((len(used), len(used))), np.zeros(len(used))
    for x, p, rows in _chunks(readout, data, weights, used):
        gradient += x.T @ (data.converted[rows] - p)
        scaled = x * np.sqrt(p * (1 - p))[:, None]
        curvature += scaled.T @ scaled
    # 2. both answers
    place = np.searchsorted(used, levers)
    relaxed = penalty[used].copy()
    relaxed[place] = np.maximum(RELAXED * relaxed[place], fit.smallest)
    found, inverses = [weights[levers]], []
    for under in (penalty[used], relaxed):
        factor = factor_of(curvature + np.diag(under))
        chosen = np.zeros((len(used), len(levers)))
        chosen[place, np.arange(len(levers))] = 1.0
        inverses.append(cho_solve(factor, chosen))
    # from where the readout is, a step of Newton's method
    found.append(weights[levers] + cho_solve(factor, gradient - relaxed * away)[place])
    # 3. how each user, each listing and each row pulls
    shared = _shared(readout, data, weights, used, inverses)
    answers = [
        LeverAnswer(middle, inverse[place], added)
        for middle, inverse, added in zip(found, inverses, shared, strict=True)
    ]
    return LeverErrors(levers, *answers)


def _shared(
    readout: Readout,
    data: EncodedMarket,
    weights: Floats,
    used: NDArray[np.int64],
    inverses: Sequence[Floats],
) -> list[Floats]:
    """What rows of one user or one listing add to the covariance of lever columns, [k, k] each.

    Args:
        readout: solved on these rows.
        data: the rows.
        weights: [n_columns + 1].
        used: columns that take part, U of them.
        inverses: [U, k] each, columns of inverse curvatures.
    """
    narrow = [inverse.astype(np.float32) for inverse in inverses]  # half the time; sums are double
    k = narrow[0].shape[1]
    owners = (data.unit, data.product)
    sums = [[_Sums(owner, k, data.store) for owner in owners] for _ in narrow]
    of_rows = np.zeros((len(narrow), k, k))
    for x, p, rows in _chunks(readout, data, weights, used):
        left = (data.converted[rows] - p).astype(np.float32)[:, None]
        for number, inverse in enumerate(narrow):
            pull = (x @ inverse) * left
            for by_owner in sums[number]:
                by_owner.add(rows, pull)
            of_rows[number] += pull.T @ pull
    return [
        by_unit.squared() + by_product.squared() - 2 * of_row
        for (by_unit, by_product), of_row in zip(sums, of_rows, strict=True)
    ]


def _chunks(
    readout: Readout, data: EncodedMarket, weights: Floats, used: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float32], Floats, NDArray[np.int64]]]:
    """Columns in use, probabilities and places of some rows at a time."""
    for places, batch in Batcher(data, batch_size=ROWS_AT_ONCE).scoring_batches():
        x = readout.design(batch)
        logits = (x @ torch.from_numpy(weights[:-1]).float()).numpy() + weights[-1]
        ones = np.ones((len(places), 1), np.float32)
        whole = np.concatenate([x.numpy(), ones], axis=1)
        yield whole[:, used], expit(logits), places


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

    def squared(self) -> Floats:
        return self.total.T @ self.total
