"""Nested settings and figures as MLflow takes them: dotted keys, short values."""

import json
import re
from collections.abc import Mapping
from typing import Any

MAX_VALUE, MAX_KEY = 500, 250


def flat_keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, keys joined by dots."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flat_keys(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def metric_key(name: str) -> str:
    """A name that MLflow takes: markets may have any."""
    return re.sub(r"[^\w. -]", "_", name)[:MAX_KEY]


def shortened(value: Any) -> str:
    """A value as the text of a parameter, cut to what MLflow takes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_VALUE else f"{text[: MAX_VALUE - 1]}…"


def without_passwords(text: str) -> str:
    """Text without the passwords that may be in its URIs."""
    return re.sub(r"//[^/@\s]*@", "//", text)
