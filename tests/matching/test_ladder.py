"""The ladder: its rungs, whose encoders and thresholds they take, and what is told of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from purchase_predictor.matching.bench import Bench, Views
from purchase_predictor.matching.ladder import (
    ALL,
    BASE,
    JOINT,
    UNTRAINED,
    VETO,
    Ladder,
    Rung,
    Step,
    make_rungs,
)
from purchase_predictor.matching.matches import Matches, f1_by_listing
from purchase_predictor.matching.strategies import Alone, Found, Search, Vetoed
from purchase_predictor.settings import LadderSettings, load_match_settings
from tests.matching.markets import Market, make_market


def settings(**changes: object) -> LadderSettings:
    quick = {"galleries": [12, 0], "smallest_gallery": 6, "resamples": 50, "neighbours": 11}
    overrides = [f"ladder.{name}={value}" for name, value in (quick | changes).items()]
    return load_match_settings(None, overrides).ladder


def ladder_of(
    market: Market,
    search: Search,
    rungs: list[Rung],
    views: Mapping[str, Views] | None = None,
    **changes: object,
) -> Ladder:
    return Ladder(
        rungs=rungs,
        views=views or {BASE: market.views},
        split=market.split,
        titles=market.titles,
        settings=settings(**changes),
        search=search,
        seed=0,
        progress=lambda _: None,
    )


@pytest.fixture(scope="module")
def generations() -> dict[str, Views]:
    """The same listings, seen ever better."""
    noise = {UNTRAINED: 0.9, BASE: 0.5, ALL: 0.4}
    return {name: make_market(noise=size, seed=3).views for name, size in noise.items()}


@pytest.fixture(scope="module")
def climbed(generations: dict[str, Views]) -> Ladder:
    """All rungs on two sizes; share it, do not change it."""
    rungs = make_rungs(generations, tfidf=True, veto=True, image_name="image")
    quiet = Search(union_trials=4, blending_trials=4, cap=50, seed=0, progress=lambda _: None)
    return ladder_of(make_market(), quiet, rungs, generations).climb()


# rungs

FULL = [
    ("image, untrained", UNTRAINED, None),
    ("title, untrained", UNTRAINED, None),
    ("TF-IDF", BASE, None),
    ("image", BASE, None),
    ("title", BASE, None),
    ("title, min2", BASE, None),
    ("concat → normalise", BASE, None),
    ("min2", BASE, None),
    ("normalise → concat", BASE, None),
    ("D1 + D2 − D1·D2", BASE, None),
    ("title, min2, all data", ALL, "title, min2"),
    ("all data", ALL, "normalise → concat"),
    ("union, tuned thresholds", ALL, None),
    ("union with TF-IDF", ALL, None),
    ("blending", ALL, None),
    (JOINT, ALL, None),
    (VETO, ALL, JOINT),
]


def alone(views: Views, side: str) -> Views:
    """Only one side of the views, and TF-IDF where there are titles."""
    further = {"tfidf": views.of("tfidf")} if side == "title" else {}
    return Views(**{"image": None, "title": None, side: views.of(side)}, comb=views.of(side),
                 further=further)  # fmt: skip


def test_all_views_have_every_rung_of_the_reference(generations: dict[str, Views]) -> None:
    rungs = make_rungs(generations, tfidf=True, veto=True, image_name="image")

    assert [(rung.name, rung.generation, rung.keeps) for rung in rungs] == FULL


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"tfidf": False}, ["union with TF-IDF"]),
        ({"veto": False}, [VETO]),
    ],
)
def test_rungs_that_are_not_wanted_are_left_out(
    generations: dict[str, Views], options: dict[str, bool], absent: list[str]
) -> None:
    rungs = make_rungs(
        generations, **({"tfidf": True, "veto": True} | options), image_name="image"
    )

    assert [rung.name for rung in rungs] == [name for name, *_ in FULL if name not in absent]


def test_without_a_generation_its_rungs_are_left_out_and_the_last_goes_on(
    generations: dict[str, Views],
) -> None:
    rungs = make_rungs({BASE: generations[BASE]}, tfidf=True, veto=True, image_name="image")

    assert [rung.name for rung in rungs] == [
        name for name, *_ in FULL if "untrained" not in name and "all data" not in name
    ]
    assert {rung.generation for rung in rungs} == {BASE}


@pytest.mark.parametrize(
    ("side", "image_name", "expected"),
    [
        (
            "title",
            "image",
            ["title, untrained", "TF-IDF", "title", "min2", "all data", "union with TF-IDF",
             "blending", JOINT],
        ),
        ("image", "image", ["image, untrained", "image", "min2", "all data", "blending", JOINT]),
        ("image", "picture hash", ["picture hash", "min2", "all data", "blending", JOINT]),
    ],
)  # fmt: skip
def test_one_side_alone_has_fewer_rungs(
    generations: dict[str, Views], side: str, image_name: str, expected: list[str]
) -> None:
    views = {name: alone(one, side) for name, one in generations.items()}

    rungs = make_rungs(views, tfidf=True, veto=False, image_name=image_name)

    assert [rung.name for rung in rungs] == expected


@pytest.mark.parametrize("side", ["image", "title"])
def test_one_side_alone_can_be_climbed(
    generations: dict[str, Views], search: Search, side: str
) -> None:
    views = {name: alone(one, side) for name, one in generations.items()}
    rungs = make_rungs(views, tfidf=True, veto=True, image_name="picture hash")

    ladder = ladder_of(make_market(), search, rungs, views, galleries=[0]).climb()

    assert [step.rung for step in ladder.steps_] == rungs
    assert min(step.f1["value"] for step in ladder.steps_) > 0.2


# climbing


def test_rows_have_what_ladder_json_holds(climbed: Ladder) -> None:
    for step in climbed.steps_:
        row = step.row()
        assert {"rung", "f1", "low", "high", "gallery", "seconds"} <= row.keys()
        assert 0 <= row["low"] <= row["f1"] <= row["high"] <= 1
        assert row["listings"] <= row["gallery"] * row["galleries"]
        assert row["thresholds"] == step.thresholds
    assert [step.rung.name for step in climbed.steps_] == [name for name, *_ in FULL] * 2


def test_figures_differ_between_galleries_and_have_a_width(climbed: Ladder) -> None:
    by_rung = {}
    for step in climbed.steps_:
        by_rung.setdefault(step.rung.name, []).append(step)

    small, large = by_rung["title"]
    assert small.gallery <= 12 < large.gallery
    assert small.n_galleries > large.n_galleries == 1
    assert small.f1["value"] != large.f1["value"]
    assert large.f1["high"] - large.f1["low"] > 0.01


@pytest.mark.parametrize("galleries", [[0, 0], [0, 10_000], [10_000, 9_000, 0], [12, 0, 12]])
def test_a_size_that_gives_the_same_gallery_is_not_climbed_again(
    listed: Market, search: Search, galleries: list[int]
) -> None:
    ladder = ladder_of(listed, search, [Rung("title", Alone("title"))], galleries=galleries)

    sizes = [step.gallery for step in ladder.climb().steps_]

    assert len(sizes) == len(set(sizes)) == len({min(size or 99, 99) for size in galleries})


@dataclass(frozen=True)
class Watched:
    """A strategy that notes the benches on which it is tuned and matches."""

    tuned: list[Bench] = field(default_factory=list)
    matched: list[Bench] = field(default_factory=list)

    def tune(self, bench: Bench, search: Search) -> Found:
        self.tuned.append(bench)
        return Alone("title", second=True).tune(bench, search)

    def match(self, bench: Bench, found: Found, cap: int) -> Matches:
        self.matched.append(bench)
        return Alone("title", second=True).match(bench, found, cap)


def vectors_in(views: Views, bench: Bench) -> set[int]:
    """Rows of the listings of a bench, found again by their title embeddings."""
    whole, own = views.of("title").vectors, bench.views.of("title").vectors
    return {int(np.flatnonzero((whole == vector).all(axis=1))[0]) for vector in own}


def test_thresholds_are_found_on_validation_listings_by_encoders_that_did_not_learn_them(
    listed: Market, generations: dict[str, Views], search: Search
) -> None:
    own, kept = Watched(), Watched()
    rungs = [Rung("own", own, ALL), Rung("base", kept), Rung("kept", kept, ALL, keeps="base")]
    steps = ladder_of(listed, search, rungs, generations, galleries=[0]).climb().steps_

    part = listed.split.part
    for watched in (own, kept):
        (bench,) = watched.tuned
        assert set(part[list(vectors_in(generations[BASE], bench))]) == {"validation"}
    assert set(part[list(vectors_in(generations[ALL], own.matched[-1]))]) == {"test"}
    # the rung that keeps thresholds matches the test gallery alone
    validation, before, later = kept.matched
    assert set(part[list(vectors_in(generations[BASE], before))]) == {"test"}
    assert set(part[list(vectors_in(generations[ALL], later))]) == {"test"}
    assert steps[2].thresholds == steps[1].thresholds
    assert steps[2].validation_f1 == steps[1].validation_f1


def test_rungs_of_untrained_encoders_are_tuned_by_themselves(
    listed: Market, generations: dict[str, Views], search: Search
) -> None:
    watched = Watched()

    ladder_of(listed, search, [Rung("before", watched, UNTRAINED)], generations).climb()

    for bench in (*watched.tuned, *watched.matched):
        assert vectors_in(generations[UNTRAINED], bench)


def test_a_veto_is_judged_on_validation_listings_of_its_own(climbed: Ladder) -> None:
    rows = {step.rung.name: step for step in climbed.steps_}

    assert rows[VETO].thresholds == rows[JOINT].thresholds
    assert rows[VETO].validation_f1 != rows[JOINT].validation_f1


def test_a_veto_does_not_search_again(
    listed: Market, generations: dict[str, Views], search: Search
) -> None:
    watched = Watched()
    rungs = [Rung("plain", watched, ALL), Rung("veto", Vetoed(watched), ALL, keeps="plain")]

    ladder_of(listed, search, rungs, generations, galleries=[0]).climb()

    assert len(watched.tuned) == 1
    assert len(watched.matched) == 4  # validation and test, without and with the veto


def test_the_same_seed_climbs_the_same(generations: dict[str, Views], climbed: Ladder) -> None:
    again = replace(climbed, steps_=[]).climb()

    def rows(ladder: Ladder) -> list[dict[str, Any]]:
        return [step.row() | {"seconds": 0} for step in ladder.steps_]

    assert rows(again) == rows(climbed)


def test_each_rung_is_told(listed: Market, search: Search) -> None:
    lines: list[str] = []
    ladder = ladder_of(listed, search, [Rung("TF-IDF", Alone("tfidf"))], galleries=[0])
    ladder.progress = lines.append

    (step,) = ladder.climb().steps_

    assert lines == [
        f"{step.gallery} listings, TF-IDF: F1 {step.f1['value']:.4f} "
        f"(validation {step.validation_f1:.4f})"
    ]


# the best


def step_of(name: str, generation: str, validation_f1: float, gallery: int, f1: float) -> Step:
    interval = {"value": f1, "low": f1, "high": f1}
    rung = Rung(name, Alone("title"), generation)
    return Step(rung, interval, validation_f1, gallery, 1, gallery, 0.0, {"title": [0.1]})


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([("a", BASE, 0.5, 90, 0.9), ("b", BASE, 0.6, 90, 0.1)], "b"),
        ([("a", BASE, 0.9, 10, 0.9), ("b", BASE, 0.6, 90, 0.1)], "b"),
        ([("a", UNTRAINED, 0.9, 90, 0.9), ("b", BASE, 0.6, 90, 0.1)], "b"),
        ([("a", BASE, 0.9, 90, 0.9), ("b", ALL, 0.6, 90, 0.1)], "b"),
        ([("b", ALL, 0.6, 90, 0.1), ("a", ALL, 0.6, 90, 0.2)], "b"),
    ],
)
def test_the_best_is_chosen_on_validation_in_the_largest_gallery_by_the_last_encoders(
    climbed: Ladder, steps: list[tuple[str, str, float, int, float]], expected: str
) -> None:
    ladder = replace(climbed, steps_=[step_of(*step) for step in steps])

    assert ladder.best().rung.name == expected


# the curve


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "strategy", [Alone("title"), Alone("image", second=True), Alone("tfidf"), Alone("product")]
)
def test_f1_does_not_rise_as_distractors_are_added(
    listed_of: Callable[..., Market], search: Search, strategy: Alone, seed: int
) -> None:
    market = listed_of(80, noise=0.8, seed=seed)
    ladder = ladder_of(market, search, [Rung("alone", strategy)], galleries=[0]).climb()

    rows = ladder.curve(ladder.steps_)

    galleries = [row["gallery"] for row in rows]
    f1 = [row["f1"] for row in rows]
    assert galleries == sorted(galleries, reverse=True)
    assert len(rows) >= 3
    assert all(larger <= smaller + 1e-12 for larger, smaller in zip(f1, f1[1:], strict=False))
    assert f1[0] < f1[-1]


def test_the_curve_begins_with_the_figure_of_the_whole_part(climbed: Ladder) -> None:
    steps = [step for step in climbed.steps_ if step.gallery > 12]

    rows = climbed.curve(steps)

    first = {row["rung"]: row for row in rows if row["gallery"] == steps[0].gallery}
    assert first.keys() == {step.rung.name for step in steps}
    for step in steps:
        assert first[step.rung.name]["f1"] == pytest.approx(step.f1["value"])
        assert first[step.rung.name]["low"] == pytest.approx(step.f1["low"])


# intervals


def test_intervals_resample_joined_groups(listed: Market, search: Search) -> None:
    ladder = ladder_of(listed, search, [], resamples=4000)
    bench = ladder._bench("test", 0, BASE)
    group = np.unique(bench.unit, return_inverse=True)[1]
    f1 = (group % 2).astype(np.float64)  # all listings of a group alike

    found = ladder._interval(bench, f1)

    kept = bench.scored
    sums = np.bincount(group[kept], weights=f1[kept])
    counts = np.bincount(group[kept]).astype(np.float64)
    sums, counts = sums[counts > 0], counts[counts > 0]
    draws = np.random.default_rng(1).multinomial(
        len(sums), np.full(len(sums), 1 / len(sums)), 4000
    )
    ratios = (draws @ sums) / (draws @ counts)
    assert found["value"] == pytest.approx(f1[kept].mean())
    assert found["low"] == pytest.approx(np.quantile(ratios, 0.025), abs=0.04)
    assert found["high"] == pytest.approx(np.quantile(ratios, 0.975), abs=0.04)


def test_one_group_has_an_interval_of_no_width(listed: Market, search: Search) -> None:
    ladder = ladder_of(listed, search, [])
    rows = np.flatnonzero(listed.split.key == "g1")
    bench = Bench([listed.gallery(rows)], listed.views, listed.titles)
    matches = Alone("title").match(bench, {"title": [-1.0]}, 50)

    found = ladder._interval(bench, f1_by_listing(matches, bench.truth))

    assert found["low"] == found["value"] == found["high"] == pytest.approx(2 / (1 + len(rows)))
