"""Small outcomes and scores whose answers are known."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from purchase_predictor.following.joining import Joined, Model
from purchase_predictor.settings import EvaluationSettings

MONDAY = datetime(2025, 1, 6, tzinfo=UTC)


def evaluation(**changed: Any) -> EvaluationSettings:
    """Settings of the evaluation, few resamples."""
    values = {"resamples": 200, "confidence": 0.95, "min_test_conversions": 5, "ece_bins": 5}
    return EvaluationSettings.model_validate(values | changed)


def joined(
    probabilities: dict[str, Any],
    converted: Any,
    *,
    unit: Any = None,
    market: Any = "KR",
    days: Any = 0.0,
    lists: Any = None,
    propensity: Any = None,
) -> Joined:
    """Rows as `join` gives them; what is not told is the same in all rows."""
    n = len(converted)
    frame = pl.DataFrame(
        {
            "impression_id": [f"i{number}" for number in range(n)],
            "timestamp": [MONDAY + timedelta(days=float(day)) for day in np.broadcast_to(days, n)],
            "market": np.broadcast_to(market, n).tolist(),
            "converted": pl.Series(list(converted), dtype=pl.Boolean),
            "propensity": pl.Series(
                [None] * n if propensity is None else list(propensity), dtype=pl.Float64
            ),
            "unit": [str(u) for u in (range(n) if unit is None else unit)],
            "list_number": pl.Series(range(n) if lists is None else list(lists), dtype=pl.Int64),
        }
    ).with_columns(pl.Series(name, list(p), dtype=pl.Float64) for name, p in probabilities.items())
    frame = frame.with_columns(n_candidates=pl.col("propensity").count().over("list_number"))
    models = tuple(Model(name, *name.split(" ")) for name in probabilities)
    flags = pl.DataFrame(schema=dict.fromkeys(("model", "impression_id", "flag"), pl.String))
    return Joined(frame=frame, flags=flags, models=models, counts={})


def write_scores(
    file: Path, ids: Any, probability: Any, *, version: str = "1", **columns: Any
) -> Path:
    """A file as batch scoring writes it."""
    ids = list(ids)
    given = {
        "impression_id": ids,
        "market": ["KR"] * len(ids),
        "probability": list(probability),
        "system": ["fusion"] * len(ids),
        "model_version": [version] * len(ids),
        "flags": pl.Series([[]] * len(ids), dtype=pl.List(pl.String)),
    }
    pl.DataFrame(given | columns).write_parquet(file)
    return file


def expit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The logistic function."""
    return 1 / (1 + np.exp(-x))
