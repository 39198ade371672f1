import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from features.arrays import TRAIN, EncodedMarket
from purchase_predictor.baselines.table import Components, TableEncoder, chunks


def column(table: TableEncoder, x: np.ndarray, name: str) -> np.ndarray:
    return x[:, table.names.index(name)]


def test_a_table_holds_everything_that_varies(market: EncodedMarket) -> None:
    table = TableEncoder.fit(market, n_components=3)

    x = table.transform(market)

    assert x.dtype == np.float32
    assert x.shape == (len(market), len(table.columns))
    for name in (
        "market", "n0", "n5", "device", "last_event", "profile 0", "product identity",
        "product category", "product brand", "has text", "has image", "text 0", "text 2",
        "image 2", "phrase sale", "picture says sale",
    ):  # fmt: skip
        assert name in table.names
    assert "text 3" not in table.names
    assert "n6" not in table.names  # never varies
    assert "phrase gift" not in table.names  # never said


def test_values_stand_in_their_columns(market: EncodedMarket) -> None:
    table = TableEncoder.fit(market, n_components=3)

    x = table.transform(market)

    np.testing.assert_array_equal(column(table, x, "n1"), market.numbers[:, 1])
    np.testing.assert_array_equal(column(table, x, "device"), market.categories[:, 0])
    np.testing.assert_array_equal(column(table, x, "market"), market.market)
    identity = market.products.identity[market.product]
    np.testing.assert_array_equal(column(table, x, "product identity"), identity)
    no_picture = ~market.products.has_image[market.product]
    np.testing.assert_array_equal(np.isnan(column(table, x, "image 0")), no_picture)
    says = np.where(no_picture, np.nan, market.products.picture_phrases[market.product, 0])
    np.testing.assert_array_equal(column(table, x, "picture says sale"), says)


def test_categories_are_those_with_a_vocabulary(market: EncodedMarket) -> None:
    table = TableEncoder.fit(market, n_components=3)

    names = {table.names[place] for place in table.categories}

    assert names == {
        "market", "device", "last_event", "product identity", "product category",
        "product brand",
    }  # fmt: skip


def test_rows_in_pieces_are_the_rows_at_once(market: EncodedMarket) -> None:
    table = TableEncoder.fit(market, n_components=3)

    pieces = [table.transform(market, rows) for rows in chunks(len(market), 50)]

    np.testing.assert_array_equal(np.concatenate(pieces), table.transform(market))


def test_nothing_is_fitted_on_other_than_training_rows(market: EncodedMarket) -> None:
    rng = np.random.default_rng(0)
    later = market.part != TRAIN
    numbers = market.numbers.copy()
    numbers[later, 6] = rng.normal(size=later.sum())
    unseen = np.ones(len(market.products), bool)
    unseen[market.product[~later]] = False
    image = market.products.image.copy()
    image[unseen] += 100
    changed = replace(market, numbers=numbers, products=replace(market.products, image=image))

    before, after = (TableEncoder.fit(data, 3) for data in (market, changed))

    assert before.columns == after.columns
    for name, array in before.tensors().items():
        np.testing.assert_array_equal(array, after.tensors()[name])


def test_without_titles_or_pictures_there_are_no_components(
    market_of: Callable[..., EncodedMarket],
) -> None:
    table = TableEncoder.fit(market_of(titles=False), n_components=3)

    assert not [name for name in table.names if name.startswith("text")]
    assert "has text" not in table.names


def test_components_are_the_directions_of_largest_variance() -> None:
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 1)) * [3.0, 0, 0] + rng.normal(size=(500, 1)) * [0, 1.0, 0]) + 5
    x = x.astype(np.float32)

    fitted = Components.fit(x, 3)

    # the third direction has no variance
    np.testing.assert_allclose(np.abs(fitted.axes), [[1, 0], [0, 1], [0, 0]], atol=0.02)
    assert (fitted.axes.max(axis=0) > 0.9).all()
    np.testing.assert_allclose(fitted.transform(x).mean(axis=0), 0, atol=1e-4)


@pytest.mark.parametrize("n", [0, 1, 100, 101])
def test_chunks_cover_every_row_once(n: int) -> None:
    assert np.concatenate([np.arange(n)[rows] for rows in chunks(n, 50)] or [[]]).tolist() == list(
        range(n)
    )


def test_state_survives_json(market: EncodedMarket) -> None:
    table = TableEncoder.fit(market, n_components=3)

    again = TableEncoder.from_dict(json.loads(json.dumps(table.to_dict())), table.tensors())

    np.testing.assert_array_equal(again.transform(market), table.transform(market))
    assert again.categories == table.categories
