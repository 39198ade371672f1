"""What all tests share: a quiet environment and a small data folder."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["DO_NOT_TRACK"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from features.schema import Tables, load_tables

pytest_plugins = [
    "tests.encoded_market",
    "tests.listed_catalogue",
    "tests.small_model",
    "tests.tracking_store",
]


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs unless tests of GPUs are asked for.

    Sums there are in no fixed order: no test that compares bits could pass.
    """
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


START = datetime(2024, 3, 1, tzinfo=UTC)
N_USERS, N_SESSIONS, N_EVENTS, N_LISTS, PER_LIST, N_PRODUCTS = 40, 120, 900, 175, 4, 60
TITLES = [
    "Blue running shoes, free shipping",
    "파란 러닝화 무료배송",
    "青いランニングシューズ 送料無料",
    "Limited red backpack",
    "한정 수량 빨간 배낭",
    "限定 赤いリュック",
]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of 60 products, 900 events, 120 sessions and 700 impressions (4 a list)."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(7)
    sessions = _sessions(rng)
    events = _events(rng, sessions)
    _products(rng, folder).write_parquet(folder / "products.parquet")
    events.write_parquet(folder / "events.parquet")
    _impressions(rng, sessions, events).write_parquet(folder / "impressions.parquet")
    return folder


@pytest.fixture(scope="session")
def tiny_tables(tiny_folder: Path) -> Tables:
    """The tables of `tiny_folder`, checked; share them, do not change them."""
    return load_tables(tiny_folder)


@pytest.fixture
def with_badges(tiny_tables: Tables, tmp_path: Path) -> Tables:
    """Every product has a picture; where the title says free shipping, with a red corner."""
    rng = np.random.default_rng(3)
    titles = tiny_tables.products["title"].fill_null("").to_list()
    for number, title in enumerate(titles):
        pixels = rng.integers(90, 160, (48, 48, 3), dtype=np.uint8)
        if any(word in title for word in ("free shipping", "무료배송", "送料無料")):
            pixels[:12, 36:] = (230, 20, 20)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    products = tiny_tables.products.with_columns(
        image=pl.Series([f"{number}.png" for number in range(len(titles))])
    )
    return replace(tiny_tables, products=products, folder=tmp_path)


def _sessions(rng: np.random.Generator) -> pl.DataFrame:
    """Sessions in order of their start, over thirty days; MX is nearly new (three sessions)."""
    users = rng.integers(0, N_USERS, N_SESSIONS)
    markets = np.array(["KR", "US", "JP"])[users % 3]
    markets[[30, 70, 110]] = "MX"
    starts = np.sort(rng.integers(0, 30 * 24 * 3600, N_SESSIONS))
    return pl.DataFrame(
        {
            "session_id": [f"s{number}" for number in range(N_SESSIONS)],
            "user_id": [None if user % 10 == 0 else f"u{user}" for user in users],
            "market": markets.tolist(),
            "start": [START + timedelta(seconds=int(second)) for second in starts],
            "device": rng.choice(["phone", "desktop", "tablet"], N_SESSIONS).tolist(),
        }
    )


def _events(rng: np.random.Generator, sessions: pl.DataFrame) -> pl.DataFrame:
    """Clicks and carts within the first half hour of the sessions; some are shared seconds."""
    number = rng.integers(0, N_SESSIONS, N_EVENTS)
    product = np.minimum(rng.geometric(0.08, N_EVENTS) - 1, N_PRODUCTS + 1)
    kind = rng.choice(["view", "cart", "search"], N_EVENTS, p=[0.7, 0.2, 0.1])
    frame = sessions[number].select("session_id", "user_id", "start")
    return (
        frame.with_columns(
            pl.Series("second", rng.integers(0, 1800, N_EVENTS)),
            pl.Series("event_type", kind),
            pl.Series("product_id", [f"p{code}" for code in product]),
        )
        .select(
            "session_id",
            "user_id",
            (pl.col("start") + pl.duration(seconds="second")).alias("timestamp"),
            "event_type",
            pl.when(pl.col("event_type") != "search").then("product_id").alias("product_id"),
        )
        .sort("timestamp", maintain_order=True)
    )


def _impressions(
    rng: np.random.Generator, sessions: pl.DataFrame, events: pl.DataFrame
) -> pl.DataFrame:
    """Lists of four; conversion grows with discount and earlier clicks of the product."""
    number = np.repeat(np.sort(rng.integers(0, N_SESSIONS, N_LISTS)), PER_LIST)
    n = len(number)
    second = np.repeat(rng.integers(300, 2400, N_LISTS), PER_LIST)
    discount = rng.choice([0.0, 0.1, 0.2, 0.4], n)
    frame = sessions[number].with_columns(
        pl.Series("impression_id", [f"i{row}" for row in range(n)]),
        pl.Series("list_id", [f"l{row // PER_LIST}" for row in range(n)]),
        pl.Series("position", np.arange(n) % PER_LIST),
        pl.Series("product_id", [f"p{code}" for code in rng.integers(0, N_PRODUCTS, n)]),
        pl.Series("price", np.round(np.exp(rng.normal(3, 0.5, n)), 2)),
        pl.Series("discount_rate", discount),
        pl.Series("free_shipping", rng.random(n) < 0.4),
        pl.Series("uniform", rng.random(n)),
        timestamp=pl.col("start") + pl.Series(second) * pl.duration(seconds=1),
    )
    frame = _clicked_before_or_not(rng, frame, events)
    logit = -3.2 + 3.5 * pl.col("discount_rate") + 1.5 * pl.col("clicks").clip(0, 2)
    return frame.with_columns(
        converted=pl.col("uniform") < 1 / (1 + (-logit).exp()),
        is_weekend=pl.col("timestamp").dt.weekday() >= 6,
        price=pl.when(pl.col("uniform") < 0.98).then("price"),
    ).select(
        "impression_id", "session_id", "user_id", "timestamp", "market", "product_id", "price",
        "discount_rate", "free_shipping", "converted", "list_id", "position", "device",
        "is_weekend",
    )  # fmt: skip


def _clicked_before_or_not(
    rng: np.random.Generator, frame: pl.DataFrame, events: pl.DataFrame
) -> pl.DataFrame:
    """Half of the impressions show a product of their session's events; `clicks` counts them."""
    seen = events.drop_nulls("product_id").group_by("session_id", maintain_order=True).agg(
        pl.col("product_id").alias("seen")
    )  # fmt: skip
    frame = frame.join(seen, on="session_id", how="left", maintain_order="left").with_columns(
        pl.Series("draw", rng.random(len(frame)))
    )
    place = (2 * pl.col("draw") * pl.col("seen").list.len()).cast(pl.Int64)
    chosen = pl.col("seen").list.get(place, null_on_oob=True)
    frame = frame.with_columns(product_id=pl.coalesce(chosen, "product_id"))
    clicks = (
        frame.select("impression_id", "session_id", "product_id", at="timestamp")
        .join(events, on=["session_id", "product_id"])
        .filter(pl.col("timestamp") < pl.col("at"))
        .group_by("impression_id")
        .agg(clicks=pl.len().cast(pl.Float64))
    )
    return frame.join(clicks, on="impression_id", how="left", maintain_order="left").with_columns(
        pl.col("clicks").fill_null(0.0)
    )


def _products(rng: np.random.Generator, folder: Path) -> pl.DataFrame:
    """Thirty things listed twice; forty have a picture, some lack title or category."""
    (folder / "images").mkdir()
    for number in range(40):
        pixels = np.full((48, 48, 3), (number // 2 * 12) % 256, dtype=np.uint8)
        pixels[8:40, 8:40, number // 2 % 3] = 230
        pixels += rng.integers(0, 20, pixels.shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"p{number}.png")
    numbers = range(N_PRODUCTS)
    return pl.DataFrame(
        {
            "product_id": [f"p{number}" for number in numbers],
            "title": [
                None if number % 11 == 5 else f"{TITLES[number // 2 % 6]} {number // 2}"
                for number in numbers
            ],
            "image": [f"images/p{number}.png" if number < 40 else None for number in numbers],
            "category": [None if n % 13 == 6 else f"c{n // 2 % 5}" for n in numbers],
            "brand": [f"b{number // 2 % 7}" for number in numbers],
            "match_group": [f"g{number // 2}" for number in numbers],
        }
    )
