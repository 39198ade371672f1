"""TabM: its members, its stopping, numbers without a range."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from features.arrays import STOP, EncodedMarket
from purchase_predictor.baseline_settings import TabMSettings
from purchase_predictor.baselines.tabm import TabMNetwork, TabMSystem
from purchase_predictor.settings import load_settings

SMALL = ["k=3", "d_block=16", "batch_size=128", "patience=2", "max_epochs=12"]


@pytest.fixture(scope="module")
def data(market_of: Callable[..., EncodedMarket]) -> EncodedMarket:
    return market_of(n_units=150, n_events=300)


def settings_with(*overrides: str) -> TabMSettings:
    keys = [f"baselines.tabm.{text}" for text in (*SMALL, *overrides)]
    return load_settings(overrides=keys).baselines.tabm


def test_members_differ_from_the_start_and_each_gives_a_logit() -> None:
    torch.manual_seed(0)
    bins = [torch.linspace(-1, 1, 5), torch.tensor([0.0, 1.0])]
    network = TabMNetwork(n_codes=[4, 100], bins=bins, settings=settings_with()).eval()

    logits = network(torch.tensor([[1, 70], [3, 0]]), torch.tensor([[0.2, 1.0], [-3.0, 0.0]]))

    assert logits.shape == (2, 3)
    assert len(set(logits[0].tolist())) == 3


def test_the_best_epoch_is_kept_and_training_stops_when_it_is_old(data: EncodedMarket) -> None:
    lines: list[str] = []

    system = TabMSystem(settings_with("learning_rate=0.05")).fit(
        data, seed=0, progress=lines.append
    )

    losses = [float(line.split()[-1]) for line in lines[:-1]]
    assert len(losses) == system.best_epoch_ + 1 + 2
    assert system.best_epoch_ == int(np.argmin(losses))
    stop = data.select(data.part == STOP)
    assert log_loss(stop.converted, system.predict_proba(stop)) == pytest.approx(
        min(losses), abs=1e-4
    )


def test_a_number_that_is_one_value_or_missing_is_learned_from(data: EncodedMarket) -> None:
    numbers = data.numbers.copy()
    numbers[~np.isnan(numbers[:, 0]), 0] = 4.0

    system = TabMSystem(settings_with("max_epochs=1")).fit(
        replace(data, numbers=numbers), seed=0, progress=lambda _: None
    )

    assert np.isfinite(system.predict_proba(data)).all()


def test_a_table_without_numbers_is_learned_from() -> None:
    network = TabMNetwork(n_codes=[4], bins=[], settings=settings_with())

    logits = network(torch.tensor([[1], [3]]), torch.empty(2, 0))

    assert logits.shape == (2, 3)
