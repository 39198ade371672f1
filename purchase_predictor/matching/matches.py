"""Which listings are taken for the same product, and how often that is right."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from purchase_predictor.matching.neighbours import Neighbours

CAP = 50
"""Listings that a listing may match, itself included."""

Matches: TypeAlias = sparse.csr_array
"""float32 [n, n]: the similarity of each listing (row) with those it matches; the diagonal is 1,
the column indices of a row are sorted. A match need not be mutual."""


def keep(
    neighbours: Neighbours, threshold: float, *, second: float | None = None, cap: int = CAP
) -> Matches:
    """Neighbours that are near enough.

    Args:
        neighbours: of every listing.
        threshold: greatest distance, 1 − cosine, that is kept.
        second: greatest distance at which the nearest other listing is still kept (min2); None
            asks `threshold` of it too.
        cap: listings kept at most, the listing itself included.

    Returns:
        The matches; a listing always matches itself.

    Raises:
        ValueError: if cap is not positive.
    """
    if cap < 1:
        raise ValueError(f"cap must be 1 or more, got {cap}.")
    distance = 1.0 - neighbours.similarity
    kept = distance <= threshold
    if second is not None:
        kept[:, 1:2] |= distance[:, 1:2] <= second
    kept &= neighbours.index >= 0
    kept[:, cap:] = False
    kept[:, 0] = True
    n = len(neighbours)
    row, place = np.nonzero(kept)
    return _matches(row, neighbours.index[row, place], neighbours.similarity[row, place], n)


def union(*parts: Matches) -> Matches:
    """Pairs of any part, with the similarity of the first part that has the pair.

    Args:
        parts: matches of the same listings, in the order of trust in their similarity.

    Raises:
        ValueError: if there is no part or their shapes differ.
    """
    if not parts or len({part.shape for part in parts}) > 1:
        shapes = ", ".join(str(part.shape) for part in parts) or "none"
        raise ValueError(f"Matches to unite must be of the same listings, got {shapes}.")
    n = parts[0].shape[0]
    keys = np.concatenate([rows_of(part) * n + part.indices for part in parts])
    similarity = np.concatenate([part.data for part in parts])
    keys, first = np.unique(keys, return_index=True)
    row, column = np.divmod(keys, max(1, n))
    return _matches(row, column, similarity[first], n)


def capped(matches: Matches, cap: int = CAP) -> Matches:
    """The most similar matches of each listing, `cap` at most with itself."""
    if np.diff(matches.indptr).max(initial=0) <= cap:
        return matches
    row = rows_of(matches)
    order = np.lexsort((matches.indices, -matches.data, row != matches.indices, row))
    place = np.arange(len(row)) - matches.indptr[row]
    kept = order[place < cap]
    return _matches(row[kept], matches.indices[kept], matches.data[kept], matches.shape[0])


def f1_by_listing(matches: Matches, groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each listing's matches, 2|X ∩ Y| / (|X| + |Y|).

    Args:
        matches: X, the listings found for each.
        groups: int64 [n]; Y, the listings of the same group, itself included.

    Returns:
        float64 [n]; its mean is the figure of a gallery.

    Raises:
        ValueError: if the lengths differ.
    """
    n = matches.shape[0]
    if groups.shape != (n,):
        raise ValueError(f"groups must have shape ({n},), got {groups.shape}.")
    row = rows_of(matches)
    right = np.bincount(row[groups[row] == groups[matches.indices]], minlength=n)
    _, code, size = np.unique(groups, return_inverse=True, return_counts=True)
    return 2.0 * right / (np.diff(matches.indptr) + size[code])


def rows_of(matches: Matches) -> NDArray[np.int64]:
    """The row of each stored pair, int64 [n_pairs]; the column is `matches.indices`."""
    return np.repeat(np.arange(matches.shape[0], dtype=np.int64), np.diff(matches.indptr))


def _matches(
    row: NDArray[np.integer],
    column: NDArray[np.integer],
    similarity: NDArray[np.float32],
    n: int,
) -> Matches:
    """Matches of pairs that are sorted by row; a similarity of 0 stays a match."""
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=n))])
    matches = sparse.csr_array((similarity, column.astype(np.int32), starts), shape=(n, n))
    matches.sort_indices()
    return matches
