"""Blending by hand, and all stages against a plain reading of the recipe."""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from scipy import sparse

from purchase_predictor.errors import SettingsError
from purchase_predictor.matching.blending import Blender, Thresholds, blend
from purchase_predictor.matching.matches import Matches, f1_by_listing, keep, rows_of
from purchase_predictor.matching.neighbours import nearest
from purchase_predictor.matching.views import View, embedding_view, hash_view, tfidf_view

LOOSE = Thresholds(0.3, 0.4, 0.25, 0.35, 0.3, 0.4, 0.2, 0.3, 0.1, 0.15, {"tfidf": (0.4, 0.5)})


def iterative_blending(
    image: View | None, title: View | None, thresholds: Thresholds, *, further: Sequence[View] = ()
) -> Matches:
    return Blender(image, title, further=further).match(thresholds)


def pairs(matches: Matches) -> set[tuple[int, int]]:
    return set(zip(rows_of(matches).tolist(), matches.indices.tolist(), strict=True))


def clustered(name: str, n: int, seed: int, *, absent: tuple[int, ...] = ()) -> View:
    """Four listings to a product, so near that some but not all of a product match."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 8))[np.arange(n) // 4] + 0.5 * rng.normal(size=(n, 8))
    present = np.ones(n, dtype=bool)
    present[list(absent)] = False
    return embedding_view(name, vectors.astype(np.float32), present)


def titles(n: int) -> pl.Series:
    return pl.Series([f"thing {row // 4} {'new' if row % 3 else 'old'}" for row in range(n)])


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_blending_by_hand(kind: str) -> None:
    # cos(e0, e1) = 0.6 and cos(e1, e2) = 0.8. Listing 1 matches all, 0 matches 1, 2 only itself.
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1]], np.float32)
    matches = sparse.csr_array(np.array([[1, 0.6, 0], [0.6, 1, 0.8], [0, 0, 1]], np.float32))

    blended = blend(vectors if kind == "dense" else sparse.csr_array(vectors), matches)

    expected = [
        # 1 · (1, 0) + 0.6 · (0.6, 0.8) = (1.36, 0.48), of length √(1.8496 + 0.2304) = √2.08
        [1.36 / np.sqrt(2.08), 0.48 / np.sqrt(2.08)],
        # 0.6 · (1, 0) + 1 · (0.6, 0.8) + 0.8 · (0, 1) = (1.2, 1.6), of length 2
        [0.6, 0.8],
        [0, 1],
    ]
    found = blended if kind == "dense" else blended.toarray()
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_perfect_clusters_stay_as_they_are() -> None:
    vectors = np.repeat(np.eye(6, dtype=np.float32), [1, 2, 3, 4, 5, 6], axis=0)
    view = View("image", vectors, np.ones(21, dtype=bool))
    groups = np.repeat(np.arange(6), [1, 2, 3, 4, 5, 6])

    matches = keep(nearest(vectors), 0.3)
    final = iterative_blending(view, None, LOOSE)

    np.testing.assert_allclose(blend(vectors, matches), vectors, atol=1e-6)
    assert (f1_by_listing(final, groups) == 1).all()


def test_row_that_matches_nothing_but_zeros_stays_zero() -> None:
    vectors = np.array([[0, 0], [1, 0]], np.float32)

    blended = blend(vectors, sparse.csr_array(np.eye(2, dtype=np.float32)))

    assert blended.tolist() == [[0, 0], [1, 0]]


def plain(views: dict[str, NDArray[np.float64]], thresholds: Thresholds) -> set[tuple[int, int]]:
    """The recipe read aloud: full cosine matrices, no blocks, no caches, every view there."""

    def kept(vectors: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        threshold, second = thresholds.of(name)
        cosines = vectors @ vectors.T
        found = np.eye(len(vectors))
        for row, cosine in enumerate(cosines):
            others = np.delete(np.argsort(-cosine, kind="stable"), np.flatnonzero(
                np.argsort(-cosine, kind="stable") == row))  # fmt: skip
            for place, other in enumerate(others):
                if 1 - cosine[other] <= (max(threshold, second) if place == 0 else threshold):
                    found[row, other] = cosine[other]
        return found

    comb = np.hstack([views["image"], views["title"]]) / np.sqrt(2)
    singles = [kept(vectors, name) for name, vectors in views.items()]
    weights = kept(comb, "comb")
    for part in singles:
        weights = np.where(weights == 0, part, weights)
    for name in ("stage2", "stage3"):
        comb = weights @ comb
        comb /= np.linalg.norm(comb, axis=1, keepdims=True)
        weights = kept(comb, name)
    final = sum(part != 0 for part in (weights, *singles))
    return set(zip(*(place.tolist() for place in np.nonzero(final)), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_three_stages_against_the_recipe_read_aloud(seed: int) -> None:
    image, title = clustered("image", 40, seed), clustered("title", 40, seed + 100)
    words = tfidf_view(titles(40))
    plain_views = {
        "image": image.vectors.astype(np.float64),
        "title": title.vectors.astype(np.float64),
        "tfidf": words.vectors.toarray().astype(np.float64),
    }

    found = iterative_blending(image, title, LOOSE, further=[words])

    expected = plain(plain_views, LOOSE)
    assert pairs(found) == expected
    assert 40 < len(expected) < 40 * 40
    assert (found.diagonal() == 1).all()


def test_blending_finds_what_no_single_view_finds() -> None:
    # 0 and 2 are 60° apart, both 30° from 1. A threshold of 0.14 reaches arccos 0.86 = 30.7°.
    # Blended once, 0 is at arctan(0.866 · 0.5 / (1 + 0.866²)) = 13.9° and 2 at 46.1°: 32.2° apart.
    # Blended twice, 0 is at 21.8° and 2 at 38.2°.
    angles = np.deg2rad([0, 30, 60])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    view = View("title", vectors, np.ones(3, dtype=bool))
    near = dict.fromkeys(
        ("title", "title_second", "comb", "comb_second", "stage2", "stage2_second", "stage3",
         "stage3_second"), 0.14,
    )  # fmt: skip
    blender = Blender(None, view)

    stages = [pairs(blender.match(replace(LOOSE, **near), stages=stage)) for stage in (1, 2, 3)]

    chain = {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 2)}
    assert stages == [chain, chain, chain | {(0, 2), (2, 0)}]


def test_final_matches_contain_those_of_every_single_view() -> None:
    image = clustered("image", 40, 0, absent=(5,))
    title = clustered("title", 40, 1, absent=(9,))
    words = tfidf_view(titles(40))
    strict = replace(LOOSE, stage2=0.0, stage2_second=0.0, stage3=0.0, stage3_second=0.0)
    blender = Blender(image, title, further=[words])

    final = pairs(blender.match(strict))

    for name in ("image", "title", "tfidf"):
        threshold, second = strict.of(name)
        assert pairs(keep(blender.neighbours(name), threshold, second=second)) <= final


def test_other_thresholds_give_what_a_new_blender_gives() -> None:
    image, title = clustered("image", 40, 2), clustered("title", 40, 3)
    blender = Blender(image, title)
    tried = [
        LOOSE, replace(LOOSE, stage3=0.3), replace(LOOSE, stage2=0.3), replace(LOOSE, image=0.1),
        replace(LOOSE, comb_second=0.9), LOOSE,
    ]  # fmt: skip

    for thresholds in tried:
        again = blender.match(thresholds)
        fresh = iterative_blending(image, title, thresholds)
        assert pairs(again) == pairs(fresh)
        np.testing.assert_array_equal(again.data, fresh.data)


def test_stage_one_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def counted(*args: object, **options: object) -> object:
        searched.append(args)
        return nearest(*args, **options)

    monkeypatch.setattr("purchase_predictor.matching.blending.nearest", counted)
    blender = Blender(clustered("image", 20, 0), clustered("title", 20, 1))

    counts = []
    for thresholds in (LOOSE, LOOSE, replace(LOOSE, stage2=0.3), replace(LOOSE, image=0.1)):
        blender.match(thresholds)
        counts.append(len(searched))

    assert counts == [5, 5, 6, 8]  # image, title, comb, stages 2 and 3; then what changed


def test_listings_that_lack_views() -> None:
    image = clustered("image", 12, 0, absent=(0, 1, 2, 3, 8))
    title = clustered("title", 12, 1, absent=(0, 4, 8))
    words = tfidf_view(pl.Series([None if row == 8 else f"thing {row // 4}" for row in range(12)]))

    found = iterative_blending(image, title, LOOSE, further=[words])

    assert (8, 8) in pairs(found)
    assert sum(8 in pair for pair in pairs(found)) == 1
    assert {(0, 1), (0, 2), (0, 3)} <= pairs(found)  # 0 has its words alone
    assert np.isfinite(found.data).all()


def test_hashes_stand_for_pictures() -> None:
    hashes = ["94974f937d4c2433", "94974f937d4c2432", None, "6b68b06c82b3dbcc"]

    found = iterative_blending(
        hash_view(pl.Series(hashes)), None, replace(LOOSE, image=0.05, comb=0.05)
    )

    assert pairs(found) == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 3)}


def test_words_alone_are_blended_as_they_are() -> None:
    words = tfidf_view(titles(24))
    dense = View("title", words.vectors.toarray(), words.present)

    assert pairs(iterative_blending(None, words, LOOSE)) == pairs(
        iterative_blending(None, dense, LOOSE)
    )


def test_gallery_of_one_and_of_none() -> None:
    for n in (0, 1):
        view = embedding_view("image", np.ones((n, 3), dtype=np.float32))
        found = iterative_blending(view, None, LOOSE, further=[tfidf_view(titles(n))])
        assert pairs(found) == {(row, row) for row in range(n)}


@pytest.mark.parametrize("cap", [1, 3, 50])
def test_final_matches_are_capped(cap: int) -> None:
    same = embedding_view("image", np.ones((70, 2), dtype=np.float32))
    words = tfidf_view(pl.Series(["same"] * 70))
    blender = Blender(same, further=[words], k=60)

    found = blender.match(LOOSE, cap=cap)

    assert np.diff(found.indptr).tolist() == [cap] * 70
    assert (found.diagonal() == 1).all()


def test_what_cannot_be_blended_is_named() -> None:
    image, words = clustered("image", 8, 0), tfidf_view(titles(8))
    with pytest.raises(ValueError, match="a view of images, of titles, or both"):
        Blender(further=[words])
    with pytest.raises(ValueError, match="names of their own, got tfidf, tfidf"):
        Blender(image, further=[words, words])
    with pytest.raises(ValueError, match="names of their own, got image"):
        Blender(image, further=[image])
    with pytest.raises(ValueError, match="'tfidf' is sparse"):
        Blender(image, words)
    with pytest.raises(ValueError, match="comb: 8, image: 8, tfidf: 9"):
        Blender(image, further=[tfidf_view(titles(9))])
    with pytest.raises(ValueError, match="no thresholds of the view 'tfidf'"):
        Blender(image, further=[words]).match(replace(LOOSE, further={}))
    with pytest.raises(ValueError, match="stages must be 1, 2 or 3, got 4"):
        Blender(image).match(LOOSE, stages=4)


def test_thresholds_through_json() -> None:
    written = json.dumps(LOOSE.to_dict())

    assert Thresholds.from_dict(json.loads(written)) == LOOSE
    assert Thresholds.from_dict(replace(LOOSE, further={}).to_dict()).further == {}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stag2": 0.1}, "no threshold 'stag2'; did you mean 'stage2'"),
        ({"image": "near"}, "'image' must be a number, got 'near'"),
        ({"comb": True}, "'comb' must be a number, got True"),
        ({"further": [0.1]}, "must map views to pairs"),
        ({"further": {"tfidf": 0.1}}, "'tfidf' must have two thresholds, got 0.1"),
        ({"further": {"tfidf": [0.1, None]}}, "'tfidf' must be a number, got None"),
    ],
)
def test_wrong_thresholds_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Thresholds.from_dict(LOOSE.to_dict() | change)


def test_missing_thresholds_are_named() -> None:
    values = LOOSE.to_dict()
    del values["comb"], values["stage3_second"]

    with pytest.raises(SettingsError, match="lack comb, stage3_second"):
        Thresholds.from_dict(values)
