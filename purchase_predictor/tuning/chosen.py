"""The best settings as a file that `--config` takes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from purchase_predictor.checkpoint import write_file


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Key paths as sections of keys, as a settings file has them."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two settings files as one: what `above` says wins."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, dict) and isinstance(value, dict)
        merged[key] = laid_over(under, value) if both else value  # type: ignore[arg-type]
    return merged


def override_of(text: str) -> tuple[str, Any]:
    """A `key.path=value` as key and value."""
    key, _, value = text.partition("=")
    return key.strip(), yaml.safe_load(value)


def write_chosen(document: Mapping[str, Any], chosen: Mapping[str, Any], folder: Path) -> None:
    """Write `best.yaml` and all trials as `trials.json`.

    Args:
        document: what was tuned, on which data, and every system's trials.
        chosen: the best settings.
        folder: where.
    """
    tuned = ", ".join(f"{name} ({s['n_trials']})" for name, s in document["systems"].items())
    head = f"# Made by the tune command on {document['data']}; systems (trials): {tuned}.\n"
    text = head + yaml.safe_dump(dict(chosen), sort_keys=False, allow_unicode=True)
    write_file(folder / "best.yaml", lambda path: path.write_text(text, "utf-8"))
    trials = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    write_file(folder / "trials.json", lambda path: path.write_text(trials, "utf-8"))
