from dataclasses import replace

import polars as pl
import pytest

from features.arrays import TEST
from features.schema import Tables
from purchase_predictor.comparison.full import FusionModels
from purchase_predictor.errors import DataError
from purchase_predictor.settings import Settings, load_settings
from purchase_predictor.training.selection import split_by


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    cache = tmp_path_factory.mktemp("cache")
    return load_settings(
        None,
        [
            "model.d_model=16", "model.n_layers=1", "model.n_members=2", "model.history=6",
            "model.parts=readout", "pretraining.epochs=0", "training.precision=float32",
            "encoders.epochs=0", "encoders.n_word_pieces=300", "data.validation_fraction=0.2",
            "comparison.min_conversions=5", f"encoders.cache={cache}",
        ],
    )  # fmt: skip


def test_a_fusion_of_some_markets_serves_one_that_it_never_saw(
    tiny_tables: Tables, settings: Settings
) -> None:
    """Whatever the rows of the market left out hold before the test, its scores are the same."""
    split = split_by(tiny_tables, settings)
    early = pl.Series(split.part != TEST) & (tiny_tables.impressions["market"] == "JP")
    changed = tiny_tables.impressions.with_columns(
        converted=pl.when(early).then(~pl.col("converted")).otherwise("converted")
    )
    scores = [
        FusionModels(tables, split, settings).predict(["KR", "US"], ["JP"], seed=0, codes=False)
        for tables in (tiny_tables, replace(tiny_tables, impressions=changed))
    ]

    test = tiny_tables.impressions.filter(pl.Series(split.part == TEST), pl.col("market") == "JP")
    assert set(scores[0]["impression_id"]) == set(test["impression_id"])
    assert scores[0]["p"].n_unique() > 10
    assert scores[0].equals(scores[1])


def test_too_few_conversions_are_told(tiny_tables: Tables, settings: Settings) -> None:
    models = FusionModels(tiny_tables, split_by(tiny_tables, settings), settings)
    with pytest.raises(DataError, match="market MX"):
        models.predict(["MX"], ["KR"], seed=0)
