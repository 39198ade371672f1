"""Exact nearest neighbours by cosine, and the two distances taken together."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from purchase_predictor.matching.views import Vectors, View

K = 51
"""Neighbours of a listing, itself included: groups end at 50."""

_COLUMNS_TOGETHER = 16
_ROWS_AT_ONCE = 512
_COSINES_AT_ONCE = 2**25
_NUMBERS_AT_ONCE = 2**23
_SPARSE_PAIRS_AT_ONCE = 2**17
_ABSENT, _ITSELF = -2.0, 2.0


@dataclass(frozen=True)
class Neighbours:
    """The nearest listings of each listing.

    Attributes:
        index: int32 [n, k], nearest first; the listing itself comes first whatever its
            duplicates, -1 stands where there are fewer than k.
        similarity: float32 [n, k], cosine; 1 for the listing itself, -1 where index is -1.
    """

    index: NDArray[np.int32]
    similarity: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.index)


def nearest(
    vectors: Vectors,
    *,
    k: int = K,
    present: NDArray[np.bool_] | None = None,
    starts: NDArray[np.int64] | None = None,
) -> Neighbours:
    """The k nearest listings of each listing by inner product, exactly.

    The product is taken in blocks of rows; of a block only the greatest cosine of every sixteen
    columns is sorted, since the k greatest of all lie in the k groups with the greatest heads.
    On two cores and 100,000 × 512 that took a third to a half of the time of faiss's exact index
    (`benchmarks/matching_scale.py` shows both), with the same neighbours.

    Args:
        vectors: float32 [n, d], rows L2-normalised; dense or sparse.
        k: neighbours of a listing, itself included.
        present: bool [n]; an absent listing has only itself and is nobody's neighbour. All are
            present where it is None.
        starts: where each gallery begins, if there are several side by side: a listing's
            neighbours are of its own gallery.

    Returns:
        The neighbours; equal cosines come in the order of the listings.

    Raises:
        ValueError: if k is not positive or `present` has another length.
    """
    n = vectors.shape[0]
    if k < 1:
        raise ValueError(f"k must be 1 or more, got {k}.")
    if present is not None and present.shape != (n,):
        raise ValueError(f"present must have shape ({n},), got {present.shape}.")
    everyone = np.arange(n) if present is None else np.flatnonzero(present)
    index, similarity = _alone(n, k)
    cuts = np.searchsorted(everyone, [0] if starts is None else starts)
    for rows in np.split(everyone, cuts[1:]):
        width = min(k, len(rows))
        if width > 1:
            searched = vectors if len(rows) == n else vectors[rows]
            for block, found, cosines in _search(searched, width):
                index[rows[block], :width] = rows[found]
                similarity[rows[block], :width] = np.clip(cosines, -1.0, 1.0)
    return Neighbours(index, similarity)


def product_distance(
    first: View,
    second: View,
    *,
    found: tuple[Neighbours, Neighbours] | None = None,
    k: int = K,
) -> Neighbours:
    """Neighbours by both views' distances taken together, D = D1 + D2 − D1·D2.

    Candidates are the neighbours in either view; the cosine of the view that did not find a pair
    is computed. A pair of which a listing lacks a view has the other view's distance alone.
    Distances above 1 count as 1, beyond which the formula would fall again.

    Args:
        first: a view of the listings.
        second: another view of the same listings.
        found: their neighbours, where these are known; searched otherwise.
        k: neighbours of a listing, itself included, in each view and in the result.

    Returns:
        The neighbours; similarity = 1 − D.

    Raises:
        ValueError: if the views have different lengths.
    """
    if len(first) != len(second):
        raise ValueError(f"The views must be equally long, got {len(first)} and {len(second)}.")
    n = len(first)
    found = found or (
        nearest(first.vectors, k=k, present=first.present),
        nearest(second.vectors, k=k, present=second.present),
    )
    row, column = _candidates(n, found)
    similarity = np.ones(len(row), dtype=np.float32)
    for view in (first, second):
        both = np.flatnonzero(view.present[row] & view.present[column])
        cosine = cosines_of(view.vectors, row[both], column[both])
        similarity[both] *= np.clip(cosine, 0.0, 1.0)
    # The listing itself comes before its duplicates.
    order = np.lexsort((column, -similarity, row != column, row))
    row, column, similarity = row[order], column[order], similarity[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < k
    joined = Neighbours(*_alone(n, k))
    joined.index[row[kept], place[kept]] = column[kept]
    joined.similarity[row[kept], place[kept]] = similarity[kept]
    joined.similarity[:, 0] = 1.0
    return joined


def cosines_of(
    vectors: Vectors, row: NDArray[np.integer], column: NDArray[np.integer]
) -> NDArray[np.float32]:
    """Inner products of pairs of rows, in blocks.

    Args:
        vectors: float32 [n, d].
        row: the first listing of each pair.
        column: the second.

    Returns:
        float32 [n_pairs].
    """
    products = np.empty(len(row), dtype=np.float32)
    dense = isinstance(vectors, np.ndarray)
    step = max(1, _NUMBERS_AT_ONCE // vectors.shape[1]) if dense else _SPARSE_PAIRS_AT_ONCE
    for start in range(0, len(row), step):
        block = slice(start, start + step)
        left, right = vectors[row[block]], vectors[column[block]]
        if dense:
            products[block] = np.einsum("nd,nd->n", left, right)
        else:
            products[block] = left.multiply(right).sum(axis=1)
    return products


def _alone(n: int, k: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Index and similarity of listings that have only themselves."""
    index = np.full((n, k), -1, dtype=np.int32)
    similarity = np.full((n, k), -1.0, dtype=np.float32)
    index[:, 0], similarity[:, 0] = np.arange(n), 1.0
    return index, similarity


def _candidates(
    n: int, found: tuple[Neighbours, Neighbours]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of listings that are neighbours in either view, each once."""
    pairs = []
    for neighbours in found:
        index = neighbours.index.astype(np.int64)
        row, place = np.nonzero(index >= 0)
        pairs.append(row * n + index[row, place])
    row, column = np.divmod(np.unique(np.concatenate(pairs)), max(1, n))
    return row, column


def _search(
    vectors: Vectors, k: int
) -> Iterator[tuple[slice, NDArray[np.int64], NDArray[np.float32]]]:
    """The k nearest of all rows, block by block: which rows, their neighbours, the cosines."""
    n = vectors.shape[0]
    together = max(1, min(_COLUMNS_TOGETHER, n // k))
    groups = -(-n // together)
    rows_at_once = max(1, min(_ROWS_AT_ONCE, n, _COSINES_AT_ONCE // (groups * together)))
    cosines = torch.full((rows_at_once, groups * together), _ABSENT)
    multiply = _multiplier(vectors)
    for start in range(0, n, rows_at_once):
        stop = min(start + rows_at_once, n)
        filled = cosines[: stop - start]
        multiply(slice(start, stop), filled[:, :n])
        itself = torch.arange(start, stop)
        filled[itself - start, itself] = _ITSELF
        found, values = _greatest(filled, k, groups)
        values[:, 0] = 1.0
        yield slice(start, stop), found.numpy(), values.numpy()


def _greatest(cosines: torch.Tensor, k: int, groups: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Columns and values of the k greatest cosines of each row, greatest first.

    Args:
        cosines: [rows, groups × together]; group g holds the columns g, g + groups, ….
        k: at most `groups`.
        groups: into how many the columns fall.
    """
    rows, columns = cosines.shape
    heads = cosines.view(rows, columns // groups, groups).amax(dim=1)
    best = heads.topk(k, dim=1, sorted=False).indices
    candidates = best[:, :, None] + torch.arange(0, columns, groups)
    candidates = candidates.view(rows, -1)
    at = cosines.gather(1, candidates).topk(k, dim=1, sorted=False).indices
    found = candidates.gather(1, at).sort(dim=1).values
    values, order = cosines.gather(1, found).sort(dim=1, descending=True, stable=True)
    return found.gather(1, order), values


def _multiplier(vectors: Vectors) -> Callable[[slice, torch.Tensor], None]:
    """What writes the inner products of some rows with all rows into a tensor."""
    if isinstance(vectors, np.ndarray):
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        dense = torch.from_numpy(rows if rows.flags.writeable else rows.copy())

        def multiply(block: slice, out: torch.Tensor) -> None:
            torch.mm(dense[block], dense.T, out=out)

        return multiply
    transposed = vectors.T.tocsr()

    def multiply_sparse(block: slice, out: torch.Tensor) -> None:
        out[:] = torch.from_numpy((vectors[block] @ transposed).toarray())

    return multiply_sparse
