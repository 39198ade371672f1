"""Where tuning looks: `configs/tune.yaml` read and checked, and one trial's settings drawn."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Self, cast

import optuna
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from purchase_predictor.errors import SettingsError, nearest
from purchase_predictor.settings import Settings, known_keys, value_of

Value = bool | int | float | str
"""What a trial chooses."""


class Range(BaseModel):
    """Where one setting is looked for: between two numbers, or among choices.

    Attributes:
        low: the least value.
        high: the greatest value; the setting is a whole number where both are.
        log: whether factors count instead of differences.
        choices: the values, where there is no range.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    choices: tuple[Value, ...] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("choices stand alone, without low, high and log")
            if len(self.choices) < 2:
                raise ValueError("choices must be two or more")
        elif self.low is None or self.high is None:
            raise ValueError("low and high are needed, or choices")
        elif not self.low < self.high:
            raise ValueError(f"low {self.low} must be under high {self.high}")
        elif self.log and self.low <= 0:
            raise ValueError("low must be positive where log is true")
        return self

    def suggest(self, trial: optuna.trial.BaseTrial, name: str) -> Value:
        """The trial's value of the setting `name`."""
        if self.choices is not None:
            return cast(Value, trial.suggest_categorical(name, list(self.choices)))
        low, high = self.low, self.high
        if isinstance(low, int) and isinstance(high, int):
            return trial.suggest_int(name, low, high, log=self.log)
        return trial.suggest_float(name, float(low or 0), float(high or 0), log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a value lies inside."""
        if self.choices is not None:
            return value in self.choices
        return bool(self.low <= value <= self.high)


Space = Mapping[str, Range]
"""What is looked for of one system, by the settings' key paths."""


def load_spaces(file: Path | None = None) -> dict[str, dict[str, Range]]:
    """Read where tuning looks.

    Args:
        file: a YAML file of one's own; None takes `configs/tune.yaml`.

    Returns:
        The space of each system.

    Raises:
        SettingsError: unreadable file, unknown key (names the nearest) or impossible range.
    """
    origin = "tune.yaml" if file is None else str(file)
    spaces: dict[str, dict[str, Range]] = {}
    for system, space in _read(file, origin).items():
        if not isinstance(space, dict) or not space:
            raise SettingsError(f"{origin}: '{system}' must hold settings and their ranges")
        spaces[str(system)] = {str(key): _range(str(key), v, origin) for key, v in space.items()}
    return spaces


def suggest(trial: optuna.trial.BaseTrial, space: Space) -> dict[str, Value]:
    """Draw one trial's settings.

    Args:
        trial: of Optuna.
        space: of the system.

    Returns:
        A value for each key path; `as_overrides` turns them into settings.
    """
    return {key: found.suggest(trial, key) for key, found in space.items()}


def as_overrides(values: Mapping[str, Value]) -> list[str]:
    """The `key.path=value` that `load_settings` takes."""
    return [f"{key}={yaml.safe_dump(value).splitlines()[0]}" for key, value in values.items()]


def starting_values(settings: Settings, space: Space) -> dict[str, Value]:
    """What the settings say of each key of a space: the first trial.

    Args:
        settings: that tuning starts from.
        space: of the system.

    Raises:
        SettingsError: a value lies outside its range; names it.
    """
    values = {key: value_of(settings, key) for key in space}
    for key, value in values.items():
        if not space[key].holds(value):
            raise SettingsError(
                f"{key} is {value}, outside where tuning looks: widen its range or start elsewhere"
            )
    return values


def _read(file: Path | None, origin: str) -> dict[Any, Any]:
    try:
        if file is None:
            text = (resources.files("configs") / "tune.yaml").read_text("utf-8")
        else:
            text = file.read_text("utf-8")
        values = yaml.safe_load(text)
    except OSError as error:
        raise SettingsError(f"cannot read {origin}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{origin} is not a YAML file in UTF-8") from error
    if not isinstance(values, dict) or not values:
        raise SettingsError(f"{origin} must hold systems and where to look for their settings")
    return values


def _range(key: str, values: Any, origin: str) -> Range:
    known = known_keys()
    if key not in known:
        raise SettingsError(f"{origin}: there is no setting '{key}'{nearest(key, known)}")
    try:
        # YAML lists are tuples here: strict validation would refuse them
        given = dict(values) if isinstance(values, dict) else values
        if isinstance(given, dict) and isinstance(given.get("choices"), list):
            given["choices"] = tuple(given["choices"])
        return Range.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        told = f"{place}: {first['msg']}" if place else first["msg"]
        raise SettingsError(f"{origin}: range of '{key}': {told}") from error
