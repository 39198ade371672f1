"""The catalogue while shards are scored: wide arrays on disk, of which a shard takes its rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import ProductArrays
from purchase_predictor.training.preparation import EncodedCatalogue

WIDE = ("words", "text", "image", "phrases", "picture_phrases")
"""A kilobyte a listing, where all the rest is some dozen bytes."""


class StoredCatalogue:
    """An encoded catalogue, the wide arrays of which lie in a folder.

    They are mapped only while rows are taken: what is mapped counts as memory of the process.

    Args:
        products: the checked table.
        narrow: the catalogue, its wide arrays without columns.
        folder: of the wide arrays.
    """

    def __init__(self, products: pl.DataFrame, narrow: EncodedCatalogue, folder: Path) -> None:
        self.products, self.narrow, self.folder = products, narrow, folder

    @classmethod
    def store(cls, products: pl.DataFrame, catalogue: EncodedCatalogue, folder: Path) -> Self:
        """Write the wide arrays of a catalogue.

        Args:
            products: the checked table.
            catalogue: of its rows.
            folder: is made.
        """
        folder.mkdir(parents=True)
        for name in WIDE:
            np.save(folder / f"{name}.npy", getattr(catalogue.whole, name))
        narrow = EncodedCatalogue(_narrow(catalogue.told), _narrow(catalogue.whole))
        return cls(products, narrow, folder)

    def of(self, shown: pl.Series) -> tuple[pl.DataFrame, EncodedCatalogue]:
        """The products of some ids, and what is known of them.

        Args:
            shown: ids, repeated or null or unknown as they come.
        """
        wanted = self.products["product_id"].is_in(shown.unique().implode()).arg_true()
        rows = np.concatenate([[0], wanted.to_numpy().astype(np.int64) + 1])
        told, whole = self.narrow.told.take(rows), self.narrow.whole.take(rows)
        taken: dict[str, Any] = {name: self._taken(name, rows) for name in WIDE}
        whole = replace(whole, **taken)
        told = replace(told, phrases=whole.phrases)
        return self.products[wanted], EncodedCatalogue(told, whole)

    def _taken(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        return np.array(np.load(self.folder / f"{name}.npy", mmap_mode="r")[rows])


def _narrow(products: ProductArrays) -> ProductArrays:
    """The products, their wide arrays without columns; a view would keep all of them."""
    without: dict[str, Any] = {name: getattr(products, name)[:, :0].copy() for name in WIDE}
    return replace(products, **without)
