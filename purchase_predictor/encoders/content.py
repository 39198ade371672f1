"""What a catalogue's pictures and titles become: the one door to the encoders."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from purchase_predictor.encoders.fitting import Catalogue, best_device, fit_image, fit_text
from purchase_predictor.encoders.image import ImageEncoder
from purchase_predictor.encoders.pictures import PICTURES_AT_ONCE, PictureReader, find_pictures
from purchase_predictor.encoders.store import EmbeddingStore, digest, embed_once, write_whole
from purchase_predictor.encoders.text import TextEncoder
from purchase_predictor.encoders.words import WordPieces
from purchase_predictor.errors import DataError
from purchase_predictor.settings import DataSettings, EncoderSettings

Progress = Callable[[str], None]


def silent(_line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class ProductContent:
    """Pictures and titles of products as arrays; a width is 0 where nothing was learned.

    Attributes:
        words: int32 [n, max_words], word pieces of the title: PAD on the right, MISSING alone
            where there is no title, UNSEEN for what no training title held.
        text: float32 [n, d_text], L2-normalised, zero where there is no title.
        image: float32 [n, d_image], L2-normalised, zero where there is no readable picture.
        has_text: bool [n], whether there is a title; an empty one is there.
        has_image: bool [n], whether there is a picture that was read.
        failures: product, path and reason of each picture that could not be read.
        n_word_pieces: size of the vocabulary of `words`, reserved codes included; 0 without one.
    """

    words: NDArray[np.int32]
    text: NDArray[np.float32]
    image: NDArray[np.float32]
    has_text: NDArray[np.bool_]
    has_image: NDArray[np.bool_]
    failures: list[tuple[str, str, str]]
    n_word_pieces: int


@dataclass(frozen=True)
class ContentSpec:
    """What the encoders of a catalogue keep beside their weights.

    Attributes:
        max_words: word pieces of a title.
        max_image_bytes: a larger picture file is refused.
        max_image_pixels: a larger picture is refused.
        notes: why a block was left out, a sentence each.
    """

    max_words: int
    max_image_bytes: int
    max_image_pixels: int
    notes: tuple[str, ...] = ()


class ContentEncoders:
    """Word pieces, text encoder and image encoder of a catalogue.

    Attributes:
        spec: lengths, limits, notes.
        words: None where no training product has a title.
        text: None where titles are not embedded; `spec.notes` says why.
        image: None where pictures are not read; `spec.notes` says why.
        cache: folder of stored embeddings; None stores none.
    """

    def __init__(
        self,
        spec: ContentSpec,
        words: WordPieces | None,
        text: TextEncoder | None,
        image: ImageEncoder | None,
        cache: Path | None = None,
    ) -> None:
        """Put encoders together."""
        self.spec, self.cache = spec, cache
        self.words, self.text, self.image = words, text, image

    @classmethod
    def fit(
        cls,
        products: pl.DataFrame,
        folder: Path,
        settings: EncoderSettings,
        data: DataSettings,
        *,
        training: NDArray[np.bool_],
        seed: int,
        progress: Progress,
    ) -> Self:
        """Learn word pieces and encoders, or load those that others trained.

        Args:
            products: `product_id, title, image, match_group`.
            folder: the data folder, in which the pictures are.
            settings: which encoders, and how the small ones are trained.
            data: limits of picture files.
            training: bool [n_products], first seen before the validation cut: nothing is learned
                from the other products.
            seed: of everything that is drawn.
            progress: takes a line at each step, and a sentence for each block left out.

        Returns:
            The encoders; the same arguments on the same machine give the same ones.

        Raises:
            UserError: if a pretrained encoder cannot be loaded or the cache not be written.
        """
        if training.shape != (len(products),) or training.dtype != np.bool_:
            raise ValueError(f"training must be bool [{len(products)}], got {training.shape}")
        known = products.filter(pl.Series(training))
        cache = Path(settings.cache) if settings.cache else None
        device = best_device()
        catalogue = Catalogue(known, folder, settings, data, seed, device, cache, progress)
        words, text = fit_text(catalogue)
        image = fit_image(catalogue)
        spec = ContentSpec(
            settings.max_words,
            data.max_image_bytes,
            data.max_image_pixels,
            tuple(catalogue.notes),
        )
        return cls(spec, words, text, image, cache)

    @property
    def n_word_pieces(self) -> int:
        """Size of the vocabulary of word pieces, reserved codes included; 0 without one."""
        return 0 if self.words is None else len(self.words)

    def encode(
        self, products: pl.DataFrame, folder: Path, *, progress: Progress = silent
    ) -> ProductContent:
        """Turn products into arrays.

        Args:
            products: `product_id, title, image`.
            folder: the data folder, in which the pictures are.
            progress: takes a line where there is much to embed or a stored file is damaged.

        Returns:
            Arrays in the order of `products`.
        """
        titles = products["title"].cast(pl.String)
        image, has_image, failures = self._images(products, folder, progress)
        return ProductContent(
            words=self._words(titles),
            text=self._texts(titles, progress),
            image=image,
            has_text=titles.is_not_null().to_numpy(),
            has_image=has_image,
            failures=failures,
            n_word_pieces=self.n_word_pieces,
        )

    def save(self, folder: Path) -> None:
        """Write everything into a folder that can be moved."""
        content = json.dumps(asdict(self.spec), indent=1, ensure_ascii=False)
        write_whole(folder / "content.json", content.encode())
        if self.words is not None:
            write_whole(folder / "tokenizer.json", self.words.json.encode())
        if self.text is not None:
            self.text.save(folder)
        if self.image is not None:
            self.image.save(folder)

    @classmethod
    def load(
        cls, folder: Path, *, cache: Path | None = None, device: torch.device | None = None
    ) -> Self:
        """Read what `save` wrote, without a network connection.

        Args:
            folder: where it was saved or moved to.
            cache: folder of stored embeddings; None stores none.
            device: where the encoders run; None takes the fastest there is.

        Raises:
            DataError: if it is no folder of encoders.
        """
        device = device or best_device()
        try:
            values = json.loads((folder / "content.json").read_text("utf-8"))
            spec = ContentSpec(**values | {"notes": tuple(values["notes"])})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder} is not a folder of trained encoders.") from error
        pieces = folder / "tokenizer.json"
        words = WordPieces(pieces.read_text("utf-8")) if pieces.is_file() else None
        has_text, has_image = (folder / "text.json").is_file(), (folder / "image.json").is_file()
        text = TextEncoder.load(folder, words, device) if has_text else None
        image = ImageEncoder.load(folder, device) if has_image else None
        return cls(spec, words, text, image, cache)

    def _words(self, titles: pl.Series) -> NDArray[np.int32]:
        if self.words is None:
            return np.zeros((len(titles), 0), dtype=np.int32)
        return self.words.encode(titles, self.spec.max_words)

    def _texts(self, titles: pl.Series, progress: Progress) -> NDArray[np.float32]:
        encoder = self.text
        if encoder is None:
            return np.zeros((len(titles), 0), dtype=np.float32)
        unique = titles.drop_nulls().unique(maintain_order=True)
        texts = unique.to_list()

        def compute(rows: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
            return np.ones(len(rows), dtype=bool), encoder.embed([texts[row] for row in rows])

        keys = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        store = self._store(encoder, 0, progress)
        _, vectors = embed_once(store, keys, compute, encoder.d, progress)
        numbers = pl.DataFrame({"title": unique, "number": np.arange(len(texts))})
        number = titles.to_frame("title").join(
            numbers, on="title", how="left", maintain_order="left"
        )["number"]
        return _rows(vectors, number.fill_null(-1).to_numpy())

    def _images(
        self, products: pl.DataFrame, folder: Path, progress: Progress
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_], list[tuple[str, str, str]]]:
        encoder, n = self.image, len(products)
        if encoder is None:
            return np.zeros((n, 0), dtype=np.float32), np.zeros(n, dtype=bool), []
        reader = PictureReader(
            self.spec.max_image_bytes,
            self.spec.max_image_pixels,
            encoder.spec.size,
            encoder.spec.resampling,
        )
        files = find_pictures(products["image"], folder, reader)
        damaged: dict[int, str] = {}

        def compute(rows: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
            vectors = np.zeros((len(rows), encoder.d), dtype=np.float32)
            for start in range(0, len(rows), PICTURES_AT_ONCE):
                some = rows[start : start + PICTURES_AT_ONCE]
                pixels = files.read(some, damaged)
                vectors[start : start + len(some)] = encoder.embed(pixels)
            return np.array([row not in damaged for row in rows], dtype=bool), vectors

        # The cap on pixels decides on which pictures there are, so it is part of the key.
        store = self._store(encoder, self.spec.max_image_pixels, progress)
        readable, vectors = embed_once(store, files.digests, compute, encoder.d, progress)
        has_image = (files.number >= 0) & np.append(readable, False)[files.number]
        number = np.where(has_image, files.number, -1)
        return _rows(vectors, number), has_image, files.failed(products, damaged)

    def _store(
        self, encoder: TextEncoder | ImageEncoder, cap: int, progress: Progress
    ) -> EmbeddingStore | None:
        if self.cache is None:
            return None
        name = digest([encoder.fingerprint, cap])[:32]
        return EmbeddingStore(self.cache / "embeddings" / name, progress)


def _rows(vectors: NDArray[np.float32], number: NDArray[np.int64]) -> NDArray[np.float32]:
    """The vector of each number; zero where the number is -1."""
    rows = np.zeros((len(number), vectors.shape[1]), dtype=np.float32)
    there = number >= 0
    rows[there] = vectors[number[there]]
    return rows
