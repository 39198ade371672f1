"""The baselines by name; a baseline's library is imported when it is asked for."""

from pathlib import Path

from purchase_predictor.baseline_settings import BaselineSettings
from purchase_predictor.baselines.system import System, TakesRounds
from purchase_predictor.errors import SettingsError, nearest

NAMES = ("lightgbm", "catboost", "tabnet", "tabm", "logistic")


def make_baseline(name: str, settings: BaselineSettings) -> System:
    """A baseline that is not yet fitted.

    Args:
        name: of `NAMES`.
        settings: of all baselines.

    Raises:
        SettingsError: if there is no such baseline (names the nearest), or its library is missing.
    """
    if name == "lightgbm":
        from purchase_predictor.baselines.lightgbm import LightGBMSystem

        return LightGBMSystem(settings.lightgbm)
    if name == "catboost":
        from purchase_predictor.baselines.catboost import CatBoostSystem

        return CatBoostSystem(settings.catboost)
    if name == "tabnet":
        from purchase_predictor.baselines.tabnet import TabNetSystem

        return TabNetSystem(settings.tabnet)
    if name == "tabm":
        from purchase_predictor.baselines.tabm import TabMSystem

        return TabMSystem(settings.tabm)
    if name == "logistic":
        from purchase_predictor.baselines.logistic import LogisticSystem

        return LogisticSystem(settings.logistic)
    raise _unknown(name)


def take_rounds(settings: BaselineSettings) -> bool:
    """Whether all baselines of the settings can learn a given number of rounds."""
    return all(isinstance(make_baseline(name, settings), TakesRounds) for name in settings.systems)


def load_baseline(name: str, folder: Path) -> System:
    """A fitted baseline from the folder that its `save` wrote.

    Raises:
        SettingsError: if there is no such baseline (names the nearest), or its library is missing.
        ModelFolderError: if the folder is not whole.
    """
    if name == "lightgbm":
        from purchase_predictor.baselines.lightgbm import LightGBMSystem

        return LightGBMSystem.load(folder)
    if name == "catboost":
        from purchase_predictor.baselines.catboost import CatBoostSystem

        return CatBoostSystem.load(folder)
    if name == "tabnet":
        from purchase_predictor.baselines.tabnet import TabNetSystem

        return TabNetSystem.load(folder)
    if name == "tabm":
        from purchase_predictor.baselines.tabm import TabMSystem

        return TabMSystem.load(folder)
    if name == "logistic":
        from purchase_predictor.baselines.logistic import LogisticSystem

        return LogisticSystem.load(folder)
    raise _unknown(name)


def _unknown(name: str) -> SettingsError:
    hint = nearest(name, NAMES)
    return SettingsError(f"there is no baseline '{name}' among {', '.join(NAMES)}{hint}")
