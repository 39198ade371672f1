"""Which encoders a catalogue gets, and the training of the small ones on its match groups."""

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from purchase_predictor.encoders import image as images
from purchase_predictor.encoders import text as texts
from purchase_predictor.encoders.arcface import match_classes
from purchase_predictor.encoders.image import ImageEncoder
from purchase_predictor.encoders.pictures import (
    PICTURES_AT_ONCE,
    PictureFiles,
    PictureReader,
    find_pictures,
)
from purchase_predictor.encoders.store import digest, trained_once
from purchase_predictor.encoders.text import TextEncoder
from purchase_predictor.encoders.words import WordPieces
from purchase_predictor.errors import UserError
from purchase_predictor.settings import DataSettings, EncoderSettings

_VERSION = 1
_LIBRARIES = ("timm", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Catalogue:
    """What encoders are fitted on.

    Attributes:
        products: training products alone: `product_id, title, image, match_group`.
        folder: the data folder.
        settings: which encoders, and how they are trained.
        data: limits of picture files.
        seed: of everything that is drawn.
        device: where encoders are trained and run.
        cache: folder of trained encoders; None keeps none.
        progress: takes a line at each step.
        notes: gets a sentence for each block that is left out.
    """

    products: pl.DataFrame
    folder: Path
    settings: EncoderSettings
    data: DataSettings
    seed: int
    device: torch.device
    cache: Path | None
    progress: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def leave_out(self, note: str) -> None:
        """Say why a block is left out."""
        self.notes.append(note)
        self.progress(note)

    def trained(self, kind: str, parts: list[object]) -> Path | None:
        """Where the encoder is kept that a training with these inputs gives."""
        if self.cache is None:
            return None
        libraries = [f"{name} {version(name)}" for name in _LIBRARIES]
        key = digest([_VERSION, libraries, self.seed, self.device.type, *parts])
        return self.cache / "encoders" / f"{kind}-{key[:32]}.safetensors"

    def untrainable(self, labels: NDArray[np.int64]) -> str:
        """Why these classes cannot train an encoder; empty where they can."""
        if self.settings.epochs == 0:
            return "encoders.epochs is 0"
        if labels.max(initial=-1) < 1:
            return "fewer than two match groups have two training listings with one"
        return ""


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit_text(catalogue: Catalogue) -> tuple[WordPieces | None, TextEncoder | None]:
    """Word pieces of the titles, and the encoder of the settings; None where left out."""
    settings, products = catalogue.settings, catalogue.products
    titles = products["title"].cast(pl.String)
    if titles.null_count() == len(titles):
        catalogue.leave_out("No training product has a title: titles are left out.")
        return None, None
    words = WordPieces.fit(titles, settings.n_word_pieces)
    if settings.text_encoder != texts.SMALL:
        prefix, device = settings.text_prefix, catalogue.device
        return words, texts.pretrained_text_encoder(
            settings.text_encoder, prefix, device, catalogue.progress
        )
    labels = match_classes(products["match_group"], titles.is_not_null().to_numpy())
    if reason := catalogue.untrainable(labels):
        catalogue.leave_out(
            f"Titles enter as word pieces only: the small text encoder learns from titles of "
            f"match groups, and {reason}."
        )
        return words, None
    return words, _train_text(catalogue, words, titles, labels)


def _train_text(
    catalogue: Catalogue, words: WordPieces, titles: pl.Series, labels: NDArray[np.int64]
) -> TextEncoder:
    settings = catalogue.settings
    encoder = texts.small_text_encoder(
        words, settings.text_prefix, catalogue.seed, catalogue.device
    )
    recipe = texts.small_recipe(settings.epochs, settings.batch_size, settings.learning_rate)
    members = labels >= 0
    known, classes = titles.filter(pl.Series(members)).to_list(), labels[members]
    ids = catalogue.products["product_id"].filter(pl.Series(members)).to_list()
    parts: list[object] = [asdict(encoder.spec), encoder.shape, words.json, asdict(recipe)]
    parts += [ids, known, classes.tolist()]

    def train() -> None:
        catalogue.progress(
            f"small text encoder: training on {len(known):,} titles of "
            f"{classes.max() + 1:,} match groups"
        )
        texts.train_on_matches(
            encoder, known, classes, recipe, seed=catalogue.seed, progress=catalogue.progress
        )

    file = catalogue.trained("text", parts)
    trained_once(
        file, encoder.network, train, name="small text encoder", progress=catalogue.progress
    )
    return encoder


def fit_image(catalogue: Catalogue) -> ImageEncoder | None:
    """The image encoder of the settings; None where pictures are left out."""
    settings, products = catalogue.settings, catalogue.products
    if products["image"].null_count() == len(products):
        catalogue.leave_out("No training product has a picture: pictures are left out.")
        return None
    if settings.image_encoder != images.SMALL:
        return images.pretrained_image_encoder(
            settings.image_encoder, settings.image_size, catalogue.device, catalogue.progress
        )
    spec = images.small_spec(settings.image_size)
    limits = catalogue.data
    reader = PictureReader(
        limits.max_image_bytes, limits.max_image_pixels, spec.size, spec.resampling
    )
    files = find_pictures(products["image"], catalogue.folder, reader)
    groups = products["match_group"]
    labels = match_classes(groups, files.number >= 0)
    if reason := catalogue.untrainable(labels):
        _without_pictures(catalogue, reason)
        return None
    used = np.unique(files.number[labels >= 0])
    with tempfile.TemporaryFile(dir=_workplace(catalogue.cache)) as scratch:
        pixels = np.memmap(scratch, np.uint8, "w+", shape=(len(used), spec.size, spec.size, 3))
        damaged = _decode(files, used, pixels)
        labels = match_classes(groups, (labels >= 0) & ~np.isin(files.number, list(damaged)))
        if reason := catalogue.untrainable(labels):
            _without_pictures(catalogue, reason)
            return None
        return _train_image(catalogue, spec, files, used, pixels, labels)


def _without_pictures(catalogue: Catalogue, reason: str) -> None:
    """Leave the pictures out."""
    catalogue.leave_out(
        f"Pictures are left out: the small image encoder learns from pictures of match groups, "
        f"and {reason}."
    )


def _workplace(cache: Path | None) -> Path | None:
    """Where decoded pictures lie during training; memory is too small for a large catalogue."""
    if cache is None:
        return None
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot use {cache} (encoders.cache): {error.strerror}.") from error
    return cache


def _decode(
    files: PictureFiles, used: NDArray[np.int64], pixels: NDArray[np.uint8]
) -> dict[int, str]:
    """Fill `pixels` with the pictures `used`; number and reason of those that are none."""
    damaged: dict[int, str] = {}
    for start in range(0, len(used), PICTURES_AT_ONCE):
        rows = slice(start, start + PICTURES_AT_ONCE)
        pixels[rows] = files.read(used[rows].tolist(), damaged)
    return damaged


def _train_image(
    catalogue: Catalogue,
    spec: images.ImageSpec,
    files: PictureFiles,
    used: NDArray[np.int64],
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
) -> ImageEncoder:
    settings = catalogue.settings
    network = images.untrained_network(spec, catalogue.seed)
    recipe = images.small_recipe(settings.epochs, settings.batch_size, settings.learning_rate)
    members = labels >= 0
    number, classes = files.number[members], labels[members]
    ids = catalogue.products["product_id"].filter(pl.Series(members)).to_list()
    contents = [files.digests[file] for file in number]
    parts: list[object] = [asdict(spec), asdict(recipe), ids, contents, classes.tolist()]

    def train() -> None:
        catalogue.progress(
            f"small image encoder: training on {len(number):,} pictures of "
            f"{classes.max() + 1:,} match groups"
        )
        images.train_on_matches(
            network,
            pixels,
            np.searchsorted(used, number),
            classes,
            recipe,
            seed=catalogue.seed,
            device=catalogue.device,
            progress=catalogue.progress,
        )

    file = catalogue.trained("image", parts)
    trained_once(file, network, train, name="small image encoder", progress=catalogue.progress)
    return ImageEncoder(spec, network, catalogue.device)
