import numpy as np
import pytest

from purchase_predictor.data.marketplace.world import (
    MARKETS,
    NEW_MARKET,
    NEW_MARKET_TRAINING,
    NULL_PHRASES,
    SIZES,
    SampleSize,
    make_world,
    sample_size,
)
from purchase_predictor.errors import UserError

KR, US = 0, 1
TINY = SampleSize(2_000, 150)


@pytest.mark.parametrize("name", ["demo", "claims"])
def test_quotas_fill_the_size_with_equal_tests_and_a_nearly_new_market(name: str) -> None:
    world = make_world(SIZES[name], seed=0, culture="on")

    new = [m.name for m in MARKETS].index(NEW_MARKET)
    assert world.quotas.sum() == SIZES[name].n_impressions
    assert len(set(world.quotas[:, 2])) == 1
    assert world.quotas[0, 2] > 2_000
    assert 200 <= world.quotas[new, 0] <= NEW_MARKET_TRAINING
    assert world.quotas[:, 0].max() > 20 * world.quotas[new, 0]


@pytest.mark.parametrize("seed", range(20))
def test_headline_contrasts_are_planted_at_every_seed(seed: int) -> None:
    effects = make_world(TINY, seed=seed, culture="on").effects

    assert effects["limited_quantity"][KR] - effects["limited_quantity"][US] > 0.5
    assert effects["free_shipping"][US] - effects["free_shipping"][KR] > 0.5
    assert effects["free_shipping_term"][US] - effects["free_shipping_term"][KR] > 0.5


def test_null_phrases_have_no_effect_and_others_are_reversed_somewhere() -> None:
    effects = make_world(TINY, seed=0, culture="on").effects

    assert all((effects[name] == 0).all() for name in NULL_PHRASES)
    assert effects["number_one"].min() < 0 < effects["number_one"].max()


def test_culture_off_means_the_same_effect_in_every_market() -> None:
    effects = make_world(TINY, seed=0, culture="off").effects

    assert all(np.ptp(values) == 0 for values in effects.values())
    assert effects["limited_quantity"][KR] > 0


def test_shuffled_culture_breaks_the_tie_to_the_profile() -> None:
    contrasts = [
        np.subtract(*make_world(TINY, seed=s, culture="shuffled").effects["limited_quantity"][:2])
        for s in range(12)
    ]

    assert abs(np.mean(contrasts)) < 0.3
    assert np.std(contrasts) > 0.2


def test_streams_do_not_move_one_another() -> None:
    world = make_world(TINY, seed=3, culture="on")

    assert world.rng("a").random() == world.rng("a").random()
    assert world.rng("a").random() != world.rng("b").random()


def test_an_unknown_size_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'demo'"):
        sample_size("demmo")


def test_too_small_a_size_is_refused() -> None:
    with pytest.raises(UserError, match="1000 impressions and 150 listings or more"):
        sample_size(SampleSize(10, 10))
