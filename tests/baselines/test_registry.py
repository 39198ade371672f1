"""Optional baselines complain when they are asked for, in a sentence."""

import sys

import pytest

from purchase_predictor.baselines.registry import NAMES, make_baseline
from purchase_predictor.errors import SettingsError
from purchase_predictor.settings import load_settings


@pytest.mark.parametrize("name", NAMES)
def test_each_baseline_is_made_by_its_name(name: str) -> None:
    assert make_baseline(name, load_settings().baselines).name == name


def test_an_absent_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "catboost", None)
    monkeypatch.delitem(sys.modules, "purchase_predictor.baselines.catboost", raising=False)

    with pytest.raises(
        SettingsError, match=r"'catboost' needs .*purchase-predictor\[benchmarks\]"
    ):
        make_baseline("catboost", load_settings().baselines)
