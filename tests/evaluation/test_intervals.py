"""The vectorised bootstrap against the plain metrics, and its intervals against known truths."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm

from purchase_predictor.evaluation import intervals, metrics
from purchase_predictor.evaluation.intervals import MACRO, METRICS, POOLED, Plan, resample
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.settings import EvaluationSettings

SETTINGS = EvaluationSettings(resamples=200, confidence=0.95, min_test_conversions=30, ece_bins=10)


def market_rows(
    generator: np.random.Generator, n: int, *, n_units: int, markets: str = "A", noise: float = 0.5
) -> pl.DataFrame:
    """Rows whose log-odds have a share common to the unit, and two systems that see them."""
    unit = generator.integers(0, n_units, n)
    home = np.array(list(markets))[generator.integers(0, len(markets), n_units)]
    x = generator.normal(0, 0.8, n_units)[unit] + generator.normal(0, 0.8, n) - 2
    return pl.DataFrame(
        {
            "unit": unit,
            "market": home[unit],
            "list_number": np.arange(n) // 4,
            "converted": generator.random(n) < expit(x),
            "good": expit(x + generator.normal(0, noise, n)),
            "poor": expit(x + generator.normal(0, 3 * noise, n)),
        }
    )


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, 2**31).map(np.random.default_rng),
    st.integers(4, 120),
    st.integers(1, 20),
    st.integers(1, 30),
)
def test_plan_equals_the_plain_metrics_under_any_counts(
    generator: np.random.Generator, n: int, n_units: int, distinct: int
) -> None:
    y = generator.random(n) < 0.35
    p = (np.round(generator.random(n) * distinct) + 0.5) / (distinct + 1)
    unit = generator.integers(0, n_units, n)
    lists = unit * 100 + np.arange(n) % 3  # a list is shown to one unit
    weights = generator.multinomial(n_units, np.full(n_units, 1 / n_units), 5).T.astype(float)
    weights[:, 0] = 1

    found = Plan.prepare(y, p, lists, unit, n_units, 6).evaluate(weights)

    for r in range(weights.shape[1]):
        w = weights[unit, r]
        if not w.any():
            continue
        expected = metrics.measure(y, p, lists, w, n_bins=6)
        for k, name in enumerate(METRICS):
            if name != "slope" or r == 0:  # the slope is stepped, see the next test
                assert found[k, r] == pytest.approx(expected[name], nan_ok=True, abs=1e-9), name


def test_stepped_slope_stays_close_to_the_maximum_likelihood() -> None:
    generator = np.random.default_rng(3)
    n = 1500
    x = generator.normal(-3.3, 1.2, n)
    y, p = generator.random(n) < expit(x), expit(x)
    plan = Plan.prepare(y, p, np.arange(n), np.arange(n), n, 10)
    _, weights = next(resample(n, 200, 200, seed=0))

    stepped = plan.evaluate(weights)[METRICS.index("slope")]

    exact = np.array([metrics.slope(y, p, weights[:, r]) for r in range(200)])
    assert y.sum() < 120
    assert np.median(np.abs(stepped - exact)) < 0.01 * exact.std()
    assert np.quantile(stepped, [0.025, 0.975]) == pytest.approx(
        np.quantile(exact, [0.025, 0.975]), abs=0.1 * exact.std()
    )


def test_resamples_do_not_depend_on_the_chunk() -> None:
    whole = np.concatenate([w for _, w in resample(50, 23, 23, seed=4)], axis=1)
    parts = np.concatenate([w for _, w in resample(50, 23, 5, seed=4)], axis=1)

    np.testing.assert_array_equal(whole, parts)
    np.testing.assert_array_equal(whole.sum(axis=0), 50)


def test_every_system_sees_the_same_resample() -> None:
    frame = market_rows(np.random.default_rng(0), 2000, n_units=700, markets="AB")
    frame = frame.with_columns(twin="good")

    draws = intervals.draw(
        Rows.from_frame(frame, ["good", "poor", "twin"]), settings=SETTINGS, seed=0
    )

    np.testing.assert_array_equal(draws.draws[0], draws.draws[2])
    assert not np.allclose(draws.draws[0], draws.draws[1])


def test_macro_averages_the_markets_with_enough_conversions() -> None:
    frame = market_rows(np.random.default_rng(0), 3000, n_units=900, markets="AB")
    few = market_rows(np.random.default_rng(1), 60, n_units=40, markets="C").with_columns(
        pl.col("unit") + 5000
    )

    rows = Rows.from_frame(pl.concat([frame, few]), ["good", "poor"])
    draws = intervals.draw(rows, settings=SETTINGS, seed=0)

    assert draws.averaged.tolist() == [True, True, False]
    np.testing.assert_allclose(draws.value[:, MACRO], draws.value[:, 2:4].mean(axis=1))
    np.testing.assert_allclose(
        draws.draws[:, MACRO], draws.draws[:, 2:4].mean(axis=1), equal_nan=True
    )
    assert draws.n.tolist() == [3000, 3060, *draws.n[2:]]
    assert draws.value[0, POOLED, 0] == metrics.auc(rows.y, rows.p[0])


def test_order_of_rows_changes_no_draw() -> None:
    frame = market_rows(np.random.default_rng(2), 800, n_units=300, markets="AB")

    first = intervals.draw(Rows.from_frame(frame, ["good"]), settings=SETTINGS, seed=1)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=9)
    second = intervals.draw(Rows.from_frame(shuffled, ["good"]), settings=SETTINGS, seed=1)

    np.testing.assert_allclose(first.draws, second.draws, atol=1e-9)


def test_no_interval_where_resamples_often_lack_the_class() -> None:
    frame = market_rows(np.random.default_rng(0), 100, n_units=100).with_columns(
        converted=pl.int_range(pl.len()) == 3
    )

    draws = intervals.draw(Rows.from_frame(frame, ["good"]), settings=SETTINGS, seed=0)

    result = draws.interval("good", POOLED, "auc", 0.95)
    assert result["value"] is not None
    assert result["low"] is None
    assert result["high"] is None


def test_units_widen_the_interval_of_correlated_rows() -> None:
    frame = market_rows(np.random.default_rng(5), 3000, n_units=60)
    alone = frame.with_columns(unit=pl.int_range(pl.len()))

    def width(data: pl.DataFrame) -> float:
        draws = intervals.draw(Rows.from_frame(data, ["good"]), settings=SETTINGS, seed=0)
        return float(draws.of("good", "log_loss")[1][POOLED].std())

    assert width(frame) > 1.5 * width(alone)


def test_calibration_error_of_a_calibrated_system_may_be_zero() -> None:
    generator = np.random.default_rng(6)
    lows: dict[str, list[float]] = {"right": [], "wrong": []}

    for _ in range(20):
        p = expit(generator.normal(-2, 1, 1500))
        frame = pl.DataFrame({"converted": generator.random(1500) < p, "right": p}).with_columns(
            wrong=(pl.col("right") * 2).clip(0, 1),
            unit=pl.int_range(pl.len()),
            market=pl.lit("A"),
            list_number=pl.int_range(pl.len()),
        )
        rows = Rows.from_frame(frame, list(lows))
        draws = intervals.draw(rows, settings=SETTINGS, seed=0)
        for name, found in lows.items():
            found.append(draws.interval(name, POOLED, "ece", 0.95)["low"])  # type: ignore[arg-type]

    # percentiles would exclude zero every time; 97.5 % of the pivotal intervals reach it
    assert sum(low == 0 for low in lows["right"]) >= 17
    assert min(lows["wrong"]) > 0.03


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1.5, -0.1, None])
def test_what_is_no_probability_names_the_system(bad: float | None) -> None:
    frame = market_rows(np.random.default_rng(0), 20, n_units=5).with_columns(
        poor=pl.when(pl.int_range(pl.len()) == 7).then(bad).otherwise(pl.col("poor"))
    )

    with pytest.raises(ValueError, match="system 'poor' gave 1 of 20 rows"):
        Rows.from_frame(frame, ["good", "poor"])


def test_an_unknown_outcome_is_refused() -> None:
    frame = market_rows(np.random.default_rng(0), 20, n_units=5).with_columns(
        converted=pl.lit(None, pl.Boolean)
    )

    with pytest.raises(ValueError, match="converted must be known"):
        Rows.from_frame(frame, ["good"])


@pytest.mark.slow
def test_intervals_cover_the_truth() -> None:
    """AUC, entropy, average precision and calibration error cover about as often as they say."""
    generator = np.random.default_rng(0)
    huge = market_rows(generator, 1_000_000, n_units=400_000)
    y, p = huge["converted"].to_numpy(), huge["good"].to_numpy()
    names = ["auc", "normalised_entropy", "average_precision", "mean_ratio", "slope", "lift_10"]
    truth = {name: getattr(metrics, name)(y, p) for name in names}
    truth["ece"] = metrics.ece(y, p, n_bins=SETTINGS.ece_bins)
    covered = dict.fromkeys(truth, 0)
    n_worlds = 200

    for _ in range(n_worlds):
        rows = Rows.from_frame(market_rows(generator, 3000, n_units=1200), ["good"])
        draws = intervals.draw(rows, settings=SETTINGS, seed=1)
        for name, value in truth.items():
            found = draws.interval("good", POOLED, name, 0.95)
            covered[name] += found["low"] <= value <= found["high"]

    tolerance = norm.isf(0.001) * np.sqrt(0.95 * 0.05 / n_worlds)
    shares = {name: count / n_worlds for name, count in covered.items()}
    assert all(share > 0.95 - 0.02 - tolerance for share in shares.values()), shares
