"""What the data decide of the model: vocabulary sizes, columns that vary, bins, base rate."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rtdl_num_embeddings import compute_bins
from torch import Tensor

from features.arrays import TRAIN, EncodedMarket
from features.storage import column_by_column
from purchase_predictor.model.inputs import FusionShape

BIN_ROWS = 100_000


@dataclass(frozen=True)
class ContentSizes:
    """Vocabulary sizes that the arrays themselves do not tell.

    Attributes:
        n_identities: codes of product ids.
        n_categories: codes of product categories.
        n_brands: codes of brands.
        n_word_pieces: codes of word pieces, 0 without titles.
    """

    n_identities: int
    n_categories: int
    n_brands: int
    n_word_pieces: int


def shape_of(data: EncodedMarket, sizes: ContentSizes) -> FusionShape:
    """The model's shape for some data; columns that never vary in training are left out."""
    kept = varying_numbers(data)
    return FusionShape(
        n_identities=sizes.n_identities,
        n_categories=sizes.n_categories,
        n_brands=sizes.n_brands,
        n_word_pieces=sizes.n_word_pieces if data.products.words.shape[1] else 0,
        n_phrases=data.products.phrases.shape[1] if data.products.words.shape[1] else 0,
        n_picture_phrases=data.products.picture_phrases.shape[1],
        d_text=data.products.text.shape[1],
        d_image=data.products.image.shape[1],
        n_event_types=data.events.n_types,
        n_markets=len(data.market_names),
        n_dimensions=data.row_profile.shape[1],
        numbers=tuple(c for c, keep in zip(data.number_columns, kept, strict=True) if keep),
        categories=data.category_columns,
    )


def converted_rate(data: EncodedMarket) -> float:
    """Share of training rows that converted; one more of each class keeps it off 0 and 1."""
    converted = data.converted[data.part == TRAIN]
    return float((converted.sum() + 1) / (len(converted) + 2))


def varying_numbers(data: EncodedMarket) -> NDArray[np.bool_]:
    """Number columns with at least two known values in training rows, bool [n_numbers]."""
    rows = data.part == TRAIN
    known = (column[rows & ~np.isnan(column)] for column in column_by_column(data.numbers))
    return np.array([len(x) > 0 and x.min() < x.max() for x in known], bool)


def number_bins(x: NDArray[np.float32], n_bins: int, seed: int) -> list[Tensor]:
    """Quantile edges of each column's known values.

    Args:
        x: float32 [n, n_numbers], training rows, NaN where missing.
        n_bins: at most.
        seed: of the rows drawn where there are many.
    """
    generator = np.random.default_rng(seed)
    return [
        _column_bins(column[~np.isnan(column)], n_bins, generator)
        for column in column_by_column(x)
    ]


def _column_bins(
    values: NDArray[np.float32], n_bins: int, generator: np.random.Generator
) -> Tensor:
    distinct = torch.from_numpy(np.unique(values))
    if len(distinct) <= n_bins:  # a flag or a small count: its values are the edges
        return distinct
    drawn = values
    if len(values) > BIN_ROWS:
        drawn = generator.choice(values, BIN_ROWS, replace=False)
        # a rare value may not be drawn, and the ends of the range must not be lost
        drawn = np.append(drawn, [values.min(), values.max()])
    with warnings.catch_warnings():
        # most values are equal, and one bin is then what the quantiles give
        warnings.filterwarnings("ignore", message=".*just two bin edges")
        return compute_bins(torch.from_numpy(drawn)[:, None], n_bins)[0]
