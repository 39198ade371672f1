"""LightGBM on the public data sets reaches the figures of the acceptance."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score

from features.arrays import TEST, EncodedMarket
from features.culture import load_profiles
from features.encoding import FeatureEncoder
from features.schema import load_tables
from features.splits import split_impressions
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.data.sources import online_shoppers, trivago
from purchase_predictor.settings import load_settings

REAL = Path(__file__).parents[2] / "../shared/data"
SETTINGS = load_settings(overrides=["baselines.lightgbm.threads=1"])
pytestmark = pytest.mark.slow


def encoded(
    convert: Callable[..., dict[str, int]], raw: Path, folder: Path, drop: list[str]
) -> EncodedMarket:
    if not raw.is_dir():
        pytest.skip(f"the raw files are not here ({raw.parent.name}/{raw.name})")
    convert(raw, folder / "data", drop=drop)
    tables = load_tables(folder / "data")
    split = split_impressions(tables, validation_fraction=0.1, test_fraction=0.2, seed=0)
    encoder = FeatureEncoder.fit(
        tables,
        split,
        history=SETTINGS.model.history,
        min_identity_count=1_000_000,  # products come and go: `train` uses no identities either
        profiles=load_profiles(None),
        phrases={},
    )
    return encoder.transform(tables, split)


def silent(_line: str) -> None:
    pass


def test_trivago(tmp_path: Path) -> None:
    data = encoded(trivago.convert, REAL / "trivago", tmp_path, [])
    test = data.select(data.part == TEST)
    place = [column.name for column in data.number_columns].index("position")

    system = LightGBMSystem(SETTINGS.baselines.lightgbm).fit(data, seed=0, progress=silent)

    position = roc_auc_score(test.converted, -test.numbers[:, place])
    assert len(data) == 312_539
    assert position == pytest.approx(0.762, abs=0.002)
    assert roc_auc_score(test.converted, system.predict_proba(test)) > 0.89


@pytest.mark.parametrize(("drop", "expected"), [([], 0.839), (["PageValues"], 0.699)])
def test_online_shoppers(tmp_path: Path, drop: list[str], expected: float) -> None:
    data = encoded(online_shoppers.convert, REAL / "online_shoppers", tmp_path, drop)
    test = data.select(data.part == TEST)

    system = LightGBMSystem(SETTINGS.baselines.lightgbm).fit(data, seed=0, progress=silent)
    alone = roc_auc_score(test.converted, system.predict_proba(test))
    system.refit(data, seed=0, progress=silent)
    refitted = roc_auc_score(test.converted, system.predict_proba(test))

    assert alone == pytest.approx(expected, abs=0.01)
    assert refitted == pytest.approx(expected, abs=0.01)
