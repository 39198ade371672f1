import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import sparse

from purchase_predictor.matching.matches import (
    Matches,
    capped,
    f1_by_listing,
    keep,
    rows_of,
    union,
)
from purchase_predictor.matching.neighbours import Neighbours, nearest


def pairs(matches: Matches) -> set[tuple[int, int]]:
    return set(zip(rows_of(matches).tolist(), matches.indices.tolist(), strict=True))


def random_neighbours(n: int, seed: int, d: int = 3) -> Neighbours:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return nearest(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def lists(*rows: list[int]) -> Neighbours:
    """Neighbours with cosines 1, 0.9, 0.7, 0.6 in this order."""
    index = np.array(rows, dtype=np.int32)
    similarity = np.tile(np.array([1, 0.9, 0.7, 0.6], np.float32), (len(rows), 1))
    return Neighbours(index, np.where(index < 0, np.float32(-1), similarity))


FOUR = lists([0, 1, 2, 3], [1, 0, 3, 2], [2, 0, 1, -1], [3, -1, -1, -1])


def test_kept_within_the_threshold_with_their_cosines() -> None:
    matches = keep(FOUR, 0.35)

    rows = [[0, 1, 2], [0, 1, 3], [0, 1, 2], [3]]
    assert pairs(matches) == {(row, column) for row, found in enumerate(rows) for column in found}
    assert matches.dtype == np.float32
    np.testing.assert_allclose(matches.toarray()[1], [0.9, 1, 0, 0.7], atol=1e-7)
    assert matches.diagonal().tolist() == [1, 1, 1, 1]
    assert matches.has_sorted_indices


@pytest.mark.parametrize(
    ("second", "expected"),
    [(None, set()), (0.05, set()), (0.11, {(0, 1), (1, 0), (2, 0)})],
)
def test_second_nearest_is_kept_up_to_the_looser_threshold(
    second: float | None, expected: set[tuple[int, int]]
) -> None:
    matches = keep(FOUR, 0.05, second=second)

    assert pairs(matches) - {(row, row) for row in range(4)} == expected


@given(st.integers(2, 30), st.integers(0, 1000), st.floats(0, 1), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_min2_leaves_no_listing_alone_whose_second_is_near_enough(
    n: int, seed: int, threshold: float, second: float
) -> None:
    neighbours = random_neighbours(n, seed)

    matches = keep(neighbours, threshold, second=second)

    near = 1 - neighbours.similarity[:, 1] <= np.float32(second)
    assert (np.diff(matches.indptr)[near] >= 2).all()
    assert pairs(keep(neighbours, threshold)) <= pairs(matches)


def test_itself_is_kept_under_any_threshold() -> None:
    assert pairs(keep(FOUR, -1.0)) == {(row, row) for row in range(4)}


@pytest.mark.parametrize("cap", [1, 2, 3])
def test_cap_counts_the_listing_itself(cap: int) -> None:
    matches = keep(FOUR, 2.0, second=2.0, cap=cap)

    assert np.diff(matches.indptr).tolist() == [cap, cap, min(cap, 3), 1]
    assert matches.diagonal().tolist() == [1, 1, 1, 1]
    with pytest.raises(ValueError, match="cap must be 1 or more"):
        keep(FOUR, 2.0, cap=0)


def test_groups_end_at_fifty() -> None:
    neighbours = random_neighbours(120, 0)

    assert np.diff(keep(neighbours, 2.0).indptr).max() == 50


@given(st.integers(1, 12), st.integers(0, 1000), st.lists(st.floats(0, 2), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_union_has_its_parts_and_the_cosine_of_the_first(
    n: int, seed: int, thresholds: list[float]
) -> None:
    parts = [keep(random_neighbours(n, seed + i), t) for i, t in enumerate(thresholds)]

    joined = union(*parts)

    assert pairs(joined) == set().union(*(pairs(part) for part in parts))
    for row, column in pairs(joined):
        first = next(part for part in parts if (row, column) in pairs(part))
        assert joined[row, column] == first[row, column]


def test_union_of_other_listings() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\), \(5, 5\)"):
        union(keep(FOUR, 0.1), keep(random_neighbours(5, 0), 0.1))
    with pytest.raises(ValueError, match="got none"):
        union()


def test_pair_with_cosine_zero_stays_a_match() -> None:
    neighbours = nearest(np.eye(3, dtype=np.float32))

    matches = union(keep(neighbours, 1.0), keep(neighbours, 1.0))

    assert len(pairs(matches)) == 9


def test_capped_leaves_the_most_similar_and_the_listing_itself() -> None:
    values = np.array([[1, 0.2, 1, 0.9], [0.3, 1, 0, 0], [0, 0, 1, 0], [0.5, 1, 1, 1]], np.float32)

    left = capped(sparse.csr_array(values), 2)

    assert pairs(left) == {(0, 0), (0, 2), (1, 0), (1, 1), (2, 2), (3, 1), (3, 3)}
    assert left.has_sorted_indices


@given(st.integers(1, 20), st.integers(0, 1000), st.floats(0, 2))
@settings(max_examples=40, deadline=None)
def test_f1_against_brute_force(n: int, seed: int, threshold: float) -> None:
    groups = np.random.default_rng(seed).integers(-3, 5, n)
    matches = keep(random_neighbours(n, seed), threshold)
    expected = []
    for row in range(n):
        found = {column for r, column in pairs(matches) if r == row}
        true = {column for column in range(n) if groups[column] == groups[row]}
        expected.append(2 * len(found & true) / (len(found) + len(true)))

    np.testing.assert_allclose(f1_by_listing(matches, groups), expected)


def test_f1_by_hand() -> None:
    # 0 finds itself, its one fellow and a stranger: 2 · 2 / (3 + 2); 3 is a group of one.
    matches = keep(FOUR, 0.35)

    found = f1_by_listing(matches, np.array([7, 7, 9, 8]))

    np.testing.assert_allclose(found, [4 / 5, 4 / 5, 2 / 4, 1])


def test_f1_of_other_groups_than_listings() -> None:
    with pytest.raises(ValueError, match=r"groups must have shape \(4,\)"):
        f1_by_listing(keep(FOUR, 0.35), np.zeros(3, dtype=np.int64))


@given(st.integers(2, 15), st.integers(1, 20), st.integers(0, 1000), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_distractors_never_raise_f1_of_a_threshold(
    n: int, n_distractors: int, seed: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    vectors: NDArray[np.float32] = rng.normal(size=(n + n_distractors, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = np.concatenate([rng.integers(0, 4, n), np.arange(10, 10 + n_distractors)])

    alone = f1_by_listing(keep(nearest(vectors[:n]), threshold), groups[:n])
    among = f1_by_listing(keep(nearest(vectors), threshold), groups)[:n]

    # A product a rounding error from the threshold may fall on either side of it.
    edge = np.abs(1 - vectors @ vectors.T - threshold).min() < 1e-5
    assert edge or (among <= alone).all()
