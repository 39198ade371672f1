"""What a catalogue's pictures and titles become: the one door to the encoders."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from purchase_predictor.encoders import image as image_encoders
from purchase_predictor.encoders import text as text_encoders
from purchase_predictor.encoders.embedding import embed_pictures, embed_titles
from purchase_predictor.encoders.fitting import (
    Catalogue,
    ImageChoice,
    TextChoice,
    best_device,
    fit_images,
    fit_texts,
    fit_words,
)
from purchase_predictor.encoders.image import ImageEncoder
from purchase_predictor.encoders.store import write_whole
from purchase_predictor.encoders.text import TextEncoder
from purchase_predictor.encoders.words import WordPieces
from purchase_predictor.errors import DataError
from purchase_predictor.settings import CatalogueSettings, DataSettings, EncoderSettings

Progress = Callable[[str], None]

_TRAINED_ON = "trained_on.parquet"


def silent(_line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class ProductContent:
    """Pictures and titles of products as arrays; a width is 0 where nothing was learned.

    Attributes:
        words: int32 [n, max_words], word pieces of the title: PAD on the right, MISSING alone
            where there is no title, UNSEEN for what no training title held.
        text: float32 [n, d_text], L2-normalised, zero where there is no title. Of several text
            encoders: their embeddings side by side, so that a cosine is the mean of their cosines.
        image: float32 [n, d_image], likewise, zero where there is no readable picture.
        layout: float32 [n, d_layout], where which colour lies, zero where there is no readable
            picture; d_layout is 0 where it was not asked for.
        has_text: bool [n], whether there is a title; an empty one is there.
        has_image: bool [n], whether there is a picture that was read.
        failures: product, path and reason of each picture that could not be read.
        n_word_pieces: size of the vocabulary of `words`, reserved codes included; 0 without one.
    """

    words: NDArray[np.int32]
    text: NDArray[np.float32]
    image: NDArray[np.float32]
    layout: NDArray[np.float32]
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
        notes: why an encoder was left out or left as it was, a sentence each.
    """

    max_words: int
    max_image_bytes: int
    max_image_pixels: int
    notes: tuple[str, ...] = ()


class ContentEncoders:
    """Word pieces, text encoders and image encoders of a catalogue.

    Attributes:
        spec: lengths, limits, notes.
        words: None where no training product has a title.
        texts: none where titles are not embedded; `spec.notes` says why.
        images: none where pictures are not read; `spec.notes` says why.
        trained_on: identifiers, ascending, of the products that something was learned from, be it
            word pieces alone.
        cache: folder of stored embeddings; None stores none.
    """

    def __init__(
        self,
        spec: ContentSpec,
        words: WordPieces | None,
        texts: Sequence[TextEncoder] = (),
        images: Sequence[ImageEncoder] = (),
        *,
        trained_on: Sequence[str] = (),
        cache: Path | None = None,
    ) -> None:
        """Put encoders together."""
        self.spec, self.cache = spec, cache
        self.words, self.texts, self.images = words, tuple(texts), tuple(images)
        self.trained_on = pl.Series("product_id", sorted(trained_on), dtype=pl.String)

    @staticmethod
    def fit(
        products: pl.DataFrame,
        folder: Path,
        settings: EncoderSettings,
        data: DataSettings,
        *,
        training: NDArray[np.bool_],
        seed: int,
        progress: Progress,
    ) -> "ContentEncoders":
        """Learn word pieces and encoders for purchase prediction, or load those of others.

        Args:
            products: `product_id, title, image, match_group`.
            folder: the data folder, in which the pictures are.
            settings: which encoders, and how the small ones are trained; without epochs they are
                left out, those that others trained stay as they are.
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
        texts, images, notes = _choices(settings)
        for note in notes:
            progress(note)
        return fit_encoders(
            products,
            folder,
            texts=texts,
            images=images,
            limits=data,
            training=training,
            max_words=settings.max_words,
            n_word_pieces=settings.n_word_pieces,
            seed=seed,
            cache=Path(settings.cache) if settings.cache else None,
            progress=progress,
            notes=notes,
        )

    def check_trained_within(self, product_ids: pl.Series, training: NDArray[np.bool_]) -> None:
        """See that nothing was learned from products of the future.

        An encoder that saw a product of the validation or test period knows it by sight, and so
        identity would leak into conversion. Products of other catalogues do not matter.

        Args:
            product_ids: of the catalogue that conversion is predicted in.
            training: bool [n_products], its training-period products.

        Raises:
            DataError: if there is a product that taught but is not of the training period.
        """
        later = product_ids.filter(~pl.Series(training))
        leaking = later.filter(later.is_in(self.trained_on.implode()))
        if len(leaking):
            raise DataError(
                f"The encoders were trained on {len(leaking):,} products that this data shows "
                f"only after the training period, as '{leaking[0]}', so identity would leak into "
                f"conversion: train them on products of the training period alone."
            )

    @property
    def n_word_pieces(self) -> int:
        """Size of the vocabulary of word pieces, reserved codes included; 0 without one."""
        return 0 if self.words is None else len(self.words)

    def encode(
        self,
        products: pl.DataFrame,
        folder: Path,
        *,
        progress: Progress = silent,
        raw: bool = False,
        layout: bool = False,
    ) -> ProductContent:
        """Turn products into arrays.

        Args:
            products: `product_id, title, image`.
            folder: the data folder, in which the pictures are.
            progress: takes a line where there is much to embed or a stored file is damaged.
            raw: embeddings are left as long as the encoders make them, not L2-normalised.
            layout: whether the layout of the pictures is wanted.

        Returns:
            Arrays in the order of `products`.
        """
        titles = products["title"].cast(pl.String)
        pictures = embed_pictures(
            self.images,
            products,
            folder,
            max_bytes=self.spec.max_image_bytes,
            max_pixels=self.spec.max_image_pixels,
            cache=self.cache,
            progress=progress,
            raw=raw,
            layout=layout,
        )
        return ProductContent(
            words=self._words(titles),
            text=embed_titles(self.texts, titles, cache=self.cache, progress=progress, raw=raw),
            image=pictures.vectors,
            layout=pictures.layout,
            has_text=titles.is_not_null().to_numpy(),
            has_image=pictures.there,
            failures=pictures.failures,
            n_word_pieces=self.n_word_pieces,
        )

    def save(self, folder: Path) -> None:
        """Write everything into a folder that can be moved."""
        values = asdict(self.spec) | {"n_texts": len(self.texts), "n_images": len(self.images)}
        content = json.dumps(values, indent=1, ensure_ascii=False)
        write_whole(folder / "content.json", content.encode())
        taught = BytesIO()
        self.trained_on.to_frame().write_parquet(taught)
        write_whole(folder / _TRAINED_ON, taught.getvalue())
        if self.words is not None:
            write_whole(folder / "tokenizer.json", self.words.json.encode())
        for number, text in enumerate(self.texts):
            text.save(folder / f"text-{number}")
        for number, image in enumerate(self.images):
            image.save(folder / f"image-{number}")

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
            DataError: if it is no folder of encoders, or one of an older version.
        """
        device = device or best_device()
        try:
            values = json.loads((folder / "content.json").read_text("utf-8"))
            n_texts, n_images = values.pop("n_texts"), values.pop("n_images")
            spec = ContentSpec(**values | {"notes": tuple(values["notes"])})
            trained_on = pl.read_parquet(folder / _TRAINED_ON)["product_id"].to_list()
        except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{folder} is not a folder of trained encoders, or one of an older version."
            ) from error
        pieces = folder / "tokenizer.json"
        words = WordPieces(pieces.read_text("utf-8")) if pieces.is_file() else None
        return cls(
            spec,
            words,
            [TextEncoder.load(folder / f"text-{n}", words, device) for n in range(n_texts)],
            [ImageEncoder.load(folder / f"image-{n}", device) for n in range(n_images)],
            trained_on=trained_on,
            cache=cache,
        )

    def _words(self, titles: pl.Series) -> NDArray[np.int32]:
        if self.words is None:
            return np.zeros((len(titles), 0), dtype=np.int32)
        return self.words.encode(titles, self.spec.max_words)


def fit_encoders(
    products: pl.DataFrame,
    folder: Path,
    *,
    texts: Sequence[TextChoice],
    images: Sequence[ImageChoice],
    limits: CatalogueSettings,
    training: NDArray[np.bool_],
    max_words: int,
    n_word_pieces: int,
    seed: int,
    cache: Path | None,
    progress: Progress,
    notes: Sequence[str] = (),
) -> ContentEncoders:
    """Learn word pieces, and get the encoders chosen, each trained on its own.

    A training that was killed goes on from its checkpoint in the cache.

    Args:
        products: `product_id, title, image, match_group`.
        folder: the data folder, in which the pictures are.
        texts: text encoders; that of place n is trained with seed + n.
        images: image encoders, likewise.
        limits: of picture files.
        training: bool [n_products], what may be learned from.
        max_words: word pieces of a title.
        n_word_pieces: size of the vocabulary at most.
        seed: of everything that is drawn.
        cache: folder of trained encoders, checkpoints and embeddings; None keeps none.
        progress: takes a line at each step, and a sentence for each encoder left out.
        notes: why others were left out before, a sentence each.

    Returns:
        The encoders; the same arguments on the same machine give the same ones.

    Raises:
        ValueError: if `training` is no bool [n_products].
        UserError: if a pretrained encoder cannot be loaded or the cache not be written.
    """
    if training.shape != (len(products),) or training.dtype != np.bool_:
        raise ValueError(f"training must be bool [{len(products)}], got {training.shape}")
    known = products.filter(pl.Series(training))
    catalogue = Catalogue(known, folder, limits, seed, best_device(), cache, progress, list(notes))
    words = fit_words(catalogue, n_word_pieces)
    text = () if words is None else fit_texts(catalogue, texts, words)
    image = fit_images(catalogue, images)
    spec = ContentSpec(
        max_words, limits.max_image_bytes, limits.max_image_pixels, tuple(catalogue.notes)
    )
    taught = catalogue.ids(catalogue.taught)
    return ContentEncoders(spec, words, text, image, trained_on=taught, cache=cache)


def _choices(
    settings: EncoderSettings,
) -> tuple[list[TextChoice], list[ImageChoice], list[str]]:
    """The encoders of the settings of `train`, and a sentence for each that is left out."""
    rates = settings.epochs, settings.batch_size, settings.learning_rate
    texts, images, notes = [], [], []
    small = settings.text_encoder == text_encoders.SMALL
    if small and settings.epochs == 0:
        notes.append(
            "Titles enter as word pieces only: the small text encoder learns from titles of match "
            "groups, and encoders.epochs is 0."
        )
    else:
        recipe = text_encoders.small_recipe(*rates) if small else None
        texts.append(TextChoice(settings.text_encoder, settings.text_prefix, recipe=recipe))
    small = settings.image_encoder == image_encoders.SMALL
    if small and settings.epochs == 0:
        notes.append(
            "Pictures are left out: the small image encoder learns from pictures of match groups, "
            "and encoders.epochs is 0."
        )
    else:
        recipe = image_encoders.small_recipe(*rates) if small else None
        images.append(ImageChoice(settings.image_encoder, settings.image_size, recipe))
    return texts, images, notes
