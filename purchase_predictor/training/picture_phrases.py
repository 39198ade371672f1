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
import polars as pl
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from purchase_predictor.evaluation.gap import holm

N_FOLDS = 5
PENALTIES = np.logspace(0, 5, 11)
MIN_TITLES = 20
"""Titles with a phrase, and without it, from which it is looked for."""

MAX_ROWS = 50_000
"""Listings learned from at most: more would hardly change some hundred weights."""

LEVEL = 0.01
"""Of the test whether pictures tell anything of a phrase that they do not tell of all others."""

SMALLEST_SHARE = 1e-6
"""Of the largest variance: two phrases that always come together are not told apart."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PicturePhrases:
    """Scores of pictures, linear in the layout, one for each phrase that pictures tell.

    A listing is scored by the probe of its fold, which saw no listing of that fold: neither this
    title nor that of another listing of the same thing. So a score errs on training products as
    it will err on new ones.

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
        fold: NDArray[np.int64],
        learn: NDArray[np.bool_],
        *,
        seed: int,
    ) -> Self | None:
        """Learn from pictures and titles of training products.

        Args:
            layout: float32 [n, d], of `LayoutEncoder`; d is 0 where no picture is read.
            flags: float32 [n, n_phrases], 1 where the title holds a phrase.
            fold: int64 [n], of `folds`.
            learn: bool [n], products of the training period that have a picture and a title.
            seed: of the products taken where there are many.

        Returns:
            None where no phrase can be told from pictures.
        """
        rows = np.flatnonzero(learn)
        if len(rows) > MAX_ROWS:
            rows = np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False)
        often = frequent(flags[rows])
        own = fold[rows]
        if not layout.shape[1] or not len(often) or len(np.unique(own)) < N_FOLDS:
            return None
        x, y = layout[rows].astype(np.float64), flags[rows][:, often].astype(np.float64)
        # 1. a probe for each fold, of the others
        weight, bias = _probes(x, y, own)
        score = _by_fold(x, own, weight, bias)
        # 2. what is each phrase's own, and whether there is anything
        varies = np.ptp(score, axis=0) > 0
        weight, bias, score = weight[..., varies], bias[:, varies], score[:, varies]
        told = _are_told(score, y[:, varies])
        if not told.any():
            return None
        centre, whitening = _whitening(score)
        return cls(
            kept=often[varies][told],
            weight=(weight @ whitening[:, told]).astype(np.float32),
            bias=((bias - centre) @ whitening[:, told]).astype(np.float32),
        )

    def score(
        self,
        layout: NDArray[np.float32],
        fold: NDArray[np.int64],
        there: NDArray[np.bool_],
    ) -> NDArray[np.float32]:
        """How much the picture of each product says each phrase.

        Args:
            layout: float32 [n, d].
            fold: int64 [n], of `folds`.
            there: bool [n], whether there is a picture that was read.

        Returns:
            float32 [n, k], of mean 0 and variance 1 on what was learned from; 0 without a picture.
        """
        scores = _by_fold(layout, fold, self.weight, self.bias)
        return np.where(there[:, None], scores, 0.0).astype(np.float32)

    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """As a model folder holds it."""
        return {"kept": self.kept, "weight": self.weight, "bias": self.bias}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> Self:
        """Undo `tensors`."""
        return cls(**tensors)


def frequent(flags: NDArray[np.float32]) -> NDArray[np.int64]:
    """Phrases that enough titles hold, and enough do not, int64; of flags [n, n_phrases]."""
    held = flags.sum(axis=0)
    return np.flatnonzero((held >= MIN_TITLES) & (len(flags) - held >= MIN_TITLES))


def folds(products: pl.DataFrame, layout: NDArray[np.float32]) -> NDArray[np.int64]:
    """The fold of each product, the same wherever and whenever it is met.

    Listings of one match group, or without one with equal pictures, are of one fold: they often
    say the same, and would tell each other's titles.

    Args:
        products: `match_group`.
        layout: float32 [n, d].

    Returns:
        int64 [n].
    """
    pictures = np.ascontiguousarray(layout)
    groups = products["match_group"].cast(pl.String).to_list()
    keys = (
        picture.tobytes() if group is None else group.encode()
        for group, picture in zip(groups, pictures, strict=True)
    )
    return np.array([zlib.crc32(key) % N_FOLDS for key in keys], np.int64)


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


def _are_told(score: Floats, flag: Floats) -> NDArray[np.bool_]:
    """Whether each phrase's score tells of it beyond what all other scores do, bool [m].

    In a regression of its flag on all scores its own has a positive coefficient (t test, Holm over
    the phrases). A phrase that nothing is drawn for may pass where no other tells as well of what
    all share; one phrase alone has nothing beside and needs to be told at all.
    """
    n, m = score.shape
    design = np.column_stack([score, np.ones(n)])
    inverse = np.linalg.pinv(design.T @ design)
    beta = inverse @ design.T @ flag
    residual = flag - design @ beta
    error = np.sqrt(np.outer(np.diag(inverse), residual.var(axis=0) * n / (n - m - 1)))
    own = np.diag(beta[:m]) / np.maximum(np.diag(error[:m]), np.finfo(float).tiny)
    return np.array(holm(student.sf(own, n - m - 1).tolist())) < LEVEL


def _whitening(score: Floats) -> tuple[Floats, Floats]:
    """Mean [k] and the symmetric map [k, k] that makes scores uncorrelated at variance 1.

    Of all such maps the one that leaves each score nearest to what it was (ZCA).
    """
    variance, axes = np.linalg.eigh(np.atleast_2d(np.cov(score, rowvar=False)))
    scale = 1 / np.sqrt(np.maximum(variance, SMALLEST_SHARE * variance[-1]))
    return score.mean(axis=0), (axes * scale) @ axes.T
