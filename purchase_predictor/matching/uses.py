"""Uses of matching beyond duplicates: categories, price spread and listings that look like spam.

The uses are those that "From Embeddings to Matches" names.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from purchase_predictor.matching.matches import Matches, rows_of
from purchase_predictor.matching.neighbours import Neighbours, cosines_of
from purchase_predictor.matching.views import View

BANDS = (0.0, 0.5, 0.7, 0.9, 1.0)
"""Edges of the confidence bands of `category_check`."""


@dataclass(frozen=True)
class CategoryCheck:
    """How good suggested categories are where the category is known.

    Attributes:
        n_known: listings whose category is known.
        n_suggested: those of them that get a suggestion.
        coverage: n_suggested / n_known; None where no category is known.
        accuracy: share of the suggestions that are right; None where there is none.
        commonest: accuracy of always naming the commonest category, on the same listings.
        bands: `confidence_low, confidence_high, n_listings, confidence, accuracy`, a row for each
            band of confidence with a suggestion in it: `confidence` is the mean. Confidence can
            be read as a probability where `accuracy` is close to it.
        judged: `row, confidence, right` of each listing with a known and a suggested category.
    """

    n_known: int
    n_suggested: int
    coverage: float | None
    accuracy: float | None
    commonest: float | None
    bands: pl.DataFrame
    judged: pl.DataFrame


@dataclass(frozen=True)
class Evidence:
    """A view with its neighbours, and what counts as near and as far in it.

    Attributes:
        view: vectors of the listings.
        neighbours: nearest in this view.
        near: cosine distance up to which a neighbour shows or names the same thing.
        far: cosine distance from which two listings show or name different things.
    """

    view: View
    neighbours: Neighbours
    near: float
    far: float

    def __post_init__(self) -> None:
        if self.near > self.far:
            raise ValueError(f"near is {self.near}; it must be at most far, {self.far}.")

    def distance(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float32]:
        """Cosine distance of pairs of listings, float32 [n_pairs]."""
        return np.float32(1) - cosines_of(self.view.vectors, left, right)


@dataclass(frozen=True)
class _Votes:
    """Votes of neighbours: each has the voted-for listing, the voter, a choice and a weight."""

    row: NDArray[np.int64]
    voter: NDArray[np.int64]
    choice: NDArray[np.int64]
    weight: NDArray[np.float64]

    def count(self, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Add up the weights.

        Args:
            n: listings.

        Returns:
            The winning choice (int64 [n]; the nearest voter's where two are equal), its nearest
            voter (int64 [n]) and its share of the weight (float64 [n]); -1, -1 and NaN where
            nobody votes.
        """
        winner, voter, share = np.full(n, -1), np.full(n, -1), np.full(n, np.nan)
        if not len(self.row):
            return winner, voter, share
        key = self.row * (self.choice.max() + 1) + self.choice
        _, first, place = np.unique(key, return_index=True, return_inverse=True)
        weight = np.bincount(place, weights=self.weight)
        total = np.bincount(self.row, weights=self.weight, minlength=n)
        # the last writer wins: the heaviest choice and, among equals, that of the nearest voter
        order = np.lexsort((-first, weight))
        row = self.row[first][order]
        winner[row] = self.choice[first][order]
        voter[row] = self.voter[first][order]
        share[row] = weight[order] / total[row]
        return winner, voter, share


def suggest_categories(
    category: pl.Series,
    neighbours: Neighbours,
    *,
    n_votes: int = 10,
    exclude: NDArray[np.int64] | None = None,
) -> pl.DataFrame:
    """Category of each listing by the vote of its nearest neighbours.

    A neighbour's vote weighs its cosine; one that is no nearer than a right angle has none. The
    listing itself never votes, so a known category is hidden from its own suggestion.

    Args:
        category: null where unknown [n].
        neighbours: in any view.
        n_votes: how many neighbours vote, the nearest with a category.
        exclude: groups [n]; listings of a listing's own group do not vote for it. A check on
            known categories needs this, or it measures how well duplicates are found.

    Returns:
        `suggested_category` and `category_confidence` (the winner's share of the weight), a row
        for each listing; null where no neighbour votes.
    """
    names = category.drop_nulls().unique().sort()
    code = category.rank("dense").cast(pl.Int64).fill_null(0).to_numpy() - 1
    row, place = _others(neighbours, exclude)
    voter = neighbours.index[row, place].astype(np.int64)
    weight = neighbours.similarity[row, place]
    entitled = (code[voter] >= 0) & (weight > 0)
    row, voter, weight = row[entitled], voter[entitled], weight[entitled]
    among = _number_in_run(row) < n_votes
    votes = _Votes(row[among], voter[among], code[voter[among]], weight[among].astype(float))
    winner, _, share = votes.count(len(category))
    chosen = pl.Series(winner, dtype=pl.Int64).replace(-1, None)
    return pl.DataFrame(
        {
            "suggested_category": names.gather(chosen),
            "category_confidence": pl.Series(share, nan_to_null=True),
        }
    )


def category_check(
    category: pl.Series,
    neighbours: Neighbours,
    *,
    n_votes: int = 10,
    exclude: NDArray[np.int64] | None = None,
    bands: Sequence[float] = BANDS,
) -> CategoryCheck:
    """Suggest the categories that are known, each hidden from itself, and compare.

    Args:
        category: null where unknown [n].
        neighbours: in any view.
        n_votes: as in `suggest_categories`.
        exclude: as in `suggest_categories`.
        bands: increasing edges from 0 to 1 of the bands of confidence; a band has its lower edge,
            the last one both.
    """
    suggestions = suggest_categories(category, neighbours, n_votes=n_votes, exclude=exclude)
    known = (
        suggestions.with_columns(category=category)
        .with_row_index("row")
        .filter(pl.col("category").is_not_null())
    )
    judged = known.drop_nulls("suggested_category").select(
        "row",
        confidence="category_confidence",
        right=pl.col("suggested_category") == pl.col("category"),
        band=pl.col("category_confidence").map_batches(
            lambda share: pl.Series(np.digitize(share.to_numpy(), bands[1:-1])),
            return_dtype=pl.Int64,
        ),
    )
    edges = pl.DataFrame(
        {
            "band": np.arange(len(bands) - 1),
            "confidence_low": list(bands[:-1]),
            "confidence_high": list(bands[1:]),
        }
    )
    counted = judged.group_by("band").agg(
        n_listings=pl.len(),
        confidence=pl.col("confidence").mean(),
        accuracy=pl.col("right").mean(),
    )
    named = known.drop_nulls("suggested_category")["category"]
    counts = named.value_counts()["count"].to_numpy()
    return CategoryCheck(
        n_known=len(known),
        n_suggested=len(judged),
        coverage=len(judged) / len(known) if len(known) else None,
        accuracy=float(judged["right"].sum() / len(judged)) if len(judged) else None,
        commonest=float(counts.max() / len(named)) if len(named) else None,
        bands=edges.join(counted, on="band").sort("band").drop("band"),
        judged=judged.select("row", "confidence", "right"),
    )


def clusters(matches: Matches) -> NDArray[np.int64]:
    """Clusters of near duplicates: connected components over mutual matches.

    A match is mutual where each of the two is among the matches of the other. One-sided matches
    are left out, since a component is a chain: a listing of a dense region is within reach of
    many that have nearer neighbours of their own, and a few such one-sided steps join products
    that nobody takes for the same.

    Args:
        matches: of any strategy.

    Returns:
        int64 [n], the number of each listing's cluster; clusters are numbered in the order of
        their first listings, and a listing without a mutual match is a cluster of its own.
    """
    linked = sparse.csr_array(
        (np.ones(matches.nnz, bool), matches.indices, matches.indptr), shape=matches.shape
    )
    _, label = connected_components(linked.multiply(linked.T), directed=False)
    _, first, place = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int64)


def price_spread(
    cluster: NDArray[np.int64], product_id: pl.Series, prices: pl.DataFrame
) -> pl.DataFrame:
    """How far the prices of one thing lie apart.

    Prices of two markets are in two currencies and never compared. A listing that had several
    prices in a market counts with their median, so that a week's offer is no spread. Prices that
    are not positive and finite are left out.

    Args:
        cluster: of `clusters` [n].
        product_id: of the listings [n].
        prices: `product_id`, `market` (null where unknown) and `price`; any number of rows for a
            listing. Rows of a product that is not among the listings are not used.

    Returns:
        `cluster, market, n_listings, price_low, price_high, spread` (highest / lowest - 1), a row
        for each cluster and market with two or more priced listings; widest spread first.
    """
    listings = pl.DataFrame({"product_id": product_id, "cluster": cluster})
    price = pl.col("price")
    priced = prices.filter(price.is_finite() & (price > 0))
    return (
        priced.group_by("product_id", "market")
        .agg(price.median())
        .join(listings, on="product_id")
        .group_by("cluster", "market")
        .agg(
            n_listings=pl.len(),
            price_low=price.min(),
            price_high=price.max(),
        )
        .filter(pl.col("n_listings") > 1)
        .with_columns(spread=pl.col("price_high") / pl.col("price_low") - 1)
        .sort("spread", "cluster", "market", descending=[True, False, False])
    )


def suspects(titles: Evidence, pictures: Evidence, matches: Matches) -> pl.DataFrame:
    """Listings whose title is that of one group and whose picture that of another.

    A suspect has near neighbours by title and near neighbours by picture, and no group has both.
    Groups are the clusters of `matches` without the listings in doubt: a listing that matches one
    product by its title and another by its picture would itself join the two.

    What looks alike but is innocent scores low or is left out. One photo for all models of a
    thing: the titles resemble one another, so they are not far. A stand-in photo, a size chart, a
    generic title: their near neighbours are of many groups, and each view weighs as much as its
    commonest group has of its neighbours. A listing without title or picture says nothing, nor
    does a neighbour that lacks what would have to differ. Two listings with the same title and the
    same picture clear one another. Where two groups share one picture and neither has it twice,
    both owners are suspects: nothing tells who had it first.

    A suspect is a listing to look at, no verdict. A view of words takes the same thing in other
    words, or in another language, for another thing: of the eight suspects among Shopee's 6,928
    validation listings by TF-IDF and picture hashes, the picture was right in seven.

    Args:
        titles: the title view; `near` tight, `far` well beyond the title view's own threshold.
        pictures: the image view, likewise.
        matches: of the strategy that is used, over the same listings.

    Returns:
        `row, title_like, picture_like, score`: numbers of the listing, of its nearest neighbour in
        the group that the title names and of that in the group that the picture shows; highest
        score first. The score, in [0, 1], is the product of the cosine of either likeness, of the
        distances of what should be alike but is not (its title from that of the picture's like,
        its picture from that of the title's like; at most 1 each) and of both groups' shares.
    """
    n = len(titles.neighbours.index)
    named, shown = _near(titles), _near(pictures)
    suspected = _in_two_places(named, shown, np.arange(n), n)
    suspected = _judge(titles, pictures, np.arange(n), suspected)["row"].to_numpy()
    in_doubt = np.isin(np.arange(n), suspected)
    group = clusters(_without(matches, in_doubt))
    in_doubt &= _in_two_places(named, shown, group, n)
    found = _judge(titles, pictures, group, in_doubt)
    return found.sort("score", "row", descending=[True, False])


def _judge(
    titles: Evidence,
    pictures: Evidence,
    group: NDArray[np.int64],
    in_doubt: NDArray[np.bool_],
) -> pl.DataFrame:
    """Score the listings in doubt, and keep those whose title and picture are far from the other.

    Returns:
        The columns of `suspects`.
    """
    n = len(group)
    _, title_like, title_share = _by_group(_near(titles), group, n)
    _, picture_like, picture_share = _by_group(_near(pictures), group, n)
    row = np.flatnonzero(in_doubt)
    a, b = title_like[row], picture_like[row]
    title_apart, picture_apart = titles.distance(row, b), pictures.distance(row, a)
    apart = (title_apart >= titles.far) & (picture_apart >= pictures.far)
    apart &= titles.view.present[b] & pictures.view.present[a]
    factors = [
        1 - np.clip(titles.distance(row, a), 0, 1),
        1 - np.clip(pictures.distance(row, b), 0, 1),
        np.clip(title_apart, 0, 1),
        np.clip(picture_apart, 0, 1),
        title_share[row],
        picture_share[row],
    ]
    score = np.prod(np.array(factors, float), axis=0)
    columns = {"row": row, "title_like": a, "picture_like": b, "score": score}
    return pl.DataFrame(columns).filter(pl.Series(apart, dtype=pl.Boolean))


def _others(
    neighbours: Neighbours, exclude: NDArray[np.int64] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cells of the neighbours but for the listing itself and its group, row by row, nearest first.

    Returns:
        Row and column of each cell, int64 [n_cells] both.
    """
    index = neighbours.index
    own = np.arange(len(index))
    other = (index >= 0) & (index != own[:, None])
    if exclude is not None:
        other &= exclude[index] != exclude[:, None]
    row, place = np.nonzero(other)
    return row, place


def _number_in_run(row: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, 2, … within each run of equal numbers."""
    start = np.searchsorted(row, row, "left")
    return np.arange(len(row)) - start


def _near(evidence: Evidence) -> _Votes:
    """The neighbours within `near`, each with itself as its choice."""
    row, place = _others(evidence.neighbours, None)
    voter = evidence.neighbours.index[row, place].astype(np.int64)
    weight = evidence.neighbours.similarity[row, place].astype(float)
    near = (1 - weight <= evidence.near) & (weight > 0)
    return _Votes(row[near], voter[near], voter[near], weight[near])


def _by_group(
    votes: _Votes, group: NDArray[np.int64], n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The vote on the group that neighbours belong to: winner, nearest voter and share."""
    return _Votes(votes.row, votes.voter, group[votes.voter], votes.weight).count(n)


def _in_two_places(
    named: _Votes, shown: _Votes, group: NDArray[np.int64], n: int
) -> NDArray[np.bool_]:
    """Which listings have near neighbours in both views, and no group has some of both."""
    has_both = np.zeros(n, bool)
    has_both[np.intersect1d(named.row, shown.row)] = True
    by_title, by_picture = (votes.row * n + group[votes.voter] for votes in (named, shown))
    has_both[np.intersect1d(by_title, by_picture) // n] = False
    return has_both


def _without(matches: Matches, listings: NDArray[np.bool_]) -> Matches:
    """The matches among the other listings; these ones match nothing."""
    row, column = rows_of(matches), matches.indices
    kept = ~(listings[row] | listings[column])
    pairs = (matches.data[kept], (row[kept], column[kept]))
    return sparse.csr_array(pairs, shape=matches.shape)
