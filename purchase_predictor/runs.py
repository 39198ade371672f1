"""Runs that can be found again: what identifies one, and what others read from it."""

import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import polars as pl

from features.culture import load_profiles
from features.encoding import FORMAT
from purchase_predictor.checkpoint import write_json
from purchase_predictor.fitting import rounds_of
from purchase_predictor.model.fusion import LAYOUT
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import Settings

HELD = "held.parquet"
"""Artifact of a run: calibrated probabilities of the rows that it did not learn from."""

ROUNDS = "rounds.json"
"""Artifact of a run: rounds of its baselines, for models whose own rows cannot stop training."""

KEY_TAG = "run.key"


def run_key(
    fingerprint: str,
    settings: Settings,
    market: str,
    scope: str,
    encoders: str | None = None,
    *,
    stops: bool = True,
) -> str:
    """Hash of everything that a run's predictions follow from, its code excepted.

    Of the code it holds what a change of features or of the network counts up.

    Args:
        fingerprint: of the data.
        settings: all settings; those of evaluation, tracking, comparison and checkpoints do not
            count.
        market: a market, or `all`.
        scope: local, global or adapted.
        encoders: hash of the folder of trained encoders, if any.
        stops: whether the market's own STOP rows stop training.

    Raises:
        DataError: the user's file of market profiles cannot be used.
    """
    values = settings.model_values()
    values["encoders"].pop("cache")
    values["training"].pop("checkpoint_every")
    values["data"].pop("min_conversions")  # refuses a run, changes none
    values["data"].pop("market_profiles")  # where a file lies says nothing, what is in it does
    beside: dict[str, Any] = {
        name: (resources.files("configs") / name).read_text("utf-8")
        for name in ("markets.yaml", "phrases.yaml")
    }
    if settings.data.profiles_file is not None:
        beside["markets.yaml"] = load_profiles(settings.data.profiles_file)
    made_of = [fingerprint, values, market, scope, encoders, FORMAT, LAYOUT, beside]
    if not stops:
        made_of.append("unstopped")
    text = json.dumps(made_of, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def judged_key(fingerprint: str, settings: Settings, market: str) -> str:
    """Hash of the validation rows on which systems are ranked; equal where these are the same.

    Args:
        fingerprint: of the data.
        settings: how rows are split, and the seed of the halves.
        market: a market, or `all`.
    """
    shares = settings.data.validation_fraction, settings.data.test_fraction
    text = json.dumps([fingerprint, *shares, settings.seed, market])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def held_rows(predictor: PurchasePredictor) -> pl.DataFrame:
    """What a fitted predictor says of the second validation half and of the test.

    Args:
        predictor: just fitted.

    Returns:
        The columns of `PurchasePredictor.predict_test`, and `part`: `validation` rows as they
        were predicted before the systems learned from them, then `test` rows.
    """
    return pl.concat(
        [
            predictor.fitted_.validation.with_columns(part=pl.lit("validation")),
            predictor.predict_test().with_columns(part=pl.lit("test")),
        ]
    )


def write_held(predictor: PurchasePredictor, held: pl.DataFrame, folder: Path) -> list[Path]:
    """Write what other commands read from a run.

    Args:
        predictor: just fitted.
        held: its `held_rows`.
        folder: where.

    Returns:
        The files `HELD` and `ROUNDS`.
    """
    held.write_parquet(folder / HELD)
    write_json(folder / ROUNDS, rounds_of(predictor.panel_.systems_))
    return [folder / HELD, folder / ROUNDS]
