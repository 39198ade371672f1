"""Small pictures for a page, made of files that nobody has vouched for."""

import dataclasses
import io
import warnings

from PIL import ExifTags, Image

from purchase_predictor.encoders.pictures import FORMATS, PictureReader

SIDE = 160
"""Longest side of a thumbnail, in pixels."""


def thumbnail(content: bytes, reader: PictureReader) -> bytes:
    """A small JPEG of a picture, in its own proportions.

    Args:
        content: bytes of a JPEG, PNG or WebP file.
        reader: its limits are kept; its size is not used.

    Returns:
        Bytes of a JPEG file whose sides have at most `SIDE` pixels.

    Raises:
        DataError: if it is no such picture, is damaged or has too many pixels.
    """
    square = Image.fromarray(dataclasses.replace(reader, size=SIDE).pixels(content))
    width, height = _proportions(content)
    scale = min(1.0, SIDE / max(width, height))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    file = io.BytesIO()
    square.resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=82, optimize=True)
    return file.getvalue()


def _proportions(content: bytes) -> tuple[int, int]:
    """Width and height as seen, of a picture that has been decoded within the limits."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)
            return (picture.height, picture.width) if turned else picture.size
