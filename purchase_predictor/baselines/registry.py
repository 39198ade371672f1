"""The baselines by name; a baseline's library is imported when it is asked for."""

from pathlib import Path

from purchase_predictor.baselines.system import System
from purchase_predictor.errors import SettingsError, nearest
from purchase_predictor.settings import BaselineSettings

NAMES = ("lightgbm", "tabnet")


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
