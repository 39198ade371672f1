"""Checked predictions as arrays: what every part of the evaluation reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Predictions of several systems on the same rows.

    Attributes:
        systems: names, in the order of `p`.
        p: float64 [n_systems, n], probabilities.
        y: bool [n], whether the impression converted.
        unit: int64 [n], 0 .. n_units - 1: what is resampled.
        lists: int64 [n], rows shown together to one unit in one market.
        market: int64 [n], index into `markets`.
        markets: names, sorted.
        n_units: number of distinct units.
    """

    systems: tuple[str, ...]
    p: NDArray[np.float64]
    y: NDArray[np.bool_]
    unit: NDArray[np.int64]
    lists: NDArray[np.int64]
    market: NDArray[np.int64]
    markets: tuple[str, ...]
    n_units: int

    def __len__(self) -> int:
        return len(self.y)

    @classmethod
    def from_frame(cls, predictions: pl.DataFrame, systems: Sequence[str]) -> "Rows":
        """Take the columns of a table of predictions.

        Args:
            predictions: unit, market, list_number, converted, and a column of each system.
            systems: names of the columns that hold probabilities.

        Raises:
            ValueError: a label is missing, or a system's prediction is missing, not finite or
                not a probability; names the system.
        """
        p = np.stack([_probabilities(predictions, name) for name in systems])
        converted = predictions["converted"].cast(pl.Float64).to_numpy()
        if not np.isin(converted, (0.0, 1.0)).all():
            raise ValueError("converted must be known, true or false, in every row evaluated")
        market = predictions["market"].cast(pl.String).fill_null("unknown").to_numpy()
        markets, market_code = np.unique(market.astype(str), return_inverse=True)
        units, unit = np.unique(predictions["unit"].to_numpy(), return_inverse=True)
        _, numbers = np.unique(predictions["list_number"].to_numpy(), return_inverse=True)
        lists = (numbers * len(units) + unit) * len(markets) + market_code
        return cls(
            systems=tuple(systems),
            p=p,
            y=converted == 1,
            unit=unit.astype(np.int64),
            lists=lists.astype(np.int64),
            market=market_code.astype(np.int64),
            markets=tuple(str(name) for name in markets),
            n_units=len(units),
        )

    def groups(self) -> list[NDArray[np.int64]]:
        """Rows of each market, in the order of `markets`."""
        order = np.argsort(self.market, kind="stable")
        bounds = np.searchsorted(self.market[order], np.arange(len(self.markets) + 1))
        return [order[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)]


def _probabilities(predictions: pl.DataFrame, name: str) -> NDArray[np.float64]:
    values = predictions[name].cast(pl.Float64).to_numpy()
    bad = ~((values >= 0) & (values <= 1))
    if bad.any():
        first = values[np.argmax(bad)]
        raise ValueError(
            f"system '{name}' gave {int(bad.sum())} of {len(values)} rows something that is not "
            f"a probability, first {first}"
        )
    return values
