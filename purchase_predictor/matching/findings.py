"""What matching the whole catalogue finds: matches, categories, prices, suspects, examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from purchase_predictor.matching.bench import Bench, Views
from purchase_predictor.matching.gallery import Gallery, Split
from purchase_predictor.matching.ladder import Step
from purchase_predictor.matching.listings import Listings
from purchase_predictor.matching.matches import Matches, rows_of
from purchase_predictor.matching.neighbours import cosines_of
from purchase_predictor.matching.uses import (
    CategoryCheck,
    Evidence,
    category_check,
    clusters,
    price_spread,
    suggest_categories,
    suspects,
)
from purchase_predictor.matching.views import COMB

NEAR, FAR = 0.7, 1.5
"""A view's threshold times these: near enough to show the same thing, far enough not to."""


@dataclass(frozen=True)
class Findings:
    """The catalogue, matched.

    Attributes:
        matches: of all listings.
        table: what `matches.parquet` holds.
        spread: prices inside clusters, widest first.
        suspects: `row, title_like, picture_like, score`, most suspicious first.
        categories: how good suggested categories are; None where no category is known.
    """

    matches: Matches
    table: pl.DataFrame
    spread: pl.DataFrame
    suspects: pl.DataFrame
    categories: CategoryCheck | None


def find(
    listings: Listings, views: Views, best: Step, alone: dict[str, float], *, k: int, cap: int
) -> Findings:
    """Match the whole catalogue and draw the uses from it.

    Args:
        listings: of the catalogue.
        views: of all listings, by the encoders that are kept.
        best: the rung that matches, with its thresholds.
        alone: thresholds of the image and title views when used alone.
        k: neighbours of a listing that are looked at.
        cap: listings that a listing may match, itself included.
    """
    bench = whole_bench(listings, views, k=k)
    matches = best.rung.strategy.match(bench, best.thresholds, cap)
    products = listings.products
    cluster = labelled_clusters(matches, listings.split)
    ids = products["product_id"]
    spread = price_spread(cluster, ids, listings.prices)
    widest = spread.unique("cluster", keep="first", maintain_order=True).select(
        "cluster", "price_low", "price_high", price_spread="spread", price_market="market"
    )
    found = _suspects(bench, matches, alone)
    doubts = found.select(
        pl.col("row").cast(pl.Int64),
        title_like=ids.gather(found["title_like"]),
        picture_like=ids.gather(found["picture_like"]),
        suspect_score="score",
    )
    category, neighbours = products["category"], bench.neighbours(COMB)
    table = (
        pl.DataFrame(
            {
                "product_id": ids,
                "matches": _lists(ids, matches),
                "n_matches": np.diff(matches.indptr).astype(np.int64),
                "cluster": cluster,
                "row": np.arange(len(ids)),
            }
        )
        .hstack(suggest_categories(category, neighbours))
        .join(widest, on="cluster", how="left", maintain_order="left")
        .join(doubts, on="row", how="left", maintain_order="left")
        .drop("row")
    )
    # Its duplicates may not vote, found or not, or the check would measure how they are found.
    same = _joined(cluster, listings.split.truth)
    known = category.null_count() < len(category)
    check = category_check(category, neighbours, exclude=same) if known else None
    return Findings(matches, table, spread, found, check)


def labelled_clusters(matches: Matches, split: Split) -> NDArray[np.int64]:
    """Clusters of near duplicates that never join two match groups.

    Listings of one match group are joined where they match mutually, and so are listings without
    one. Each cluster of the latter then joins the labelled cluster of its most similar match, and
    no other: it would bridge what is labelled as two products.

    Args:
        matches: of the catalogue.
        split: its match groups.

    Returns:
        int64 [n], numbered in the order of their first listings.
    """
    row, column, grouped = rows_of(matches), matches.indices, split.grouped
    same = np.where(grouped[row], split.truth[row] == split.truth[column], ~grouped[column])
    pairs = (matches.data[same], (row[same], column[same]))
    cluster = clusters(csr_array(pairs, shape=matches.shape))
    linked = csr_array((np.ones(matches.nnz), column, matches.indptr), shape=matches.shape)
    mutual = matches.multiply(linked.T).tocoo()
    across = ~grouped[mutual.row] & grouped[mutual.col]
    own, other = cluster[mutual.row[across]], cluster[mutual.col[across]]
    order = np.lexsort((other, -mutual.data[across], own))
    joining, first = np.unique(own[order], return_index=True)
    target = np.arange(len(cluster))
    target[joining] = other[order][first]
    _, first, place = np.unique(target[cluster], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int64)


def right_pairs(matches: Matches, split: Split) -> tuple[int, int]:
    """How many matched pairs of labelled listings are of one match group, and how many there are.

    Each direction counts, a listing with itself does not.
    """
    row = rows_of(matches)
    counted = (row != matches.indices) & split.grouped[row] & split.grouped[matches.indices]
    same = split.truth[row] == split.truth[matches.indices]
    return int((counted & same).sum()), int(counted.sum())


def _joined(*groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Components of listings that share a group in any of the groupings, int64 [n]."""
    n = len(groups[0])
    rows, columns, n_nodes = [], [], n
    for group in groups:
        _, code = np.unique(group, return_inverse=True)
        rows.append(np.arange(n))
        columns.append(code + n_nodes)
        n_nodes += int(code.max(initial=-1)) + 1
    row, column = np.concatenate(rows), np.concatenate(columns)
    edges = csr_array((np.ones(len(row)), (row, column)), shape=(n_nodes, n_nodes))
    return connected_components(edges, directed=False)[1][:n].astype(np.int64)


def whole_bench(listings: Listings, views: Views, *, k: int) -> Bench:
    """The whole catalogue as one gallery."""
    split, n = listings.split, len(listings)
    gallery = Gallery(np.arange(n), split.truth, split.key, split.grouped)
    return Bench([gallery], views, listings.products["title"], k=k)


@dataclass(frozen=True)
class Example:
    """Two listings of a test gallery, matched or not.

    Attributes:
        kind: `match`, `missed` or `false`.
        left: row of a listing in the catalogue.
        right: row of another.
        similarity: view → cosine; None where a listing lacks the view.
    """

    kind: str
    left: int
    right: int
    similarity: dict[str, float | None]


def examples(
    bench: Bench, rows: NDArray[np.int64], matches: Matches, *, n_each: int
) -> list[Example]:
    """Pairs worth looking at: hard ones that were found, and the nearest mistakes of either kind.

    Args:
        bench: of test galleries.
        rows: the bench's listings in the catalogue.
        matches: of the bench.
        n_each: pairs of each kind at most, no two of the same groups.
    """
    left, right = rows_of(matches), matches.indices.astype(np.int64)
    pairs = {
        "match": _ordered(bench, left, right, same=True, nearest_first=False),
        "missed": _ordered(bench, *_absent(bench, matches), same=True, nearest_first=True),
        "false": _ordered(bench, left, right, same=False, nearest_first=True),
    }
    chosen = []
    for kind, (first, second) in pairs.items():
        kept = _one_a_group(bench.truth, first, second)[:n_each]
        for place in kept:
            a, b = int(first[place]), int(second[place])
            chosen.append(Example(kind, int(rows[a]), int(rows[b]), _similarity(bench, a, b)))
    return chosen


def _ordered(
    bench: Bench,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    *,
    same: bool,
    nearest_first: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of scored listings, each once, ordered by the cosine of the comb view."""
    kept = (left < right) & (bench.scored[left] & bench.scored[right])
    kept &= (bench.truth[left] == bench.truth[right]) == same
    left, right = left[kept], right[kept]
    cosine = cosines_of(bench.views.of(COMB).vectors, left, right)
    order = np.argsort(-cosine if nearest_first else cosine, kind="stable")
    return left[order], right[order]


def _absent(bench: Bench, matches: Matches) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of one group that are not matched in either direction."""
    frame = pl.DataFrame({"group": bench.truth, "row": np.arange(len(bench))})
    pairs = (
        frame.join(frame, on="group", suffix="_right")
        .filter(pl.col("row") < pl.col("row_right"))
        .select("row", "row_right")
    )
    left, right = pairs["row"].to_numpy(), pairs["row_right"].to_numpy()
    n = len(bench)
    linked = rows_of(matches) * n + matches.indices
    found = np.isin(left * n + right, linked) | np.isin(right * n + left, linked)
    return left[~found], right[~found]


def _one_a_group(
    truth: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Places of the first pair of each pair of groups, in order."""
    low, high = np.minimum(truth[left], truth[right]), np.maximum(truth[left], truth[right])
    _, first = np.unique(np.stack([low, high]), axis=1, return_index=True)
    return np.sort(first)


def _similarity(bench: Bench, left: int, right: int) -> dict[str, float | None]:
    pair = np.array([left]), np.array([right])
    found: dict[str, float | None] = {}
    for name in ("image", "title", "tfidf"):
        if bench.views.has(name):
            view = bench.views.of(name)
            both = view.present[left] and view.present[right]
            found[name] = float(cosines_of(view.vectors, *pair)[0]) if both else None
    return found


def _suspects(bench: Bench, matches: Matches, alone: dict[str, float]) -> pl.DataFrame:
    """Listings with the title of one product and the picture of another."""
    both = bench.views.has("image") and bench.views.has("title")
    # A view in which nothing is near enough to match is no evidence for anything.
    if not both or min(alone["image"], alone["title"]) <= 0.0:
        none: Sequence[Any] = []
        return pl.DataFrame(
            {"row": none, "title_like": none, "picture_like": none, "score": none},
            schema={
                "row": pl.Int64,
                "title_like": pl.Int64,
                "picture_like": pl.Int64,
                "score": pl.Float64,
            },
        )
    title, image = (_evidence(bench, name, alone[name]) for name in ("title", "image"))
    return suspects(title, image, matches)


def _evidence(bench: Bench, name: str, threshold: float) -> Evidence:
    far = min(FAR * threshold, 1.0)
    return Evidence(bench.views.of(name), bench.neighbours(name), min(NEAR * threshold, far), far)


def _lists(ids: pl.Series, matches: Matches) -> pl.Series:
    """Ids of the listings each listing matches, itself first, then the most similar."""
    row = rows_of(matches)
    order = np.lexsort((matches.indices, -matches.data, row != matches.indices, row))
    found = pl.DataFrame({"row": row, "id": ids.gather(matches.indices[order])})
    return found.group_by("row", maintain_order=True).agg("id")["id"]
