"""A small catalogue to match: products listed several times, with pictures, hashes and titles."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

N_GROUPS, SIDE = 60, 24
KINDS = ["shoes", "backpack", "lamp", "kettle", "파란 컵", "赤いリュック"]
COLOURS = ["red", "blue", "green", "black", "white"]
EXTRAS = ["", " free shipping", " ready stock", " original", " promo murah"]


def make_catalogue(
    folder: Path, *, titles: bool = True, pictures: bool = True, hashes: bool = False
) -> pl.DataFrame:
    """Write `products.parquet` and pictures into a folder.

    Sixty products are listed two to four times each, ten more listings have no match group.
    Every listing of a product has a title, a picture and a hash like the others'; some have no
    title, no picture or a broken one.

    Args:
        folder: the data folder.
        titles: whether there is the column.
        pictures: whether there are picture files.
        hashes: whether there are picture hashes.

    Returns:
        The products as they were written.
    """
    rng = np.random.default_rng(3)
    group = np.append(np.repeat(np.arange(N_GROUPS), 2 + np.arange(N_GROUPS) % 3), [0] * 10)
    n, alone = len(group), np.arange(len(group)) >= len(group) - 10
    group[alone] = np.arange(N_GROUPS, N_GROUPS + 10)
    frame = pl.DataFrame(
        {
            "product_id": [f"p{row}" for row in range(n)],
            "category": [None if row % 13 == 6 else f"c{group[row] % 5}" for row in range(n)],
            "brand": [f"b{number % 7}" for number in group],
            "match_group": [None if alone[row] else f"g{group[row]}" for row in range(n)],
            "price": np.round(10 + group + rng.random(n), 2),
        }
    )
    if titles:
        frame = frame.with_columns(pl.Series("title", _titles(rng, group)))
    if pictures:
        frame = frame.with_columns(pl.Series("image", _pictures(rng, group, folder)))
    if hashes:
        frame = frame.with_columns(pl.Series("image_hash", _hashes(rng, group)))
    frame.write_parquet(folder / "products.parquet")
    return frame


def _titles(rng: np.random.Generator, group: np.ndarray) -> list[str | None]:
    made: list[str | None] = []
    for row, number in enumerate(group):
        kind, colour = KINDS[number % len(KINDS)], COLOURS[number // 6 % len(COLOURS)]
        text = f"{colour} {kind} model {100 + number} {50 * (1 + number % 4)} ml"
        made.append(text + EXTRAS[rng.integers(len(EXTRAS))])
        if row % 29 == 7:
            made[-1] = None
        elif row % 29 == 14:
            made[-1] = " "
    return made


def _pictures(rng: np.random.Generator, group: np.ndarray, folder: Path) -> list[str | None]:
    (folder / "images").mkdir()
    looks = np.random.default_rng(11).integers(0, 236, (group.max() + 1, 4, 4, 3))
    names: list[str | None] = []
    for row, number in enumerate(group):
        pixels = np.kron(looks[number], np.ones((SIDE // 4, SIDE // 4, 1), np.int64))
        pixels = pixels + rng.integers(0, 20, pixels.shape)
        name = f"images/{row}.png"
        if row % 31 == 3:
            (folder / name).write_bytes(b"no picture")
        elif row % 31 != 8:  # the file of one is missing
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
        names.append(None if row % 31 == 20 else name)
    return names


def _hashes(rng: np.random.Generator, group: np.ndarray) -> list[str | None]:
    bits = np.random.default_rng(12).integers(0, 2, (group.max() + 1, 64)).astype(bool)
    made: list[str | None] = []
    for row, number in enumerate(group):
        flipped = rng.random(64) < 0.03
        octets = np.packbits(bits[number] ^ flipped).tobytes()
        made.append(None if row % 31 == 20 else octets.hex())
    return made


@pytest.fixture(scope="session")
def catalogue_of() -> Callable[..., pl.DataFrame]:
    """`make_catalogue`, for tests that want a folder of their own."""
    return make_catalogue


@pytest.fixture(scope="session")
def catalogue_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with titles and pictures; share it, do not change it."""
    folder = tmp_path_factory.mktemp("catalogue")
    make_catalogue(folder)
    return folder
