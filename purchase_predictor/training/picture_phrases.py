"""What a picture says: phrases of a listing that are drawn into its picture.

Nobody labels pictures, but titles say the same things: a linear probe of where which colour lies
(`encoders.layout`) learns which pictures come with titles that hold a phrase. Most of what it
finds is no badge but what all such listings share (how good the picture is, say), and that is the
same for every phrase; whitening the scores against one another leaves what is a phrase's own.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearsonr
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

N_FOLDS = 5
PENALTIES = np.logspace(0, 5, 11)
MIN_TITLES = 20
"""Titles with a phrase, and without it, from which it is looked for."""

LEVEL = 0.01
"""Of the test whether the pictures of titles never seen tell a phrase at all."""

SMALLEST_SHARE = 1e-6
"""Of the largest variance: two phrases that always come together are not told apart."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PicturePhrases:
    """Scores of pictures, linear in the layout, one for each phrase that pictures tell.

    A product's score is by the probe of its fold, which never saw its title: what it would have
    learned of this title by heart is no different in training and in scoring.

    Attributes:
        kept: int64 [k], which groups of phrases pictures tell.
        weight: float32 [N_FOLDS, d, k].
        bias: float32 [N_FOLDS, k].
    """

    kept: NDArray[np.int64]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def fit(
        cls,
        layout: NDArray[np.float32],
        flags: NDArray[np.float32],
        product_id: NDArray[np.object_],
        learn: NDArray[np.bool_],
    ) -> Self | None:
        """Learn from pictures and titles of training products.

        Args:
            layout: float32 [n, d], of `LayoutEncoder`; d is 0 where no picture is read.
            flags: float32 [n, n_phrases], 1 where the title holds a phrase.
            product_id: object [n].
            learn: bool [n], products of the training period that have a picture and a title.

        Returns:
            None where no phrase can be told from pictures.
        """
        rows = np.flatnonzero(learn)
        held = flags[rows].sum(axis=0)
        often = np.flatnonzero((held >= MIN_TITLES) & (len(rows) - held >= MIN_TITLES))
        if not layout.shape[1] or not len(often):
            return None
        x, y = layout[rows].astype(np.float64), flags[rows][:, often].astype(np.float64)
        fold = folds(product_id[rows])
        # 1. a probe for each fold, of the others
        weight, bias = _probes(x, y, fold)
        score = _by_fold(x, fold, weight, bias)
        # 2. which phrases they tell
        told = np.array([_is_told(score[:, place], y[:, place]) for place in range(len(often))])
        if not told.any():
            return None
        # 3. what is each phrase's own
        centre, whitening = _whitening(score[:, told])
        return cls(
            kept=often[told],
            weight=(weight[:, :, told] @ whitening).astype(np.float32),
            bias=((bias[:, told] - centre) @ whitening).astype(np.float32),
        )

    def score(
        self,
        layout: NDArray[np.float32],
        product_id: NDArray[np.object_],
        there: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """How much the picture of each product says each phrase.

        Args:
            layout: float32 [n, d].
            product_id: object [n].
            there: bool [n], whether there is a picture that was read.

        Returns:
            float32 [n, k], of mean 0 and variance 1 in training; 0 without a picture.
        """
        scores = _by_fold(layout, folds(product_id), self.weight, self.bias)
        return np.where(there[:, None], scores, 0.0).astype(np.float32)

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As a model folder holds it."""
        return {"kept": self.kept, "weight": self.weight, "bias": self.bias}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """Undo `tensors`."""
        return cls(**tensors)


def folds(product_id: NDArray[np.object_]) -> NDArray[np.int64]:
    """The fold of each product, int64 [n]; the same wherever and whenever it is met."""
    return np.array([zlib.crc32(str(name).encode()) % N_FOLDS for name in product_id], np.int64)


def _probes(x: Floats, y: Floats, fold: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Weights [N_FOLDS, d, m] and constants [N_FOLDS, m] of ridge regressions on other folds."""
    weights, constants = [], []
    for number in range(N_FOLDS):
        others = fold != number
        scaler = StandardScaler().fit(x[others])
        probe = RidgeCV(PENALTIES, alpha_per_target=True)
        probe.fit(scaler.transform(x[others]), y[others])
        coefficients = np.atleast_2d(probe.coef_) / scaler.scale_
        weights.append(coefficients.T)
        constants.append(np.atleast_1d(probe.intercept_) - coefficients @ scaler.mean_)
    return np.array(weights), np.array(constants)


def _by_fold(
    x: NDArray[np.floating],
    fold: NDArray[np.int64],
    weight: NDArray[np.floating],
    bias: NDArray[np.floating],
) -> Floats:
    """Scores of each row by the probe of its fold, [n, m]."""
    scores = np.empty((len(x), weight.shape[2]))
    for number in range(N_FOLDS):
        mine = fold == number
        scores[mine] = x[mine] @ weight[number] + bias[number]
    return scores


def _is_told(score: Floats, flag: Floats) -> bool:
    """Whether scores of titles never seen are higher where the phrase is."""
    if np.ptp(score) == 0:
        return False
    return bool(pearsonr(score, flag, alternative="greater").pvalue < LEVEL)


def _whitening(score: Floats) -> tuple[Floats, Floats]:
    """Mean [k] and the symmetric map [k, k] that makes scores uncorrelated at variance 1.

    Of all such maps the one that leaves each score nearest to what it was (ZCA).
    """
    variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(score, rowvar=False)))
    scale = 1 / np.sqrt(np.maximum(variance, SMALLEST_SHARE * variance[-1]))
    return score.mean(axis=0), (axes * scale) @ axes.T
