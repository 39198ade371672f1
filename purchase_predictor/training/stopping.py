"""What STOP rows choose for a model, for another that has no such rows to choose by."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class StopChoices:
    """What STOP rows chose for a model of all markets.

    A market with a handful of conversions may have none among its STOP rows: there the lowest
    log-loss is that of a model which predicts 0 everywhere, and early stopping would look for it.

    Attributes:
        weights: of readout and network in their sum, and the constant.
        n_rounds: of each baseline that can learn a given number of them.
    """

    weights: tuple[float, ...]
    n_rounds: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"weights": list(self.weights), "n_rounds": dict(self.n_rounds)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(tuple(state["weights"]), dict(state["n_rounds"]))
