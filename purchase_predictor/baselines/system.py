"""One contract for all systems, and the baselines by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from features.arrays import CALIBRATE, STOP, TRAIN, EncodedMarket
from purchase_predictor.errors import DataError, SettingsError, nearest
from purchase_predictor.settings import BaselineSettings

Progress = Callable[[str], None]

NAMES = ("lightgbm", "tabnet")


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


def make_baseline(name: str, settings: BaselineSettings) -> System:
    """A baseline that is not yet fitted.

    Args:
        name: of `NAMES`.
        settings: of all baselines.

    Raises:
        SettingsError: if there is no such baseline; names the nearest.
    """
    if name == "lightgbm":
        from purchase_predictor.baselines.lightgbm import LightGBMSystem

        return LightGBMSystem(settings.lightgbm)
    if name == "tabnet":
        from purchase_predictor.baselines.tabnet import TabNetSystem

        return TabNetSystem(settings.tabnet)
    raise _unknown(name)


def load_baseline(name: str, folder: Path) -> System:
    """A fitted baseline from the folder that its `save` wrote.

    Raises:
        SettingsError: if there is no such baseline; names the nearest.
        ModelFolderError: if the folder is not whole.
    """
    if name == "lightgbm":
        from purchase_predictor.baselines.lightgbm import LightGBMSystem

        return LightGBMSystem.load(folder)
    if name == "tabnet":
        from purchase_predictor.baselines.tabnet import TabNetSystem

        return TabNetSystem.load(folder)
    raise _unknown(name)


def _unknown(name: str) -> SettingsError:
    hint = nearest(name, NAMES)
    return SettingsError(f"there is no baseline '{name}'{hint}; there are {', '.join(NAMES)}")


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
