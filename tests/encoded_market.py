"""A random `EncodedMarket` whose conversions depend on a number and on repeated clicks."""

from collections.abc import Callable

import numpy as np
import pytest

from features.arrays import (
    CALIBRATE,
    LEFT_OUT,
    STOP,
    TEST,
    TRAIN,
    UNSEEN,
    Column,
    EncodedMarket,
    EventArrays,
    ProductArrays,
)

GROUPS = ("terms", "clickstream", "context")
N_IDENTITIES, N_CATEGORIES, N_WORD_PIECES = 12, 7, 40
DAY = 86_400.0


def make_market(
    *,
    n_units: int = 60,
    n_products: int = 30,
    n_events: int = 400,
    history: int = 5,
    seed: int = 0,
    titles: bool = True,
) -> EncodedMarket:
    """Units with none to many events, lists of one to four impressions, views at times absent.

    Args:
        n_units: the first 70 % train, then stop, calibrate and test.
        n_products: row 0 is the missing product.
        n_events: 0 makes a market without events.
        history: events in a chunk.
        seed: of everything.
        titles: whether products have titles at all.
    """
    rng = np.random.default_rng(seed)
    unit_part = np.repeat([TRAIN, STOP, CALIBRATE, TEST], [7, 1, 1, 1]).astype(np.int8)
    unit_part = unit_part[np.arange(n_units) * 10 // n_units]
    events = _events(rng, n_units, n_products, n_events, unit_part)
    first = np.searchsorted(events.unit, np.arange(n_units))
    # one moment for each list, then its rows
    list_unit = np.sort(rng.integers(0, n_units, 3 * n_units))
    list_time = rng.uniform(0.2, 1.1, len(list_unit)) * DAY
    key = events.unit * 10 * DAY + events.time
    list_cut = np.searchsorted(key, list_unit * 10 * DAY + list_time).astype(np.int64)
    order = np.lexsort((list_time, list_cut, list_unit))
    list_unit, list_time, list_cut = list_unit[order], list_time[order], list_cut[order]
    size = rng.integers(1, 5, len(list_unit))
    unit, cut = np.repeat(list_unit, size), np.repeat(list_cut, size)
    n = len(unit)
    chunk = (cut - first[unit]) // history
    stretch, sequence = np.unique(np.column_stack([unit, chunk]), axis=0, return_inverse=True)
    stop = np.zeros(len(stretch), np.int64)
    np.maximum.at(stop, sequence.ravel(), cut)
    numbers = rng.normal(size=(n, 7)).astype(np.float32)
    product = rng.integers(0, n_products, n).astype(np.int32)
    logit = 2 * numbers[:, 0] - 0.5
    numbers[rng.random((n, 7)) < 0.1] = np.nan
    numbers[:, 6] = 1.0  # never varies
    market = np.where(unit % 10 == 9, UNSEEN, 3 + unit % 2).astype(np.int32)
    profile = np.full((5, 6), np.nan, np.float32)
    profile[3] = np.linspace(-1, 1, 6)  # KR; the profile of US is not known
    return EncodedMarket(
        products=_products(rng, n_products, titles),
        events=events,
        sequence_start=np.maximum(
            first[stretch[:, 0]], first[stretch[:, 0]] + (stretch[:, 1] - 1) * history
        ),
        sequence_stop=stop,
        sequence=sequence.ravel().astype(np.int32),
        cut=cut,
        time=np.repeat(list_time, size),
        session=(unit * 2).astype(np.int32),
        unit=unit.astype(np.int64),
        unit_fold=stretch[:, 0].astype(np.int32),
        list_number=np.repeat(np.arange(len(size)), size).astype(np.int32),
        product=product,
        market=market,
        profile=profile,
        # markets not in training have one code and profiles of their own
        row_profile=np.where(
            (market == UNSEEN)[:, None], np.repeat(unit[:, None] / 30, 6, axis=1), profile[market]
        ).astype(np.float32),
        numbers=numbers,
        number_columns=tuple(
            Column(name=f"n{i}", group=GROUPS[i % 3], block=f"block {i % 3}") for i in range(7)
        ),
        categories=rng.integers(1, 5, (n, 2)).astype(np.int32),
        category_columns=(
            Column(name="device", group="context", block="context", n_codes=5),
            Column(name="last_event", group="clickstream", block="block 1", n_codes=5),
        ),
        converted=(rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32),
        part=unit_part[unit],
        market_names=("", "missing", "unseen", "KR", "US"),
        market_label=np.array(["KR", "US"], object)[unit % 2],
        impression_id=np.array([f"i{row}" for row in range(n)], object),
        row=np.arange(n),
    )


def _events(
    rng: np.random.Generator,
    n_units: int,
    n_products: int,
    n_events: int,
    unit_part: np.ndarray,
) -> EventArrays:
    # every seventh unit has no events
    unit = np.sort(rng.choice(np.flatnonzero(np.arange(n_units) % 7), n_events))
    time = rng.uniform(0, DAY, n_events)
    order = np.lexsort((time, unit))
    time = time[order]
    fresh = np.diff(unit, prepend=-1) != 0
    gap = np.where(fresh, 0.0, np.diff(time, prepend=0.0))
    return EventArrays(
        product=rng.integers(0, n_products, n_events).astype(np.int32),
        event_type=rng.integers(3, 6, n_events).astype(np.int32),
        time=time,
        log_gap=np.log1p(gap).astype(np.float32),
        session=(unit * 2 + (time > DAY / 2)).astype(np.int32),
        unit=unit.astype(np.int32),
        part=np.where(unit_part[unit] == TRAIN, TRAIN, LEFT_OUT).astype(np.int8),
        market=(3 + unit % 2).astype(np.int32),
        n_types=6,
    )


def _products(rng: np.random.Generator, n_products: int, titles: bool) -> ProductArrays:
    has_text = (rng.random(n_products) < 0.8) & titles
    has_image = rng.random(n_products) < 0.8
    has_text[0] = has_image[0] = False
    length = rng.integers(1, 7, n_products)
    words = np.where(np.arange(6) < length[:, None], rng.integers(3, 40, (n_products, 6)), 0)
    words[~has_text] = [1, 0, 0, 0, 0, 0]
    codes = rng.integers(2, N_CATEGORIES, (2, n_products)).astype(np.int32)
    codes[:, 0] = 1
    picture_phrases = np.cos(np.arange(n_products, dtype=np.float32))[:, None]
    picture_phrases[~has_image] = 0.0
    return ProductArrays(
        product_id=np.array([None, *(f"p{row}" for row in range(1, n_products))], object),
        identity=np.r_[1, rng.integers(2, N_IDENTITIES, n_products - 1)].astype(np.int32),
        category=codes[0],
        brand=codes[1],
        phrases=np.stack([np.arange(n_products) % 3 == 1, np.zeros(n_products)], 1).astype(
            np.float32
        ),
        phrase_names=("sale", "gift"),
        picture_phrases=picture_phrases,
        picture_phrase_names=("sale",),
        words=words[:, : 6 * titles].astype(np.int32),
        text=(rng.normal(size=(n_products, 8)) * has_text[:, None]).astype(np.float32)[
            :, : 8 * titles
        ],
        image=(rng.normal(size=(n_products, 10)) * has_image[:, None]).astype(np.float32),
        has_text=has_text,
        has_image=has_image,
        price_level=np.where(
            np.arange(n_products) % 9, np.sin(np.arange(n_products)), np.nan
        ).astype(np.float32),
    )


@pytest.fixture(scope="session")
def market_of() -> Callable[..., EncodedMarket]:
    """`make_market`, for tests that want another one."""
    return make_market


@pytest.fixture(scope="session")
def market() -> EncodedMarket:
    """The default market; share it, do not change it."""
    return make_market()
