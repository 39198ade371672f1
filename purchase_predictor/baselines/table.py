"""The design matrix of flat learners: everything the transformer sees, one row an impression.

Event order, word tokens and the list as a set have no flat form; their aggregates are among the
number columns. Of the embeddings of picture and title a table holds principal components.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.arrays import TRAIN, EncodedMarket, ProductArrays
from features.storage import BLOCK_ROWS

MARKET = "market"
CONTENT = ("text", "image")


@dataclass(frozen=True)
class TableColumn:
    """A column of the design matrix.

    Attributes:
        name: as it is printed.
        n_codes: size of the vocabulary, 0 for a number.
    """

    name: str
    n_codes: int = 0


@dataclass(frozen=True)
class Components:
    """Principal components of one kind of embedding.

    Attributes:
        mean: float32 [d].
        axes: float32 [d, n_components], orthonormal, the largest variance first.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]

    @classmethod
    def fit(cls, x: NDArray[np.float32], n_components: int) -> "Components":
        """Find the axes of `x` (float32 [n, d]); n_components at most."""
        mean = x.mean(axis=0, dtype=np.float64)
        centred = x - mean
        variances, axes = np.linalg.eigh(centred.T @ centred)
        kept = min(n_components, len(x) - 1, int((variances > 1e-9 * variances[-1]).sum()))
        axes = axes[:, ::-1][:, : max(kept, 0)]
        # an eigenvector's sign is arbitrary: the largest entry is made positive
        signs = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
        return cls(mean.astype(np.float32), np.ascontiguousarray(axes * signs, np.float32))

    def transform(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coordinates of `x` (float32 [n, d]), float32 [n, n_components]."""
        return np.matmul(x - self.mean, self.axes, dtype=np.float32)


class TableEncoder:
    """Turns `EncodedMarket` into a design matrix.

    Columns that never vary in the training rows are left out (a market's own model has no use
    for the market). Missing numbers are NaN, categories keep their codes.
    """

    def __init__(
        self, columns: tuple[TableColumn, ...], components: Mapping[str, Components]
    ) -> None:
        self.columns = columns
        self.components = dict(components)

    @classmethod
    def fit(cls, data: EncodedMarket, n_components: int) -> "TableEncoder":
        """Fit principal components and find the columns that vary, on TRAIN rows.

        Args:
            data: encoded rows.
            n_components: of each embedding, at most.
        """
        rows = np.flatnonzero(data.part == TRAIN)
        shown = np.unique(data.product[rows])
        components: dict[str, Components] = {}
        for kind in CONTENT:
            vectors = getattr(data.products, kind)
            known = shown[getattr(data.products, f"has_{kind}")[shown]]
            if vectors.shape[1] and len(known) > 1:
                components[kind] = Components.fit(vectors[known], n_components)
        every = cls(_all_columns(data, components), components)
        kept = _varies(every.transform(data, rows))
        columns = tuple(c for c, keep in zip(every.columns, kept, strict=True) if keep)
        return cls(columns, components)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    @property
    def categories(self) -> list[int]:
        """Places of the columns that hold codes."""
        return [place for place, column in enumerate(self.columns) if column.n_codes]

    def transform(
        self, data: EncodedMarket, rows: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.float32]:
        """The design matrix of some rows.

        Args:
            data: encoded rows, with the columns that were there at fit.
            rows: which of them; all by default.

        Returns:
            float32 [n, n_columns], in the order of `columns`.
        """
        places = np.arange(len(data))[rows]
        # a shard of a large data set shows few of its products
        shown, product = np.unique(data.product[places], return_inverse=True)
        per_product = _product_columns(data.products, self.components, shown)
        x = data.store.zeros((len(places), len(self.columns)), np.float32)
        for block in chunks(len(places), BLOCK_ROWS):
            values, its_product = _row_columns(data, places[block]), product[block]
            for place, column in enumerate(self.columns):
                found = values.get(column.name)
                x[block, place] = per_product[column.name][its_product] if found is None else found
        return x

    def to_dict(self) -> dict[str, Any]:
        """JSON-able state, without the arrays of `tensors`."""
        return {
            "columns": [asdict(column) for column in self.columns],
            "components": sorted(self.components),
        }

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Arrays of the state."""
        return {
            f"{kind}.{name}": array
            for kind, fitted in self.components.items()
            for name, array in (("mean", fitted.mean), ("axes", fitted.axes))
        }

    @classmethod
    def from_dict(
        cls, state: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
    ) -> "TableEncoder":
        """Undo `to_dict` and `tensors`."""
        return cls(
            tuple(TableColumn(**column) for column in state["columns"]),
            {
                kind: Components(tensors[f"{kind}.mean"], tensors[f"{kind}.axes"])
                for kind in state["components"]
            },
        )


def chunks(n: int, size: int) -> list[slice]:
    """Slices of at most `size` rows that cover `n`: all rows at once may not fit in memory."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _all_columns(
    data: EncodedMarket, components: Mapping[str, Components]
) -> tuple[TableColumn, ...]:
    products = data.products
    sizes = {
        MARKET: len(data.market_names),
        "product identity": int(products.identity.max(initial=0)) + 1,
        "product category": int(products.category.max(initial=0)) + 1,
        "product brand": int(products.brand.max(initial=0)) + 1,
        **{column.name: column.n_codes for column in data.category_columns},
    }
    none = np.zeros(0, np.int64)
    names = [*_row_columns(data, none), *_product_columns(products, components, none)]
    return tuple(TableColumn(name, sizes.get(name, 0)) for name in dict.fromkeys(names))


def _row_columns(data: EncodedMarket, rows: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    """Columns that differ from impression to impression."""
    numbers, categories, profile = (
        data.numbers[rows],
        data.categories[rows],
        data.row_profile[rows],
    )
    return {
        MARKET: data.market[rows],
        **{c.name: numbers[:, place] for place, c in enumerate(data.number_columns)},
        **{c.name: categories[:, place] for place, c in enumerate(data.category_columns)},
        **{f"profile {place}": profile[:, place] for place in range(profile.shape[1])},
    }


def _product_columns(
    products: ProductArrays, components: Mapping[str, Components], rows: NDArray[np.integer]
) -> dict[str, NDArray[np.generic]]:
    """Columns that belong to the product, one value for each of these rows of the catalogue."""
    has = {kind: getattr(products, f"has_{kind}")[rows] for kind in CONTENT}
    columns: dict[str, NDArray[np.generic]] = {
        "product identity": products.identity[rows],
        "product category": products.category[rows],
        "product brand": products.brand[rows],
        **{f"has {kind}": there for kind, there in has.items()},
    }
    for name, flags in zip(products.phrase_names, products.phrases[rows].T, strict=True):
        columns[f"phrase {name}"] = flags
    told = products.picture_phrases[rows].T
    for name, says in zip(products.picture_phrase_names, told, strict=True):
        columns[f"picture says {name}"] = np.where(has["image"], says, np.float32(np.nan))
    for kind, fitted in components.items():
        values = fitted.transform(getattr(products, kind)[rows])
        values[~has[kind]] = np.nan
        for place in range(values.shape[1]):
            columns[f"{kind} {place}"] = values[:, place]
    return columns


def _varies(x: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Columns with two values or more, NaN being one, bool [n_columns]."""
    low, high = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf)
    n_missing = np.zeros(x.shape[1], np.int64)
    for block in chunks(len(x), BLOCK_ROWS):
        missing = np.isnan(x[block])
        low = np.minimum(low, np.where(missing, np.inf, x[block]).min(axis=0))
        high = np.maximum(high, np.where(missing, -np.inf, x[block]).max(axis=0))
        n_missing += missing.sum(axis=0)
    return (low < high) | ((n_missing > 0) & (n_missing < len(x)))
