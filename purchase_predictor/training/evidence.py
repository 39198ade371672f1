"""Logistic regression whose penalties the training rows choose: one for each block of columns."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.special import expit

ROWS_AT_ONCE = 16_384
FIRST_PENALTY = 30.0
SMALLEST, LARGEST = 1e-2, 1e6
ROUNDS = 8
FEWEST_ROUNDS = 3
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


@dataclass(frozen=True)
class EvidenceFit:
    """A fitted regression.

    Attributes:
        weights: float64 [n_columns].
        penalties: float64 [n_blocks], inverse prior variance of the weights of each block.
        effective: float64 [n_blocks], how many weights of each block the data determine.
    """

    weights: NDArray[np.float64]
    penalties: NDArray[np.float64]
    effective: NDArray[np.float64]


def fit_by_evidence(
    x: NDArray[np.float32],
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
        x: [n, n_columns], a column of ones among them.
        y: [n], 0 or 1.
        block: [n_columns], number of the block; -1 takes the smallest penalty there is.
        centre: [n_columns], what weights are drawn to; zero if None.
        smallest: penalty of a block: with few rows the evidence alone may see too much in them.

    Returns:
        Weights and penalties; a column that never varies keeps its centre.
    """
    centre = np.zeros(x.shape[1]) if centre is None else centre
    varies = (x.min(axis=0) < x.max(axis=0)) | (block < 0)
    problem = _Problem(x, y, block, centre, varies, smallest)
    n_blocks = int(block.max(initial=-1)) + 1
    start = EvidenceFit(
        weights=centre, penalties=np.full(n_blocks, FIRST_PENALTY), effective=np.zeros(n_blocks)
    )
    some = np.random.default_rng(0).random(len(x)) < FIRST_SHARE
    found = _alternate(replace(problem, x=x[some], y=y[some]), start, FIRST_STEPS)
    silent = found.penalties == LARGEST
    return _alternate(
        problem, replace(found, penalties=np.where(silent, REVIVED, found.penalties)), 1
    )


@dataclass(frozen=True)
class _Problem:
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    block: NDArray[np.int64]
    centre: NDArray[np.float64]
    varies: NDArray[np.bool_]
    smallest: float


def _alternate(problem: _Problem, start: EvidenceFit, first_steps: int) -> EvidenceFit:
    """Steps of Newton's method and new penalties in turn, until the penalties settle."""
    weights, penalties = start.weights.copy(), start.penalties.copy()
    effective = np.zeros(len(penalties))
    for number in range(ROUNDS):
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
    return EvidenceFit(weights=weights, penalties=penalties, effective=effective)


def _newton(
    problem: _Problem,
    columns: NDArray[np.int64],
    weights: NDArray[np.float64],
    penalty: NDArray[np.float64],
) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], bool]]:
    """A step of Newton's method, halved while it does not help; the factor of the curvature."""
    away = (weights - problem.centre)[columns]
    curvature, gradient = np.diag(penalty), penalty * away
    logit = problem.x @ weights.astype(np.float32)
    p = expit(logit)
    for start in range(0, len(logit), ROWS_AT_ONCE):
        here = slice(start, start + ROWS_AT_ONCE)
        part = problem.x[here][:, columns]
        gradient += part.T @ (p[here] - problem.y[here])
        part *= np.sqrt(p[here] * (1 - p[here]))[:, None]
        curvature += part.T @ part
    factor = _factor(curvature)
    step = np.zeros_like(weights)
    step[columns] = -cho_solve(factor, gradient)
    change = problem.x @ step.astype(np.float32)

    def objective(share: float) -> float:
        z = (logit + share * change).astype(np.float64)
        loss = (np.logaddexp(0.0, z) - problem.y * z).sum()
        return float(loss + (penalty * (away + share * step[columns]) ** 2).sum() / 2)

    share = 1.0
    while objective(share) > objective(0.0) and share > SHORTEST_STEP:
        share /= 2
    return weights + share * step, factor


def _factor(curvature: NDArray[np.float64]) -> tuple[NDArray[np.float64], bool]:
    """Cholesky factor; where rounding of collinear columns forbids one, of a bit more ridge."""
    ridge = 0.0
    while True:
        try:
            return cho_factor(curvature + ridge * np.eye(len(curvature)))
        except LinAlgError:
            ridge = max(10 * ridge, 1e-6 * float(np.trace(curvature)) / len(curvature))
