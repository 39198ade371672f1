from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from purchase_predictor.following.joining import Joined
from purchase_predictor.following.policy import (
    CHOSEN,
    DRAWN,
    ESTIMATORS,
    Lists,
    Refusal,
    policy_values,
    value_of,
)
from tests.following.cases import evaluation, expit, joined

Floats = NDArray[np.float64]

K = 4  # candidates of a list
REPEATS = 200


def world(rng: np.random.Generator, n_lists: int) -> tuple[Floats, Floats, Floats]:
    """Lists shown to users two by two: true rates, and scores of a sharp and a blunt model."""
    user = np.repeat(rng.normal(0, 0.7, -(-n_lists // 2)), 2)[:n_lists]
    x = rng.normal(size=(n_lists, K))
    noise = rng.normal(size=(n_lists, K))
    rate = expit(x + user[:, None] - 1.0)
    return rate, expit(x - 1.0), expit(0.3 * x + noise - 1.0)


def logged(seed: int, n_lists: int = 500) -> Lists:
    """One offer of each list is shown, at random but rather a good one; users have two lists."""
    rng = np.random.default_rng(seed)
    rate, sharp, blunt = world(rng, n_lists)
    liking = np.exp(0.4 * rng.normal(size=rate.shape) + sharp)
    chance = liking / liking.sum(1, keepdims=True)
    drawn = (rng.random(n_lists)[:, None] > np.cumsum(chance, axis=1)).sum(1).clip(max=K - 1)
    seen = np.arange(K) == drawn[:, None]
    y = (rng.random(rate.shape) < rate) & seen
    return Lists(
        scores=np.stack([sharp.ravel(), blunt.ravel()]),
        y=y.ravel().astype(float),
        weight=(seen / chance).ravel(),
        of=np.repeat(np.arange(n_lists), K),
        unit=np.arange(n_lists) // 2,
    )


@cache
def truth() -> tuple[float, float]:
    """Values of both policies."""
    rate, *scores = world(np.random.default_rng(99), 400_000)
    rows = np.arange(len(rate))
    return tuple(float(rate[rows, s.argmax(1)].mean()) for s in scores)  # type: ignore[return-value]


@cache
def repeated() -> list[dict[str, Any]]:
    settings = evaluation(resamples=150)
    return [value_of(logged(seed), settings, seed) for seed in range(REPEATS)]


def values(estimator: str, what: str) -> Floats:
    return np.array([found["estimates"][estimator][what]["value"] for found in repeated()])


@pytest.mark.parametrize("estimator", ["ips", "dr"])
def test_ips_and_doubly_robust_are_unbiased(estimator: str) -> None:
    arm, against = truth()
    for what, true in {"arm": arm, "against": against, "difference": arm - against}.items():
        found = values(estimator, what)
        error = found.std(ddof=1) / np.sqrt(REPEATS)
        assert abs(found.mean() - true) < 3.5 * error
        assert error < 0.1 * true


def test_self_normalised_is_near() -> None:
    arm, against = truth()
    assert values("snips", "difference").mean() == pytest.approx(arm - against, rel=0.1)


def test_doubly_robust_and_self_normalised_vary_less_than_ips() -> None:
    for what in ("arm", "against"):
        assert values("dr", what).std() < 0.95 * values("ips", what).std()
        assert values("snips", what).std() < values("ips", what).std()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_intervals_cover_the_truth(estimator: str) -> None:
    arm, against = truth()
    figures = [found["estimates"][estimator]["difference"] for found in repeated()]
    covered = np.mean([f["low"] <= arm - against <= f["high"] for f in figures])
    assert 0.90 <= covered <= 0.99


def test_doubly_robust_stays_unbiased_with_a_foolish_reward_model() -> None:
    arm, _ = truth()
    found = []
    for seed in range(REPEATS):
        lists = logged(seed)
        foolish = np.stack([lists.scores[0], 1 - lists.scores[0]])
        wrong = Lists(foolish, lists.y, lists.weight, lists.of, lists.unit)
        value = value_of(wrong, evaluation(resamples=10), seed)
        found.append(value["estimates"]["dr"]["arm"]["value"])
    assert abs(np.mean(found) - arm) < 3.5 * np.std(found) / np.sqrt(REPEATS)


def test_numbers_by_hand() -> None:
    # list 0: the arm shows what was seen and converted; list 1: not seen; list 2: both alike
    n = 20  # copies, so that the sample is large enough
    one = Lists(
        scores=np.array([[0.6, 0.2, 0.7, 0.1, 0.5, 0.4], [0.3, 0.4, 0.2, 0.3, 0.9, 0.1]]),
        y=np.array([1.0, 0, 0, 0, 0, 0]),
        weight=np.array([2.0, 0, 0, 4.0, 1.25, 0]),
        of=np.array([0, 0, 1, 1, 2, 2]),
        unit=np.array([0, 1, 2]),
    )
    lists = Lists(
        scores=np.tile(one.scores, n), y=np.tile(one.y, n), weight=np.tile(one.weight, n),
        of=np.concatenate([one.of + 3 * k for k in range(n)]), unit=np.tile(one.unit, n),
    )  # fmt: skip
    found = value_of(lists, evaluation(), 0)
    ips, snips, dr = (found["estimates"][name] for name in ESTIMATORS)
    assert ips["arm"]["value"] == pytest.approx(2 / 3)
    assert snips["arm"]["value"] == pytest.approx(2 / 3.25)
    # q of the arm's choices by the other model: 0.3, 0.2, 0.9
    by_hand = (0.3 + 2 * (1 - 0.3)) + 0.2 + (0.9 + 1.25 * (0 - 0.9))
    assert dr["arm"]["value"] == pytest.approx(by_hand / 3)
    # the other shows rows 1, 3 and 4, of which the arm says 0.2, 0.1 and 0.5
    by_hand = 0.2 + (0.1 + 4 * (0 - 0.1)) + (0.5 + 1.25 * (0 - 0.5))
    assert dr["against"]["value"] == pytest.approx(by_hand / 3)
    assert dr["against"]["low"] is None  # it saw no conversion
    assert found["effective"]["arm"] == pytest.approx(n * 3.25**2 / (4 + 1.25**2))
    assert (found["n_lists"], found["n_different"], found["n_units"]) == (60, 40, 3)
    assert found["n_positive"] == {"arm": n, "against": 0}
    assert found["verdict"] == "not enough data"


def test_ties_share_the_first_place() -> None:
    lists = Lists(
        scores=np.array([[0.5, 0.5] * 50, [0.6, 0.5] * 50]), y=np.array([1.0, 0.0] * 50),
        weight=np.ones(100), of=np.repeat(np.arange(50), 2), unit=np.arange(50),
    )  # fmt: skip
    found = value_of(lists, evaluation(), 0)["estimates"]["ips"]
    assert (found["arm"]["value"], found["against"]["value"]) == (0.5, 1.0)


def test_few_effective_lists_are_refused() -> None:
    with pytest.raises(Refusal) as refusal:
        value_of(logged(0, n_lists=60), evaluation(), 0)
    assert refusal.value.code == "effective"
    assert refusal.value.detail["n"] < 30


def table(*, logging: str = CHOSEN, n_lists: int = 600, seed: int = 0, **changed: Any) -> Joined:
    """The simulated log as rows; `changed` replaces columns given as functions of them."""
    lists = logged(seed, n_lists)
    rng = np.random.default_rng(seed + 1)
    seen = lists.weight > 0
    chance = np.where(seen, 1 / np.maximum(lists.weight, 1), 0.0).reshape(-1, K)
    rest = (1 - chance.sum(1, keepdims=True)) / (K - 1)
    columns: dict[str, Any] = {
        "converted": [bool(y) if s else None for y, s in zip(lists.y, seen, strict=True)],
        "propensity": np.where(chance > 0, chance, rest).ravel(),
    }
    if logging == DRAWN:
        columns["converted"] = rng.random(len(seen)) < lists.scores[0]
        columns["propensity"] = np.full(len(seen), 1 / 24)
    columns |= {name: change(columns[name]) for name, change in changed.items()}
    probabilities = {"a blunt": lists.scores[1], "a sharp": lists.scores[0]}
    return joined(
        probabilities, columns["converted"], propensity=columns["propensity"],
        lists=lists.of, unit=lists.unit[lists.of],
        market=np.where(lists.unit[lists.of] % 2, "KR", "US"),
    )  # fmt: skip


def follow(rows: Joined, bad_propensity: int = 0) -> list[dict[str, Any]]:
    return policy_values(rows, bad_propensity=bad_propensity, settings=evaluation(), seed=0)


def test_one_shown_of_each_list_is_weighed_by_its_propensity() -> None:
    pooled, *markets = follow(table())
    assert (pooled["arm"], pooled["against"]) == ("a sharp", "a blunt")
    assert (pooled["logging"], pooled["scope"]) == (CHOSEN, "pooled")
    assert [entry["market"] for entry in markets] == ["KR", "US"]
    assert sum(entry["n_lists"] for entry in markets) == pooled["n_lists"] == 600
    same = value_of(logged(0, 600), evaluation(), 0)
    for name in ESTIMATORS:
        for what in ("arm", "against", "difference"):
            wanted = same["estimates"][name][what]["value"]
            assert pooled["estimates"][name][what]["value"] == pytest.approx(wanted)
    assert pooled["n_different"] > 100
    assert pooled["verdict"] == "arm better"


def test_where_all_drawn_offers_are_shown_the_value_is_what_the_choices_did() -> None:
    rows = table(logging=DRAWN)
    pooled = follow(rows)[0]
    y = rows.frame["converted"].to_numpy().reshape(-1, K)
    best = rows.frame["a sharp"].to_numpy().reshape(-1, K).argmax(1)
    wanted = y[np.arange(len(y)), best].mean()
    assert pooled["logging"] == DRAWN
    assert not pooled["sums_to_one"]
    for name in ESTIMATORS:
        assert pooled["estimates"][name]["arm"]["value"] == pytest.approx(wanted)
    assert pooled["effective"] == {"arm": 600, "against": 600}
    assert pooled["verdict"] == "arm better"


def test_rows_that_chance_did_not_place_neither_compete_nor_count() -> None:
    def without_last(propensity: Floats) -> list[float | None]:
        return [None if n % K == K - 1 else p for n, p in enumerate(propensity.tolist())]

    rows = table(logging=DRAWN, propensity=without_last)
    pooled = follow(rows)[0]
    y = rows.frame["converted"].to_numpy().reshape(-1, K)[:, :-1]
    best = rows.frame["a sharp"].to_numpy().reshape(-1, K)[:, :-1].argmax(1)
    assert pooled["n_candidates"] == 3 * 600
    assert pooled["rows_without_propensity"] == 600
    assert pooled["estimates"]["dr"]["arm"]["value"] == pytest.approx(
        y[np.arange(len(y)), best].mean()
    )


def test_a_list_that_a_model_did_not_score_whole_is_left_out() -> None:
    rows = table()
    frame = rows.frame.filter(rows.frame["impression_id"] != "i1")  # nobody scored it
    pooled = follow(Joined(frame, rows.flags, rows.models, {}))[0]
    assert (pooled["n_lists"], pooled["n_lists_not_ranked"]) == (599, 1)


def test_a_list_whose_outcome_is_not_known_is_left_out() -> None:
    rows = table(converted=lambda y: [None] * K + list(y)[K:])
    pooled = follow(rows)[0]
    assert (pooled["n_lists"], pooled["n_lists_without_outcome"]) == (599, 1)


def test_propensities_that_sum_to_one_where_all_have_outcomes_are_told() -> None:
    rows = table(converted=lambda y: [bool(value) for value in y])
    pooled = follow(rows)[0]
    assert (pooled["logging"], pooled["sums_to_one"]) == (DRAWN, True)


def only_first(propensity: Floats) -> list[float | None]:
    return [p if n % K == 0 else None for n, p in enumerate(propensity.tolist())]


@pytest.mark.parametrize(
    ("make", "bad", "code", "words"),
    [
        (lambda: table(propensity=lambda p: [None] * len(p)), 0, "missing", "has a propensity"),
        (table, 3, "zero", "3 impressions have a propensity that is no number above 0"),
        (lambda: table(propensity=lambda p: p / 2), 0, "mixed", "600 of 600 lists"),
        (lambda: table(n_lists=60), 0, "effective", "60 lists are worth"),
        (lambda: table(propensity=only_first), 0, "no_lists", "no list has two of them"),
    ],
)
def test_there_is_no_value_and_a_sentence_says_why(
    make: Callable[[], Joined], bad: int, code: str, words: str
) -> None:
    pooled = follow(make(), bad)[0]
    assert pooled["refused"] == code
    assert words in pooled["reason"]
    assert "estimates" not in pooled


def test_models_that_never_met_have_no_entry() -> None:
    rows = joined({"a 1": [0.1, None], "a 2": [None, 0.2]}, [True, False], propensity=[0.5, 0.5])
    assert follow(rows) == []
