"""Titles and pictures through one encoder or several, each computed once and kept by content."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.preprocessing import normalize

from purchase_predictor.encoders.image import ImageEncoder
from purchase_predictor.encoders.layout import LayoutEncoder
from purchase_predictor.encoders.pictures import (
    PICTURES_AT_ONCE,
    PictureFiles,
    PictureReader,
    find_pictures,
)
from purchase_predictor.encoders.store import Compute, EmbeddingStore, digest, embed_once
from purchase_predictor.encoders.text import TextEncoder

Progress = Callable[[str], None]

_FORMAT = 2
"""Of the store: its vectors are as long as the encoders make them (before: of unit length)."""


@dataclass(frozen=True)
class Pictures:
    """What became of the pictures of a catalogue.

    Attributes:
        vectors: float32 [n, d], L2-normalised unless raw ones were asked for, zero where there is
            no readable picture.
        layout: float32 [n, d_layout], where which colour lies (`LayoutEncoder`), zero where there
            is no readable picture; d_layout is 0 where it was not asked for.
        there: bool [n], whether there is a picture that was read.
        failures: product, path and reason of each picture that could not be read.
    """

    vectors: NDArray[np.float32]
    layout: NDArray[np.float32]
    there: NDArray[np.bool_]
    failures: list[tuple[str, str, str]]


def embed_titles(
    encoders: Sequence[TextEncoder],
    titles: pl.Series,
    *,
    cache: Path | None,
    progress: Progress,
    raw: bool = False,
) -> NDArray[np.float32]:
    """Embed titles with every encoder.

    Args:
        encoders: none gives a width of 0.
        titles: any titles, nulls and empty ones among them.
        cache: folder of stored embeddings; None stores none.
        progress: takes a line where there is much to embed or a stored file is damaged.
        raw: the embeddings are left as long as the encoders make them.

    Returns:
        float32 [n, sum of widths], L2-normalised unless raw, zero where the title is null.
    """
    unique = titles.drop_nulls().unique(maintain_order=True)
    texts = unique.to_list()
    keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    parts = []
    for encoder in encoders:
        store = _store(cache, encoder.fingerprint, 0, progress)
        parts.append(embed_once(store, keys, _of_titles(encoder, texts), encoder.d, progress)[1])
    numbers = pl.DataFrame({"title": unique, "number": np.arange(len(texts))})
    number = titles.to_frame("title").join(numbers, on="title", how="left", maintain_order="left")[
        "number"
    ]
    return _rows(_side_by_side(parts, len(keys), raw=raw), number.fill_null(-1).to_numpy())


def embed_pictures(
    encoders: Sequence[ImageEncoder],
    products: pl.DataFrame,
    folder: Path,
    *,
    max_bytes: int,
    max_pixels: int,
    cache: Path | None,
    progress: Progress,
    raw: bool = False,
    layout: bool = False,
) -> Pictures:
    """Embed pictures with every encoder, each at the size that it takes.

    Args:
        encoders: without any, no picture is read.
        products: `product_id, image`.
        folder: the data folder, in which the pictures are.
        max_bytes: a larger picture file is refused.
        max_pixels: a larger picture is refused.
        cache: folder of stored embeddings; None stores none.
        progress: takes a line where there is much to embed or a stored file is damaged.
        raw: the embeddings are left as long as the encoders make them.
        layout: whether the layout is wanted beside the embeddings.
    """
    if not encoders:
        none = np.zeros((len(products), 0), dtype=np.float32)
        return Pictures(none, none, np.zeros(len(products), dtype=bool), [])
    every: list[ImageEncoder | LayoutEncoder] = [*encoders]
    if layout:
        every.append(LayoutEncoder())
    readers = [
        PictureReader(max_bytes, max_pixels, spec.size, spec.resampling)
        for spec in (encoder.spec for encoder in every)
    ]
    files = find_pictures(products["image"], folder, readers[0])
    damaged: dict[int, str] = {}
    readable, parts = np.ones(len(files.digests), dtype=bool), []
    for encoder, reader in zip(every, readers, strict=True):
        # The cap on pixels decides on which pictures there are, so it is part of the key.
        store = _store(cache, encoder.fingerprint, max_pixels, progress)
        compute = _of_files(encoder, replace(files, reader=reader), damaged)
        read, vectors = embed_once(store, files.digests, compute, encoder.d, progress)
        readable &= read
        parts.append(vectors)
    there = (files.number >= 0) & np.append(readable, False)[files.number]
    together = _side_by_side(parts[: len(encoders)], len(readable), raw=raw)
    apart = _side_by_side(parts[len(encoders) :], len(readable), raw=True)
    number = np.where(there, files.number, -1)
    vectors, laid_out = _rows(together, number), _rows(apart, number)
    return Pictures(vectors, laid_out, there, files.failed(products, damaged))


def _of_titles(encoder: TextEncoder, texts: list[str]) -> Compute:
    """How an encoder embeds titles by their number."""

    def compute(rows: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        return np.ones(len(rows), dtype=bool), encoder.embed([texts[row] for row in rows])

    return compute


def _of_files(
    encoder: ImageEncoder | LayoutEncoder, files: PictureFiles, damaged: dict[int, str]
) -> Compute:
    """How an encoder embeds picture files; `damaged` gets those that are no pictures."""

    def compute(rows: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        vectors = np.zeros((len(rows), encoder.d), dtype=np.float32)
        for start in range(0, len(rows), PICTURES_AT_ONCE):
            some = rows[start : start + PICTURES_AT_ONCE]
            pixels = files.read(some, damaged)
            vectors[start : start + len(some)] = encoder.embed(pixels)
        return np.array([row not in damaged for row in rows], dtype=bool), vectors

    return compute


def _store(
    cache: Path | None, fingerprint: str, cap: int, progress: Progress
) -> EmbeddingStore | None:
    if cache is None:
        return None
    return EmbeddingStore(
        cache / "embeddings" / digest([_FORMAT, fingerprint, cap])[:32], progress
    )


def _side_by_side(parts: list[NDArray[np.float32]], n: int, *, raw: bool) -> NDArray[np.float32]:
    """Embeddings of several encoders as one, whose cosine is the mean of theirs unless raw.

    Args:
        parts: float32 [n, d] each, as the encoders make them.
        n: rows, where there are no parts.
        raw: the parts are not normalised.

    Returns:
        float32 [n, sum of d], L2-normalised unless raw.
    """
    if not parts:
        return np.zeros((n, 0), dtype=np.float32)
    if raw:
        return np.concatenate(parts, axis=1)
    share = np.float32(1 / np.sqrt(len(parts)))
    if not n:  # scikit-learn refuses to normalise nothing
        return np.concatenate(parts, axis=1)
    return np.concatenate([share * normalize(part) for part in parts], axis=1)


def _rows(vectors: NDArray[np.float32], number: NDArray[np.int64]) -> NDArray[np.float32]:
    """The vector of each number; zero where the number is -1."""
    rows = np.zeros((len(number), vectors.shape[1]), dtype=np.float32)
    there = number >= 0
    rows[there] = vectors[number[there]]
    return rows
