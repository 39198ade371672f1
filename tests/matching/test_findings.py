"""What the whole catalogue's matches are worth, and the pairs shown beside them."""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pytest
from scipy import sparse

from purchase_predictor.matching.bench import Bench, Views
from purchase_predictor.matching.findings import (
    Findings,
    examples,
    find,
    labelled_clusters,
    right_pairs,
    whole_bench,
)
from purchase_predictor.matching.gallery import Split, draw_galleries
from purchase_predictor.matching.ladder import Rung, Step
from purchase_predictor.matching.matches import Matches
from purchase_predictor.matching.strategies import Alone
from purchase_predictor.matching.uses import clusters
from tests.matching.markets import Market

K, CAP = 12, 50


@dataclass(frozen=True)
class Catalogue:
    """What `find` asks of listings."""

    products: pl.DataFrame
    split: Split
    prices: pl.DataFrame

    def __len__(self) -> int:
        return len(self.products)


def catalogue_of(market: Market, **columns: object) -> Catalogue:
    """A market whose groups have a category, and a price each listing, a rising one."""
    n = len(market.products)
    group = market.products["match_group"].str.slice(1).cast(pl.Int64)
    products = market.products.with_columns(category="c" + (group % 3).cast(pl.String), **columns)
    prices = products.select(
        "product_id", pl.lit(None, dtype=pl.String).alias("market"), price=pl.lit(10.0)
    ).with_columns(price=10.0 + np.arange(n))
    return Catalogue(products, market.split, prices)


def best(strategy: Alone, **thresholds: list[float]) -> Step:
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    return Step(Rung("best", strategy), interval, 0.5, 20, 1, 20, 0.0, thresholds)


def found_in(catalogue: Catalogue, views: Views, **changes: object) -> Findings:
    given = {
        "best": best(Alone("comb"), comb=[0.15]),
        "alone": {"image": 0.2, "title": 0.2},
        "k": K,
        "cap": CAP,
    }
    return find(catalogue, views, **(given | changes))


def test_a_row_for_each_product_with_its_matches_the_nearest_first(listed: Market) -> None:
    found = found_in(catalogue_of(listed), listed.views)

    table, ids = found.table, listed.products["product_id"].to_list()
    assert table["product_id"].to_list() == ids
    assert table["n_matches"].max() > 2
    for row, matched in enumerate(table["matches"].to_list()):
        columns = found.matches.indices[found.matches.indptr[row] : found.matches.indptr[row + 1]]
        assert matched[0] == ids[row]
        assert sorted(matched) == sorted(ids[column] for column in columns)
        cosines = [found.matches[row, ids.index(name)] for name in matched[1:]]
        assert cosines == sorted(cosines, reverse=True)
        assert len(matched) == table["n_matches"][row]


def test_all_listings_are_one_gallery(listed: Market) -> None:
    bench = whole_bench(catalogue_of(listed), listed.views, k=K)

    assert len(bench) == len(listed.products)
    assert bench.starts.tolist() == [0]
    assert np.array_equal(bench.scored, listed.split.grouped)


def test_prices_are_those_of_the_widest_market_of_the_cluster(listed: Market) -> None:
    catalogue = catalogue_of(listed)
    own = catalogue.prices
    abroad = own.with_columns(market=pl.lit("KR"), price=pl.col("price") ** 2)
    catalogue = Catalogue(catalogue.products, listed.split, pl.concat([own, abroad]))

    table = found_in(catalogue, listed.views).table

    priced = table.drop_nulls("price_spread")
    assert len(priced)
    assert set(priced["price_market"]) == {"KR"}
    for row in priced.iter_rows(named=True):
        members = np.flatnonzero(table["cluster"] == row["cluster"])
        assert row["price_low"] == pytest.approx((10.0 + members.min()) ** 2)
        assert row["price_high"] == pytest.approx((10.0 + members.max()) ** 2)
    single = table.group_by("cluster").len().filter(pl.col("len") == 1)["cluster"]
    assert table.filter(pl.col("cluster").is_in(single.implode()))["price_low"].is_null().all()


def test_a_category_is_suggested_and_checked_without_the_own_cluster(listed: Market) -> None:
    found = found_in(catalogue_of(listed), listed.views)

    # directions of groups are random, so a group's category says nothing of its neighbours'
    own = found.table.drop_nulls("suggested_category")
    assert len(own) > 50
    assert found.categories.n_known == listed.split.grouped.sum()
    right = found.table["suggested_category"] == catalogue_of(listed).products["category"]
    assert right.mean() > found.categories.accuracy + 0.1


def test_without_categories_nothing_is_suggested_or_checked(listed: Market) -> None:
    catalogue = catalogue_of(listed)
    nothing = pl.lit(None, dtype=pl.String)
    products = catalogue.products.with_columns(category=nothing)

    found = found_in(Catalogue(products, listed.split, catalogue.prices), listed.views)

    assert found.categories is None
    assert found.table["suggested_category"].null_count() == len(products)


def swapped(listed: Market) -> Views:
    """The views of a market in which listing 0 has the picture of listing 100."""
    image = listed.views.of("image")
    vectors, present = image.vectors.copy(), image.present.copy()
    donor = next(row for row in range(60, len(present)) if present[row] and present[row + 1])
    vectors[0], present[0] = vectors[donor], True
    view = type(image)("image", vectors, present)
    return Views(view, listed.views.title, listed.views.comb, {})


def test_a_swapped_picture_is_a_suspect(listed: Market) -> None:
    found = found_in(catalogue_of(listed), swapped(listed))

    told = found.table.row(0, named=True)
    group = dict(listed.products.select("product_id", "match_group").iter_rows())
    assert told["suspect_score"] > 0
    assert group[told["title_like"]] == "g0"
    assert group[told["picture_like"]] != "g0"
    assert found.suspects["row"][0] == 0
    assert len(found.suspects) < 10
    assert found.table["suspect_score"].drop_nulls().len() == len(found.suspects)


@pytest.mark.parametrize("alone", [(-0.1, 0.2), (0.2, -0.1), (0.0, 0.2)])
def test_a_view_that_matches_nothing_alone_makes_no_suspect(
    listed: Market, alone: tuple[float, float]
) -> None:
    thresholds = dict(zip(("image", "title"), alone, strict=True))

    found = found_in(catalogue_of(listed), swapped(listed), alone=thresholds)

    assert len(found.suspects) == 0
    assert found.table["suspect_score"].null_count() == len(found.table)


def test_a_view_that_matches_all_but_everything_is_no_mistake(listed: Market) -> None:
    found = found_in(catalogue_of(listed), swapped(listed), alone={"image": 1.9, "title": 0.2})

    assert len(found.table) == len(listed.products)


@pytest.mark.parametrize("side", ["image", "title"])
def test_one_view_alone_has_no_suspects(listed: Market, side: str) -> None:
    view = listed.views.of(side)
    views = Views(**{"image": None, "title": None, side: view}, comb=view, further={})

    found = found_in(
        catalogue_of(listed), views, best=best(Alone(side), **{side: [0.2]}), alone={}
    )

    assert found.suspects.columns == ["row", "title_like", "picture_like", "score"]
    assert {"title_like", "picture_like", "suspect_score"} <= set(found.table.columns)
    assert found.table["title_like"].dtype == pl.String
    assert found.table["suspect_score"].null_count() == len(found.table)


# examples


def matched(n: int, *pairs: tuple[int, int]) -> Matches:
    row, column = np.array([*((i, i) for i in range(n)), *pairs]).T
    return sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=(n, n))


@pytest.fixture
def bench(listed: Market) -> Bench:
    return Bench(draw_galleries(listed.split, "test"), listed.views, listed.titles, k=K)


def kinds(bench: Bench, matches: Matches, n_each: int = 50) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {"match": [], "missed": [], "false": []}
    for example in examples(bench, np.arange(len(bench)), matches, n_each=n_each):
        found[example.kind].append((example.left, example.right))
    return found


def test_pairs_are_matches_missed_or_false(bench: Bench) -> None:
    truth = bench.truth
    group = np.flatnonzero(truth == truth[bench.scored][0])
    other = np.flatnonzero((truth != truth[group[0]]) & bench.scored)[0]
    a, b = int(group[0]), int(group[1])
    pair = (min(a, int(other)), max(a, int(other)))

    found = kinds(bench, matched(len(bench), (a, b), (b, a), pair))

    assert found["match"] == [(a, b)]
    assert found["false"] == [pair]
    missed = found["missed"]
    n_groups = len(np.unique(truth[bench.scored]))
    assert len(missed) == n_groups - (len(group) == 2)
    assert all(truth[i] == truth[j] and i < j for i, j in missed)
    assert (a, b) not in missed


def test_a_pair_matched_in_one_direction_is_not_missed(bench: Bench) -> None:
    a, b = np.flatnonzero(bench.truth == bench.truth[bench.scored][0])[:2].tolist()

    for pair in ((a, b), (b, a)):
        assert (a, b) not in kinds(bench, matched(len(bench), pair))["missed"]


def test_hard_matches_and_near_mistakes_come_first_one_a_group(bench: Bench) -> None:
    comb = bench.views.of("comb").vectors
    found = Alone("comb").match(bench, {"comb": [0.9]}, CAP)

    chosen = kinds(bench, found, n_each=4)

    cosine = {kind: [float(comb[i] @ comb[j]) for i, j in pairs] for kind, pairs in chosen.items()}
    assert cosine["match"] == sorted(cosine["match"])
    assert cosine["false"] == sorted(cosine["false"], reverse=True)
    assert len(chosen["match"]) == len(chosen["false"]) == 4
    groups = [bench.truth[i] for i, _ in chosen["match"]]
    assert len(set(groups)) == 4
    assert min(cosine["false"]) >= 1 - 0.9 - 1e-6


def test_distractors_are_no_examples(bench: Bench) -> None:
    everything = Alone("comb").match(bench, {"comb": [2.0]}, CAP)

    chosen = kinds(bench, everything)

    assert not bench.scored.all()
    assert all(bench.scored[i] and bench.scored[j] for pairs in chosen.values() for i, j in pairs)


def test_rows_are_those_of_the_catalogue_and_cosines_none_where_a_view_is_absent(
    listed: Market, bench: Bench
) -> None:
    rows = draw_galleries(listed.split, "test")[0].rows
    nothing = matched(len(bench))

    found = examples(bench, rows, nothing, n_each=50)

    assert found
    lacking = 0
    for example in found:
        both = listed.views.of("image").present[[example.left, example.right]].all()
        lacking += not both
        title = listed.views.of("title").vectors
        assert (example.similarity["image"] is not None) == both
        assert example.similarity["title"] == pytest.approx(
            float(title[example.left] @ title[example.right]), abs=1e-5
        )
        assert listed.split.part[example.left] == "test"
    assert lacking


def test_a_cluster_never_joins_two_match_groups() -> None:
    # 0 and 1 are one product, 2 another; 3 and 4 have no label, 3 is more like 2 than like 0
    similarity = np.ones((5, 5), dtype=np.float32)
    similarity[3, 0] = similarity[0, 3] = 0.6
    similarity[3, 2] = similarity[2, 3] = 0.9
    similarity[4, :3] = similarity[:3, 4] = 0.0
    similarity[1, 3] = similarity[3, 1] = 0.5
    matches = sparse.csr_array(similarity)
    split = Split(
        part=np.full(5, "test"),
        key=np.array(["a", "a", "b", "p3", "p4"], dtype=object),
        truth=np.array([0, 0, 1, 2, 3]),
        grouped=np.array([True, True, True, False, False]),
    )

    assert labelled_clusters(matches, split).tolist() == [0, 0, 1, 1, 1]
    assert right_pairs(matches, split) == (2, 6)
    nothing = replace(split, grouped=np.zeros(5, dtype=bool))
    assert labelled_clusters(matches, nothing).tolist() == clusters(matches).tolist() == [0] * 5
