"""Finite, standardised input for learners that cannot take missing or unscaled numbers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.baselines.table import TableEncoder
from purchase_predictor.errors import DataError

LARGEST = 10.0
"""Standard deviations beyond which a number is cut: durations have tails that swamp the rest."""


class DenseInput:
    """Finite, standardised input from a design matrix with missing values.

    Attributes:
        names: of the table's columns, for messages.
        numbers: places of number columns in the table.
        categories: places of category columns in the table.
        n_codes: vocabulary sizes of the categories.
        mean: float32 [n_numbers], of known values in training.
        scale: float32 [n_numbers].
        with_missing: places among the numbers that have an indicator column, int64.
    """

    def __init__(
        self,
        table: TableEncoder,
        mean: NDArray[np.float32],
        scale: NDArray[np.float32],
        with_missing: NDArray[np.int64],
    ) -> None:
        self.names = table.names
        self.categories = table.categories
        self.numbers = [p for p, column in enumerate(table.columns) if not column.n_codes]
        self.n_codes = [table.columns[place].n_codes for place in self.categories]
        self.mean, self.scale, self.with_missing = mean, scale, with_missing

    @classmethod
    def fit(cls, x: NDArray[np.float32], table: TableEncoder) -> "DenseInput":
        """Means and scales of the training rows (`x`: float32 [n, n_columns])."""
        _check_finite(x, table.names)
        numbers = [place for place, column in enumerate(table.columns) if not column.n_codes]
        known = x[:, numbers].astype(np.float64)
        missing = np.isnan(known)
        n_known = np.maximum((~missing).sum(axis=0), 1)
        mean = np.where(missing, 0, known).sum(axis=0) / n_known
        variance = np.where(missing, 0, (known - mean) ** 2).sum(axis=0) / n_known
        scale = np.where(variance > 0, np.sqrt(variance), 1.0)
        return cls(
            table,
            mean.astype(np.float32),
            scale.astype(np.float32),
            np.flatnonzero(missing.any(axis=0)),
        )

    @property
    def width(self) -> int:
        """Columns of what `transform` returns: categories, numbers, indicators."""
        return len(self.categories) + len(self.numbers) + len(self.with_missing)

    def transform(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Codes, standardised numbers and indicators of missing values.

        Args:
            x: float32 [n, n_columns], NaN where missing.

        Returns:
            float32 [n, width], finite.

        Raises:
            DataError: if a number is infinite; names the column.
        """
        _check_finite(x, self.names)
        numbers = (x[:, self.numbers] - self.mean) / self.scale
        missing = np.isnan(numbers)
        numbers = np.where(missing, np.float32(0), numbers).clip(-LARGEST, LARGEST)
        codes = np.minimum(x[:, self.categories], np.array(self.n_codes, np.float32) - 1)
        return np.concatenate(
            [codes, numbers, missing[:, self.with_missing]], axis=1, dtype=np.float32
        )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays of the state."""
        return {"mean": self.mean, "scale": self.scale, "with_missing": self.with_missing}


def _check_finite(x: NDArray[np.float32], names: list[str]) -> None:
    infinite = np.isinf(x).any(axis=0)
    if infinite.any():
        name = names[int(infinite.argmax())]
        raise DataError(
            f"This system takes finite numbers, column '{name}' holds an infinite one."
        )
