"""What the page of a matching run is given: paired gains, checked categories, its own words."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from purchase_predictor.matching.bench import Views
from purchase_predictor.matching.findings import Findings, find
from purchase_predictor.matching.gallery import Split
from purchase_predictor.matching.generations import Generations
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
    resampled_mean,
)
from purchase_predictor.matching.listings import Listings, read_listings
from purchase_predictor.matching.page import (
    check_categories,
    counts,
    facts,
    make_report,
)
from purchase_predictor.matching.strategies import Alone, Search
from purchase_predictor.report.matching import MatchReport
from purchase_predictor.report.matching_words import KOREAN, note_in
from purchase_predictor.settings import MatchSettings, load_match_settings
from tests.matching.markets import Market

K = 11


def settings(**changes: object) -> MatchSettings:
    quick = {"galleries": [12, 0], "smallest_gallery": 6, "resamples": 50, "neighbours": K}
    overrides = [f"ladder.{name}={value}" for name, value in (quick | changes).items()]
    return load_match_settings(None, overrides)


def ladder_of(
    split: Split, titles: pl.Series, views: dict[str, Views], search: Search, rungs: list[Rung]
) -> Ladder:
    return Ladder(
        rungs=rungs,
        views=views,
        split=split,
        titles=titles,
        settings=settings().ladder,
        search=search,
        seed=0,
        progress=lambda _: None,
    )


# gains


@pytest.fixture
def steps(listed_of: Callable[..., Market], search: Search) -> list[Step]:
    market = listed_of(80, noise=0.8)
    rungs = [
        Rung("image", Alone("image")),
        Rung("title", Alone("title")),
        Rung("title again", Alone("title"), keeps="title"),
        Rung("image again", Alone("image"), keeps="image"),
        Rung("words", Alone("tfidf")),
    ]
    ladder = ladder_of(market.split, market.titles, {BASE: market.views}, search, rungs)
    return ladder.climb().steps_


def test_a_gain_is_over_the_rung_before_or_the_one_whose_thresholds_are_kept(
    steps: list[Step],
) -> None:
    over = [None, "image", "title", "image", "image again"]
    assert [step.gain_over for step in steps] == over * 2

    for size in (steps[:5], steps[5:]):
        f1 = {step.rung.name: step.f1["value"] for step in size}
        for step in size[1:]:
            assert step.gain["value"] == pytest.approx(f1[step.rung.name] - f1[step.gain_over])


def test_gains_are_in_the_rows_of_the_ladder(steps: list[Step]) -> None:
    for first in (steps[0], steps[5]):
        row = first.row()
        assert [row[name] for name in ("gain", "gain_low", "gain_high", "gain_over")] == [None] * 4
    row = steps[6].row()
    assert row["gain_over"] == "image"
    assert row["gain_low"] <= row["gain"] <= row["gain_high"]
    assert row["gain_low"] < row["gain_high"]


def test_gains_are_paired(steps: list[Step]) -> None:
    # the same matches under another name: no resample tells the two apart
    for step in (steps[2], steps[3], steps[7], steps[8]):
        assert step.f1["low"] < step.f1["high"]
        assert step.gain == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_the_interval_of_a_gain_is_that_of_the_differences(listed: Market, search: Search) -> None:
    ladder = ladder_of(listed.split, listed.titles, {BASE: listed.views}, search, [])
    ladder.settings = settings(resamples=4000).ladder
    bench = ladder._bench("test", 0, BASE)
    rng = np.random.default_rng(0)
    group = np.unique(bench.unit, return_inverse=True)[1]
    before = rng.random(len(group))
    after = before + 0.1 + 0.05 * (group % 2)  # nearly as good on each listing

    gain = ladder._gain(ladder._resampled(bench, after), ladder._resampled(bench, before))

    kept = bench.scored
    sums = np.bincount(group[kept], weights=(after - before)[kept])
    sizes = np.bincount(group[kept]).astype(np.float64)
    sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    drawn = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), 4000)
    ratios = (drawn @ sums) / (drawn @ sizes)
    assert gain["value"] == pytest.approx((after - before)[kept].mean())
    assert gain["low"] == pytest.approx(np.quantile(ratios, 0.025), abs=0.003)
    assert gain["high"] == pytest.approx(np.quantile(ratios, 0.975), abs=0.003)


# categories


@pytest.fixture
def listings(catalogue_folder: Path) -> Listings:
    data = load_match_settings(None, []).data
    return read_listings(catalogue_folder, data, seed=0)


@pytest.fixture
def views(listed: Market, listings: Listings) -> Views:
    """Embeddings of as many listings of the same groups."""
    assert len(listed.products) == len(listings)
    return listed.views


def found_by(listings: Listings, views: Views) -> Findings:
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    best = Step(Rung("best", Alone("comb")), interval, 0.5, 20, 1, 20, 0.0, {"comb": [0.15]})
    return find(listings, views, best, {"image": 0.2, "title": 0.2}, k=K, cap=50)


def test_suggestions_are_judged_without_votes_of_duplicates(
    listings: Listings, views: Views
) -> None:
    findings = found_by(listings, views)

    check = findings.categories
    judged = check.judged
    assert len(judged) == check.n_suggested
    assert 0 < judged["right"].mean() == pytest.approx(check.accuracy)
    assert listings.products["category"].gather(judged["row"]).null_count() == 0
    # with the duplicates' votes it would be another figure
    table = findings.table["suggested_category"] == listings.products["category"]
    assert table.mean() > judged["right"].mean() + 0.1


def test_accuracies_have_intervals_over_joined_groups(listings: Listings, views: Views) -> None:
    findings = found_by(listings, views)
    judged = findings.categories.judged
    chosen = settings(resamples=500)

    shown = check_categories(findings.categories, listings.split, chosen)

    accuracy = shown.accuracy
    assert accuracy["value"] == pytest.approx(findings.categories.accuracy)
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
    assert (shown.n, shown.coverage) == (len(judged), findings.categories.coverage)
    assert shown.commonest == findings.categories.commonest
    assert sum(band.n for band in shown.bands) == shown.n
    assert [band.accuracy["value"] for band in shown.bands] == pytest.approx(
        findings.categories.bands["accuracy"].to_list()
    )
    # one unit: nothing else can be drawn
    whole = replace(listings.split, key=np.full(len(listings), "g", dtype=object))
    alone = check_categories(findings.categories, whole, chosen).accuracy
    assert alone["low"] == alone["value"] == alone["high"]


@pytest.mark.parametrize("n_units", [1, 7])
def test_a_mean_is_resampled_by_unit(n_units: int) -> None:
    values = np.arange(14, dtype=np.float64)
    unit = np.arange(14) % n_units

    mean, draws = resampled_mean(values, unit, n_resamples=70, seed=1)

    assert mean == pytest.approx(values.mean())
    assert draws.shape == (70,)
    assert (np.ptp(draws) > 0) == (n_units > 1)


# the report


def report_of(
    listings: Listings, views: Views, search: Search, findings: Findings
) -> tuple[MatchReport, Ladder]:
    rungs = [
        Rung("image, untrained", Alone("comb", second=True), UNTRAINED),
        Rung("image", Alone("image")),
        Rung("title", Alone("title")),
    ]
    both = {UNTRAINED: views, BASE: views}
    ladder = ladder_of(listings.split, listings.products["title"], both, search, rungs).climb()
    encoders = SimpleNamespace(spec=SimpleNamespace(notes=("a note of the encoders",)))
    failing = replace(views, failures=[("p1", "1.png", "broken")])
    generations = Generations({BASE: encoders}, {BASE: failing})
    report = make_report(listings, generations, ladder, [], findings, settings())
    return report, ladder


def test_the_report_names_what_validation_chose(
    listings: Listings, views: Views, search: Search
) -> None:
    report, ladder = report_of(listings, views, search, found_by(listings, views))

    assert report.chosen == ladder.best().rung.name
    assert report.chosen != "image, untrained"
    assert [row["rung"] for row in report.ladder] == [step.rung.name for step in ladder.steps_]
    assert (report.data, report.unread) == (listings.folder.name, 1)
    assert report.notes == ("a note of the encoders",)
    assert report.category_check.accuracy["low"] is not None


def test_without_categories_there_is_no_check(
    listings: Listings, views: Views, search: Search
) -> None:
    findings = replace(found_by(listings, views), categories=None)

    report, _ = report_of(listings, views, search, findings)

    assert report.category_check is None


def test_counts_are_those_of_the_catalogue(listings: Listings) -> None:
    told = counts(listings)

    products = listings.products
    assert told.listings == len(products)
    assert told.groups == products["match_group"].drop_nulls().n_unique()
    assert told.ungrouped == products["match_group"].null_count() == 10
    assert told.titled == len(products) - products["title"].null_count()
    assert sum(told.parts.values()) == len(products)
    assert told.may_train is None
    assert facts(listings)["match groups"] == f"{told.groups}; 10 listings have none"


@pytest.mark.parametrize("sides", [("image", "title"), ("title",)])
def test_every_note_of_a_rung_has_a_korean_one(listed: Market, sides: tuple[str, ...]) -> None:
    one = listed.views
    views = replace(one, **{side: None for side in ("image", "title") if side not in sides})

    rungs = make_rungs(
        {UNTRAINED: views, BASE: views, ALL: views}, tfidf=True, veto=True, image_name="image"
    )

    notes = [rung.note for rung in rungs if rung.note]
    assert len(notes) >= 5
    assert all(note_in(note, KOREAN) != note for note in notes)
    assert {JOINT, VETO} <= {rung.name for rung in rungs}
