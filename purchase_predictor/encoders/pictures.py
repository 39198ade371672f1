"""Reading the pictures of a catalogue: never outside its folder, never too large, never black."""

import hashlib
import io
import stat
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image, ImageOps

from features.reading import safe_path
from purchase_predictor.errors import DataError

FORMATS = ("JPEG", "PNG", "WEBP")
"""Kinds of picture files that are read."""

RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
"""Ways to resize, by the names that timm gives them."""

PICTURES_AT_ONCE = 128
"""Pictures that are held decoded at a time."""

_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
"""What Pillow raises on files that are not what they say."""


@dataclass(frozen=True)
class PictureReader:
    """How picture files become squares of pixels.

    Attributes:
        max_bytes: a larger file is refused before it is opened.
        max_pixels: a larger picture is refused before it is decoded.
        size: side of the square, in pixels; the picture is stretched to it.
        resampling: a key of `RESAMPLING`.
    """

    max_bytes: int
    max_pixels: int
    size: int
    resampling: str = "bicubic"

    def content(self, folder: Path, relative: str) -> bytes:
        """The bytes of a picture file.

        Args:
            folder: the data folder.
            relative: path inside it.

        Returns:
            Everything that is in the file.

        Raises:
            DataError: if the path leaves the folder, or if the file is absent, not a plain file,
                empty or too large.
        """
        path = safe_path(folder, relative)
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise DataError("The path does not lead to a file.")
            if status.st_size > self.max_bytes:
                raise DataError(
                    f"The file has {status.st_size:,} bytes, more than {self.max_bytes:,}."
                )
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"The file cannot be read: {error.strerror}.") from error
        if not content:
            raise DataError("The file is empty.")
        return content

    def pixels(self, content: bytes) -> NDArray[np.uint8]:
        """Decode a picture.

        Args:
            content: bytes of a JPEG, PNG or WebP file.

        Returns:
            uint8 [size, size, 3], red, green, blue; what is transparent lies on white.

        Raises:
            DataError: if it is no such picture, is damaged or has too many pixels.
        """
        with warnings.catch_warnings():
            # Pillow warns of odd files that it reads all the same; our own caps decide on size.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
            try:
                with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                    width, height = picture.size
                    if width * height > self.max_pixels:
                        raise DataError(
                            f"The picture has {width * height:,} pixels, "
                            f"more than {self.max_pixels:,}."
                        )
                    return self._square(picture)
            except Image.UnidentifiedImageError as error:
                raise DataError("The file is not a JPEG, PNG or WebP picture.") from error
            except Image.DecompressionBombError as error:
                raise DataError(
                    f"The picture has more than {self.max_pixels:,} pixels."
                ) from error
            except _DAMAGED as error:
                raise DataError("The picture is damaged or cut off.") from error

    def _square(self, picture: Image.Image) -> NDArray[np.uint8]:
        picture.draft("RGB", (self.size, self.size))
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I"):
            # Pillow clips 16-bit grey to white instead of scaling it.
            grey = np.asarray(upright).astype(np.int64) // 256
            upright = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
        if upright.has_transparency_data:
            upright = upright.convert("RGBA")
            white = Image.new("RGBA", upright.size, "white")
            upright = Image.alpha_composite(white, upright)
        square = upright.convert("RGB").resize((self.size, self.size), RESAMPLING[self.resampling])
        return np.asarray(square, dtype=np.uint8)


@dataclass(frozen=True)
class PictureFiles:
    """The different picture files of a catalogue.

    Attributes:
        folder: the data folder.
        reader: limits and size.
        number: int64 [n_products], which file; -1 where there is none or it cannot be read.
        digests: SHA-256 of each file, in hexadecimal, no two alike.
        paths: where each was first found, relative to the data folder.
        failures: path and reason of those that cannot be read.
    """

    folder: Path
    reader: PictureReader
    number: NDArray[np.int64]
    digests: list[str]
    paths: list[str]
    failures: dict[str, str]

    def read(self, files: Sequence[int], damaged: dict[int, str]) -> NDArray[np.uint8]:
        """Decode files.

        Args:
            files: their numbers.
            damaged: gets number and reason of each that is no picture.

        Returns:
            uint8 [len(files), size, size, 3], grey where the file is no picture.
        """
        size = self.reader.size
        pixels = np.full((len(files), size, size, 3), 127, dtype=np.uint8)
        for at, file in enumerate(files):
            try:
                content = self.reader.content(self.folder, self.paths[file])
                if hashlib.sha256(content).hexdigest() != self.digests[file]:
                    raise DataError("The file changed while it was read.")
                pixels[at] = self.reader.pixels(content)
            except DataError as error:
                damaged[file] = str(error)
        return pixels

    def failed(
        self, products: pl.DataFrame, damaged: dict[int, str]
    ) -> list[tuple[str, str, str]]:
        """Product, path and reason of each picture that there is but that could not be read.

        Args:
            products: `product_id, image`, the catalogue.
            damaged: number and reason of each file that is no picture.
        """
        by_path = pl.DataFrame(
            {"image": list(self.failures), "reason": list(self.failures.values())},
            schema={"image": pl.String, "reason": pl.String},
        )
        by_number = pl.DataFrame(
            {"number": list(damaged), "reason": list(damaged.values())},
            schema={"number": pl.Int64, "reason": pl.String},
        )
        return (
            products.select("product_id", pl.col("image").cast(pl.String))
            .with_columns(number=pl.Series(self.number))
            .join(by_path, on="image", how="left", maintain_order="left")
            .join(by_number, on="number", how="left", maintain_order="left", suffix="_decoded")
            .select("product_id", "image", pl.coalesce("reason", "reason_decoded").alias("reason"))
            .filter(pl.col("reason").is_not_null())
            .rows()
        )


def find_pictures(images: pl.Series, folder: Path, reader: PictureReader) -> PictureFiles:
    """Read every picture file once, to tell which are the same.

    Args:
        images: path of each product's picture, null where it has none.
        folder: the data folder.
        reader: limits and size.

    Returns:
        The files by content; one is held in memory at a time.
    """
    images = images.cast(pl.String)
    unique = images.drop_nulls().unique(maintain_order=True)
    number_of: dict[str, int] = {}
    paths: list[str] = []
    failures: dict[str, str] = {}
    numbers = np.full(len(unique), -1, dtype=np.int64)
    for at, path in enumerate(unique.to_list()):
        try:
            digest = hashlib.sha256(reader.content(folder, path)).hexdigest()
        except DataError as error:
            failures[path] = str(error)
            continue
        numbers[at] = number_of.setdefault(digest, len(paths))
        if numbers[at] == len(paths):
            paths.append(path)
    by_path = pl.DataFrame({"image": unique, "number": numbers})
    number = images.to_frame("image").join(by_path, on="image", how="left", maintain_order="left")
    return PictureFiles(
        folder=folder,
        reader=reader,
        number=number["number"].fill_null(-1).to_numpy().astype(np.int64),
        digests=list(number_of),
        paths=paths,
        failures=failures,
    )
