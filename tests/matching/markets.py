"""Listings whose embeddings are drawn around one direction a match group."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from purchase_predictor.matching.bench import TFIDF, Views
from purchase_predictor.matching.gallery import Gallery, Split, split_listings
from purchase_predictor.matching.views import (
    View,
    comb_view,
    embedding_view,
    tfidf_view,
)

D = 12


@dataclass(frozen=True)
class Market:
    """Listings to match.

    Attributes:
        products: `product_id, title, match_group, image_hash`.
        split: their parts.
        views: of one generation of encoders.
    """

    products: pl.DataFrame
    split: Split
    views: Views

    @property
    def titles(self) -> pl.Series:
        return self.products["title"]

    def gallery(self, rows: np.ndarray) -> Gallery:
        split = self.split
        return Gallery(rows, split.truth[rows], split.key[rows], split.grouped[rows])


def make_market(n_groups: int = 60, *, noise: float = 0.35, seed: int = 0) -> Market:
    """Two to four listings a group, an eighth of them without a picture, ten without a group.

    Args:
        n_groups: match groups.
        noise: how far listings lie from their group's direction.
        seed: of the noise; groups and titles stay.
    """
    rng = np.random.default_rng(seed)
    group = np.append(np.repeat(np.arange(n_groups), 2 + np.arange(n_groups) % 3), [-1] * 10)
    n = len(group)
    products = pl.DataFrame(
        {
            "product_id": [f"p{row}" for row in range(n)],
            "title": [_title(row, number) for row, number in enumerate(group)],
            "match_group": [None if g < 0 else f"g{g}" for g in group],
            "image_hash": pl.Series([None] * n, dtype=pl.String),
        }
    )
    centres = np.random.default_rng(99).normal(size=(2, n_groups + 1, D))
    centres /= np.linalg.norm(centres, axis=2, keepdims=True)
    raw = centres[:, group] + noise * rng.normal(size=(2, n, D)) / np.sqrt(D)
    raw[:, group < 0] = rng.normal(size=(2, 10, D))
    there = np.array([rng.random(n) > 0.12, np.ones(n, np.bool_)])
    raw = np.where(there[:, :, None], raw, 0.0).astype(np.float32)
    image, title = (
        embedding_view(name, raw[side], there[side])
        for side, name in enumerate(["image", "title"])
    )
    further: dict[str, View] = {
        "raw": embedding_view("raw", np.concatenate([3 * raw[0], raw[1]], axis=1)),
        TFIDF: tfidf_view(products["title"]),
    }
    views = Views(image, title, comb_view([image, title]), further)
    return Market(products, split_listings(products), views)


def _title(row: int, group: int) -> str:
    """A title that says what it is, at times which one, and one of two quantities."""
    model = f" model {group}" if row % 3 else ""
    return f"kind {'abcdefgh'[group % 8] * 3}{model} {100 * (1 + row % 2)} g"
