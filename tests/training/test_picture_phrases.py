from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from purchase_predictor.encoders.layout import LayoutEncoder
from purchase_predictor.training.picture_phrases import N_FOLDS, PicturePhrases, folds

N = 3_000
D = LayoutEncoder.d


class Drawn:
    """Pictures with two badges, in listings of which the bright ones say everything more often.

    The first phrase has a badge, the second too, the third has none and the fourth is never said.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.bright = rng.normal(size=N)
        self.said = rng.random((N, 4)) < 1 / (1 + np.exp(1.0 - self.bright[:, None]))
        self.said[:, 3] = False
        self.badge = rng.random((N, 2)) < np.where(self.said[:, :2], 0.6, 0.1)
        pixels = 120 + 12 * self.bright[:, None, None, None] + rng.normal(0, 8, (N, 8, 8, 3))
        pixels[:, 0, 0] += self.badge[:, :1] * np.array([90.0, -60, -60])
        pixels[:, 7, 7] += self.badge[:, 1:] * np.array([-60.0, 90, -60])
        self.layout = LayoutEncoder().embed(pixels.clip(0, 255).astype(np.uint8))
        there = rng.random(N) < 0.9
        self.layout[~there] = 0.0
        self.product_id = np.array([f"p{n}" for n in range(N)], object)
        self.there = there
        self.learn = (np.arange(N) < 2_400) & there

    def fit(self, flags: np.ndarray | None = None) -> PicturePhrases | None:
        flags = self.said.astype(np.float32) if flags is None else flags
        return PicturePhrases.fit(self.layout, flags, self.product_id, self.learn)

    def score(self, probe: PicturePhrases) -> np.ndarray:
        return probe.score(self.layout, self.product_id, self.there)


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return Drawn()


@pytest.fixture(scope="module")
def probe(drawn: Drawn) -> PicturePhrases:
    probe = drawn.fit()
    assert probe is not None
    return probe


def test_a_badge_is_told_from_what_titles_of_such_pictures_say(
    drawn: Drawn, probe: PicturePhrases
) -> None:
    score = drawn.score(probe)
    new = drawn.there & (np.arange(N) >= 2_400)
    assert probe.kept.tolist() == [0, 1, 2]
    assert score.shape == (N, 3)
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
    np.testing.assert_allclose(np.cov(score, rowvar=False), np.eye(3), atol=1e-2)


def test_a_score_does_not_depend_on_the_products_own_title(drawn: Drawn) -> None:
    """Whatever one listing says, its own picture's score stays but for the common whitening."""
    said = drawn.said.copy()
    fold = folds(drawn.product_id)
    said[fold == 1, :3] = ~said[fold == 1, :3]
    turned = drawn.fit(said.astype(np.float32))
    plain = drawn.fit()
    assert turned is not None
    assert plain is not None
    # unwhitened, the probe of fold 1 learned from others alone
    directions = [np.linalg.qr(found.weight[1].astype(np.float64))[0] for found in (turned, plain)]
    np.testing.assert_allclose(np.linalg.svd(directions[0].T @ directions[1])[1], 1.0, atol=1e-3)
    others = [np.linalg.qr(found.weight[0].astype(np.float64))[0] for found in (turned, plain)]
    assert np.linalg.svd(others[0].T @ others[1])[1].min() < 0.99


def test_a_product_without_a_picture_has_none(drawn: Drawn, probe: PicturePhrases) -> None:
    score = drawn.score(probe)
    assert (score[~drawn.there] == 0).all()
    assert (score[drawn.there] != 0).all()


def test_folds_stay_with_the_product(drawn: Drawn) -> None:
    fold = folds(drawn.product_id)
    assert set(fold) == set(range(N_FOLDS))
    some = np.array(["p7", "p5"], object)
    assert folds(some).tolist() == fold[[7, 5]].tolist()


def test_pictures_that_say_nothing_are_not_read(drawn: Drawn) -> None:
    rng = np.random.default_rng(5)
    noise = rng.random((N, D)).astype(np.float32)
    flags = drawn.said.astype(np.float32)
    assert PicturePhrases.fit(noise, flags, drawn.product_id, drawn.learn) is None


def test_without_pictures_titles_or_phrases_there_is_no_probe(drawn: Drawn) -> None:
    flags, none = drawn.said.astype(np.float32), np.zeros((N, 0), np.float32)
    nothing = np.zeros(N, bool)
    assert PicturePhrases.fit(none, flags, drawn.product_id, drawn.learn) is None
    assert PicturePhrases.fit(drawn.layout, flags, drawn.product_id, nothing) is None
    assert PicturePhrases.fit(drawn.layout, none, drawn.product_id, drawn.learn) is None
    assert drawn.fit(np.zeros((N, 4), np.float32)) is None


def test_it_survives_a_file(drawn: Drawn, probe: PicturePhrases, tmp_path: Path) -> None:
    save_file(probe.tensors(), tmp_path / "probe.safetensors")
    again = PicturePhrases.from_tensors(load_file(tmp_path / "probe.safetensors"))
    np.testing.assert_array_equal(drawn.score(again), drawn.score(probe))
