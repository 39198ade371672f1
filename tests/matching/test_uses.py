"""Uses beyond duplicates: suggested categories, clusters, price spread, suspects."""

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from polars.testing import assert_frame_equal
from scipy import sparse

from purchase_predictor.matching.matches import Matches
from purchase_predictor.matching.neighbours import Neighbours, nearest
from purchase_predictor.matching.uses import (
    Evidence,
    category_check,
    clusters,
    price_spread,
    suggest_categories,
    suspects,
)
from purchase_predictor.matching.views import View


def neighbours_of(rows: list[list[tuple[int, float]]]) -> Neighbours:
    """Neighbours from (listing, cosine) of the others, nearest first; the listing is added."""
    k = 1 + max(map(len, rows))
    index = np.full((len(rows), k), -1, np.int32)
    similarity = np.full((len(rows), k), -1, np.float32)
    for i, others in enumerate(rows):
        for place, (j, cosine) in enumerate([(i, 1.0), *others]):
            index[i, place], similarity[i, place] = j, cosine
    return Neighbours(index=index, similarity=similarity)


def matched(n: int, pairs: list[tuple[int, int]]) -> Matches:
    """One-sided matches, and each listing with itself."""
    row, column = np.array([*((i, i) for i in range(n)), *pairs]).T
    return sparse.csr_array((np.ones(len(row), np.float32), (row, column)), shape=(n, n))


def both_ways(*groups: list[int]) -> list[tuple[int, int]]:
    return [(i, j) for group in groups for i in group for j in group if i != j]


# categories


def test_the_heavier_category_wins_with_its_share_of_the_weight() -> None:
    category = pl.Series([None, "shoes", "bags", "bags"])
    neighbours = neighbours_of([[(1, 0.9), (2, 0.6), (3, 0.5)], [], [], []])

    suggested = suggest_categories(category, neighbours)

    assert suggested["suggested_category"].to_list() == ["bags", None, None, None]
    assert suggested["category_confidence"][0] == pytest.approx(1.1 / 2.0)
    assert suggested["category_confidence"].to_list()[1:] == [None, None, None]


def test_only_the_nearest_with_a_category_vote() -> None:
    category = pl.Series([None, None, "shoes", "bags", "bags"])
    neighbours = neighbours_of([[(1, 0.9), (2, 0.6), (3, 0.5), (4, 0.5)], [], [], [], []])

    suggested = suggest_categories(category, neighbours, n_votes=1)

    assert suggested.row(0) == ("shoes", 1.0)


def test_of_equal_categories_the_nearest_voter_s_wins() -> None:
    category = pl.Series([None, "b", "a", "a", "b"])
    neighbours = neighbours_of([[(1, 0.75), (2, 0.5), (3, 0.5), (4, 0.25)], [], [], [], []])

    assert suggest_categories(category, neighbours).row(0) == ("b", 0.5)


def test_a_known_category_does_not_vote_for_itself() -> None:
    category = pl.Series(["bags", "shoes"])
    neighbours = neighbours_of([[(1, 0.2)], [(0, 0.2)]])

    suggested = suggest_categories(category, neighbours)

    assert suggested["suggested_category"].to_list() == ["shoes", "bags"]


def test_an_own_group_does_not_vote_where_it_is_excluded() -> None:
    category = pl.Series(["bags", "bags", "shoes"])
    neighbours = neighbours_of([[(1, 0.9), (2, 0.2)], [(0, 0.9)], []])

    suggested = suggest_categories(category, neighbours, exclude=np.array([5, 5, 6]))

    assert suggested["suggested_category"].to_list() == ["shoes", None, None]


def test_a_neighbour_beyond_a_right_angle_does_not_vote() -> None:
    category = pl.Series([None, "bags", "shoes"])
    neighbours = neighbours_of([[(1, 0.0), (2, -0.5)], [], []])

    assert suggest_categories(category, neighbours).row(0) == (None, None)


@pytest.mark.parametrize(
    "category",
    [
        pl.Series([None, None], dtype=pl.String),
        pl.Series([None, None], dtype=pl.Categorical),
        pl.Series([None, None]),
        pl.Series(["bags"]),
        pl.Series([None], dtype=pl.String),
    ],
)
def test_without_a_vote_there_is_no_category(category: pl.Series) -> None:
    n = len(category)
    neighbours = neighbours_of([[(j, 0.9) for j in range(n) if j != i] for i in range(n)])

    suggested = suggest_categories(category, neighbours)

    assert suggested.rows() == [(None, None)] * n


def test_no_listing_gives_no_suggestion() -> None:
    neighbours = Neighbours(np.zeros((0, 1), np.int32), np.zeros((0, 1), np.float32))

    assert suggest_categories(pl.Series([], dtype=pl.String), neighbours).height == 0


def test_the_check_hides_each_known_category_and_counts_what_is_right() -> None:
    category = pl.Series(["bags", "bags", "shoes", "shoes", None, "hats"])
    neighbours = neighbours_of(
        [
            [(1, 0.8)],  # right, sure
            [(0, 0.5), (2, 0.5), (3, 0.25)],  # wrong, 0.6 sure
            [(4, 0.9)],  # no vote
            [(2, 0.75), (0, 0.25)],  # right, 0.75 sure
            [(0, 0.9)],  # nothing known to compare with
            [(0, 0.3)],  # wrong, sure
        ]
    )

    check = category_check(category, neighbours)

    assert (check.n_known, check.n_suggested) == (5, 4)
    assert check.coverage == 0.8
    assert check.accuracy == 0.5
    assert check.commonest == 0.5
    assert_frame_equal(
        check.bands,
        pl.DataFrame(
            {
                "confidence_low": [0.5, 0.7, 0.9],
                "confidence_high": [0.7, 0.9, 1.0],
                "n_listings": [1, 1, 2],
                "confidence": [0.6, 0.75, 1.0],
                "accuracy": [0.0, 1.0, 0.5],
            },
            schema_overrides={"n_listings": pl.get_index_type()},
        ),
    )


def test_the_check_without_known_categories_says_none() -> None:
    check = category_check(pl.Series([None, None]), neighbours_of([[(1, 0.9)], [(0, 0.9)]]))

    assert (check.n_known, check.n_suggested) == (0, 0)
    assert (check.coverage, check.accuracy, check.commonest) == (None, None, None)
    assert check.bands.height == 0


# clusters


def test_one_sided_matches_join_nothing() -> None:
    matches = matched(5, [*both_ways([1, 2]), (2, 3), *both_ways([3, 4]), (0, 1)])

    assert clusters(matches).tolist() == [0, 1, 1, 2, 2]


def test_clusters_are_numbered_by_their_first_listings() -> None:
    matches = matched(5, both_ways([1, 4], [0, 3]))

    assert clusters(matches).tolist() == [0, 1, 2, 0, 1]


def test_a_mutual_chain_is_one_cluster() -> None:
    assert clusters(matched(3, both_ways([0, 1], [1, 2]))).tolist() == [0, 0, 0]


def test_a_match_of_similarity_zero_is_a_match() -> None:
    matches = matched(2, both_ways([0, 1]))
    matches.data[:] = 0

    assert clusters(matches).tolist() == [0, 0]


@pytest.mark.parametrize("n", [0, 1])
def test_a_gallery_of_few_has_as_many_clusters(n: int) -> None:
    matches = sparse.csr_array(np.eye(n, dtype=np.float32))

    assert clusters(matches).tolist() == list(range(n))


# price spread


def spread(prices: dict[str, list]) -> pl.DataFrame:
    schema = {"product_id": pl.String, "market": pl.String, "price": pl.Float64}
    ids = pl.Series(["a", "b", "c", "d"])
    return price_spread(np.array([0, 0, 0, 1]), ids, pl.DataFrame(prices, schema=schema))


def test_the_spread_is_the_highest_over_the_lowest_less_one() -> None:
    found = spread(
        {"product_id": ["a", "b", "c"], "market": ["KR"] * 3, "price": [100.0, 150.0, 120.0]}
    )

    assert found.rows() == [(0, "KR", 3, 100.0, 150.0, 0.5)]


def test_markets_are_not_compared_and_the_widest_comes_first() -> None:
    found = spread(
        {
            "product_id": ["a", "b", "a", "b", "a", "c", "c"],
            "market": ["KR", "KR", "US", "US", None, None, "JP"],
            "price": [1000.0, 1100.0, 1.0, 2.0, 5.0, 10.0, 700.0],
        }
    )

    assert found.columns == [
        "cluster", "market", "n_listings", "price_low", "price_high", "spread",
    ]  # fmt: skip
    assert found.select("market", "n_listings", "price_low").rows() == [
        (None, 2, 5.0),
        ("US", 2, 1.0),
        ("KR", 2, 1000.0),
    ]


def test_a_listing_with_several_prices_counts_once_with_their_median() -> None:
    prices = [10.0, 10.0, 2.0, 20.0]
    found = spread({"product_id": ["a", "a", "a", "b"], "market": ["KR"] * 4, "price": prices})

    assert found.rows() == [(0, "KR", 2, 10.0, 20.0, 1.0)]


@pytest.mark.parametrize("price", [None, 0.0, -1.0, float("nan"), float("inf")])
def test_a_price_that_is_none_is_left_out(price: float | None) -> None:
    found = spread({"product_id": ["a", "b"], "market": ["KR", "KR"], "price": [1.0, price]})

    assert found.height == 0


def test_a_cluster_of_one_and_a_product_that_is_not_there_have_no_spread() -> None:
    found = spread({"product_id": ["d", "x"], "market": ["KR", "KR"], "price": [1.0, 2.0]})

    assert found.height == 0


# suspects

TEA, CUP, BAG, PEN = np.eye(4)
NOTHING = np.zeros(4)


def evidence(name: str, rows: list[NDArray], *, csr: bool = False) -> Evidence:
    vectors = np.array(rows, np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    present = vectors.any(axis=1)
    near = nearest(vectors, k=51, present=present)
    shown = sparse.csr_array(vectors) if csr else vectors
    view = View(name=name, vectors=shown, present=present)
    return Evidence(view=view, neighbours=near, near=0.2, far=0.6)


def test_the_title_of_one_group_with_the_picture_of_another_is_a_suspect() -> None:
    #            0    1    2    3    4 (title tea, picture cup)
    titles = [TEA, TEA, CUP, CUP, TEA]
    pictures = [TEA, TEA, CUP, CUP, CUP]
    # the suspect matches both groups and joins them
    matches = matched(5, both_ways([0, 1, 4], [2, 3, 4]))

    found = suspects(evidence("title", titles), evidence("image", pictures), matches)

    assert found.columns == ["row", "title_like", "picture_like", "score"]
    assert found.rows() == [(4, 0, 2, 1.0)]


def test_sparse_titles_give_the_same() -> None:
    titles = [TEA, TEA, CUP, CUP, TEA + 0.3 * CUP]
    pictures = evidence("image", [TEA, TEA, CUP, CUP, CUP])
    matches = matched(5, both_ways([0, 1], [2, 3]))

    dense = suspects(evidence("title", titles), pictures, matches)
    thin = suspects(evidence("title", titles, csr=True), pictures, matches)

    assert dense["row"].to_list() == [4]
    assert_frame_equal(dense, thin)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_score_falls_as_the_title_comes_nearer_to_the_picture_s_group(share: float) -> None:
    titles, pictures = [TEA, TEA, CUP, CUP, TEA + share * CUP], [TEA, TEA, CUP, CUP, CUP]
    matches = matched(5, both_ways([0, 1], [2, 3]))

    found = suspects(evidence("title", titles), evidence("image", pictures), matches)

    length = np.hypot(1, share)
    assert found["row"].to_list() == [4]
    assert found["score"].item() == pytest.approx(1 / length * (1 - share / length))


def test_listings_of_one_title_and_one_picture_clear_one_another() -> None:
    titles, pictures = [TEA, TEA, CUP, CUP, TEA, TEA], [TEA, TEA, CUP, CUP, CUP, CUP]
    matches = matched(6, both_ways([0, 1], [2, 3]))

    found = suspects(evidence("title", titles), evidence("image", pictures), matches)

    assert found.height == 0


@pytest.mark.parametrize("lacking", ["title", "image"])
def test_a_listing_that_lacks_a_view_is_no_suspect(lacking: str) -> None:
    titles = [TEA, TEA, CUP, CUP, NOTHING if lacking == "title" else TEA]
    pictures = [TEA, TEA, CUP, CUP, NOTHING if lacking == "image" else CUP]
    matches = matched(5, both_ways([0, 1], [2, 3]))

    found = suspects(evidence("title", titles), evidence("image", pictures), matches)

    assert found.height == 0


def test_a_neighbour_that_lacks_a_view_is_no_witness() -> None:
    # the tea has no pictures, so nothing says that the suspect's picture is not of tea
    titles, pictures = [TEA, TEA, CUP, CUP, TEA], [NOTHING, NOTHING, CUP, CUP, CUP]
    matches = matched(5, both_ways([0, 1], [2, 3]))

    found = suspects(evidence("title", titles), evidence("image", pictures), matches)

    assert found.height == 0


def test_two_neighbours_of_one_group_clear_a_listing() -> None:
    # 0 has the title, 1 the picture, and these two are one product to the strategy
    titles, pictures = [TEA, CUP, TEA], [TEA, CUP, CUP]

    found = suspects(
        evidence("title", titles), evidence("image", pictures), matched(3, both_ways([0, 1]))
    )

    assert found.height == 0


def test_one_photo_for_several_models_is_innocent() -> None:
    # titles differ in the model alone: they are not far from one another
    small, large = TEA + 0.6 * CUP, CUP + 0.6 * TEA
    titles, pictures = [small, small, large, large], [BAG, TEA, PEN, BAG]
    matches = matched(4, both_ways([0, 1], [2, 3]))

    found = suspects(evidence("title", titles), evidence("image", pictures), matches)

    assert found.height == 0


def test_a_placeholder_picture_of_many_groups_scores_low() -> None:
    own = [TEA, TEA, CUP, CUP, BAG, BAG]
    placeholder = PEN
    stolen = [TEA, TEA, CUP, CUP, CUP, BAG]
    blank = [TEA, placeholder, CUP, placeholder, BAG, placeholder]
    matches = matched(6, both_ways([0, 1], [2, 3], [4, 5]))

    theft = suspects(evidence("title", own), evidence("image", stolen), matches)
    blanks = suspects(evidence("title", own), evidence("image", blank), matches)

    assert theft.filter(row=4)["score"].item() == 1
    assert blanks["score"].max() <= 0.5


def test_a_suspect_does_not_hide_another() -> None:
    titles = [TEA, TEA, CUP, CUP, BAG, BAG, TEA, CUP]
    pictures = [TEA, TEA, CUP, CUP, BAG, BAG, BAG, BAG]
    matches = matched(8, both_ways([0, 1, 6], [2, 3, 7], [4, 5, 6, 7]))

    found = suspects(evidence("title", titles), evidence("image", pictures), matches)

    assert found.select("row", "title_like", "picture_like").rows() == [(6, 0, 4), (7, 2, 4)]


@pytest.mark.parametrize("n", [1, 2])
def test_few_listings_have_no_suspects(n: int) -> None:
    titles, pictures = evidence("title", [TEA] * n), evidence("image", [CUP] * n)

    found = suspects(titles, pictures, matched(n, []))

    assert found.height == 0
    assert found.columns == ["row", "title_like", "picture_like", "score"]


def test_near_may_not_be_beyond_far() -> None:
    view = evidence("title", [TEA])

    with pytest.raises(ValueError, match="near is 0.5"):
        Evidence(view.view, view.neighbours, near=0.5, far=0.4)
