"""Pictures of the listings, 64 pixels square: all that tells of style and quality.

The category is the shape, the style its palette and texture, the quality the light, the sharpness
and the clutter around it. Badges sit in the corners.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from purchase_predictor.data.marketplace.catalogue import Catalogue
from purchase_predictor.data.marketplace.world import BADGES, World

SIDE = 64
A_CHUNK = 125
A_REPORT = 1000
N_SPECKS = 9
# Lobes, depth of the lobes, width against height, and radius of a hole, for each category.
SHAPES = np.array(
    [
        [2, 0.25, 1.5, 0.00], [4, 0.10, 1.2, 0.35], [1, 0.05, 1.0, 0.60], [2, 0.35, 1.0, 0.45],
        [3, 0.30, 0.8, 0.00], [1, 0.20, 1.1, 0.00], [4, 0.05, 0.8, 0.00], [5, 0.30, 1.0, 0.00],
        [4, 0.12, 1.9, 0.00], [3, 0.15, 1.0, 0.40], [2, 0.10, 0.5, 0.00], [6, 0.25, 1.0, 0.25],
    ]
)  # fmt: skip
Pixels = NDArray[np.float32]


def draw_pictures(
    catalogue: Catalogue, rows: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Pictures of some listings, uint8 [len(rows), SIDE, SIDE, 3]."""
    n = len(rows)
    axis = np.linspace(-1.0, 1.0, SIDE, dtype=np.float32)
    y, x = (grid[None] for grid in np.meshgrid(axis, axis, indexing="ij"))
    style, quality = catalogue.style[rows], catalogue.quality[rows]
    light = _column(0.56 + 0.13 * quality)
    tint = rng.normal(0, 0.02, size=(n, 1, 1, 3)).astype(np.float32)
    shade = _column(rng.normal(0, 0.04, n)) * y
    picture = light[..., None] + tint + shade[..., None]
    _add_clutter(picture, x, y, quality, rng)
    inside, u = _shape(catalogue.category[rows], quality, x, y, rng)
    colour = 0.52 + np.stack([0.17 * style[:, 0], 0.17 * style[:, 1], -0.17 * style[:, 0]], axis=1)
    stripes = 0.5 + 0.5 * np.sin(_column(rng.uniform(0, 6.28, n)) + 16.0 * u)
    dark = 1.0 - _column(0.42 + 0.17 * style[:, 2]) * stripes
    painted = colour.astype(np.float32)[:, None, None, :] * dark[..., None]
    picture += inside[..., None] * (painted - picture)
    _add_badges(picture, x, y, catalogue.badges[rows])
    picture += rng.normal(0, 0.012, size=(n, SIDE, SIDE, 1)).astype(np.float32)
    return (picture.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def _column(values: NDArray[np.float64]) -> Pixels:
    return values.astype(np.float32)[:, None, None]


def _shape(
    category: NDArray[np.int64],
    quality: NDArray[np.float64],
    x: Pixels,
    y: Pixels,
    rng: np.random.Generator,
) -> tuple[Pixels, Pixels]:
    """How far each pixel lies inside the shape (0 to 1), and the axis along which stripes run."""
    n = len(category)
    lobes, depth, aspect, hole = (_column(column) for column in SHAPES[category].T)
    turn = _column(rng.normal(0, 0.15, n))
    u, v = x - _column(rng.normal(0, 0.05, n)), y - _column(rng.normal(0, 0.05, n))
    u, v = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    u = u / np.sqrt(aspect)
    v = v * np.sqrt(aspect)
    radius, angle = np.sqrt(u * u + v * v), np.arctan2(v, u)
    edge = _column(rng.uniform(0.60, 0.68, n)) * (1.0 + depth * np.cos(lobes * angle))
    soft = _column(0.075 - 0.028 * quality)
    outer = ((edge - radius) / soft).clip(-8.0, 8.0)
    inner = ((radius - 0.6 * hole * edge) / soft).clip(-8.0, 8.0)
    inside = 1.0 / (1.0 + np.exp(-outer))
    inside = np.where(hole > 0, inside / (1.0 + np.exp(-inner)), inside)
    return inside.astype(np.float32), u.astype(np.float32)


def _add_clutter(
    picture: Pixels, x: Pixels, y: Pixels, quality: NDArray[np.float64], rng: np.random.Generator
) -> None:
    n = len(quality)
    count = np.round(4.0 - 2.0 * quality)
    for speck in range(N_SPECKS):
        distance = (x - _column(rng.uniform(-1, 1, n))) ** 2 + (
            y - _column(rng.uniform(-1, 1, n))
        ) ** 2
        there = (distance < 0.008) & (speck < count)[:, None, None]
        picture -= 0.3 * there[..., None]


def _add_badges(picture: Pixels, x: Pixels, y: Pixels, badges: NDArray[np.bool_]) -> None:
    """Corner for limited quantity, truck for free shipping, ribbon for number one."""
    corner = (x - y) > 1.45
    truck = (np.abs(x + 0.74) < 0.2) & (np.abs(y - 0.76) < 0.11)
    truck |= (np.abs(x + 0.48) < 0.07) & (np.abs(y - 0.80) < 0.07)
    wheels = ((x + 0.84) ** 2 + (y - 0.90) ** 2 < 0.004) | (
        (x + 0.52) ** 2 + (y - 0.90) ** 2 < 0.004
    )
    ribbon = (x + 0.78) ** 2 + (y + 0.78) ** 2 < 0.036
    one = (np.abs(x + 0.78) < 0.04) & (np.abs(y + 0.78) < 0.12)
    paints = {
        "limited_quantity": [(corner, (0.86, 0.10, 0.12))],
        "free_shipping": [(truck, (0.05, 0.55, 0.25)), (wheels, (0.05, 0.05, 0.05))],
        "number_one": [(ribbon, (0.95, 0.75, 0.10)), (one, (1.0, 1.0, 1.0))],
    }
    for column, name in enumerate(BADGES):
        rows = np.flatnonzero(badges[:, column])
        for mask, paint in paints[name]:
            where = np.nonzero(mask[0])
            picture[rows[:, None], where[0][None], where[1][None]] = np.array(paint, np.float32)


def write_pictures(
    world: World,
    catalogue: Catalogue,
    names: list[str],
    folder: Path,
    progress: Callable[[str], None],
) -> None:
    """Draw and write one PNG a listing (`names`: file names, one for each row)."""
    rng = world.rng("pictures")
    folder.mkdir()
    for start in range(0, len(names), A_CHUNK):
        rows = np.arange(start, min(start + A_CHUNK, len(names)))
        for row, pixels in zip(rows, draw_pictures(catalogue, rows, rng), strict=True):
            Image.fromarray(pixels).save(folder / names[row], compress_level=1)
        done = int(rows[-1]) + 1
        if done % A_REPORT == 0 or done == len(names):
            progress(f"pictures: {done:,} of {len(names):,}")
