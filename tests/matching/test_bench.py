"""Galleries side by side give what each gives alone."""

from collections.abc import Sequence

import numpy as np
import pytest

from purchase_predictor.matching.bench import Bench, Views, renamed
from purchase_predictor.matching.gallery import Gallery, draw_galleries
from purchase_predictor.matching.neighbours import Neighbours, nearest, product_distance
from tests.matching.markets import Market

K = 7


@pytest.fixture
def galleries(listed: Market) -> Sequence[Gallery]:
    found = draw_galleries(listed.split, "train", size=30)
    assert len(found) > 2
    return found


def of_gallery(bench: Bench, neighbours: Neighbours, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours of the listings of one gallery, numbered from its start."""
    start, stop = np.append(bench.starts, len(bench))[number : number + 2]
    index = neighbours.index[start:stop]
    return np.where(index < 0, -1, index - start), neighbours.similarity[start:stop]


def test_arrays_are_those_of_the_galleries_one_after_another(
    listed: Market, galleries: Sequence[Gallery]
) -> None:
    bench = Bench(galleries, listed.views, listed.titles, k=K)

    rows = np.concatenate([gallery.rows for gallery in galleries])
    assert len(bench) == len(rows)
    assert bench.titles.to_list() == listed.titles.gather(rows).to_list()
    assert np.array_equal(bench.truth, listed.split.truth[rows])
    assert np.array_equal(bench.scored, listed.split.grouped[rows])
    assert bench.size == max(map(len, galleries))
    same_key = listed.split.key[rows][:, None] == listed.split.key[rows]
    assert np.array_equal(bench.unit[:, None] == bench.unit, same_key)


@pytest.mark.parametrize("name", ["image", "title", "comb", "raw", "tfidf"])
def test_neighbours_are_those_that_each_gallery_has_alone(
    listed: Market, galleries: Sequence[Gallery], name: str
) -> None:
    bench = Bench(galleries, listed.views, listed.titles, k=K)

    found = bench.neighbours(name)

    for number, gallery in enumerate(galleries):
        view = listed.views.of(name).select(gallery.rows)
        expected = nearest(view.vectors, k=K, present=view.present)
        index, similarity = of_gallery(bench, found, number)
        assert np.array_equal(index, expected.index)
        assert np.allclose(similarity, expected.similarity, atol=1e-6)
    assert bench.neighbours(name) is found


def test_products_of_distances_are_those_of_each_gallery(
    listed: Market, galleries: Sequence[Gallery]
) -> None:
    bench = Bench(galleries, listed.views, listed.titles, k=K)

    found = bench.product()

    for number, gallery in enumerate(galleries):
        views = listed.views.select(gallery.rows)
        expected = product_distance(views.of("image"), views.of("title"), k=K)
        index, similarity = of_gallery(bench, found, number)
        assert np.array_equal(index, expected.index)
        assert np.allclose(similarity, expected.similarity, atol=1e-6)


def test_the_blender_takes_over_what_was_searched(
    listed: Market, galleries: Sequence[Gallery], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(galleries, listed.views, listed.titles, k=K)

    blender = bench.blender(["tfidf"])

    monkeypatch.setattr("purchase_predictor.matching.blending.nearest", None)
    assert list(blender.views) == ["comb", "image", "title", "tfidf"]
    for name in blender.views:
        assert blender.neighbours(name) is bench.neighbours(name)


def test_a_view_that_is_not_there_is_a_key_error(listed: Market) -> None:
    views = Views(None, listed.views.title, renamed(listed.views.of("title"), "comb"), {})

    assert (views.has("image"), views.has("title"), views.has("comb")) == (False, True, True)
    assert not views.has("tfidf")
    for name in ("image", "tfidf"):
        with pytest.raises(KeyError, match=name):
            views.of(name)
    assert not views.select(np.arange(3)).has("image")


def test_selected_views_are_in_the_order_given(listed: Market) -> None:
    rows = np.array([5, 0, 3])

    views = listed.views.select(rows)

    for name in ("image", "title", "comb", "raw"):
        whole = listed.views.of(name)
        assert np.array_equal(views.of(name).vectors, whole.vectors[rows])
        assert np.array_equal(views.of(name).present, whole.present[rows])
    assert (views.of("tfidf").vectors - listed.views.of("tfidf").vectors[rows]).nnz == 0


def test_a_gallery_of_one_listing(listed: Market) -> None:
    bench = Bench([listed.gallery(np.array([4]))], listed.views, listed.titles, k=K)

    found = bench.neighbours("title")

    assert found.index[0].tolist() == [0, -1, -1, -1, -1, -1, -1]
    assert found.similarity[0, 0] == 1.0
