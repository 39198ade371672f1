"""One contract for all systems."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from features.arrays import STOP, TRAIN, EncodedMarket
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


@runtime_checkable
class Refitting(System, Protocol):
    """A system that can learn from the validation rows too, once they have served."""

    def refit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn once more, from every row before the test, what `fit` found fixed.

        Whatever is fitted on CALIBRATE rows (calibration, the stack) must take the predictions of
        `fit`, before this is called: these rows are training rows afterwards.

        Args:
            data: encoded rows.
            seed: of everything that is drawn.
            progress: told a line.
        """
        ...


@runtime_checkable
class TakesRounds(System, Protocol):
    """A system of rounds, of which a given number can be learned.

    Attributes:
        n_rounds_: that were learned and kept; there before the first, too, or an unfitted system
            would not be told to be one of these.
    """

    n_rounds_: int

    def fit_rounds(
        self, data: EncodedMarket, n_rounds: int, *, seed: int, progress: Progress
    ) -> Self:
        """Learn from TRAIN rows where STOP rows cannot choose the number.

        Args:
            data: encoded rows.
            n_rounds: how many.
            seed: of everything that is drawn.
            progress: told a line.
        """
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
