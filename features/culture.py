"""Cultural dimensions of the markets (handbook: markets); they describe countries, not persons."""

import math
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from features.errors import DataError

Profiles = dict[str, dict[str, float]]
"""Dimension values of each market, as published."""


def load_profiles(file: Path | None = None) -> Profiles:
    """Read the cultural dimensions of the markets.

    Args:
        file: YAML laid out as `configs/markets.yaml`, which is read where this is None.

    Returns:
        Values by market and dimension; a market without dimensions is left out.

    Raises:
        DataError: if the file cannot be read or is laid out otherwise.
    """
    name = "configs/markets.yaml" if file is None else str(file)
    markets = _mapping(read_yaml(file, "markets.yaml"), "markets", name)
    profiles: Profiles = {}
    for market, entry in markets.items():
        if not isinstance(market, str):
            # an unquoted NO is the truth value false in YAML
            raise DataError(f"{name}: the market {market!r} must be a text: put it in quotes.")
        dimensions = _mapping(entry, "dimensions", f"{name}, market {market}", required=False)
        for dimension, value in dimensions.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise DataError(
                    f"{name}: dimension {dimension} of market {market} is {value!r}, "
                    "it must be a number."
                )
            if not math.isfinite(value):
                raise DataError(f"{name}: dimension {dimension} of market {market} is {value}.")
        if dimensions:
            profiles[market] = {str(key): float(value) for key, value in dimensions.items()}
    return profiles


def standardise(profiles: Profiles) -> tuple[tuple[str, ...], dict[str, NDArray[np.float32]]]:
    """Give every dimension mean 0 and standard deviation 1 over all markets of the file.

    Args:
        profiles: of `load_profiles`.

    Returns:
        The dimensions, and for each market float32 [n_dimensions], NaN where it has no value.
    """
    dimensions = tuple(dict.fromkeys(name for values in profiles.values() for name in values))
    table = np.array(
        [[values.get(name, np.nan) for name in dimensions] for values in profiles.values()]
    ).reshape(len(profiles), len(dimensions))
    known = ~np.isnan(table)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, table, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (table - mean) ** 2, 0).sum(axis=0) / count)
    scaled = ((table - mean) / np.where(spread > 0, spread, 1)).astype(np.float32)
    return dimensions, dict(zip(profiles, scaled, strict=True))


def read_yaml(file: Path | None, default: str) -> Any:
    """Read a YAML file, or the file `default` of the package `configs`.

    Raises:
        DataError: if it cannot be read or is not YAML in UTF-8.
    """
    try:
        if file is None:
            return yaml.safe_load((resources.files("configs") / default).read_text("utf-8"))
        return yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"The file {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"The file {file} is not a YAML file in UTF-8.") from error


def _mapping(values: Any, key: str, where: str, *, required: bool = True) -> dict[Any, Any]:
    if not isinstance(values, dict) or (required and key not in values):
        raise DataError(f"{where}: it must have a section '{key}'.")
    section = values.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise DataError(f"{where}: '{key}' must hold keys and values.")
    return section
