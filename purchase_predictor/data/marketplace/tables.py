"""The marketplace as tables in the layout that every command reads."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import N_BRANDS, Catalogue
from purchase_predictor.data.marketplace.offers import DEVICES, NO_LIST, SOURCES, Offers
from purchase_predictor.data.marketplace.shoppers import EVENTS, Sessions
from purchase_predictor.data.marketplace.titles import brand_names, make_titles
from purchase_predictor.data.marketplace.world import (
    BADGES,
    CATEGORIES,
    MARKETS,
    PHRASES,
    SPLITS,
    Floats,
    World,
)

NO_SOURCE = "direct"
"""A visit that names no source: null in the table."""


def product_ids(world: World, catalogue: Catalogue) -> NDArray[np.object_]:
    """`KR-00042`: the market and a number that tells nothing."""
    rng = world.rng("product ids")
    number = rng.permutation(len(catalogue))
    names = np.array([m.name for m in MARKETS], dtype=object)[catalogue.market]
    return names + "-" + _padded(number, 5)


def products_table(world: World, catalogue: Catalogue, ids: NDArray[np.object_]) -> pl.DataFrame:
    """`products`, one row a listing."""
    brands = brand_names(world.rng("brands"), N_BRANDS)
    return _frame(
        {
            "product_id": ids,
            "title": make_titles(world, catalogue, brands),
            "image": "images/" + ids + ".png",
            "category": np.array(CATEGORIES, dtype=object)[catalogue.category],
            "brand": brands[catalogue.brand],
            "match_group": "g" + _padded(catalogue.group, 5),
        },
    ).sort("product_id")


def product_truth(catalogue: Catalogue, ids: NDArray[np.object_]) -> pl.DataFrame:
    """What pictures and titles were made from."""
    columns: dict[str, Any] = {"product_id": ids, "quality": catalogue.quality}
    columns |= {f"style_{i}": catalogue.style[:, i] for i in range(catalogue.style.shape[1])}
    columns |= {f"phrase_{name}": catalogue.phrases[:, i] for i, name in enumerate(PHRASES)}
    columns |= {f"badge_{name}": catalogue.badges[:, i] for i, name in enumerate(BADGES)}
    columns |= {"number_one_brand": catalogue.number_one, "variant": catalogue.variant}
    return _frame(columns).sort("product_id")


def events_table(sessions: Sessions, ids: NDArray[np.object_]) -> pl.DataFrame:
    """`events` in order of time."""
    session, step = np.nonzero(sessions.types >= 0)
    time = sessions.times[session, step]
    order = np.lexsort((step, session, time))
    session, step = session[order], step[order]
    product = sessions.products[session, step]
    return _frame(
        {
            "session_id": _session_ids(len(sessions))[session],
            "user_id": _user_ids(sessions)[session],
            "timestamp": _moments(time[order]),
            "event_type": np.array(EVENTS, dtype=object)[sessions.types[session, step]],
            "product_id": _or_null(product >= 0, ids[product]),
        },
    )


def impressions_table(
    catalogue: Catalogue,
    sessions: Sessions,
    offers: Offers,
    converted: NDArray[np.bool_],
    ids: NDArray[np.object_],
) -> pl.DataFrame:
    """`impressions` in order of time."""
    session = offers.session
    listed = offers.list_number != NO_LIST
    lists = "l" + _padded(offers.list_number.clip(0), 7)
    position = pl.Series("position", offers.position.astype(np.int64))
    source = np.array([None if s == NO_SOURCE else s for s in SOURCES], dtype=object)
    price = np.round(np.exp(catalogue.log_price), 2)[offers.listing]
    return _frame(
        {
            "impression_id": impression_ids(len(offers)),
            "session_id": _session_ids(len(sessions))[session],
            "user_id": _user_ids(sessions)[session],
            "timestamp": _moments(offers.time),
            "market": np.array([m.name for m in MARKETS], dtype=object)[sessions.market[session]],
            "product_id": ids[offers.listing],
            "price": price,
            "discount_rate": offers.discount,
            "free_shipping": offers.free_shipping,
            "converted": converted,
            "list_id": _or_null(listed, lists),
            "randomised": offers.randomised,
            "propensity": offers.propensity,
            "split": np.array(SPLITS, dtype=object)[sessions.split[session]],
            "position": position,
            "n_reviews": offers.reviews,
            "device": np.array(DEVICES, dtype=object)[offers.device],
            "visit_source": source[offers.source],
        },
    ).with_columns(
        pl.col("propensity").fill_nan(None),
        pl.when(pl.col("list_id").is_null())
        .then(None)
        .otherwise(pl.col("position"))
        .alias("position"),
    )


def impression_truth(
    offers: Offers, p_true: Floats, p_observable: Floats, p_fitted: Floats
) -> pl.DataFrame:
    """`truth/impressions.parquet`; seven decimals, more than any interval resolves."""
    return _frame(
        {
            "impression_id": impression_ids(len(offers)),
            "p_true": p_true.round(7),
            "p_observable": p_observable.round(7),
            "p_fitted": p_fitted.round(7),
            "randomised": offers.randomised,
        },
    )


def impression_ids(n: int) -> NDArray[np.object_]:
    """`i0000042`, in order of time."""
    return "i" + _padded(np.arange(n), 7)


def _session_ids(n: int) -> NDArray[np.object_]:
    return "s" + _padded(np.arange(n), 7)


def _user_ids(sessions: Sessions) -> NDArray[np.object_]:
    names = "u" + _padded(sessions.unit, 7)
    return _or_null(~sessions.anonymous, names)


def _frame(columns: dict[str, Any]) -> pl.DataFrame:
    """A frame whose object arrays are strings or null."""
    return pl.DataFrame(
        {
            name: pl.Series(values.tolist(), dtype=pl.String)
            if isinstance(values, np.ndarray) and values.dtype == object
            else values
            for name, values in columns.items()
        }
    )


def _or_null(known: NDArray[np.bool_], values: NDArray[np.object_]) -> NDArray[np.object_]:
    values = values.copy()
    values[~known] = None
    return values


def _padded(numbers: NDArray[np.int64], width: int) -> NDArray[np.object_]:
    return pl.Series(numbers).cast(pl.String).str.zfill(width).to_numpy().astype(object)


def _moments(microseconds: NDArray[np.int64]) -> pl.Series:
    return pl.Series(microseconds).cast(pl.Datetime("us", "UTC"))
