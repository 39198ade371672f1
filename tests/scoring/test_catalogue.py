"""The catalogue on disk gives back what was put there, and holds nothing wide in memory."""

import mmap
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features import storage
from features.storage import IN_MEMORY, ArrayStore
from purchase_predictor.scoring.catalogue import WIDE, StoredCatalogue
from purchase_predictor.training.preparation import EncodedCatalogue
from tests.encoded_market import make_market


def is_mapped(array: Any) -> bool:
    """Whether an array lies in a mapped file."""
    while isinstance(array, np.ndarray):
        array = array.base
    return isinstance(array, mmap.mmap)


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_shard_gets_the_rows_it_shows_and_no_wide_array_stays(
    tmp_path: Path, on_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "KEPT_BYTES", 1)
    store = ArrayStore(tmp_path) if on_disk else IN_MEMORY
    whole = make_market().products
    whole = replace(
        whole, **store.keep({name: getattr(whole, name) for name in WIDE if name != "phrases"})
    )
    products = pl.DataFrame({"product_id": list(whole.product_id[1:])})
    stored = StoredCatalogue.store(products, EncodedCatalogue(whole, whole), store)
    assert stored.wide["phrases"].size
    assert all(is_mapped(array) == on_disk for array in stored.wide.values() if array.size)

    shown, encoded = stored.of(pl.Series(["p3", None, "p1", "p3", "unknown"]))

    assert shown["product_id"].to_list() == ["p1", "p3"]
    expected = whole.take(np.array([0, 1, 3]))
    for one in fields(whole):
        np.testing.assert_array_equal(
            getattr(encoded.whole, one.name), getattr(expected, one.name)
        )
    np.testing.assert_array_equal(encoded.told.phrases, expected.phrases)
    for narrow in (stored.narrow.told, stored.narrow.whole):
        for name in WIDE:
            array = getattr(narrow, name)
            assert array.size == 0
            assert array.base is None  # a view would keep what it was cut from
