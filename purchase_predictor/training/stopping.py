"""Where training stopped: what a model takes over that has no rows to stop it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class StoppedAt:
    """What STOP rows decided for one model, for another whose own are all of one outcome.

    A market with a handful of conversions has none among its STOP rows: there the lowest log-loss
    is that of a model which predicts 0 everywhere, and early stopping would look for it.

    Attributes:
        n_epochs: of the network.
        weights: of readout and network in their sum, and the constant.
        n_rounds: trees of each baseline that grows some.
    """

    n_epochs: int
    weights: tuple[float, ...]
    n_rounds: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "n_epochs": self.n_epochs,
            "weights": list(self.weights),
            "n_rounds": dict(self.n_rounds),
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(int(state["n_epochs"]), tuple(state["weights"]), dict(state["n_rounds"]))
