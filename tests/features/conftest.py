"""The tiny folder, split and encoded, and small tables made by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from features.arrays import EncodedMarket
from features.culture import load_profiles
from features.encoding import FeatureEncoder
from features.products import load_phrases
from features.schema import Tables, tables_from_frames
from features.splits import Split, split_impressions

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def tiny_split(tiny_tables: Tables) -> Split:
    return split_impressions(tiny_tables, validation_fraction=0.1, test_fraction=0.2, seed=0)


@pytest.fixture(scope="session")
def fit_encoder() -> Callable[[Tables, Split], FeatureEncoder]:
    def fit(tables: Tables, split: Split, history: int = 8) -> FeatureEncoder:
        return FeatureEncoder.fit(
            tables,
            split,
            history=history,
            min_identity_count=3,
            profiles=load_profiles(),
            phrases=load_phrases(),
        )

    return fit


@pytest.fixture(scope="session")
def tiny_encoder(
    tiny_tables: Tables, tiny_split: Split, fit_encoder: Callable[[Tables, Split], FeatureEncoder]
) -> FeatureEncoder:
    return fit_encoder(tiny_tables, tiny_split)


@pytest.fixture(scope="session")
def tiny_data(
    tiny_tables: Tables, tiny_split: Split, tiny_encoder: FeatureEncoder
) -> EncodedMarket:
    return tiny_encoder.transform(tiny_tables, tiny_split)


@pytest.fixture(scope="session")
def make_tables() -> Callable[..., Tables]:
    """Tables of rows given as dicts; `timestamp` is in seconds after noon.

    What an impression does not say is: its own number as id, session s, market KR, product a,
    not converted. What an event does not say: session s, type view, product a.
    """

    def make(
        impressions: list[dict[str, Any]],
        events: list[dict[str, Any]] | None = None,
        products: list[dict[str, Any]] | None = None,
    ) -> Tables:
        shown = [
            {
                "impression_id": f"i{number}",
                "session_id": "s",
                "market": "KR",
                "product_id": "a",
                "converted": False,
                **row,
            }
            for number, row in enumerate(impressions)
        ]
        clicks = [
            {"session_id": "s", "event_type": "view", "product_id": "a", **row}
            for row in events or []
        ]
        catalogue = products or [{"product_id": name} for name in "abcd"]
        return tables_from_frames(
            pl.from_dicts(catalogue, infer_schema_length=None),
            _timed(clicks) if clicks else None,
            _timed(shown),
            folder=Path(),
        )

    return make


def _timed(rows: list[dict[str, Any]]) -> pl.DataFrame:
    frame = pl.from_dicts(rows, infer_schema_length=None)
    return frame.with_columns(
        timestamp=pl.lit(NOON) + pl.duration(microseconds=pl.col("timestamp") * 1_000_000)
    ).with_columns(pl.col("timestamp").dt.cast_time_unit("us"))


@pytest.fixture(scope="session")
def after_noon() -> Callable[[float], datetime]:
    """A moment so many seconds after noon."""
    return lambda seconds: NOON + timedelta(seconds=seconds)
