import numpy as np
import pytest

from purchase_predictor.evaluation.stability import (
    bin_counts,
    psi,
    psi_by_chance,
    psi_of_counts,
    quantile_edges,
)

FIRST = np.array([0.1, 0.2, 0.3, 0.4])


def test_psi_is_the_textbook_sum() -> None:
    value, n_bins = psi(FIRST, np.array([0.1, 0.3, 0.35, 0.4]), n_bins=2)
    assert n_bins == 2
    assert value == pytest.approx(0.25 * np.log(2) + 0.25 * np.log(1.5))


def test_psi_counts_an_empty_bin_as_half_a_row() -> None:
    value, _ = psi(FIRST, np.array([0.3, 0.3, 0.4, 0.9]), n_bins=2)
    assert value == pytest.approx((0.125 - 0.5) * np.log(0.25) + 0.5 * np.log(2))


def test_psi_of_the_same_scores_is_nothing_and_ties_make_fewer_bins() -> None:
    assert psi(FIRST, FIRST)[0] == 0
    assert psi(np.array([0.5, 0.5, 0.5, 0.7]), FIRST, n_bins=4)[1] < 4


def test_chance_exceeds_its_level_one_time_in_twenty() -> None:
    rng = np.random.default_rng(0)
    level = psi_by_chance(1000, 500, 10, 0.95)
    seen = [psi(rng.random(1000), rng.random(500))[0] > level for _ in range(400)]
    assert 0.02 <= np.mean(seen) <= 0.09


def test_an_edge_belongs_to_the_bin_above_it() -> None:
    edges = quantile_edges(FIRST, 2)
    assert edges.tolist() == [0.25]
    assert bin_counts(edges, np.array([0.2, 0.25, np.inf, -np.inf])).tolist() == [2, 2]


def test_counts_give_what_values_give() -> None:
    rng = np.random.default_rng(1)
    first, now = rng.normal(size=500), rng.normal(0.3, size=300)
    edges = quantile_edges(first)
    counts = psi_of_counts(bin_counts(edges, first), bin_counts(edges, now))
    assert counts == pytest.approx(psi(first, now)[0])
    assert counts > 0.05
