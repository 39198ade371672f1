"""One contract for all systems."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.arrays import CALIBRATE, STOP, TRAIN, EncodedMarket
from purchase_predictor.errors import DataError

Progress = Callable[[str], None]


class System(Protocol):
    """Something that learns conversion and predicts it."""

    name: str

    def fit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn from TRAIN rows, stop on STOP rows, keep the best state.

        Args:
            data: encoded rows.
            seed: of everything that is drawn.
            progress: told a line now and then.
        """
        ...

    def predict_proba(self, data: EncodedMarket) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion, float64 [n]."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load` needs, without pickle."""
        ...


def learning_rows(data: EncodedMarket) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows to stop on.

    Returns:
        int64 [n_train] and int64 [n_stop], the labelled rows of TRAIN and STOP.

    Raises:
        DataError: if either is empty or the training rows are of one class only.
    """
    labelled = ~np.isnan(data.converted)
    train, stop = (np.flatnonzero((data.part == part) & labelled) for part in (TRAIN, STOP))
    n_converted = int(data.converted[train].sum())
    if not 0 < n_converted < len(train):
        raise DataError(
            f"The training rows hold {n_converted} conversions among {len(train)} impressions: "
            "both classes are needed."
        )
    if not len(stop):
        raise DataError("No labelled rows to stop training on: enlarge data.validation_fraction.")
    return train, stop


def rows_before_test(data: EncodedMarket) -> NDArray[np.int64]:
    """The labelled rows of TRAIN, STOP and CALIBRATE, int64."""
    before = np.isin(data.part, (TRAIN, STOP, CALIBRATE))
    return np.flatnonzero(before & ~np.isnan(data.converted))
