from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file, save_file

from purchase_predictor.encoders.layout import LayoutEncoder
from purchase_predictor.training import picture_phrases
from purchase_predictor.training.picture_phrases import N_FOLDS, PicturePhrases, folds, frequent

N = 3_000
D = LayoutEncoder.d


class Drawn:
    """Pictures with two badges, in listings of which the bright ones say everything more often.

    The first phrase has a badge, the second too; the next five have none, the last is never said.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.bright = rng.normal(size=N)
        said = rng.random((N, 8)) < 1 / (1 + np.exp(1.0 - self.bright[:, None]))
        said[:, 7] = False
        self.badge = rng.random((N, 2)) < np.where(said[:, :2], 0.6, 0.1)
        self.flags = said.astype(np.float32)
        pixels = 120 + 12 * self.bright[:, None, None, None] + rng.normal(0, 8, (N, 8, 8, 3))
        pixels[:, 0, 0] += self.badge[:, :1] * np.array([90.0, -60, -60])
        pixels[:, 7, 7] += self.badge[:, 1:] * np.array([-60.0, 90, -60])
        self.layout = LayoutEncoder().embed(pixels.clip(0, 255).astype(np.uint8))
        self.there = rng.random(N) < 0.9
        self.layout[~self.there] = 0.0
        self.fold = rng.integers(N_FOLDS, size=N)
        self.learn = (np.arange(N) < 2_400) & self.there

    def fit(self, flags: np.ndarray | None = None) -> PicturePhrases | None:
        flags = self.flags if flags is None else flags
        return PicturePhrases.fit(self.layout, flags, self.fold, self.learn, seed=0)

    def score(self, probe: PicturePhrases) -> np.ndarray:
        return probe.score(self.layout, self.fold, self.there)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn()


@pytest.fixture(scope="module")
def probe(drawn: Drawn) -> PicturePhrases:
    probe = drawn.fit()
    assert probe is not None
    return probe


def test_badges_are_told_from_what_titles_of_such_pictures_say(
    drawn: Drawn, probe: PicturePhrases
) -> None:
    """The others go with brightness as they do, and have nothing of their own."""
    score = drawn.score(probe)
    new = drawn.there & (np.arange(N) >= 2_400)
    assert probe.kept.tolist() == [0, 1]
    assert score.shape == (N, 2)
    for place in range(2):
        own, other = (
            np.corrcoef(score[new, place], drawn.badge[new, of])[0, 1] for of in (place, 1 - place)
        )
        assert own > 0.8
        assert abs(other) < 0.2


def test_scores_have_mean_0_and_variance_1_and_are_uncorrelated_in_training(
    drawn: Drawn, probe: PicturePhrases
) -> None:
    score = drawn.score(probe)[drawn.learn]
    np.testing.assert_allclose(score.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(np.cov(score, rowvar=False), np.eye(2), atol=1e-2)


def test_a_fold_is_scored_by_a_probe_that_saw_none_of_its_titles(drawn: Drawn) -> None:
    """Whatever the titles of a fold say, its probe stays; the scores share a whitening."""
    flags = drawn.flags.copy()
    own = drawn.fold == 1
    flags[own, :7] = 1 - flags[own, :7]
    fits = [drawn.fit(of) for of in (flags, drawn.flags)]
    directions = {}
    for number in (0, 1):
        bases = [np.linalg.qr(fit.weight[number].astype(np.float64))[0] for fit in fits if fit]
        assert len(bases) == 2
        directions[number] = np.linalg.svd(bases[0].T @ bases[1])[1]
    # the planes of the scores, unwhitened: the same where the fold's own titles were not seen
    assert directions[0].min() < 0.99
    assert directions[1].min() > directions[0].min()
    x = drawn.layout[drawn.learn].astype(np.float64)
    probes = [
        picture_phrases._probes(x, of[drawn.learn].astype(np.float64), drawn.fold[drawn.learn])[0]
        for of in (flags, drawn.flags)
    ]
    np.testing.assert_array_equal(probes[0][1], probes[1][1])
    assert np.abs(probes[0][0] - probes[1][0]).max() > 1e-3


def test_twins_do_not_tell_each_others_titles() -> None:
    """Four listings each of 500 things, with one picture and one title, and no badge anywhere."""
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(500), 4)
    layout = rng.random((500, D)).astype(np.float32)[group]
    flags = (rng.random((500, 3)) < 0.4).astype(np.float32)[group]
    everything = np.ones(len(group), bool)
    products = pl.DataFrame({"match_group": [f"g{number}" for number in group]})
    nameless = products.with_columns(match_group=pl.lit(None, pl.String))
    for table in (products, nameless):  # equal pictures are one thing, too
        fold = folds(table, layout)
        assert set(fold) == set(range(N_FOLDS))
        assert all(len(set(fold[group == number])) == 1 for number in range(500))
        assert PicturePhrases.fit(layout, flags, fold, everything, seed=0) is None
    apart = rng.integers(N_FOLDS, size=len(group))
    assert PicturePhrases.fit(layout, flags, apart, everything, seed=0) is not None


def test_folds_stay_with_the_product() -> None:
    layout = np.random.default_rng(0).random((30, D)).astype(np.float32)
    table = pl.DataFrame({"match_group": [f"g{n}" if n % 2 else None for n in range(30)]})
    rows = [7, 4, 21]
    found = folds(table[rows], layout[rows])
    assert found.tolist() == folds(table, layout)[rows].tolist()


def test_a_product_without_a_picture_has_none(drawn: Drawn, probe: PicturePhrases) -> None:
    score = drawn.score(probe)
    assert (score[~drawn.there] == 0).all()
    assert (score[drawn.there] != 0).all()


def test_pictures_that_say_nothing_are_not_read(drawn: Drawn) -> None:
    noise = np.random.default_rng(5).random((N, D)).astype(np.float32)
    assert PicturePhrases.fit(noise, drawn.flags, drawn.fold, drawn.learn, seed=0) is None


def test_without_pictures_titles_or_phrases_there_is_no_probe(drawn: Drawn) -> None:
    none, nothing = np.zeros((N, 0), np.float32), np.zeros(N, bool)
    assert PicturePhrases.fit(none, drawn.flags, drawn.fold, drawn.learn, seed=0) is None
    assert PicturePhrases.fit(drawn.layout, drawn.flags, drawn.fold, nothing, seed=0) is None
    assert PicturePhrases.fit(drawn.layout, none, drawn.fold, drawn.learn, seed=0) is None
    assert drawn.fit(np.zeros((N, 8), np.float32)) is None


def test_of_very_many_listings_some_are_learned_from(
    drawn: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_phrases, "MAX_ROWS", 1_000)
    some = drawn.fit()
    assert some is not None
    np.testing.assert_array_equal(some.weight, drawn.fit().weight)  # type: ignore[union-attr]
    own = np.corrcoef(drawn.score(some)[drawn.there, 0], drawn.badge[drawn.there, 0])[0, 1]
    assert 0.6 < own < 0.99


def test_frequent_phrases_are_held_by_enough_titles_and_not_by_too_many() -> None:
    flags = np.zeros((100, 4), np.float32)
    flags[:20, 0] = flags[:19, 1] = flags[:80, 2] = flags[:81, 3] = 1
    assert frequent(flags).tolist() == [0, 2]


def test_it_survives_a_file(drawn: Drawn, probe: PicturePhrases, tmp_path: Path) -> None:
    save_file(probe.tensors(), tmp_path / "probe.safetensors")
    again = PicturePhrases.from_tensors(load_file(tmp_path / "probe.safetensors"))
    np.testing.assert_array_equal(drawn.score(again), drawn.score(probe))
