"""Image encoders: a timm network, pretrained by others or a small one trained on the catalogue."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from purchase_predictor.encoders.arcface import ArcFaceRecipe, seeded
from purchase_predictor.encoders.augmentation import mirrored
from purchase_predictor.encoders.hub import fetch
from purchase_predictor.encoders.learning import train_arcface
from purchase_predictor.encoders.resuming import Checkpoint
from purchase_predictor.encoders.store import digest, state_of, weights_digest, write_whole
from purchase_predictor.errors import UserError, nearest

SMALL = "small"
"""The setting that asks for a network trained on the catalogue."""

SMALL_SIZE = 64
"""Side of the pictures of the small network where the settings name none, in pixels."""

_SMALL_ARCHITECTURE = "convnext_atto"
_SMALL_ARGUMENTS: dict[str, Any] = {"depths": [1, 1, 2, 1], "dims": [32, 64, 96, 128]}
_MARGINS = (0.1, 0.4)
_PICTURES_AT_ONCE = 128


@dataclass(frozen=True)
class ImageSpec:
    """Everything about an image encoder but its weights.

    Attributes:
        architecture: a timm name.
        arguments: what timm is given beside the name.
        size: side of the pictures, in pixels.
        mean: what is subtracted from each colour, of values in [0, 1].
        std: what each colour is then divided by.
        resampling: how pictures are resized.
        neck: whether BatchNorm follows the pooling (encoders trained here).
    """

    architecture: str
    arguments: dict[str, Any] = field(default_factory=dict)
    size: int = SMALL_SIZE
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.25, 0.25, 0.25)
    resampling: str = "bicubic"
    neck: bool = True


class ImageNetwork(nn.Module):
    """Pixels in, embeddings out.

    Shape:
        - pixels: uint8 [b, size, size, 3].
        - output: float32 [b, d], L2-normalised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        import timm

        self.backbone = timm.create_model(
            spec.architecture, pretrained=False, num_classes=0, **spec.arguments
        )
        self.register_buffer("mean", torch.tensor(spec.mean), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std), persistent=False)
        self.d = self._width(spec)
        self.neck = nn.BatchNorm1d(self.d) if spec.neck else nn.Identity()

    def _width(self, spec: ImageSpec) -> int:
        blank = torch.zeros(1, 3, spec.size, spec.size)
        try:
            with torch.inference_mode():
                return int(self.backbone.eval()(blank).shape[1])
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"The image encoder '{spec.architecture}' cannot take pictures of {spec.size} "
                f"pixels: give another size (32 or more suits the small one)."
            ) from error

    def forward(self, pixels: Tensor, *, unit: bool = True) -> Tensor:
        """Scale the colours, embed, normalise where `unit` says so."""
        values = (pixels / 255.0 - self.mean) / self.std
        pooled = self.neck(self.backbone(values.permute(0, 3, 1, 2)).float())
        return functional.normalize(pooled) if unit else pooled


class ImageEncoder:
    """An image encoder with its preprocessing.

    Attributes:
        spec: all but the weights.
        network: the weights, in evaluation mode.
        d: width of the embeddings.
    """

    def __init__(self, spec: ImageSpec, network: ImageNetwork, device: torch.device) -> None:
        """Put a network to use on a device."""
        self.spec, self.device = spec, device
        self.network = network.to(device).eval()
        self.d = network.d

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights and preprocessing."""
        return digest([asdict(self.spec), weights_digest(self.network)])

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed pictures.

        Args:
            pixels: uint8 [n, size, size, 3].

        Returns:
            float32 [n, d], before they are normalised.
        """
        vectors = np.zeros((len(pixels), self.d), dtype=np.float32)
        # Convolutions in TF32 would give a GPU's embeddings an error of 1e-3.
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            for start in range(0, len(pixels), _PICTURES_AT_ONCE):
                rows = slice(start, start + _PICTURES_AT_ONCE)
                batch = torch.from_numpy(np.ascontiguousarray(pixels[rows])).to(self.device)
                vectors[rows] = self.network(batch, unit=False).cpu().numpy()
        return vectors

    def save(self, folder: Path) -> None:
        """Write `image.json` and `image.safetensors` into a folder."""
        write_whole(folder / "image.json", json.dumps(asdict(self.spec), indent=1).encode())
        write_whole(folder / "image.safetensors", save(state_of(self.network)))

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Self:
        """Read what `save` wrote, without a network connection."""
        values = json.loads((folder / "image.json").read_text("utf-8"))
        values |= {"mean": tuple(values["mean"]), "std": tuple(values["std"])}
        spec = ImageSpec(**values)
        network = ImageNetwork(spec)
        network.load_state_dict(load_file(folder / "image.safetensors"))
        return cls(spec, network, device)


def small_spec(size: int) -> ImageSpec:
    """The small network: a ConvNeXt of 0.4 million weights."""
    return ImageSpec(_SMALL_ARCHITECTURE, _SMALL_ARGUMENTS, size or SMALL_SIZE)


def small_recipe(epochs: int, batch_size: int, learning_rate: float) -> ArcFaceRecipe:
    """How the small network is trained where it feeds purchase prediction."""
    return ArcFaceRecipe(epochs, batch_size, learning_rate, *_MARGINS)


def untrained_network(spec: ImageSpec, seed: int) -> ImageNetwork:
    """A network with weights drawn from a seed."""
    with seeded(seed, torch.device("cpu")):
        return ImageNetwork(spec)


def train_on_matches(
    network: ImageNetwork,
    pixels: NDArray[np.uint8],
    picture: NDArray[np.int64],
    labels: NDArray[np.int64],
    recipe: ArcFaceRecipe,
    *,
    seed: int,
    device: torch.device,
    name: str,
    progress: Callable[[str], None],
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train a network in place to tell match groups apart.

    Args:
        network: with a neck.
        pixels: uint8 [n_pictures, size, size, 3], may lie on disk (a memory map).
        picture: int64 [n], the picture of each listing.
        labels: int64 [n], the class of each listing.
        recipe: epochs, rates and margins.
        seed: of everything that is drawn.
        device: where to train.
        name: what is trained, for the progress lines.
        progress: takes a line after each epoch and every few seconds of a long one.
        checkpoint: where the training can be taken up again; None keeps nothing.
    """

    def batch_of(rows: NDArray[np.int64], generator: torch.Generator) -> Tensor:
        return mirrored(torch.from_numpy(pixels[picture[rows]]).to(device), generator)

    train_arcface(
        network.to(device),
        batch_of,
        labels,
        recipe,
        d_embedding=network.d,
        seed=seed,
        name=name,
        progress=progress,
        checkpoint=checkpoint,
    )


def pretrained_image_encoder(
    setting: str,
    size: int,
    device: torch.device,
    progress: Callable[[str], None],
    *,
    neck: bool = False,
) -> ImageEncoder:
    """An image encoder that others trained.

    Args:
        setting: `NAME:FILE`, a timm name and its weights as safetensors, or `NAME` alone, whose
            weights come from the hub (`NAME@REVISION` fixes their version).
        size: side of the pictures; 0 takes the size the network was made for.
        device: where it runs.
        progress: takes a line about a download.
        neck: puts BatchNorm behind the pooling, for an encoder that is to be trained further.

    Returns:
        The encoder.

    Raises:
        UserError: if timm has no such network, or if the weights are absent, out of reach, not
            safetensors or another network's.
    """
    name, found, place = setting.partition(":")
    name, _, revision = name.partition("@")
    spec, hub_id = _spec_of(name, size, neck=neck)
    if found:
        file = Path(place)
    else:
        remedy = f"give its weights as '{name}:FILE.safetensors'"
        if hub_id is None:
            raise UserError(f"timm has no pretrained weights for '{name}': {remedy}.")
        files = ["model.safetensors"]
        folder = fetch(hub_id, revision or None, files, remedy=remedy, progress=progress)
        file = folder / files[0]
    if not file.is_file():
        raise UserError(f"The weights of the image encoder '{name}' are not there: {file}.")
    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file} is not a safetensors file, which weights have to be.") from error
    network = ImageNetwork(spec)
    _load_weights(network.backbone, state, f"{file} into {name}")
    return ImageEncoder(spec, network, device)


def _spec_of(name: str, size: int, *, neck: bool) -> tuple[ImageSpec, str | None]:
    """What timm says of a network, and the hub repository of its weights."""
    import timm

    if not timm.is_model(name):
        raise UserError(
            f"There is no timm network '{name}'{nearest(name, [SMALL, *timm.list_models()])}."
        )
    given = timm.get_pretrained_cfg(name)
    known = given.to_dict() if given is not None else {}
    size = size or int(known["input_size"][-1])
    arguments = {"img_size": size} if known.get("fixed_input_size") else {}
    spec = ImageSpec(
        architecture=name,
        arguments=arguments,
        size=size,
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        resampling=known["interpolation"],
        neck=neck,
    )
    return spec, known.get("hf_hub_id")


def _load_weights(backbone: Any, state: dict[str, Tensor], what: str) -> None:
    """Fill a network; weights of the classifier, which an encoder has not, are passed over.

    timm itself loads leniently here, which would leave a wrong file's network half random.
    """
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    try:
        if convert is not None:
            state = convert(state, backbone)
        classifier = backbone.pretrained_cfg.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        wanted = backbone.state_dict().keys()
        state = {
            key: value
            for key, value in state.items()
            if key in wanted or not key.startswith(tuple(f"{head}." for head in heads))
        }
        result = backbone.load_state_dict(state, strict=False)
    except (RuntimeError, KeyError, AttributeError) as error:
        raise UserError(f"The weights do not fit: {what}.") from error
    absent = [key for key in result.missing_keys if not key.endswith("num_batches_tracked")]
    wrong = absent + result.unexpected_keys
    if wrong:
        raise UserError(f"The weights do not fit: {what} ({len(wrong)} differ, as '{wrong[0]}').")
