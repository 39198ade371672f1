import json

import numpy as np
import pytest

from purchase_predictor.data.marketplace.labels import sigmoid
from purchase_predictor.data.marketplace.shoppers import (
    INTENT_SHARE,
    SEARCH,
    START_WITH_SEARCH,
    VIEW,
    Choice,
    length_probabilities,
)
from purchase_predictor.data.marketplace.simulation import Marketplace, simulate
from purchase_predictor.data.marketplace.truth import Truth, effects_json, observe
from purchase_predictor.data.marketplace.world import N_KINDS, NULL_PHRASES, SampleSize


def observed(small: Marketplace, choice: Choice, converted: np.ndarray) -> Truth:
    return observe(
        small.world,
        small.catalogue,
        choice,
        small.sessions,
        small.offers,
        small.logit,
        converted,
        lambda _: None,
    )


def log_sum(values: np.ndarray) -> np.ndarray:
    top = values.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(values - top).sum(axis=-1, keepdims=True)))[..., 0]


def by_hand(small: Marketplace, choice: Choice, unit: int) -> dict[int, float]:
    """Best observable probability of one unit's impressions, event by event in plain Bayes."""
    s, o = small.sessions, small.offers
    length = length_probabilities()
    start = np.stack([START_WITH_SEARCH, 1 - START_WITH_SEARCH])
    kind = np.zeros(N_KINDS)
    found = {}
    sessions = np.flatnonzero(s.unit == unit)
    for session in sessions[np.argsort(s.rank[sessions])]:
        intent = np.tile(np.log(INTENT_SHARE * start[s.types[session, 0]]), (N_KINDS, 1))
        for step in range(s.length[session]):
            event, product = s.types[session, step], s.products[session, step]
            if step:
                before, hand = s.types[session, step - 1], s.at_hand[session, step - 1]
                level = choice.level[hand] if before != SEARCH else np.zeros(N_KINDS, dtype=int)
                intent += np.log(choice.chain[:, :, before, event]).T[level]
            if event == VIEW:
                total = choice.log_total[s.market[session], s.period[session]]
                kind = kind + choice.log_weight[product] - total
            rows = np.flatnonzero((o.session == session) & (o.cut == step + 1))
            survival = np.log(length[:, step + 1 :].sum(axis=1))
            posterior = kind + log_sum(intent + survival)
            posterior = np.exp(posterior - log_sum(posterior))
            chance = sigmoid(small.logit.of_kinds(small.world, rows))
            found |= dict(zip(rows.tolist(), (chance @ posterior).tolist(), strict=True))
            taken = small.converted[rows][:, None]
            kind = kind + np.log(np.where(taken, chance, 1 - chance)).sum(axis=0)
        kind = kind + log_sum(intent + np.log(length[:, s.length[session]]))
    return found


def test_the_best_observable_probability_is_plain_bayes(
    small: Marketplace, choice: Choice
) -> None:
    busiest = np.argsort(-np.bincount(small.sessions.unit, minlength=10))[:3]
    buyer = small.sessions.unit[small.offers.session[np.flatnonzero(small.converted)[0]]]

    for unit in [*busiest.tolist(), int(buyer)]:
        found = by_hand(small, choice, unit)
        rows = list(found)
        assert len(rows) > 0
        np.testing.assert_allclose(small.truth.p_observable[rows], list(found.values()), rtol=2e-4)


def test_the_truth_is_what_was_observable_on_average_in_every_bin(small: Marketplace) -> None:
    known, true = small.truth.p_observable, small.p_true
    unit = small.sessions.unit[small.offers.session]
    bins = np.argsort(np.argsort(known)) * 10 // len(known)

    for number in range(10):
        rows = bins == number
        gap = np.bincount(unit[rows], weights=(true - known)[rows])
        assert abs(gap.sum()) < 4 * np.sqrt((gap**2).sum()), number


def test_ceilings_are_in_order(small: Marketplace) -> None:
    test = small.sessions.split[small.offers.session] == 2
    true = small.p_true[test]

    def log_loss(p: np.ndarray) -> float:
        return float(-(true * np.log(p[test]) + (1 - true) * np.log(1 - p[test])).mean())

    base = np.full(len(small.p_true), true.mean())
    order = [small.p_true, small.truth.p_observable, small.p_fitted, base]
    losses = [log_loss(p) for p in order]
    assert losses == sorted(losses)
    assert losses[3] - losses[0] > 0.01


def test_the_future_tells_nothing(small: Marketplace, choice: Choice) -> None:
    late = small.sessions.split[small.offers.session] == 2
    flipped = observed(small, choice, np.where(late, ~small.converted, small.converted))

    known = small.truth.p_observable
    np.testing.assert_array_equal(flipped.p_observable[~late], known[~late])
    # Labels of the test period inform of later sessions of the same shopper.
    assert np.abs(flipped.p_observable[late] - known[late]).max() > 0.01


def test_headline_contrasts_hold_in_the_observable_truth(small: Marketplace) -> None:
    kr, us = small.truth.effects["KR"], small.truth.effects["US"]

    assert kr["phrase:limited_quantity"] - us["phrase:limited_quantity"] >= 0.4
    assert us["phrase:free_shipping"] - kr["phrase:free_shipping"] >= 0.4
    assert us["free_shipping"] - kr["free_shipping"] >= 0.4


def test_effects_are_shrunk_by_what_is_hidden_but_keep_their_sign(small: Marketplace) -> None:
    latent = small.world.effects["limited_quantity"]
    for number, effects in enumerate(small.truth.effects.values()):
        observable = effects["phrase:limited_quantity"]
        assert 0.7 < observable / latent[number] <= 1.02
        assert all(abs(effects[f"phrase:{name}"]) < 1e-6 for name in NULL_PHRASES)
        assert effects["discount_rate"] > 0


def test_culture_off_leaves_no_contrast() -> None:
    world = simulate(SampleSize(1_500, 150), seed=4, culture="off", progress=lambda _: None)

    for name in world.truth.effects["KR"]:
        values = [effects[name] for effects in world.truth.effects.values()]
        assert np.ptp(values) < 0.06, name


def test_effects_json_keeps_the_phrase_and_the_term_apart() -> None:
    text = effects_json(
        {"KR": {"phrase:free_shipping": 0.1, "image:x": 0.2, "free_shipping": 0.3}}
    )

    assert json.loads(text) == {
        "KR": {"phrase": {"free_shipping": 0.1}, "image": {"x": 0.2}, "free_shipping": 0.3}
    }


def test_a_kind_is_known_better_the_more_was_seen(small: Marketplace) -> None:
    late = small.sessions.rank[small.offers.session] >= 3
    gap = np.abs(small.p_true - small.truth.p_observable) / small.p_true

    assert gap[late].mean() < 0.8 * gap[~late].mean()
    assert gap.mean() == pytest.approx(0.35, abs=0.2)
