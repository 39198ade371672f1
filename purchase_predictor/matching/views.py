"""What a listing looks like from one side: picture, title, words, picture hash, or several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

Vectors: TypeAlias = NDArray[np.float32] | sparse.csr_array
"""Rows of listings, float32 [n, d]: dense, or sparse where d is a vocabulary."""

COMB = "comb"
"""Name of the view that is all embeddings side by side."""

HASH_BITS = 64

_WORD = r"[^\W\d_]+|\d+"


@dataclass(frozen=True)
class View:
    """One view of a gallery's listings.

    Attributes:
        name: what the view shows.
        vectors: float32 [n, d], dense, or a sparse csr_array; rows L2-normalised, zero where
            the listing lacks the view.
        present: bool [n], whether the listing has it.
    """

    name: str
    vectors: Vectors
    present: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.present.shape != (self.vectors.shape[0],):
            raise ValueError(
                f"The view {self.name!r} has {self.vectors.shape[0]} rows, but present has shape "
                f"{self.present.shape}."
            )

    def __len__(self) -> int:
        return len(self.present)

    def select(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "View":
        """The view of some listings, by number or by mask, in the order given."""
        return View(self.name, self.vectors[rows], self.present[rows])


def embedding_view(
    name: str, vectors: NDArray[np.float32], present: NDArray[np.bool_] | None = None
) -> View:
    """A view of embeddings of any length.

    Args:
        name: what the view shows.
        vectors: float [n, d]; a row of zeros is absent.
        present: bool [n], False where a listing lacks the view; None asks the vectors alone.
    """
    unit = unit_rows(np.array(vectors, dtype=np.float32))
    there = np.asarray(unit.any(axis=1))
    if present is not None:
        there &= present
        unit[~there] = 0.0
    return View(name, unit, there)


def unit_rows(vectors: Vectors) -> Vectors:
    """Rows divided by their lengths, in place; a row of zeros stays."""
    return normalize(vectors, copy=False) if vectors.shape[0] else vectors


def tfidf_view(titles: pl.Series) -> View:
    """Words of titles by TF-IDF, fitted on these titles: the untrained baseline.

    A word counts once however often a title says it (sellers repeat words to be found), and
    letters and digits are words apart ("250gr" is "250", "gr"): both help on Shopee's titles.

    Args:
        titles: of the gallery; one that is null or without a word is absent.

    Returns:
        The view "tfidf", sparse.
    """
    texts = titles.cast(pl.String).fill_null("").to_list()
    vectorizer = TfidfVectorizer(token_pattern=_WORD, binary=True, dtype=np.float32)
    analyse = vectorizer.build_analyzer()
    if any(analyse(text) for text in texts):
        vectors = sparse.csr_array(vectorizer.fit_transform(texts))
    else:
        vectors = sparse.csr_array((len(texts), 1), dtype=np.float32)
    return View("tfidf", vectors, np.diff(vectors.indptr) > 0)


def hash_view(hashes: pl.Series) -> View:
    """Perceptual hashes of pictures; cosine = 1 − Hamming distance / 32.

    Args:
        hashes: 64 bits as 16 hexadecimal digits; null or otherwise written is absent.

    Returns:
        The view "hash", dense, 64 wide.
    """
    texts = hashes.cast(pl.String)
    readable = texts.str.contains(r"^[0-9a-fA-F]{16}$").fill_null(False).to_numpy()
    digits = "".join(texts.filter(pl.Series(readable)).to_list())
    octets = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
    bits = np.unpackbits(octets).reshape(-1, HASH_BITS)
    vectors = np.zeros((len(texts), HASH_BITS), dtype=np.float32)
    vectors[readable] = (2.0 * bits - 1.0) / np.sqrt(HASH_BITS)
    return View("hash", vectors, readable)


def comb_view(views: Sequence[View], *, name: str = COMB) -> View:
    """All embeddings side by side, each normalised on its own.

    Where both listings have every view their cosine is the mean of the views' cosines; zeros
    stand for a view that a listing lacks, and the row is normalised over those it has.

    Args:
        views: dense views of the same listings; several encoders of one side are views too.
        name: of the new view.

    Raises:
        ValueError: if there is no view, one is sparse, or their lengths differ.
    """
    if not views or len({len(view) for view in views}) > 1:
        lengths = ", ".join(f"{view.name}: {len(view)}" for view in views) or "none"
        raise ValueError(f"Views side by side must be of the same listings, got {lengths}.")
    for view in views:
        if not isinstance(view.vectors, np.ndarray):
            raise ValueError(f"The view {view.name!r} is sparse; only dense ones go side by side.")
    count = np.stack([view.present for view in views]).sum(axis=0)
    scale = (1.0 / np.sqrt(np.maximum(count, 1))).astype(np.float32)
    widths = [view.vectors.shape[1] for view in views]
    vectors = np.empty((len(views[0]), sum(widths)), dtype=np.float32)
    for view, stop in zip(views, np.cumsum(widths), strict=True):
        part = vectors[:, stop - view.vectors.shape[1] : stop]
        np.multiply(view.vectors, (scale * view.present)[:, None], out=part)
    return View(name, vectors, count > 0)
