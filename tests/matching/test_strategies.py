"""Strategies: what contains what, thresholds that reproduce what tuning reached."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from purchase_predictor.matching.bench import Bench
from purchase_predictor.matching.blending import Thresholds
from purchase_predictor.matching.gallery import draw_galleries
from purchase_predictor.matching.matches import Matches, keep, union
from purchase_predictor.matching.quantities import veto
from purchase_predictor.matching.strategies import (
    Alone,
    Blended,
    Search,
    Strategy,
    Union,
    Vetoed,
    mean_f1,
)
from tests.matching.markets import Market

K, CAP = 12, 50
VIEWS = ("comb", "image", "title", "tfidf")
PAIRS = {
    "comb": [0.1, 0.3], "image": [0.05, 0.2], "title": [0.1, 0.25], "tfidf": [0.3, 0.6],
}  # fmt: skip


@pytest.fixture
def bench(listed: Market) -> Bench:
    return Bench(draw_galleries(listed.split, "train"), listed.views, listed.titles, k=K)


def pairs(matches: Matches) -> set[tuple[int, int]]:
    row, column = matches.nonzero()
    return set(zip(row.tolist(), column.tolist(), strict=True))


def thresholds(*, stages: float) -> Thresholds:
    """The pairs of `PAIRS` at stage 1, one distance at the later stages."""
    named = {name: PAIRS[name][0] for name in ("image", "title", "comb")}
    named |= {f"{name}_second": PAIRS[name][1] for name in ("image", "title", "comb")}
    later = dict.fromkeys(("stage2", "stage2_second", "stage3", "stage3_second"), stages)
    return Thresholds(**named, **later, further={"tfidf": (0.3, 0.6)})


@pytest.mark.parametrize(
    "strategy",
    [
        Alone("image"),
        Alone("title", second=True),
        Alone("raw"),
        Alone("product", second=True),
        Union(VIEWS),
        Union(("title", "tfidf")),
        Blended(Union(VIEWS), joint=False),
        Blended(Union(VIEWS), joint=True),
        Blended(Union(("comb", "title")), joint=True),
        Vetoed(Union(VIEWS)),
    ],
)
def test_a_strategy_matches_itself_and_better_than_nothing(
    bench: Bench, search: Search, strategy: Strategy
) -> None:
    found = strategy.tune(bench, search)

    matches = strategy.match(bench, found, CAP)

    assert matches.shape == (len(bench), len(bench))
    assert np.allclose(matches.diagonal(), 1.0)
    assert matches.has_sorted_indices
    sizes = np.unique(bench.truth, return_inverse=True, return_counts=True)
    nobody = (2 / (1 + sizes[2][sizes[1]]))[bench.scored].mean()
    assert mean_f1(matches, bench) > (nobody if not isinstance(strategy, Vetoed) else 0.3)


@pytest.mark.parametrize("strategy", [Union(VIEWS), Blended(Union(VIEWS), joint=True)])
def test_the_same_search_finds_the_same(bench: Bench, search: Search, strategy: Strategy) -> None:
    assert strategy.tune(bench, search) == strategy.tune(bench, search)


def test_min2_is_no_worse_than_its_plain_threshold_where_it_is_tuned(
    bench: Bench, search: Search
) -> None:
    f1 = {}
    for second in (False, True):
        strategy = Alone("title", second=second)
        f1[second] = mean_f1(strategy.match(bench, strategy.tune(bench, search), CAP), bench)

    assert f1[True] >= f1[False]


def test_a_union_has_the_pairs_of_its_views_and_no_others(bench: Bench) -> None:
    matches = Union(VIEWS).match(bench, PAIRS, CAP)

    parts = [
        keep(bench.neighbours(name), first, second=second)
        for name, (first, second) in PAIRS.items()
    ]
    assert pairs(matches) == set().union(*map(pairs, parts))
    assert all(len(pairs(part)) < len(pairs(matches)) for part in parts)
    assert np.array_equal(matches.toarray(), union(*parts).toarray())


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("stages", [-1.0, 0.2])
def test_blending_has_what_single_views_match_at_stage_1(
    bench: Bench, joint: bool, stages: float
) -> None:
    strategy = Blended(Union(VIEWS), joint=joint)

    matches = strategy.match(bench, thresholds(stages=stages).to_dict(), CAP)

    singles = [
        keep(bench.neighbours(name), PAIRS[name][0], second=PAIRS[name][1])
        for name in ("image", "title", "tfidf")
    ]
    expected = set().union(*map(pairs, singles))
    assert expected <= pairs(matches)
    # nothing is within a distance of minus one, so only stage 1 is left
    assert (pairs(matches) == expected) == (stages < 0)


def test_only_joint_blending_lets_single_views_name_neighbours_to_blend(bench: Bench) -> None:
    shut = replace(thresholds(stages=0.2), comb=-1.0, comb_second=-1.0)

    apart = Blended(Union(VIEWS), joint=False).match(bench, shut.to_dict(), CAP)
    joint = Blended(Union(VIEWS), joint=True).match(bench, shut.to_dict(), CAP)

    # without neighbours of its own the comb embedding stays as it is
    singles = {
        pair
        for name in ("image", "title", "tfidf")
        for pair in pairs(keep(bench.neighbours(name), PAIRS[name][0], second=PAIRS[name][1]))
    }
    unblended = pairs(keep(bench.neighbours("comb"), 0.2, second=0.2))
    assert pairs(apart) == singles | unblended
    assert pairs(joint) > singles
    assert pairs(joint) != pairs(apart)


def test_a_start_that_is_tried_bounds_the_search_from_below(bench: Bench, search: Search) -> None:
    apart, joint = (Blended(Union(VIEWS), joint=joint) for joint in (False, True))
    united = Union(VIEWS).tune(bench, search)

    found = joint.tune(bench, search)

    start = joint._start(united).to_dict()
    assert mean_f1(joint.match(bench, found, CAP), bench) >= mean_f1(
        joint.match(bench, start, CAP), bench
    )
    later = apart.tune(bench, search)
    assert {name: later[name] for name in start if "stage" not in name} == {
        name: start[name] for name in start if "stage" not in name
    }


@pytest.mark.parametrize("strategy", [Alone("tfidf", second=True), Union(VIEWS)])
def test_a_veto_only_removes_pairs(bench: Bench, strategy: Strategy) -> None:
    before = strategy.match(bench, PAIRS, CAP)

    after = Vetoed(strategy).match(bench, PAIRS, CAP)

    assert pairs(after) < pairs(before)
    assert pairs(after) == pairs(veto(before, bench.titles))
    assert {(row, row) for row in range(len(bench))} <= pairs(after)
    # "… 100 g" and "… 200 g" state different quantities
    stated = [title.split()[-2] for title in bench.titles]
    assert all(stated[i] != stated[j] for i, j in pairs(before) - pairs(after))


@pytest.mark.parametrize("cap", [1, 2, 3])
@pytest.mark.parametrize(
    "strategy", [Alone("comb"), Union(VIEWS), Blended(Union(VIEWS), joint=False)]
)
def test_no_listing_has_more_matches_than_the_cap(
    bench: Bench, strategy: Strategy, cap: int
) -> None:
    wide = {name: [2.0, 2.0] for name in VIEWS}
    if isinstance(strategy, Alone):
        wide = {"comb": [2.0]}
    elif isinstance(strategy, Blended):
        wide = thresholds(stages=2.0).to_dict()

    matches = strategy.match(bench, wide, cap)

    assert np.diff(matches.indptr).max() == cap
    assert np.allclose(matches.diagonal(), 1.0)


def test_figures_are_means_over_the_scored_listings(bench: Bench) -> None:
    bench.scored = np.arange(len(bench)) == 2
    matches = Alone("title").match(bench, {"title": [-1.0]}, CAP)

    size = np.count_nonzero(bench.truth == bench.truth[2])

    assert mean_f1(matches, bench) == pytest.approx(2 / (1 + size))


def test_a_part_of_the_views_is_enough(listed_of: Callable[..., Market], search: Search) -> None:
    market = listed_of(20)
    views = replace(market.views, image=None, comb=market.views.of("title"), further={})
    bench = Bench(draw_galleries(market.split, "train"), views, market.titles, k=K)
    strategy = Blended(Union(("comb", "title")), joint=True)

    found = strategy.tune(bench, search)

    assert (found["image"], found["image_second"]) == (-1.0, -1.0)
    assert mean_f1(strategy.match(bench, found, CAP), bench) > 0.6
