"""Stored predictions: their key, their file, and the package's own calibration and stack."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.fitted import Cost, Fitted, held_rows, key_of, predictions, stack_cost
from features.arrays import TEST, EncodedMarket
from purchase_predictor.panel import Panel
from purchase_predictor.settings import load_settings

FACTS = {"prepare_s": 3.0}


class Known:
    """A system that says what it was told, by impression."""

    def __init__(self, p: dict[str, float]) -> None:
        self.p = p

    def predict_proba(self, data: EncodedMarket) -> np.ndarray:
        return np.array([self.p[name] for name in data.impression_id])


@pytest.fixture(scope="module")
def data(market_of: Callable[..., EncodedMarket]) -> EncodedMarket:
    return market_of(n_units=300, n_events=500)


def fitted_of(data: EncodedMarket, name: str, seed: int, cost: Cost) -> tuple[Fitted, Known]:
    rows = held_rows(data)
    rng = np.random.default_rng(seed)
    p = np.clip(0.6 * rows["converted"].to_numpy() + 0.4 * rng.random(len(rows)), 0.01, 0.99)
    known = Known(dict(zip(rows["impression_id"], p, strict=True)))
    return Fitted(name, "key", cost, rows.with_columns(p=pl.Series(p)), FACTS), known


def test_calibration_and_stack_are_those_of_the_package(data: EncodedMarket) -> None:
    cost = Cost(1.0, 100.0, 1.0)
    pairs = {name: fitted_of(data, name, seed, cost) for seed, name in
             enumerate(("fusion", "lightgbm", "tabm"))}  # fmt: skip
    panel = Panel.fit({name: known for name, (_, known) in pairs.items()}, data)
    expected = panel.predict_proba(data.select(data.part == TEST))

    frame, losses = predictions([fitted for fitted, _ in pairs.values()])

    assert frame.columns[-4:] == ["fusion", "lightgbm", "tabm", "stack"]
    for name, p in expected.items():
        assert frame[name].to_list() == p.tolist()
    assert losses == dict(panel.log_loss_)
    assert frame["impression_id"].to_list() == list(data.impression_id[data.part == TEST])


def test_without_the_fusion_there_is_no_stack(data: EncodedMarket) -> None:
    cost = Cost(1.0, 100.0, 1.0)
    fitted = [fitted_of(data, name, 0, cost)[0] for name in ("lightgbm", "tabm")]

    frame, losses = predictions(fitted)

    assert "stack" not in frame.columns
    assert list(losses) == ["lightgbm", "tabm"]


def test_the_stack_costs_what_its_two_cost(data: EncodedMarket) -> None:
    costs = {"fusion": Cost(10.0, 100.0, 2.0), "lightgbm": Cost(1.0, 400.0, 1.0),
             "tabm": Cost(50.0, 5.0, 9.0)}  # fmt: skip
    fitted = [fitted_of(data, name, 0, cost)[0] for name, cost in costs.items()]

    assert stack_cost(fitted) == Cost(11.0, pytest.approx(80.0), 2.0)


def test_what_was_saved_is_taken_up_under_its_key_alone(
    data: EncodedMarket, tmp_path: Path
) -> None:
    fitted, _ = fitted_of(data, "tabm", 0, Cost(1.5, 100.0, 1.0))
    fitted.save(tmp_path / "run-tabm")

    again = Fitted.load(tmp_path / "run-tabm", "key")

    assert again is not None
    assert (again.name, again.cost, again.facts) == ("tabm", fitted.cost, FACTS)
    assert again.frame.equals(fitted.frame)
    assert Fitted.load(tmp_path / "run-tabm", "another") is None
    assert Fitted.load(tmp_path / "run-fusion", "key") is None


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=1", {"fusion", "lightgbm"}),
        ("model.d_model=32", {"fusion", "lightgbm"}),
        ("baselines.lightgbm.num_leaves=7", {"lightgbm"}),
        ("baselines.tabnet.n_d=8", set()),
        ("evaluation.resamples=10", set()),
        ("tracking.experiment=other", set()),
        ("encoders.cache=elsewhere", set()),
        ("encoders.epochs=1", {"fusion", "lightgbm"}),
    ],
)
def test_a_key_follows_from_what_matters_to_the_system(override: str, changed: set[str]) -> None:
    found = {
        name
        for name in ("fusion", "lightgbm")
        if key_of("data", load_settings(), "all", name)
        != key_of("data", load_settings(None, [override]), "all", name)
    }

    assert found == changed


def test_data_market_and_dropped_modality_change_the_key() -> None:
    keys = [
        key_of("data", load_settings(), "all", "fusion"),
        key_of("other", load_settings(), "all", "fusion"),
        key_of("data", load_settings(), "KR", "fusion"),
        key_of("data", load_settings(), "all", "fusion", "text"),
    ]

    assert len(set(keys)) == 4
