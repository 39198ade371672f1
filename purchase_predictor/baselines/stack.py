"""The stack: a ridge logistic regression on the logits of the other systems.

Weights are drawn towards equal ones: with few conversions the stack is the plain average of
logits, with many it is what the data say. Every market has weights and an intercept of its own,
drawn to those of all markets by as much as the markets are alike beyond chance: under a prior of
a fixed width they followed the noise of some dozen conversions (docs/decisions.md). Weights are
never negative, so that a row which every system ranks higher is ranked higher by the stack. It is
fitted on CALIBRATE rows, which no system has learned from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from purchase_predictor.counted import Counted
from purchase_predictor.errors import DataError
from purchase_predictor.training.calibration import MIN_CONVERSIONS, shrunk, spread, to_logit
from purchase_predictor.training.weighing import weigh


@dataclass(frozen=True)
class Stack:
    """Weights of the systems' logits.

    Attributes:
        systems: their names.
        weights: float64 [n_systems], for markets without their own.
        intercept: likewise.
        markets: int64 [n_markets], codes that have their own.
        market_weights: float64 [n_markets, n_systems].
        market_intercepts: float64 [n_markets].
        n_converted: conversions it was fitted on.
        reason: why the weights are equal, "" where they are fitted.
    """

    systems: tuple[str, ...] = ()
    weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    intercept: float = 0.0
    markets: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    market_weights: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    market_intercepts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    n_converted: int = 0
    reason: str = ""

    name = "stack"

    @classmethod
    def fit(
        cls,
        probabilities: Mapping[str, NDArray[np.float64]],
        y: NDArray[Any],
        market: NDArray[np.integer],
    ) -> "Stack":
        """Fit on rows that no system learned from.

        Args:
            probabilities: of each system, float64 [n]; uncalibrated ones will do.
            y: [n], 1 where converted.
            market: [n], codes.
        """
        systems = tuple(sorted(probabilities))
        x = _logits(probabilities, systems)
        y = np.asarray(y, np.float64)
        n_converted = int(y.sum())
        n_systems = len(systems)
        if min(n_converted, len(y) - n_converted) < MIN_CONVERSIONS:
            reason = (
                f"{Counted(n_converted):conversion|conversions} among "
                f"{Counted(len(y)):row|rows} to fit the stack on: "
                f"at least {MIN_CONVERSIONS} of each class are needed, so weights are equal"
            )
            return cls(
                systems,
                np.full(n_systems, 1 / n_systems),
                market_weights=np.zeros((0, n_systems)),
                n_converted=n_converted,
                reason=reason,
            )
        markets, index = np.unique(np.asarray(market, np.int64), return_inverse=True)
        weights, intercept, own, own_intercepts = _solve(x, y, index, len(markets))
        return cls(systems, weights, intercept, markets, own, own_intercepts, n_converted)

    def predict_proba(
        self, probabilities: Mapping[str, NDArray[np.float64]], market: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion.

        Args:
            probabilities: of each system of the stack, float64 [n]; others are not looked at.
            market: [n], codes; one unknown at fit takes the global weights.

        Returns:
            float64 [n].

        Raises:
            KeyError: if a system of the stack is missing.
        """
        x = _logits(probabilities, self.systems)
        codes = np.asarray(market, np.int64)
        # row 0 stands for markets without weights of their own
        place = np.zeros(max(int(codes.max(initial=0)), int(self.markets.max(initial=0))) + 1, int)
        place[self.markets] = 1 + np.arange(len(self.markets))
        weights = np.concatenate([self.weights[None], self.market_weights])[place[codes]]
        intercepts = np.concatenate([[self.intercept], self.market_intercepts])[place[codes]]
        return expit((x * weights).sum(axis=1) + intercepts)

    def transform(
        self, p: Mapping[str, NDArray[np.float64]], market: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """`predict_proba`, under the name by which calibrators have it."""
        return self.predict_proba(p, market)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able state."""
        return {
            "systems": list(self.systems),
            "weights": self.weights.tolist(),
            "intercept": self.intercept,
            "markets": self.markets.tolist(),
            "market_weights": self.market_weights.tolist(),
            "market_intercepts": self.market_intercepts.tolist(),
            "n_converted": self.n_converted,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "Stack":
        """Undo `to_dict`."""
        systems = tuple(state["systems"])
        own = np.array(state["market_weights"], np.float64).reshape(-1, len(systems))
        return cls(
            systems=systems,
            weights=np.array(state["weights"], np.float64),
            intercept=float(state["intercept"]),
            markets=np.array(state["markets"], np.int64),
            market_weights=own,
            market_intercepts=np.array(state["market_intercepts"], np.float64),
            n_converted=int(state["n_converted"]),
            reason=str(state["reason"]),
        )


Probabilities = NDArray[np.float64] | Mapping[str, NDArray[np.float64]]


class Combiner(Protocol):
    """A calibrator of one system, or the stack of several."""

    def fit(self, p: Any, y: NDArray[Any], market: NDArray[np.integer], /) -> Self:
        """Learn from probabilities of rows that no system learned from."""
        ...

    def transform(self, p: Any, market: NDArray[np.integer]) -> NDArray[np.float64]:
        """Calibrated probabilities, float64 [n]."""
        ...


def cross_fitted_log_loss(
    make: Callable[[], Combiner],
    p: Probabilities,
    y: NDArray[Any],
    market: NDArray[np.integer],
    unit: NDArray[np.integer],
    *,
    n_folds: int = 5,
    seed: int = 0,
) -> float:
    """Log-loss of a calibrated system, or of the stack, fitted and judged on different units.

    Judged on the rows it was fitted on, a stack is flattered; this is what names the champion.

    Args:
        make: makes an unfitted `Calibrator` or `Stack`.
        p: float64 [n], or one such array for each system of the stack.
        y: [n], 1 where converted.
        market: [n], codes.
        unit: [n]; a unit's rows are in one fold.
        n_folds: at most; no more than there are units.
        seed: of the assignment of units to folds, the same for every system.

    Returns:
        The mean over all rows.

    Raises:
        DataError: if there are fewer than two units.
    """
    y = np.asarray(y, np.float64)
    units, index = np.unique(unit, return_inverse=True)
    if len(units) < 2:
        raise DataError(
            f"The second validation half holds {len(units)} user or session, at least two units "
            "are needed to name the best system: enlarge data.validation_fraction."
        )
    fold = (np.random.default_rng(seed).permutation(len(units)) % min(n_folds, len(units)))[index]
    predicted = np.empty(len(y))
    for number in range(int(fold.max()) + 1):
        held = fold == number
        fitted = make().fit(_rows(p, ~held), y[~held], market[~held])
        predicted[held] = fitted.transform(_rows(p, held), market[held])
    return _log_loss(predicted, y)


def _rows(p: Probabilities, rows: NDArray[np.bool_]) -> Probabilities:
    if isinstance(p, Mapping):
        return {name: values[rows] for name, values in p.items()}
    return p[rows]


def _log_loss(p: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    z = to_logit(p)
    return float((np.logaddexp(0, z) - y * z).mean())


def _logits(
    probabilities: Mapping[str, NDArray[np.float64]], systems: tuple[str, ...]
) -> NDArray[np.float64]:
    return np.stack([to_logit(probabilities[name]) for name in systems], axis=1)


def _solve(
    x: NDArray[np.float64], y: NDArray[np.float64], index: NDArray[np.intp], n_markets: int
) -> tuple[NDArray[np.float64], float, NDArray[np.float64], NDArray[np.float64]]:
    """Global weights and intercept, then each market's."""
    theta = weigh(x, y)
    weights, intercept = theta[:-1], float(theta[-1])
    own = np.tile(weights, (n_markets, 1))
    own_intercepts = np.full(n_markets, intercept)
    z = x @ weights + intercept
    # 1. more of one system and as much less of another; centred, so that this is no offset
    for other in range(1, len(weights)):
        contrast = x[:, 0] - x[:, other]
        centred = contrast - contrast.mean()
        moved = shrunk(z, y, index, centred, spread(z, y, index, centred))
        moved = np.clip(moved, -own[:, 0], weights[other])
        own[:, 0] += moved
        own[:, other] -= moved
        own_intercepts -= moved * contrast.mean()
    # 2. offsets
    z = (x * own[index]).sum(axis=1) + own_intercepts[index]
    ones = np.ones_like(z)
    own_intercepts += shrunk(z, y, index, ones, spread(z, y, index, ones))
    return weights, intercept, own, own_intercepts
