"""Profiles of the markets: what tells a market that training never saw.

Published cultural dimensions by default; they describe countries, not persons.
"""

import math
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from features.errors import DataError, nearest

Profiles = dict[str, dict[str, float]]
"""Dimension values of each market, as published."""

ENTRY = ("name", "language", "currency", "dimensions")
"""What an entry of a market may hold."""


def load_profiles(file: Path | None = None) -> Profiles:
    """Read the cultural dimensions of the markets.

    Args:
        file: YAML laid out as `configs/markets.yaml`, which is read where this is None.

    Returns:
        Values by market and dimension; a market without dimensions is left out.

    Raises:
        DataError: if the file cannot be read or is laid out otherwise; names the place.
    """
    name = "configs/markets.yaml" if file is None else str(file)
    markets = _mapping(read_yaml(file, "markets.yaml"), "markets", name)
    profiles: Profiles = {}
    for market, entry in markets.items():
        if not isinstance(market, str):
            # an unquoted NO is the truth value false in YAML
            raise DataError(f"{name}: the market {market!r} must be a text: put it in quotes.")
        dimensions = _mapping(entry, "dimensions", f"{name}, market {market}", required=False)
        for key in entry:
            if key not in ENTRY:  # a dimension beside the others would be lost without a word
                hint = nearest(str(key), ENTRY)
                raise DataError(f"{name}: market {market} has an unknown key '{key}'{hint}")
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


def check_further(profiles: Profiles, further: Profiles, name: str) -> None:
    """Refuse profiles that a fitted model cannot read.

    Args:
        profiles: those it was fitted with.
        further: of markets that come later.
        name: of the file of these.

    Raises:
        DataError: a dimension is unknown to the model, or a new market lacks one.
    """
    dimensions = dimensions_of(profiles)
    for market, values in further.items():
        for dimension in values:
            if dimension not in dimensions:
                known = ", ".join(dimensions) or "none"
                hint = nearest(dimension, dimensions)
                raise DataError(
                    f"{name}: market {market} has the dimension '{dimension}', which the model "
                    f"was not trained with{hint}; it has: {known}"
                )
        missing = [dimension for dimension in dimensions if dimension not in values]
        if missing and market not in profiles:
            raise DataError(f"{name}: market {market} lacks the dimensions {', '.join(missing)}")


def dimensions_of(profiles: Profiles) -> tuple[str, ...]:
    """Names of the dimensions, in the order in which they first appear."""
    return tuple(dict.fromkeys(name for values in profiles.values() for name in values))


def standardise(
    profiles: Profiles, further: Profiles | None = None
) -> tuple[tuple[str, ...], dict[str, NDArray[np.float32]]]:
    """Give every dimension mean 0 and standard deviation 1 over all markets of the file.

    Args:
        profiles: of `load_profiles`.
        further: markets that are put on the same scale without changing it; those of `profiles`
            keep their values.

    Returns:
        The dimensions, and for each market float32 [n_dimensions], NaN where it has no value.
    """
    dimensions = dimensions_of(profiles)
    every = {**(further or {}), **profiles}
    whole = np.array(
        [[values.get(name, np.nan) for name in dimensions] for values in every.values()]
    ).reshape(len(every), len(dimensions))
    table = whole[[market in profiles for market in every]]
    known = ~np.isnan(table)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, table, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (table - mean) ** 2, 0).sum(axis=0) / count)
    scaled = ((whole - mean) / np.where(spread > 0, spread, 1)).astype(np.float32)
    return dimensions, dict(zip(every, scaled, strict=True))


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
