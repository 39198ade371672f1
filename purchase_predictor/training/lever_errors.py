"""How sure the readout's weights of terms and phrases are: what effects get their intervals from.

Two things make such a weight uncertain. The rows leave it open, and so does the penalty that drew
it to zero: the inverse curvature of the penalised likelihood has both in it (the Laplace
approximation of the posterior). And rows are not independent: a user's share the user, a
listing's share everything about it that no column tells. Clustering by both (Cameron, Gelbach and
Miller, Journal of Business and Economic Statistics 29, 2011) adds what they have in common.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scipy.linalg import cho_solve
from scipy.special import expit

from features.arrays import EncodedMarket
from features.storage import ArrayStore
from purchase_predictor.model.readout import Readout
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.evidence import LARGEST, REVIVED, EvidenceFit, factor_of
from purchase_predictor.training.readout import block_numbers

Floats = NDArray[np.float64]

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class LeverErrors:
    """Uncertainty of the weights of lever columns.

    Attributes:
        columns: int64 [k], columns of the readout.
        posterior: float64 [k, k], covariance as if rows were independent.
        shared: float64 [k, k], what rows of one user or one listing add to it; not definite.
    """

    columns: NDArray[np.int64]
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

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As a model folder holds it."""
        return {"columns": self.columns, "posterior": self.posterior, "shared": self.shared}


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
    # 1. the curvature
    curvature = np.diag(penalty[used])
    for x, p, _ in _chunks(readout, data, weights, used):
        scaled = x * np.sqrt(p * (1 - p))[:, None]
        curvature += scaled.T @ scaled
    chosen = np.zeros((len(used), len(levers)))
    chosen[np.searchsorted(used, levers), np.arange(len(levers))] = 1.0
    inverse = cho_solve(factor_of(curvature), chosen)
    narrow = inverse.astype(np.float32)  # half the time, and sums are kept in double
    # 2. how each user, each listing and each row pulls
    by_unit, by_product = (
        _Sums(owner, len(levers), data.store) for owner in (data.unit, data.product)
    )
    of_rows = np.zeros((len(levers), len(levers)))
    for x, p, rows in _chunks(readout, data, weights, used):
        pull = (x @ narrow) * (data.converted[rows] - p).astype(np.float32)[:, None]
        by_unit.add(rows, pull)
        by_product.add(rows, pull)
        of_rows += pull.T @ pull
    return LeverErrors(
        columns=levers,
        posterior=chosen.T @ inverse,
        shared=by_unit.squared() + by_product.squared() - 2 * of_rows,
    )


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
