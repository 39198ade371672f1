"""The catalogue while shards are scored: wide arrays on disk, of which a shard takes its rows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import ProductArrays
from features.storage import ArrayStore, return_pages
from purchase_predictor.training.preparation import EncodedCatalogue

WIDE = ("words", "text", "image", "phrases", "picture_phrases")
"""A kilobyte a listing, where all the rest is some dozen bytes."""


class StoredCatalogue:
    """An encoded catalogue, the wide arrays of which lie in mapped files.

    Pages are given back once rows were taken: what is mapped counts as memory of the process.

    Args:
        products: the checked table.
        narrow: the catalogue, its wide arrays without columns.
        wide: those arrays by name, [n_products + 1, width], row 0 the missing product.
    """

    def __init__(
        self, products: pl.DataFrame, narrow: EncodedCatalogue, wide: Mapping[str, NDArray[Any]]
    ) -> None:
        self.products, self.narrow, self.wide = products, narrow, wide

    @classmethod
    def store(cls, products: pl.DataFrame, catalogue: EncodedCatalogue, store: ArrayStore) -> Self:
        """Part a catalogue into what is narrow and what is wide.

        Args:
            products: the checked table.
            catalogue: of its rows; its words, texts and pictures stay where they are.
            store: in which they are; phrases are put there, too.

        Raises:
            UserError: the folder of the store cannot be written, or its disk has no room.
        """
        wide = {name: getattr(catalogue.whole, name) for name in WIDE}
        wide |= store.keep({"phrases": wide["phrases"]})  # not of the content, so not there yet
        return_pages(wide["phrases"])
        narrow = EncodedCatalogue(_narrow(catalogue.told), _narrow(catalogue.whole))
        return cls(products, narrow, wide)

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
        taken = self.wide[name][rows]
        return_pages(self.wide[name])
        return taken


def _narrow(products: ProductArrays) -> ProductArrays:
    """The products, their wide arrays without columns; a view would keep all of them."""
    without: dict[str, Any] = {name: getattr(products, name)[:, :0].copy() for name in WIDE}
    return replace(products, **without)
