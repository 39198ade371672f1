"""Thresholds: exact sweeps against brute force, min2, distractors, the joint searches."""

from dataclasses import dataclass

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from purchase_predictor.matching import thresholds
from purchase_predictor.matching.blending import Blender, Thresholds
from purchase_predictor.matching.matches import Matches, f1_by_listing, keep, union
from purchase_predictor.matching.neighbours import Neighbours, nearest
from purchase_predictor.matching.thresholds import (
    best_threshold,
    search,
    tune_blending,
    tune_union,
)
from purchase_predictor.matching.views import View


def planted(seed: int, *, noise: float, n_groups: int = 40, size: int = 3, d: int = 8) -> tuple:
    """Vectors about the centres of their groups, and the groups."""
    generator = np.random.default_rng(seed)
    groups = np.repeat(np.arange(n_groups), size)
    centres = np.random.default_rng(7).normal(size=(n_groups, d))
    vectors = centres[groups] + noise * generator.normal(size=(len(groups), d))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), groups


def by_distance(rows: list[list[tuple[int, float]]]) -> Neighbours:
    """Neighbours from (listing, cosine) of the others, nearest first; the listing is added."""
    k = 1 + max(map(len, rows))
    index = np.full((len(rows), k), -1, np.int32)
    similarity = np.full((len(rows), k), -1, np.float32)
    for i, others in enumerate(rows):
        for place, (j, cosine) in enumerate([(i, 1.0), *others]):
            index[i, place], similarity[i, place] = j, cosine
    return Neighbours(index=index, similarity=similarity)


@st.composite
def galleries(draw: st.DrawFn) -> tuple[Neighbours, NDArray, NDArray]:
    """Few listings with many equal distances, in groups, some of them not scored."""
    n = draw(st.integers(1, 7))
    groups = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    scored = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    rows = []
    for i in range(n):
        others = draw(st.permutations([j for j in range(n) if j != i]))
        others = others[: draw(st.integers(0, n - 1))]
        cosines = [draw(st.integers(-2, 4)) / 4 for _ in others]
        rows.append(list(zip(others, sorted(cosines, reverse=True), strict=True)))
    return by_distance(rows), np.array(groups), np.array(scored)


def mean_f1(matches: Matches, groups: NDArray, scored: NDArray) -> float:
    return float(f1_by_listing(matches, groups)[scored].mean())


CUTS = [-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5]


@settings(max_examples=60, deadline=None)
@given(galleries(), st.integers(1, 5))
def test_the_sweep_finds_the_best_of_all_cut_offs(gallery: tuple, cap: int) -> None:
    neighbours, groups, scored = gallery

    found = best_threshold(neighbours, groups, rows_scored=scored, cap=cap)

    brute = max(mean_f1(keep(neighbours, cut, cap=cap), groups, scored) for cut in CUTS)
    assert found.f1 == pytest.approx(brute)
    assert found.second is None
    kept = keep(neighbours, found.threshold, cap=cap)
    assert mean_f1(kept, groups, scored) == pytest.approx(found.f1)


@settings(max_examples=60, deadline=None)
@given(galleries())
def test_with_min2_the_sweep_finds_the_best_of_all_pairs_of_cut_offs(gallery: tuple) -> None:
    neighbours, groups, scored = gallery

    found = best_threshold(neighbours, groups, second=True, rows_scored=scored)

    brute = max(
        mean_f1(keep(neighbours, first, second=second), groups, scored)
        for first in CUTS
        for second in CUTS
        if second >= first
    )
    assert found.f1 == pytest.approx(brute)
    assert found.second is not None
    assert found.second >= found.threshold
    kept = keep(neighbours, found.threshold, second=found.second)
    assert mean_f1(kept, groups, scored) == pytest.approx(found.f1)


def test_a_threshold_lies_midway_between_what_is_kept_and_what_is_not() -> None:
    neighbours = by_distance([[(1, 0.8), (2, 0.2)], [(0, 0.8), (2, 0.4)], [(1, 0.4), (0, 0.2)]])

    found = best_threshold(neighbours, np.array([0, 0, 1]))

    assert found.f1 == 1
    assert found.threshold == pytest.approx((0.2 + 0.6) / 2)


def test_a_distance_in_float32_next_to_another_is_told_from_it() -> None:
    near, far = 0.25, 0.25 - 2**-24  # distances 0.75 and the next number
    neighbours = by_distance([[(1, near), (2, far)], [(0, near), (2, far)], []])

    found = best_threshold(neighbours, np.array([0, 0, 1]))

    assert found.f1 == 1
    assert keep(neighbours, found.threshold).nnz == 5


@pytest.mark.parametrize("cosine", [1.0, 0.3])
def test_where_every_neighbour_is_wrong_none_is_kept(cosine: float) -> None:
    neighbours = by_distance([[(1, cosine)], [(0, cosine)]])

    found = best_threshold(neighbours, np.array([0, 1]), second=True)

    assert found.f1 == 1
    assert keep(neighbours, found.threshold, second=found.second).nnz == 2


def test_min2_gets_a_looser_second_threshold_where_the_nearest_is_right_from_afar() -> None:
    # the nearest other is right at 0.5 or 0.6, what follows is wrong from 0.6 on
    rows = [
        [(1, 0.5), (2, 0.4)],
        [(0, 0.5), (3, 0.4)],
        [(3, 0.4), (0, 0.35)],
        [(2, 0.4), (1, 0.35)],
    ]
    neighbours, groups = by_distance(rows), np.array([0, 0, 1, 1])

    plain = best_threshold(neighbours, groups)
    min2 = best_threshold(neighbours, groups, second=True)

    assert plain.f1 < min2.f1 == 1
    assert min2.threshold < 0.6 <= min2.second


def test_distractors_never_loosen_the_threshold_and_cost_f1() -> None:
    vectors, groups = planted(0, noise=0.35)
    others, _ = planted(1, noise=1.5, n_groups=400, size=1)
    gallery = np.concatenate([vectors, others])
    padded = np.concatenate([groups, 1000 + np.arange(len(others))])
    scored = np.arange(len(gallery)) < len(vectors)

    alone = best_threshold(nearest(vectors), groups)
    among = best_threshold(nearest(gallery), padded, rows_scored=scored)

    assert among.threshold < alone.threshold
    assert among.f1 < alone.f1


def test_distractors_count_in_the_gallery_but_not_in_the_mean() -> None:
    # the distractor's own neighbour is wrong; only the scored pair counts
    neighbours = by_distance([[(1, 0.9)], [(0, 0.9)], [(0, 0.95)]])

    found = best_threshold(
        neighbours, np.array([0, 0, 1]), rows_scored=np.array([True, True, False])
    )

    assert found.f1 == 1


def test_a_gallery_of_one_has_an_f1_of_one() -> None:
    found = best_threshold(by_distance([[]]), np.array([0]), second=True)

    assert found.f1 == 1


def test_a_threshold_needs_a_scored_listing() -> None:
    with pytest.raises(ValueError, match="no listing is scored"):
        best_threshold(by_distance([[]]), np.array([0]), rows_scored=np.array([False]))


def hill(values: dict[str, float]) -> float:
    return -((values["x"] - 0.3) ** 2) - (values["y"] - values["x"]) ** 2


SPACE = {"x": (0.0, 1.0), "y": (0.0, 1.0)}


def test_the_search_is_the_same_for_a_seed() -> None:
    start = {"x": 0.9, "y": 0.1}

    first = search(hill, SPACE, start=start, n_trials=25, seed=3)
    again = search(hill, SPACE, start=start, n_trials=25, seed=3)
    other = search(hill, SPACE, start=start, n_trials=25, seed=4)

    assert first == again
    assert first != other
    assert first[1] > hill(start)
    assert first[1] == hill(first[0])


def test_a_start_that_cannot_be_beaten_is_kept() -> None:
    best = {"x": 0.3, "y": 0.3}

    found, value = search(hill, SPACE, start=[{"x": 1.0, "y": 1.0}, best], n_trials=1, seed=0)

    assert found == best
    assert value == 0


@pytest.mark.parametrize(
    ("start", "message"),
    [({"x": 0.5}, "a start must have"), ({"x": 0.5, "y": 2.0}, "y starts at 2.0")],
)
def test_a_start_outside_the_space_is_refused(start: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(hill, SPACE, start=start, n_trials=3, seed=0)


def test_a_search_without_start_and_trials_is_refused() -> None:
    with pytest.raises(ValueError, match="n_trials is 0"):
        search(hill, SPACE, start=[], n_trials=0, seed=0)


@pytest.mark.parametrize(("pause", "expected"), [(0.0, 3), (1000.0, 0)])
def test_progress_is_told_now_and_then_and_optuna_itself_says_nothing(
    pause: float,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(thresholds, "PROGRESS_SECONDS", pause)
    verbosity = optuna.logging.get_verbosity()
    lines: list[str] = []

    search(hill, SPACE, start={"x": 0, "y": 0}, n_trials=3, seed=0, progress=lines.append)

    assert len(lines) == expected
    assert lines[:1] == ["thresholds: 1 of 3 trials, best -0.0900"][:expected]
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == verbosity


def test_a_tuned_union_beats_its_views_and_the_union_at_their_own_thresholds() -> None:
    views = {}
    for seed, name in enumerate(["image", "title"]):
        vectors, groups = planted(seed, noise=0.5)
        views[name] = nearest(vectors)
    alone = {
        name: best_threshold(neighbours, groups, second=True) for name, neighbours in views.items()
    }

    found, f1 = tune_union(views, groups, n_trials=5, seed=0)

    def joined(ends: dict[str, tuple[float, float]]) -> float:
        parts = [keep(views[name], first, second=second) for name, (first, second) in ends.items()]
        return mean_f1(union(*parts), groups, np.ones(len(groups), bool))

    assert list(found) == ["image", "title"]
    assert joined(found) == pytest.approx(f1)
    assert f1 > joined({name: cutoff.ends for name, cutoff in alone.items()})
    assert f1 > max(cutoff.f1 for cutoff in alone.values())
    assert sum(first for first, _ in found.values()) < sum(c.threshold for c in alone.values())


def test_the_union_of_one_view_is_the_view() -> None:
    vectors, groups = planted(0, noise=0.4)
    neighbours = nearest(vectors)

    found, f1 = tune_union({"title": neighbours}, groups, n_trials=1, seed=0)

    alone = best_threshold(neighbours, groups, second=True)
    assert f1 == pytest.approx(alone.f1)
    assert found["title"] == pytest.approx(alone.ends)


def test_a_view_without_a_listing_adds_nothing_to_a_union() -> None:
    vectors, groups = planted(0, noise=0.4)
    nothing = nearest(vectors, present=np.zeros(len(groups), bool))

    _, f1 = tune_union({"title": nearest(vectors), "image": nothing}, groups, n_trials=1, seed=0)

    assert f1 == pytest.approx(best_threshold(nearest(vectors), groups, second=True).f1)


def test_a_union_needs_a_view() -> None:
    with pytest.raises(ValueError, match="at least one view"):
        tune_union({}, np.array([0]), n_trials=1, seed=0)


@dataclass
class LastStage:
    """Stands for a blender: the last stage's thresholds and a further view's on one list."""

    neighbours: Neighbours

    def match(self, chosen: Thresholds, *, cap: int = 50) -> Matches:
        (further,) = chosen.further.values()
        last = keep(self.neighbours, chosen.stage3, second=chosen.stage3_second, cap=cap)
        return union(last, keep(self.neighbours, further[0], second=further[1], cap=cap))


NAMES = ["image", "title", "comb", "stage2", "stage3"]
TIGHT = {end: 0.01 for name in NAMES for end in (name, f"{name}_second")}


@pytest.mark.parametrize("name", ["stage3", "tfidf"])
def test_blending_is_tuned_by_the_named_thresholds_alone(name: str) -> None:
    vectors, groups = planted(0, noise=0.4)
    blender = LastStage(nearest(vectors))
    start = Thresholds(**TIGHT, further={"tfidf": (0.01, 0.01)})
    scored = np.arange(len(groups)) < 60

    found, f1 = tune_blending(
        blender,
        groups,
        rows_scored=scored,
        start=start,
        names=[name, f"{name}_second"],
        n_trials=12,
        seed=0,
    )

    assert f1 == mean_f1(blender.match(found), groups, scored)
    assert f1 > mean_f1(blender.match(start), groups, scored)
    assert found.of(name) != start.of(name)
    assert found.of(name)[1] >= found.of(name)[0]
    others = {*NAMES, "tfidf"} - {name}
    assert {other: found.of(other) for other in others} == dict.fromkeys(others, (0.01, 0.01))


def test_a_blender_s_stages_are_tuned_by_default() -> None:
    vectors, groups = planted(0, noise=0.5)
    others, _ = planted(1, noise=0.5)
    present = np.ones(len(groups), bool)
    blender = Blender(View("image", vectors, present), View("title", others, present))
    start = Thresholds(**TIGHT)

    found, f1 = tune_blending(blender, groups, start=start, n_trials=6, seed=0)

    assert f1 == mean_f1(blender.match(found), groups, present)
    assert f1 > mean_f1(blender.match(start), groups, present)
    assert found.of("stage2") != start.of("stage2")
    assert found.of("comb") == start.of("comb")


def test_a_threshold_that_is_not_there_cannot_be_tuned() -> None:
    blender = LastStage(by_distance([[]]))

    with pytest.raises(ValueError, match="no threshold 'stage4'"):
        tune_blending(
            blender,
            np.array([0]),
            start=Thresholds(**TIGHT),
            names=["stage4"],
            n_trials=1,
            seed=0,
        )


def test_blending_without_a_scored_listing_cannot_be_tuned() -> None:
    with pytest.raises(ValueError, match="no listing is scored"):
        tune_blending(
            LastStage(by_distance([[]])),
            np.array([0]),
            rows_scored=np.array([False]),
            start=Thresholds(**TIGHT),
            n_trials=1,
            seed=0,
        )
