"""Comparisons of the benchmarks: shares of the way, calibration, seeds, dropped modalities."""

import numpy as np
import polars as pl
import pytest

from benchmarks.comparing import (
    calibration_rows,
    fusion_gaps,
    levelled_shares,
    over_seeds,
    resampled_mean,
    shares,
)
from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.summary import evaluate
from purchase_predictor.settings import load_settings

SETTINGS = load_settings(overrides=["evaluation.resamples=60"]).evaluation
N = 1200


def rows(seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    """Test rows of two markets and the true probabilities of conversion."""
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-1, 1.2, N)))
    frame = pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(N)],
            "market": np.where(np.arange(N) % 3 == 0, "KR", "US"),
            "converted": rng.random(N) < p,
            "unit": np.arange(N) // 4,
            "list_number": np.arange(N) // 2,
        }
    )
    return frame, p


def blurred(p: np.ndarray, by: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, by, len(p))
    return 1 / (1 + np.exp(-(np.log(p / (1 - p)) + noise)))


def test_shares_are_zero_at_the_base_rate_and_one_at_the_ceiling() -> None:
    frame, p = rows()
    rate = float(frame["converted"].mean())
    truth = pl.DataFrame({"impression_id": frame["impression_id"], "p_true": p, "p_observable": p,
                          "p_fitted": blurred(p, 0.5, 1)})  # fmt: skip
    predicted = frame.with_columns(fusion=pl.Series(p), lightgbm=pl.lit(rate))

    result = evaluate(
        predicted, systems=["fusion", "lightgbm"], settings=SETTINGS, seed=0, truth=truth
    )
    found = shares(result)

    assert found["fusion"]["pooled"]["observable"] == pytest.approx(1)
    assert found["fusion"]["pooled"]["fitted"] > 1
    assert found["lightgbm"]["pooled"]["observable"] == pytest.approx(0, abs=1e-9)


def test_a_wrong_level_alone_costs_nothing_where_the_level_is_put_right() -> None:
    frame, p = rows()
    truth = pl.DataFrame({"impression_id": frame["impression_id"], "p_observable": p})
    low = 1 / (1 + np.exp(0.5) * (1 - p) / p)
    predicted = frame.with_columns(
        right=pl.Series(p), low=pl.Series(low), noisy=pl.Series(blurred(p, 1, 1))
    )

    names = ["right", "low", "noisy"]
    result = evaluate(predicted, systems=names, settings=SETTINGS, seed=0, truth=truth)

    found = levelled_shares(predicted, truth, result)

    assert found["right"] == pytest.approx(1)
    assert found["low"] == pytest.approx(1)
    assert 0 < found["noisy"] < 0.95


def test_calibration_is_told_by_market_as_a_share_of_the_base_rate() -> None:
    frame, p = rows()
    predicted = frame.with_columns(fusion=pl.Series(np.minimum(1.2 * p, 1)))
    result = evaluate(predicted, systems=["fusion"], settings=SETTINGS, seed=0)

    found = calibration_rows(result)

    assert [row["market"] for row in found] == ["all", "US", "KR"]
    us = predicted.filter(pl.col("market") == "US")
    assert found[1]["n_positive"] == us["converted"].sum()
    assert found[1]["mean_ratio"] == pytest.approx(us["fusion"].sum() / us["converted"].sum())
    assert found[1]["ratio_to_best"] is None
    assert found[1]["best_ece_share"] is None
    assert found[1]["ece_share"] == pytest.approx(found[1]["ece"] / us["converted"].mean())


def test_calibration_is_held_against_the_best_observable_probability() -> None:
    frame, p = rows()
    truth = pl.DataFrame({"impression_id": frame["impression_id"], "p_true": p, "p_observable": p})
    predicted = frame.with_columns(fusion=pl.Series(0.8 * p))
    result = evaluate(predicted, systems=["fusion"], settings=SETTINGS, seed=0, truth=truth)

    found = calibration_rows(result)

    for row in found:
        assert row["ratio_to_best"] == pytest.approx(0.8, abs=1e-6)
        assert 0 < row["best_ece_share"] < row["ece_share"]
    assert abs(found[1]["mean_ratio"] - 0.8) > 1e-4


def test_a_dropped_modality_that_mattered_has_a_loss_above_zero() -> None:
    frame, p = rows()
    predicted = frame.with_columns(
        pl.Series("fusion", p), pl.Series("no text", blurred(p, 2, 1)), pl.Series("no image", p)
    )

    gaps = fusion_gaps(predicted, ["no text", "no image"], SETTINGS, seed=0)

    own = {(gap["arm"], gap["market"]): gap for gap in gaps if gap["metric"] == "log_loss"}
    assert {market for _, market in own} == {"macro", "pooled", "KR", "US"}
    assert own["no text", "pooled"]["low"] > 0
    assert own["no image", "pooled"]["value"] == 0


def seeds_of(n_seeds: int, by: float) -> dict[int, pl.DataFrame]:
    """Seeds whose fusion is blurred each by its own noise; LightGBM is the same in all."""
    frame, p = rows()
    base = frame.with_columns(lightgbm=pl.Series(blurred(p, 0.5, 99)))
    return {
        seed: base.with_columns(fusion=pl.Series(blurred(p, by * (1 + seed % 2), seed)))
        for seed in range(n_seeds)
    }


def test_the_mean_over_seeds_is_the_mean_of_the_gaps() -> None:
    frames = seeds_of(3, 0.4)

    gaps = over_seeds(frames, ["fusion", "lightgbm"], SETTINGS)

    own = next(gap for gap in gaps if (gap["metric"], gap["scope"]) == ("auc", "pooled"))
    by_seed = []
    for frame in frames.values():
        result = evaluate(frame, systems=["fusion", "lightgbm"], settings=SETTINGS, seed=0)
        by_seed += [
            gap["value"]
            for gap in result["gaps"]
            if (gap["metric"], gap["scope"]) == ("auc", "pooled")
        ]
    assert own["by_seed"] == pytest.approx(by_seed)
    assert own["value"] == pytest.approx(np.mean(by_seed))
    assert own["low"] < own["value"] < own["high"]


def test_rows_in_another_order_are_matched_by_their_name() -> None:
    frames = seeds_of(2, 0.4)
    expected = over_seeds(frames, ["fusion", "lightgbm"], SETTINGS)

    shuffled = {0: frames[0], 1: frames[1].sample(fraction=1, shuffle=True, seed=1)}

    assert over_seeds(shuffled, ["fusion", "lightgbm"], SETTINGS) == expected


def test_seeds_of_other_rows_are_refused() -> None:
    frames = seeds_of(2, 0.4)
    frames[1] = frames[1].with_columns(impression_id=pl.col("impression_id") + "x")

    with pytest.raises(DataError, match="seed 1 judges other test rows"):
        over_seeds(frames, ["fusion", "lightgbm"], SETTINGS)


def test_both_sources_of_variance_are_in_the_mean_over_seeds() -> None:
    """Units vary by 1, seeds by 2: the mean of n seeds varies by 1 + 4 / n."""
    rng = np.random.default_rng(0)
    n_seeds, n_resamples = 4, 40_000
    variances = []
    for _ in range(200):
        seeds = rng.normal(0, 2, (n_seeds, 1))
        units = rng.normal(0, 1, n_resamples // 100)  # one resample serves every seed
        variances.append(resampled_mean(seeds + units).var())

    assert np.mean(variances) == pytest.approx(1 + 4 / n_seeds, rel=0.15)


def test_one_seed_has_the_variance_of_units_alone() -> None:
    spread = np.array([[1.0, 2.0, 3.0]])

    assert resampled_mean(spread).tolist() == [1.0, 2.0, 3.0]
