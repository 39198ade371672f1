"""Encoders as they were chosen: pretrained or small, frozen or trained on match groups.

Each is trained separately: training image and title encoders jointly was always worse.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from purchase_predictor.encoders import image as images
from purchase_predictor.encoders import text as texts
from purchase_predictor.encoders.arcface import ArcFaceRecipe, match_classes
from purchase_predictor.encoders.image import ImageEncoder
from purchase_predictor.encoders.pictures import (
    PICTURES_AT_ONCE,
    PictureFiles,
    PictureReader,
    find_pictures,
)
from purchase_predictor.encoders.resuming import Checkpoint, trained_once
from purchase_predictor.encoders.store import digest
from purchase_predictor.encoders.text import TextEncoder
from purchase_predictor.encoders.words import WordPieces
from purchase_predictor.errors import UserError
from purchase_predictor.settings import CatalogueSettings

_VERSION = 2
_LIBRARIES = ("timm", "tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class TextChoice:
    """A text encoder that is wanted.

    Attributes:
        setting: `small`, a transformers folder, or a name on the hub.
        prefix: put before every title.
        max_tokens: tokens of a title that are embedded.
        recipe: how it is trained on match groups; None, or no epochs, leaves it as it is, which
            for the small one are random weights.
        lowercase: whether titles are put into lower case; those of the small one always are.
        freeze_words: whether the table of token vectors of a pretrained encoder stays as it is in
            training; the small one's is random and always learned.
    """

    setting: str
    prefix: str = ""
    max_tokens: int = texts.MAX_TOKENS
    recipe: ArcFaceRecipe | None = None
    lowercase: bool = False
    freeze_words: bool = False


@dataclass(frozen=True)
class ImageChoice:
    """An image encoder that is wanted.

    Attributes:
        setting: `small`, or a timm `NAME[:FILE]`.
        size: side of the pictures in pixels; 0 takes the one that the network was made for.
        recipe: see `TextChoice`.
    """

    setting: str
    size: int = 0
    recipe: ArcFaceRecipe | None = None


@dataclass(frozen=True)
class Catalogue:
    """What encoders are fitted on.

    Attributes:
        products: training products alone: `product_id, title, image, match_group`.
        folder: the data folder.
        limits: of picture files.
        seed: of everything that is drawn.
        device: where encoders are trained and run.
        cache: folder of trained encoders and of checkpoints; None keeps none.
        progress: takes a line at each step.
        notes: gets a sentence for each encoder that is left out or left as it is.
        taught: bool [n_products], gets the products that something was learned from.
    """

    products: pl.DataFrame
    folder: Path
    limits: CatalogueSettings
    seed: int
    device: torch.device
    cache: Path | None
    progress: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    taught: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "taught", np.zeros(len(self.products), dtype=bool))

    def leave_out(self, note: str) -> None:
        """Say why an encoder is left out, or left as it is."""
        self.notes.append(note)
        self.progress(note)

    def trained(self, kind: str, seed: int, parts: list[object]) -> Path | None:
        """Where the encoder is kept that a training with these inputs gives."""
        if self.cache is None:
            return None
        libraries = [f"{name} {version(name)}" for name in _LIBRARIES]
        key = digest([_VERSION, libraries, seed, self.device.type, *parts])
        return self.cache / "encoders" / f"{kind}-{key[:32]}.safetensors"

    def ids(self, members: NDArray[np.bool_]) -> list[str]:
        """Identifiers of some products."""
        return self.products["product_id"].filter(pl.Series(members)).to_list()


def best_device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit_words(catalogue: Catalogue, n_word_pieces: int) -> WordPieces | None:
    """Word pieces of the titles; None where there is no title."""
    titles = catalogue.products["title"].cast(pl.String)
    if titles.null_count() == len(titles):
        catalogue.leave_out("No training product has a title: titles are left out.")
        return None
    catalogue.taught[:] |= titles.is_not_null().to_numpy()
    return WordPieces.fit(titles, n_word_pieces)


def fit_texts(
    catalogue: Catalogue, choices: Sequence[TextChoice], words: WordPieces
) -> tuple[TextEncoder, ...]:
    """The text encoders chosen, each with the seed of its place; without those left out."""
    titles = catalogue.products["title"].cast(pl.String)
    labels = match_classes(catalogue.products["match_group"], titles.is_not_null().to_numpy())
    encoders = []
    for number, choice in enumerate(choices):
        recipe = _recipe(choice)
        reason = "" if recipe is None else _untrainable(labels)
        if reason and choice.setting == texts.SMALL:
            catalogue.leave_out(
                f"Titles enter as word pieces only: the small text encoder learns from titles of "
                f"match groups, and {reason}."
            )
            continue
        if reason:
            _stays_frozen(catalogue, "text", choice.setting, reason)
            recipe = None
        seed = catalogue.seed + number
        encoder = _text_encoder(catalogue, choice, words, seed, neck=recipe is not None)
        if recipe is not None:
            name = _name("text", choice.setting)
            frozen = choice.freeze_words and encoder.spec.pretrained
            _train_text(
                catalogue, encoder, recipe, labels, seed=seed, name=name, freeze_words=frozen
            )
        encoders.append(encoder)
    return tuple(encoders)


def _text_encoder(
    catalogue: Catalogue, choice: TextChoice, words: WordPieces, seed: int, *, neck: bool
) -> TextEncoder:
    prefix, device, n_tokens = choice.prefix, catalogue.device, choice.max_tokens
    if choice.setting == texts.SMALL:
        return texts.small_text_encoder(words, prefix, seed, device, max_tokens=n_tokens)
    return texts.pretrained_text_encoder(
        choice.setting,
        prefix,
        device,
        catalogue.progress,
        max_tokens=n_tokens,
        lowercase=choice.lowercase,
        neck=neck,
    )


def _train_text(
    catalogue: Catalogue,
    encoder: TextEncoder,
    recipe: ArcFaceRecipe,
    labels: NDArray[np.int64],
    *,
    seed: int,
    name: str,
    freeze_words: bool,
) -> None:
    progress, members = catalogue.progress, labels >= 0
    titles = catalogue.products["title"].cast(pl.String).filter(pl.Series(members)).to_list()
    classes = labels[members]

    def train(checkpoint: Checkpoint | None) -> None:
        progress(_training_on(name, classes, "titles"))
        texts.train_on_matches(
            encoder,
            titles,
            classes,
            recipe,
            seed=seed,
            name=name,
            progress=progress,
            freeze_words=freeze_words,
            checkpoint=checkpoint,
        )

    parts: list[object] = [encoder.fingerprint, asdict(recipe), freeze_words]
    parts += [catalogue.ids(members), titles, classes.tolist()]
    file = catalogue.trained("text", seed, parts)
    trained_once(file, encoder.network, train, name=name, progress=progress)
    catalogue.taught[:] |= members


def fit_images(catalogue: Catalogue, choices: Sequence[ImageChoice]) -> tuple[ImageEncoder, ...]:
    """The image encoders chosen, each with the seed of its place; without those left out."""
    pictures = catalogue.products["image"]
    if choices and pictures.null_count() == len(pictures):
        catalogue.leave_out("No training product has a picture: pictures are left out.")
        return ()
    encoders = []
    for number, choice in enumerate(choices):
        encoder = _fit_image(catalogue, choice, catalogue.seed + number)
        if encoder is not None:
            encoders.append(encoder)
    return tuple(encoders)


def _fit_image(catalogue: Catalogue, choice: ImageChoice, seed: int) -> ImageEncoder | None:
    recipe = _recipe(choice)
    encoder = _image_encoder(catalogue, choice, seed, neck=recipe is not None)
    if recipe is None:
        return encoder
    with _decoded(catalogue, encoder.spec) as pictures:
        if pictures.damaged:
            catalogue.progress(
                f"{len(pictures.damaged):,} of {len(pictures.used):,} pictures of match groups "
                f"cannot be read and teach nothing"
            )
        labels = match_classes(catalogue.products["match_group"], pictures.readable)
        reason = _untrainable(labels)
        if not reason:
            name = _name("image", choice.setting)
            _train_image(catalogue, encoder, recipe, pictures, labels, seed=seed, name=name)
            return encoder
    if choice.setting == images.SMALL:
        catalogue.leave_out(
            f"Pictures are left out: the small image encoder learns from pictures of match "
            f"groups, and {reason}."
        )
        return None
    _stays_frozen(catalogue, "image", choice.setting, reason)
    return _image_encoder(catalogue, choice, seed, neck=False)


def _image_encoder(
    catalogue: Catalogue, choice: ImageChoice, seed: int, *, neck: bool
) -> ImageEncoder:
    device = catalogue.device
    if choice.setting == images.SMALL:
        spec = images.small_spec(choice.size)
        return ImageEncoder(spec, images.untrained_network(spec, seed), device)
    return images.pretrained_image_encoder(
        choice.setting, choice.size, device, catalogue.progress, neck=neck
    )


@dataclass(frozen=True)
class _Decoded:
    """Pictures that may teach.

    Attributes:
        files: all picture files of the training products.
        used: int64 [n], numbers of those decoded, ascending.
        pixels: uint8 [n, size, size, 3], on the disk.
        damaged: number and reason of those that are no pictures.
    """

    files: PictureFiles
    used: NDArray[np.int64]
    pixels: NDArray[np.uint8]
    damaged: dict[int, str]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Whether each product has a picture that was not found damaged, bool [n_products]."""
        number = self.files.number
        return (number >= 0) & ~np.isin(number, list(self.damaged))


@contextmanager
def _decoded(catalogue: Catalogue, spec: images.ImageSpec) -> Iterator[_Decoded]:
    """Decode what may teach to a file that is there while an encoder is trained."""
    limits = catalogue.limits
    reader = PictureReader(
        limits.max_image_bytes, limits.max_image_pixels, spec.size, spec.resampling
    )
    files = find_pictures(catalogue.products["image"], catalogue.folder, reader)
    labels = match_classes(catalogue.products["match_group"], files.number >= 0)
    used = np.unique(files.number[labels >= 0])
    damaged: dict[int, str] = {}
    with TemporaryFile(dir=_workplace(catalogue.cache)) as scratch:
        # One row more than needed: a file without a byte cannot be mapped.
        shape = (len(used) + 1, spec.size, spec.size, 3)
        pixels = np.memmap(scratch, np.uint8, "w+", shape=shape)[:-1]
        for start in range(0, len(used), PICTURES_AT_ONCE):
            rows = slice(start, start + PICTURES_AT_ONCE)
            pixels[rows] = files.read(used[rows].tolist(), damaged)
        yield _Decoded(files, used, pixels, damaged)


def _workplace(cache: Path | None) -> Path | None:
    """Where decoded pictures lie during training; memory is too small for a large catalogue."""
    if cache is None:
        return None
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot use {cache} (encoders.cache): {error.strerror}.") from error
    return cache


def _train_image(
    catalogue: Catalogue,
    encoder: ImageEncoder,
    recipe: ArcFaceRecipe,
    pictures: _Decoded,
    labels: NDArray[np.int64],
    *,
    seed: int,
    name: str,
) -> None:
    progress, members = catalogue.progress, labels >= 0
    number, classes = pictures.files.number[members], labels[members]
    contents = [pictures.files.digests[file] for file in number]

    def train(checkpoint: Checkpoint | None) -> None:
        progress(_training_on(name, classes, "pictures"))
        images.train_on_matches(
            encoder.network,
            pictures.pixels,
            np.searchsorted(pictures.used, number),
            classes,
            recipe,
            seed=seed,
            device=catalogue.device,
            name=name,
            progress=progress,
            checkpoint=checkpoint,
        )

    parts: list[object] = [encoder.fingerprint, asdict(recipe)]
    parts += [catalogue.ids(members), contents, classes.tolist()]
    file = catalogue.trained("image", seed, parts)
    trained_once(file, encoder.network, train, name=name, progress=progress)
    catalogue.taught[:] |= members


def _recipe(choice: TextChoice | ImageChoice) -> ArcFaceRecipe | None:
    """How an encoder is to be trained on match groups; None where it is not."""
    return choice.recipe if choice.recipe is not None and choice.recipe.epochs > 0 else None


def _untrainable(labels: NDArray[np.int64]) -> str:
    """Why these classes cannot train an encoder; empty where they can."""
    if labels.max(initial=-1) < 1:
        return "fewer than two match groups have two training listings with one"
    return ""


def _stays_frozen(catalogue: Catalogue, kind: str, setting: str, reason: str) -> None:
    catalogue.leave_out(
        f"The {_name(kind, setting)} stays as it was pretrained: it would learn from match "
        f"groups, and {reason}."
    )


def _name(kind: str, setting: str) -> str:
    """What progress lines call an encoder."""
    if setting == texts.SMALL:
        return f"small {kind} encoder"
    short = setting.partition(":")[0] if kind == "image" else Path(setting).name
    return f"{kind} encoder {short}"


def _training_on(name: str, classes: NDArray[np.int64], what: str) -> str:
    return f"{name}: training on {len(classes):,} {what} of {classes.max() + 1:,} match groups"
