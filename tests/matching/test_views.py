import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import sparse

from purchase_predictor.matching.views import (
    View,
    comb_view,
    embedding_view,
    hash_view,
    tfidf_view,
)


def random_view(name: str, n: int, d: int, *, absent: tuple[int, ...] = ()) -> View:
    vectors = np.random.default_rng(d).normal(size=(n, d)).astype(np.float32)
    present = np.ones(n, dtype=bool)
    present[list(absent)] = False
    return embedding_view(name, vectors, present)


def cosines(view: View) -> NDArray[np.float32]:
    return view.vectors @ view.vectors.T


def test_comb_has_the_mean_of_the_cosines() -> None:
    image, title, third = (random_view(str(d), 20, d) for d in (3, 5, 8))

    pair, three = comb_view([image, title]), comb_view([image, title, third])

    np.testing.assert_allclose(cosines(pair), (cosines(image) + cosines(title)) / 2, atol=1e-6)
    mean = (cosines(image) + cosines(title) + cosines(third)) / 3
    np.testing.assert_allclose(cosines(three), mean, atol=1e-6)
    assert pair.name == "comb"


def test_comb_of_listings_that_lack_views() -> None:
    image = random_view("image", 4, 3, absent=(1, 3))
    title = random_view("title", 4, 5, absent=(2, 3))

    comb = comb_view([image, title])

    assert comb.present.tolist() == [True, True, True, False]
    np.testing.assert_allclose(np.linalg.norm(comb.vectors, axis=1), [1, 1, 1, 0], atol=1e-6)
    np.testing.assert_allclose(comb.vectors[1, 3:], title.vectors[1], atol=1e-6)
    assert cosines(comb)[0, 1] == pytest.approx(cosines(title)[0, 1] / np.sqrt(2), abs=1e-6)


def test_comb_is_of_dense_views_of_the_same_listings() -> None:
    with pytest.raises(ValueError, match="'tfidf' is sparse"):
        comb_view([random_view("image", 2, 3), tfidf_view(pl.Series(["red", "blue"]))])
    with pytest.raises(ValueError, match="image: 2, title: 3"):
        comb_view([random_view("image", 2, 3), random_view("title", 3, 3)])
    with pytest.raises(ValueError, match="got none"):
        comb_view([])


def test_hash_cosine_is_one_minus_hamming_over_32() -> None:
    codes = ["94974f937d4c2433", "af3f9460c2838f0f", "94974F937D4C2433", "6b68b06c82b3dbcc"]
    bits = [f"{int(code, 16):064b}" for code in codes]
    hamming = np.array(
        [[sum(a != b for a, b in zip(x, y, strict=True)) for x in bits] for y in bits]
    )

    view = hash_view(pl.Series(codes))

    np.testing.assert_array_equal(cosines(view), 1 - hamming / 32)
    assert cosines(view)[0, 3] == -1  # every bit of the last is the other way round


@pytest.mark.parametrize(
    "written", [None, "", "94974f937d4c243", "94974f937d4c24333", "no hash at all!!"]
)
def test_unreadable_hash_is_absent(written: str | None) -> None:
    view = hash_view(pl.Series([written, "94974f937d4c2433"], dtype=pl.String))

    assert view.present.tolist() == [False, True]
    assert not view.vectors[0].any()


def test_gallery_without_a_hash() -> None:
    view = hash_view(pl.Series([None, None], dtype=pl.String))

    assert view.vectors.shape == (2, 64)
    assert not view.present.any()


def test_tfidf_cosines_by_hand() -> None:
    # Smoothed idf: ln((1 + 3) / (1 + df)) + 1; "red" is in two titles, the rest in one each.
    red, other = np.log(4 / 3) + 1, np.log(4 / 2) + 1

    view = tfidf_view(pl.Series(["red shoes", "RED red hat!", "250gr"]))

    found = (view.vectors @ view.vectors.T).toarray()
    assert found[0, 1] == pytest.approx(red**2 / (red**2 + other**2), abs=1e-6)
    assert found[0, 2] == 0
    assert np.diff(view.vectors.indptr).tolist() == [2, 2, 2]  # "250" and "gr" are two words
    np.testing.assert_allclose(found.diagonal(), 1, atol=1e-6)


def test_title_without_a_word_is_absent() -> None:
    view = tfidf_view(pl.Series(["파란 러닝화", None, "", " !?", "送料無料"]))

    assert view.present.tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("titles", [[], [None], ["", "--"]])
def test_gallery_without_a_word(titles: list[str | None]) -> None:
    view = tfidf_view(pl.Series(titles, dtype=pl.String))

    assert len(view) == len(titles)
    assert not view.present.any()


@pytest.mark.parametrize("rows", [np.array([3, 0]), np.array([True, False, False, True])])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_selected_listings(rows: NDArray[np.integer], kind: str) -> None:
    view = random_view("image", 4, 3, absent=(3,))
    if kind == "sparse":
        view = View("image", sparse.csr_array(view.vectors), view.present)

    part = view.select(rows)

    assert len(part) == 2
    assert part.present.tolist() == view.present[rows].tolist()
    difference = part.vectors - view.vectors[rows]
    assert abs(difference).max() == 0


def test_embeddings_are_normalised_and_zeros_absent() -> None:
    raw = np.array([[3, 4], [0, 0], [0, 2], [5, 0]], dtype=np.float32)

    view = embedding_view("title", raw, np.array([True, True, True, False]))

    np.testing.assert_allclose(view.vectors, [[0.6, 0.8], [0, 0], [0, 1], [0, 0]])
    assert view.present.tolist() == [True, False, True, False]
    assert raw[0].tolist() == [3, 4]


def test_view_of_another_length_than_its_mask() -> None:
    with pytest.raises(ValueError, match="'image' has 3 rows"):
        View("image", np.eye(3, dtype=np.float32), np.ones(2, dtype=bool))
