import io
import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from purchase_predictor.encoders.pictures import PictureReader, find_pictures
from purchase_predictor.errors import DataError

READER = PictureReader(max_bytes=100_000, max_pixels=10_000, size=8)
RED = (200, 30, 40)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK", "P", "1"])
def test_every_kind_of_picture_keeps_its_colour(kind: str, mode: str) -> None:
    source = Image.new("RGB", (30, 20), RED)
    picture = source.convert(mode) if (kind, mode) not in {("PNG", "CMYK")} else source
    if kind == "JPEG" and mode == "P":
        picture = source
    expected = np.asarray(picture.convert("RGB").resize((8, 8)), dtype=int)

    pixels = READER.pixels(encoded(picture, kind))

    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    assert abs(pixels.mean((0, 1)) - expected.mean((0, 1))).max() < 6


def test_what_is_transparent_lies_on_white() -> None:
    clear = READER.pixels(encoded(Image.new("RGBA", (10, 10), (0, 0, 0, 0))))
    palette = Image.new("P", (10, 10), 0)

    assert (clear == 255).all()
    assert (READER.pixels(encoded(palette, transparency=0)) == 255).all()


def test_sixteen_bits_of_grey_are_scaled() -> None:
    grey = Image.fromarray(np.full((10, 10), 0x8000, dtype=np.uint16))

    assert (READER.pixels(encoded(grey)) == 0x80).all()


def test_a_turned_photo_is_set_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    half = Image.new("RGB", (16, 16), "black")
    half.paste("white", (0, 0, 16, 8))

    pixels = READER.pixels(encoded(half, exif=exif))

    assert pixels[0].mean() < 10
    assert pixels[-1].mean() > 245


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a picture", "not a JPEG, PNG or WebP"),
        (encoded(Image.new("RGB", (9, 9), RED), "GIF"), "not a JPEG, PNG or WebP"),
        (encoded(Image.effect_noise((90, 90), 50), "PNG")[:-2000], "damaged or cut off"),
        (encoded(Image.effect_noise((90, 90), 50), "JPEG")[:-900], "damaged or cut off"),
        (encoded(Image.effect_noise((90, 90), 50), "WEBP")[:-900], "WebP|damaged"),
        (encoded(Image.new("RGB", (101, 100), RED)), "10,100 pixels, more than 10,000"),
        (encoded(Image.new("1", (20_000, 20_000))), "pixels"),
    ],
)
def test_what_is_no_picture_gets_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        READER.pixels(content)


def test_broken_bytes_never_raise_anything_else() -> None:
    draw = random.Random(0)
    picture = Image.effect_noise((40, 30), 60)
    sources = [encoded(picture, kind) for kind in ("PNG", "JPEG", "WEBP")]

    for _ in range(300):
        content = bytearray(draw.choice(sources))
        for _ in range(4):
            content[draw.randrange(len(content))] = draw.randrange(256)
        try:
            assert READER.pixels(bytes(content)).shape == (8, 8, 3)
        except DataError:
            continue


def test_files_are_found_by_content_and_failures_have_reasons(tmp_path: Path) -> None:
    red = encoded(Image.new("RGB", (9, 9), RED))
    (tmp_path / "inside").mkdir()
    for name in ("a.png", "inside/b.png"):
        (tmp_path / name).write_bytes(red)
    (tmp_path / "c.png").write_bytes(encoded(Image.new("RGB", (9, 9), "blue")))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "large.png").write_bytes(red + bytes(100_000))
    images = [
        *("a.png", "inside/b.png", "c.png", None, "a.png"),
        *("broken.png", "empty.png", "large.png", "absent.png", "inside", "../a.png", ""),
    ]
    products = pl.DataFrame({"product_id": [f"p{n}" for n in range(12)], "image": images})

    files = find_pictures(products["image"], tmp_path, READER)
    damaged: dict[int, str] = {}
    pixels = files.read(range(len(files.paths)), damaged)
    failed = files.failed(products, damaged)

    assert files.number.tolist() == [0, 0, 1, -1, 0, 2, -1, -1, -1, -1, -1, -1]
    assert files.paths == ["a.png", "c.png", "broken.png"]
    assert pixels[1, 0, 0].tolist() == [0, 0, 255]
    assert list(damaged) == [2]
    assert [product for product, _, _ in failed] == [f"p{n}" for n in range(5, 12)]
    reasons = [reason for _, _, reason in failed]
    for reason, part in zip(
        reasons,
        ["WebP", "empty", "more than 100,000", "No such file", "lead to a file", "inside", "name"],
        strict=True,
    ):
        assert part in reason


def test_a_file_that_changes_between_two_reads_is_not_taken_for_the_first(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (9, 9), RED)))
    files = find_pictures(pl.Series(["a.png"]), tmp_path, READER)
    (tmp_path / "a.png").write_bytes(encoded(Image.new("RGB", (9, 9), "blue")))
    damaged: dict[int, str] = {}

    files.read([0], damaged)

    assert "changed" in damaged[0]


def test_a_catalogue_without_pictures_has_no_files(tmp_path: Path) -> None:
    files = find_pictures(pl.Series([None, None], dtype=pl.String), tmp_path, READER)

    assert files.number.tolist() == [-1, -1]
    assert files.digests == []
