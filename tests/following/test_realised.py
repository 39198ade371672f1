import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from purchase_predictor.evaluation import metrics
from purchase_predictor.following.joining import Joined
from purchase_predictor.following.realised import (
    FIGURES,
    NO_COMMON_PERIOD,
    SCHEMA,
    Measured,
    long_table,
    pairs_of,
    realised,
    served_apart,
    shared_gaps,
)
from tests.following.cases import evaluation, expit, joined

Bools = NDArray[np.bool_]


def two_models(seed: int = 0, *, shared: bool = True) -> Joined:
    """A sharp and a blunt model in two markets; the blunt one lacks rows unless they share."""
    rng = np.random.default_rng(seed)
    n = 1200
    x = rng.normal(size=n)
    y = rng.random(n) < expit(x - 1.5)
    blunt = expit(0.4 * x + rng.normal(size=n) - 1.5)
    where = np.arange(n) % 4 != 0
    return joined(
        {"a old": blunt if shared else np.where(where, blunt, np.nan), "a new": expit(x - 1.5)},
        y, unit=np.arange(n) // 3, market=np.where(np.arange(n) // 3 % 2, "KR", "US"),
    )  # fmt: skip


def test_figures_are_the_metrics_of_each_market_with_intervals_around_them() -> None:
    rows = two_models()
    settings = evaluation()
    found = realised(Measured.of(rows, settings=settings, seed=0))

    assert [entry["model"] for entry in found] == ["a old", "a new"]
    new = found[1]
    assert new["markets_averaged"] == ["KR", "US"]
    for market, figures in new["markets"].items():
        part = rows.frame.filter(pl.col("market") == market)
        y, p = part["converted"].to_numpy(), part["a new"].to_numpy()
        wanted = metrics.measure(y, p, part["list_number"].to_numpy(), n_bins=5)
        for metric in FIGURES:
            value = figures[metric]
            assert value["value"] == pytest.approx(wanted[metric])
            assert value["low"] <= value["value"] <= value["high"]
        assert figures["n"] == len(part)
    assert new["macro"]["auc"]["value"] == pytest.approx(
        np.mean([new["markets"][m]["auc"]["value"] for m in ("KR", "US")])
    )
    assert new["pooled"]["mean_ratio"]["low"] < 1 < new["pooled"]["mean_ratio"]["high"]


def test_the_long_table_has_every_figure_once() -> None:
    found = realised(Measured.of(two_models(), settings=evaluation(), seed=0))
    table = long_table(found)
    assert table.columns == list(SCHEMA)
    assert len(table) == 2 * 4 * len(FIGURES)
    key = table.filter(
        pl.col("model") == "a new", pl.col("market") == "KR", pl.col("metric") == "auc"
    )
    assert key["value"].item() == found[1]["markets"]["KR"]["auc"]["value"]
    assert set(table.filter(pl.col("scope") != "market")["market"]) == {"macro", "pooled"}


def test_models_of_the_same_impressions_share_their_resamples() -> None:
    measured = Measured.of(two_models(), settings=evaluation(), seed=0)
    assert measured.draws["a old"] is measured.draws["a new"]
    apart = Measured.of(_without_nan(two_models(shared=False)), settings=evaluation(), seed=0)
    assert apart.draws["a old"] is not apart.draws["a new"]


def test_gaps_are_of_the_rows_that_both_scored_and_later_minus_earlier() -> None:
    rows = _without_nan(two_models(shared=False))
    gaps = shared_gaps(Measured.of(rows, settings=evaluation(), seed=0))

    both = rows.happened("a old", "a new")
    pooled = next(g for g in gaps if g["scope"] == "pooled" and g["metric"] == "auc")
    y = both["converted"].to_numpy()
    wanted = metrics.auc(y, both["a new"].to_numpy()) - metrics.auc(y, both["a old"].to_numpy())
    assert (pooled["arm"], pooled["against"]) == ("a new", "a old")
    assert pooled["n_test"] == len(both) == 900
    assert pooled["value"] == pytest.approx(wanted)
    assert pooled["low"] > 0
    assert pooled["verdict"] == "arm better"


def test_pairs_hold_later_models_against_earlier_ones() -> None:
    rows = joined({"a 1": [0.1], "a 2": [0.1], "b 1": [0.1]}, [True])
    assert pairs_of(rows.models) == [("a 2", "a 1"), ("b 1", "a 1"), ("b 1", "a 2")]


def split_traffic(
    seed: int, rates: tuple[float, float], *, late: bool = False
) -> tuple[Joined, Bools]:
    """Users of one market, served by either model, in bursts that convert together."""
    rng = np.random.default_rng(seed)
    n_users, per_user = 400, 4
    side = rng.random(n_users) < 0.5
    rate = np.where(side, rates[1], rates[0])
    own = rng.beta(2 * rate, 2 * (1 - rate))
    y = (rng.random((n_users, per_user)) < own[:, None]).ravel()
    served = np.repeat(side, per_user)
    days = rng.uniform(0, 10, len(y)) + (20 * served if late else 0)
    p = np.full(len(y), 0.2)
    rows = joined(
        {"a 1": np.where(served, np.nan, p), "a 2": np.where(served, p, np.nan)},
        y, unit=np.repeat(np.arange(n_users), per_user), days=days,
    )  # fmt: skip
    return _without_nan(rows), served


def test_rates_of_different_impressions_are_compared_and_cover_the_truth() -> None:
    covered, seen = 0, 0
    for seed in range(120):
        rows, _ = split_traffic(seed, (0.2, 0.3))
        (entry,) = served_apart(rows, settings=evaluation(), seed=seed)
        covered += entry["low"] <= 0.1 <= entry["high"]
        seen += entry["verdict"] == "arm better"
    assert 0.89 <= covered / 120 <= 0.99
    assert seen > 80


def test_the_difference_is_that_of_the_rates_in_the_common_period() -> None:
    # the first model's first row is before the second began, its user is served by both
    rows = joined(
        {"a 1": [0.2, 0.2, 0.2, None, None], "a 2": [None, None, None, 0.3, 0.3]},
        [True, True, False, False, True],
        unit=[0, 0, 1, 0, 2], days=[0.0, 2.0, 4.0, 1.0, 5.0],
    )  # fmt: skip
    (entry,) = served_apart(rows, settings=evaluation(), seed=0)
    assert (entry["n_arm"], entry["n_against"], entry["n_units_both"]) == (1, 2, 1)
    assert entry["rate_arm"]["value"] == 0
    assert entry["rate_arm"]["low"] is None  # nothing converted: 0 is not certain
    assert entry["rate_against"]["value"] == 0.5
    assert entry["value"] == -0.5
    assert entry["verdict"] == "not enough data"


def test_models_of_different_times_are_not_compared() -> None:
    rows, _ = split_traffic(0, (0.2, 0.2), late=True)
    (entry,) = served_apart(rows, settings=evaluation(), seed=0)
    assert (entry["value"], entry["reason"]) == (None, NO_COMMON_PERIOD)


def test_shared_impressions_are_not_different_ones() -> None:
    assert served_apart(two_models(), settings=evaluation(), seed=0) == []
    assert (
        shared_gaps(Measured.of(split_traffic(0, (0.2, 0.3))[0], settings=evaluation(), seed=0))
        == []
    )


def _without_nan(rows: Joined) -> Joined:
    labels = [model.label for model in rows.models]
    frame = rows.frame.with_columns(pl.col(labels).fill_nan(None))
    return Joined(frame=frame, flags=rows.flags, models=rows.models, counts=rows.counts)
