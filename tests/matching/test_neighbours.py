"""Neighbours against faiss and against a full sort."""

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import sparse

from purchase_predictor.matching.neighbours import cosines_of, nearest, product_distance
from purchase_predictor.matching.views import View, embedding_view


def unit(n: int, d: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("n", [60, 500, 817, 2500])
def test_agrees_with_faiss(n: int) -> None:
    vectors = unit(n, 16)
    flat = faiss.IndexFlatIP(16)
    flat.add(vectors)
    cosines, expected = flat.search(vectors, 51)

    found = nearest(vectors)

    # Two cosines a rounding error apart may change places.
    assert (found.index == expected).mean() > 0.999
    np.testing.assert_allclose(found.similarity, cosines, atol=1e-6)
    own = np.take_along_axis(vectors @ vectors.T, found.index.astype(np.int64), axis=1)
    np.testing.assert_allclose(found.similarity, own, atol=1e-6)


def test_sparse_rows_have_the_neighbours_of_dense_ones() -> None:
    vectors = unit(700, 12)
    vectors[np.abs(vectors) < 0.2] = 0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    dense, thin = nearest(vectors, k=7), nearest(sparse.csr_array(vectors), k=7)

    assert (dense.index == thin.index).mean() > 0.99
    np.testing.assert_allclose(dense.similarity, thin.similarity, atol=1e-6)


def test_same_input_same_bytes() -> None:
    vectors = np.repeat(unit(300, 8), 3, axis=0)

    first, second = nearest(vectors, k=9), nearest(vectors.copy(), k=9)

    assert first.index.tobytes() == second.index.tobytes()
    assert first.similarity.tobytes() == second.similarity.tobytes()


def test_itself_comes_before_its_duplicates_and_they_in_order() -> None:
    vectors = np.tile(np.eye(4, dtype=np.float32), (3, 1))

    found = nearest(vectors, k=3)

    for row in range(12):
        others = [other for other in range(row % 4, 12, 4) if other != row]
        assert found.index[row].tolist() == [row, *others]
    assert (found.similarity == 1).all()


def test_more_neighbours_than_listings() -> None:
    found = nearest(np.eye(3, dtype=np.float32), k=5)

    assert found.index.tolist() == [[0, 1, 2, -1, -1], [1, 0, 2, -1, -1], [2, 0, 1, -1, -1]]
    np.testing.assert_array_equal(found.similarity[0], [1, 0, 0, -1, -1])


@pytest.mark.parametrize("n", [0, 1])
def test_gallery_of_one_or_none(n: int) -> None:
    found = nearest(unit(n, 4), k=3)

    assert found.index.tolist() == [[0, -1, -1]] * n
    assert found.similarity.tolist() == [[1, -1, -1]] * n


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_absent_listing_has_only_itself_and_is_nobodys_neighbour(kind: str) -> None:
    vectors = np.repeat(unit(5, 6), 2, axis=0)
    present = np.ones(10, dtype=bool)
    present[[3, 4]] = False
    vectors[~present] = 0
    given = vectors if kind == "dense" else sparse.csr_array(vectors)

    found = nearest(given, k=10, present=present)

    assert found.index[3].tolist() == [3, *[-1] * 9]
    assert found.similarity[4].tolist() == [1, *[-1] * 9]
    for row in np.flatnonzero(present):
        assert sorted(found.index[row]) == [-1, -1, *np.flatnonzero(present)]
    assert found.index[0, 1] == 1


def test_rows_that_cannot_be_written_to_are_searched_too() -> None:
    vectors = unit(40, 4)
    expected = nearest(vectors, k=4)
    vectors.flags.writeable = False

    assert nearest(vectors, k=4).index.tolist() == expected.index.tolist()


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match="k must be 1 or more, got 0"):
        nearest(unit(3, 2), k=0)
    with pytest.raises(ValueError, match=r"present must have shape \(3,\)"):
        nearest(unit(3, 2), present=np.ones(2, dtype=bool))


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_cosines_of_pairs(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = "purchase_predictor.matching.neighbours"
    monkeypatch.setattr(f"{module}._NUMBERS_AT_ONCE", 20)
    monkeypatch.setattr(f"{module}._SPARSE_PAIRS_AT_ONCE", 7)
    vectors = unit(9, 4)
    row, column = (part.ravel() for part in np.indices((9, 9)))

    found = cosines_of(vectors if kind == "dense" else sparse.csr_array(vectors), row, column)

    np.testing.assert_allclose(found.reshape(9, 9), vectors @ vectors.T, atol=1e-6)


def test_product_distance_against_the_formula() -> None:
    first, second = (embedding_view(str(seed), unit(30, 3, seed)) for seed in (1, 2))
    one, two = (1 - (v.vectors @ v.vectors.T).clip(0) for v in (first, second))
    np.fill_diagonal(one, 0)
    np.fill_diagonal(two, 0)
    distance = one + two - one * two

    found = product_distance(first, second, k=30)

    for row in range(30):
        np.testing.assert_allclose(
            1 - found.similarity[row], distance[row, found.index[row]], atol=1e-5
        )
        assert sorted(found.index[row]) == list(range(30))
    assert (np.diff(found.similarity) <= 0).all()


def test_candidate_of_one_view_gets_the_cosine_of_the_other() -> None:
    # 0 and 1 are the nearest pair in the first view, 0 and 2 in the second.
    half = np.sqrt(np.float32(0.5))
    first = View("a", np.array([[1, 0], [1, 0], [half, half]], np.float32), np.ones(3, bool))
    second = View("b", np.array([[1, 0], [0.6, 0.8], [1, 0]], np.float32), np.ones(3, bool))

    found = product_distance(first, second, k=2)

    assert found.index[0].tolist() == [0, 2]  # cosines 0.71 · 1 beat 1 · 0.6
    assert found.similarity[0, 1] == pytest.approx(half)


def test_pair_that_lacks_a_view_has_the_other_distance_alone() -> None:
    pictures = np.array([[1, 0], [0.8, 0.6], [0, 0], [0, 0]], np.float32)
    words = sparse.csr_array(np.array([[0, 0], [1, 0], [0.6, 0.8], [0, 0]], np.float32))
    first = View("image", pictures, np.array([True, True, False, False]))
    second = View("tfidf", words, np.array([False, True, True, False]))

    found = product_distance(first, second, k=3)

    assert found.index.tolist() == [[0, 1, -1], [1, 0, 2], [2, 1, -1], [3, -1, -1]]
    np.testing.assert_allclose(found.similarity[1], [1, 0.8, 0.6], atol=1e-6)


def test_views_of_other_lengths_have_no_distance() -> None:
    with pytest.raises(ValueError, match="equally long, got 3 and 4"):
        product_distance(embedding_view("a", unit(3, 2)), embedding_view("b", unit(4, 2)))


def test_galleries_side_by_side_have_the_neighbours_they_have_alone() -> None:
    vectors = unit(30, 8)
    present = np.arange(30) % 7 != 3

    together = nearest(vectors, k=5, present=present, starts=np.array([0, 12, 13]))

    for start, stop in ((0, 12), (12, 13), (13, 30)):
        alone = nearest(vectors[start:stop], k=5, present=present[start:stop])
        expected = np.where(alone.index >= 0, alone.index + start, -1)
        assert np.array_equal(together.index[start:stop], expected)
        assert np.allclose(together.similarity[start:stop], alone.similarity, atol=1e-6)
