"""Logistic regression whose penalties the training rows choose: one for each block of columns."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.special import expit

ROWS_AT_ONCE = 16_384
FIRST_PENALTY = 30.0
SMALLEST, LARGEST = 1e-2, 1e6
FIRST_ROUNDS, LAST_ROUNDS = 8, 4
FEWEST_ROUNDS = 2
FIRST_STEPS = 3
SETTLED = 0.1
"""Relative change of the penalties at which they count as settled."""

FIRST_SHARE = 1 / 3
"""Share of the rows that the first rounds see: they need to find the size of things only."""

REVIVED = 1000.0
"""Penalty from which a block that these rows said nothing of gets another chance."""

SHORTEST_STEP = 1e-3

UNDETERMINED = 0.02
"""A block with fewer weights determined than this is left out: its columns would cost most."""


Columns = NDArray[np.float16] | NDArray[np.float32]


@dataclass(frozen=True)
class EvidenceFit:
    """A fitted regression.

    Attributes:
        weights: float64 [n_columns].
        penalties: float64 [n_blocks], inverse prior variance of the weights of each block.
        effective: float64 [n_blocks], how many weights of each block the data determine.
        centre: float64 [n_columns], what weights were drawn to.
        smallest: penalty of columns without a block.
    """

    weights: NDArray[np.float64]
    penalties: NDArray[np.float64]
    effective: NDArray[np.float64]
    centre: NDArray[np.float64]
    smallest: float


def fit_by_evidence(
    x: Columns,
    y: NDArray[np.float32],
    block: NDArray[np.int64],
    *,
    centre: NDArray[np.float64] | None = None,
    smallest: float = SMALLEST,
) -> EvidenceFit:
    """Maximise the evidence of the penalties of blocks (MacKay, Neural Computation 4, 1992).

    Some hundred validation conversions cannot choose fifty penalties. The evidence does it from
    the training rows alone: a block whose weights the data do not determine is drawn to zero.
    Under the Laplace approximation a block's penalty is the number of its weights that the data
    determine over their sum of squares; steps of Newton's method and of this rule alternate.

    Args:
        x: [n, n_columns], a column of ones among them; half precision will do, and saves memory.
        y: [n], 0 or 1.
        block: [n_columns], number of the block; -1 takes the smallest penalty there is.
        centre: [n_columns], what weights are drawn to; zero if None.
        smallest: penalty of a block: with few rows the evidence alone may see too much in them.

    Returns:
        Weights and penalties; a column that never varies keeps its centre.
    """
    centre = np.zeros(x.shape[1]) if centre is None else centre
    n_blocks = int(block.max(initial=-1)) + 1
    problem = _Problem(x, y, np.arange(len(x)), block, centre, _varies(x) | (block < 0), smallest)
    penalties, effective = np.full(n_blocks, FIRST_PENALTY), np.zeros(n_blocks)
    start = EvidenceFit(centre, penalties, effective, centre, smallest)
    some = np.flatnonzero(np.random.default_rng(0).random(len(x)) < FIRST_SHARE)
    found = _alternate(
        replace(problem, rows=some), start, n_rounds=FIRST_ROUNDS, first_steps=FIRST_STEPS
    )
    silent = found.penalties == LARGEST
    found = replace(found, penalties=np.where(silent, REVIVED, found.penalties))
    return _alternate(problem, found, n_rounds=LAST_ROUNDS, first_steps=1)


def refit(
    x: Columns, y: NDArray[np.float32], block: NDArray[np.int64], fit: EvidenceFit
) -> NDArray[np.float64]:
    """The weights that more rows give under the same penalties: a step of Newton's method.

    Args:
        x: as for `fit_by_evidence`, of the rows it had and others.
        y: likewise.
        block: likewise.
        fit: where to start.

    Returns:
        float64 [n_columns]; those of a block that said nothing stay at their centre.
    """
    live = np.append(fit.penalties < LARGEST, True)[block] & (_varies(x) | (block < 0))
    problem = _Problem(x, y, np.arange(len(x)), block, fit.centre, live, fit.smallest)
    columns = np.flatnonzero(live)
    penalty = np.append(fit.penalties, fit.smallest)[block[columns]]
    return _newton(problem, columns, fit.weights, penalty)[0]


@dataclass(frozen=True)
class _Problem:
    x: Columns
    y: NDArray[np.float32]
    rows: NDArray[np.int64]
    block: NDArray[np.int64]
    centre: NDArray[np.float64]
    varies: NDArray[np.bool_]
    smallest: float

    def chunks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Some rows at a time, in single precision."""
        for start in range(0, len(self.rows), ROWS_AT_ONCE):
            rows = self.rows[start : start + ROWS_AT_ONCE]
            # torch converts half precision ten times as fast as numpy does
            yield rows, torch.from_numpy(self.x[rows]).float().numpy()


def _varies(x: Columns) -> NDArray[np.bool_]:
    low, high = x[:1].min(axis=0), x[:1].max(axis=0)
    for start in range(0, len(x), ROWS_AT_ONCE):
        part = torch.from_numpy(x[start : start + ROWS_AT_ONCE])
        low = np.minimum(low, part.amin(dim=0).numpy())
        high = np.maximum(high, part.amax(dim=0).numpy())
    return low < high


def _alternate(
    problem: _Problem, start: EvidenceFit, *, n_rounds: int, first_steps: int
) -> EvidenceFit:
    """Steps of Newton's method and new penalties in turn, until the penalties settle."""
    weights, penalties = start.weights.copy(), start.penalties.copy()
    effective = np.zeros(len(penalties))
    for number in range(n_rounds):
        # blocks that the data say nothing of stay where they are drawn to
        live = np.append(penalties < LARGEST, True)[problem.block] & problem.varies
        weights[~live] = problem.centre[~live]
        columns = np.flatnonzero(live)
        penalty = np.append(penalties, problem.smallest)[problem.block[columns]]
        for _ in range(1 if number else first_steps):
            weights, factor = _newton(problem, columns, weights, penalty)
        variance = np.zeros(len(weights))
        variance[columns] = np.diag(cho_solve(factor, np.eye(len(columns))))
        before = penalties.copy()
        for place in range(len(penalties)):
            inside = np.flatnonzero((problem.block == place) & live)
            effective[place] = max(0.0, len(inside) - before[place] * variance[inside].sum())
            square = ((weights - problem.centre)[inside] ** 2).sum()
            penalties[place] = LARGEST
            if effective[place] > UNDETERMINED:
                penalties[place] = np.clip(effective[place] / square, problem.smallest, LARGEST)
        settled = np.abs(np.log(penalties / before)) < SETTLED
        if number + 1 >= FEWEST_ROUNDS and settled.all():
            break
    return replace(start, weights=weights, penalties=penalties, effective=effective)


def _newton(
    problem: _Problem,
    columns: NDArray[np.int64],
    weights: NDArray[np.float64],
    penalty: NDArray[np.float64],
) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], bool]]:
    """A step of Newton's method, halved while it does not help; the factor of the curvature."""
    away = (weights - problem.centre)[columns]
    curvature, gradient = np.diag(penalty), penalty * away
    logits = []
    for rows, x in problem.chunks():
        logits.append(x @ weights.astype(np.float32))
        p = expit(logits[-1])
        x = x[:, columns]
        gradient += x.T @ (p - problem.y[rows])
        x *= np.sqrt(p * (1 - p))[:, None]
        curvature += x.T @ x
    factor = factor_of(curvature)
    step = np.zeros_like(weights)
    step[columns] = -cho_solve(factor, gradient)
    change = np.concatenate([x @ step.astype(np.float32) for _, x in problem.chunks()])
    logit, y = np.concatenate(logits), problem.y[problem.rows]

    def objective(share: float) -> float:
        z = (logit + share * change).astype(np.float64)
        loss = (np.logaddexp(0.0, z) - y * z).sum()
        return float(loss + (penalty * (away + share * step[columns]) ** 2).sum() / 2)

    share = 1.0
    while objective(share) > objective(0.0) and share > SHORTEST_STEP:
        share /= 2
    return weights + share * step, factor


def factor_of(curvature: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Cholesky factor; where rounding of collinear columns forbids one, of a bit more ridge."""
    ridge = 0.0
    while True:
        try:
            return cho_factor(curvature + ridge * np.eye(len(curvature)))
        except LinAlgError:
            ridge = max(10 * ridge, 1e-6 * float(np.trace(curvature)) / len(curvature))
