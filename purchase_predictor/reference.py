"""What inputs and scores looked like when the model was judged: scoring compares with that.

The histograms are of test rows, and travel with the model as `reference.json`. Training rows
would not do: what is counted so far (popularity) or cross-fitted (next-click scores) has other
values in them than in any later row, and scores of rows that a system learned from are spread
wider than later ones. Test rows are encoded as rows that are scored, and the figures of a model
hold for rows like these. Counting is addition, so shards count apart and are summed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.arrays import MISSING, N_RESERVED, TEST, UNSEEN, EncodedMarket
from purchase_predictor.evaluation.stability import bin_counts, quantile_edges

MAX_CODES = 20
"""Categories with a bin of their own, the commonest ones; the others share one."""

REFERENCE_ROWS = 20_000
"""Test rows that later drift is told from, about."""

Histogram = list[int]
"""Rows in each bin, then those in which the value is missing, then those in which it is unseen."""


@dataclass
class Counts:
    """Rows counted; sums of shards are the counts of all.

    Attributes:
        n: rows.
        inputs: histogram of each input.
        scores: rows in each bin of the scores, by system.
        flags: rows that raise each flag.
    """

    n: int = 0
    inputs: dict[str, Histogram] = field(default_factory=dict)
    scores: dict[str, list[int]] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Counts") -> None:
        """Count the rows of another one too."""
        self.n += other.n
        for mine, new in ((self.inputs, other.inputs), (self.scores, other.scores)):
            for name, counts in new.items():
                before = mine.get(name, [0] * len(counts))
                mine[name] = [a + b for a, b in zip(before, counts, strict=True)]
        for name, count in other.flags.items():
            self.flags[name] = self.flags.get(name, 0) + count


@dataclass(frozen=True)
class Reference:
    """Bins and counts of test rows.

    Attributes:
        edges: inner edges of the bins of each number.
        codes: of each category, those with a bin of their own; the last bin holds the others.
        score_edges: inner edges of the bins of each system's scores.
        counts: of the rows.
    """

    edges: dict[str, list[float]]
    codes: dict[str, list[int]]
    score_edges: dict[str, list[float]]
    counts: Counts

    @classmethod
    def fit(cls, data: EncodedMarket, scores: Mapping[str, NDArray[np.float64]]) -> Self:
        """Choose bins and count.

        Args:
            data: n rows that no system has learned from.
            scores: of each system on them, float64 [n].
        """
        edges = {}
        for name, values in _numbers(data).items():
            there = values[~np.isnan(values)]
            edges[name] = quantile_edges(there).tolist() if len(there) else []
        codes = {name: _commonest(values) for name, values in _categories(data).items()}
        score_edges = {name: quantile_edges(p).tolist() for name, p in scores.items()}
        counts = cls(edges, codes, score_edges, Counts()).count(data, scores)
        return cls(edges, codes, score_edges, counts)

    def count(self, data: EncodedMarket, scores: Mapping[str, NDArray[np.float64]]) -> Counts:
        """Count rows in these bins.

        Args:
            data: encoded rows.
            scores: by system, float64 [n].
        """
        inputs = {
            name: _counted_numbers(np.array(self.edges[name]), values)
            for name, values in _numbers(data).items()
        } | {
            name: _counted_codes(self.codes[name], values)
            for name, values in _categories(data).items()
        }
        return Counts(
            n=len(data.row),
            inputs=inputs,
            scores={
                name: bin_counts(np.array(self.score_edges[name]), p).tolist()
                for name, p in scores.items()
            },
            flags={name: int(raised.sum()) for name, raised in data.flags.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Undo `to_dict`.

        Raises:
            TypeError: a key is missing or unknown.
        """
        return cls(**{**values, "counts": Counts(**values["counts"])})


def some_held_out(data: EncodedMarket, *, seed: int) -> EncodedMarket:
    """Test rows to tell later drift from: those of some users where there are many.

    Of markets that training saw, where there are any: others are no drift but another market.

    Args:
        data: encoded rows, of TEST some.
        seed: of the users drawn.
    """
    held = data.part == TEST
    known = held & (data.market != UNSEEN)
    held = known if known.any() else held
    share = min(1.0, REFERENCE_ROWS / max(1, int(held.sum())))
    units = np.unique(data.unit[held])
    some = np.random.default_rng(seed).random(len(units)) < share
    some[0] = True  # one at least
    return data.select(held & np.isin(data.unit, units[some]))


def _numbers(data: EncodedMarket) -> dict[str, NDArray[np.float64]]:
    """Number columns by name, float64 [n] each; infinite is a value like another."""
    return {
        column.name: data.numbers[:, place].astype(np.float64)
        for place, column in enumerate(data.number_columns)
    }


def _categories(data: EncodedMarket) -> dict[str, NDArray[np.int32]]:
    """Codes by name, int32 [n] each; those of the product shown are among them."""
    products = data.products
    own = {
        column.name: data.categories[:, place]
        for place, column in enumerate(data.category_columns)
    }
    return own | {
        "market": data.market,
        "product category": products.category[data.product],
        "product brand": products.brand[data.product],
    }


def _commonest(codes: NDArray[np.int32]) -> list[int]:
    values, counts = np.unique(codes[codes >= N_RESERVED], return_counts=True)
    return sorted(values[np.argsort(-counts, kind="stable")[:MAX_CODES]].tolist())


def _counted_numbers(edges: NDArray[np.float64], values: NDArray[np.float64]) -> Histogram:
    missing = np.isnan(values)
    return [*bin_counts(edges, values[~missing]).tolist(), int(missing.sum()), 0]


def _counted_codes(own: list[int], codes: NDArray[np.int32]) -> Histogram:
    counts = [int((codes == code).sum()) for code in own]
    missing, unseen = (int((codes == code).sum()) for code in (MISSING, UNSEEN))
    return [*counts, len(codes) - sum(counts) - missing, missing, unseen]
