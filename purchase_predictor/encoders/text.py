"""Text encoders: a transformers model, pretrained by others or a small BERT of the catalogue's."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from features.arrays import PAD
from purchase_predictor.encoders.arcface import ArcFaceRecipe, seeded
from purchase_predictor.encoders.hub import fetch
from purchase_predictor.encoders.learning import train_arcface
from purchase_predictor.encoders.resuming import Checkpoint
from purchase_predictor.encoders.store import digest, state_of, weights_digest, write_whole
from purchase_predictor.encoders.tokens import PieceTokens, PretrainedTokens, Tokens
from purchase_predictor.encoders.words import WordPieces
from purchase_predictor.errors import UserError

SMALL = "small"
"""The setting that asks for a BERT trained on the catalogue."""

MAX_TOKENS = 128
"""Tokens of a title that are embedded; a marketplace's titles are shorter."""

_SMALL_SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
}
_MARGINS = (0.1, 0.4)
_TITLES_AT_ONCE = 128


@dataclass(frozen=True)
class TextSpec:
    """Everything about a text encoder but its weights and its tokenizer.

    Attributes:
        pretrained: whether tokenizer and network are others'.
        prefix: put before every title.
        max_tokens: tokens of a title that are embedded.
        neck: whether BatchNorm follows the pooling (encoders trained here).
        lowercase: whether titles are put into lower case, the prefix is not.
    """

    pretrained: bool
    prefix: str
    max_tokens: int = MAX_TOKENS
    neck: bool = False
    lowercase: bool = False


class TextNetwork(nn.Module):
    """Tokens in, embeddings out: a transformer, the mean over its tokens, a normalised vector.

    Shape:
        - batch: int64 [b, n_tokens] each: input_ids, attention_mask, what else the model takes.
        - output: float32 [b, d], L2-normalised.
    """

    transformer: Any

    def __init__(self, transformer: Any, *, neck: bool) -> None:
        super().__init__()
        self.transformer = transformer
        self.d = int(transformer.config.hidden_size)
        self.neck = nn.BatchNorm1d(self.d) if neck else nn.Identity()

    def forward(self, batch: dict[str, Tensor], *, unit: bool = True) -> Tensor:
        """Embed, average over the tokens that the mask shows, normalise where `unit` says so."""
        states = self.transformer(**batch).last_hidden_state
        mask = batch["attention_mask"][:, :, None].to(states.dtype)
        mean = (states * mask).sum(1) / mask.sum(1)
        pooled = self.neck(mean.float())
        return functional.normalize(pooled) if unit else pooled


class TextEncoder:
    """A text encoder with its tokenizer.

    Attributes:
        spec: prefix and lengths.
        tokens: the tokenizer.
        network: the weights, in evaluation mode.
        d: width of the embeddings.
    """

    def __init__(
        self, spec: TextSpec, tokens: Tokens, network: TextNetwork, device: torch.device
    ) -> None:
        """Put a network to use on a device."""
        self.spec, self.tokens, self.device = spec, tokens, device
        self.network = network.to(device).eval()
        self.d = network.d

    @property
    def shape(self) -> dict[str, Any]:
        """The transformers configuration, without what does not change an embedding."""
        config = json.loads(self.network.transformer.config.to_json_string())
        beside = {"transformers_version", "architectures", "_name_or_path", "dtype"}
        return {key: value for key, value in config.items() if key not in beside}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, tokenizer and prefix."""
        parts = [asdict(self.spec), self.shape, self.tokens.as_json()]
        return digest([*parts, weights_digest(self.network)])

    def inputs(self, titles: Iterable[str]) -> list[str]:
        """What the tokenizer is given for each title."""
        spec = self.spec
        return [spec.prefix + (title.lower() if spec.lowercase else title) for title in titles]

    def embed(self, titles: list[str]) -> NDArray[np.float32]:
        """Embed titles.

        Args:
            titles: any texts, empty ones among them.

        Returns:
            float32 [n, d], before they are normalised.
        """
        vectors = np.zeros((len(titles), self.d), dtype=np.float32)
        # Titles of like length share a batch, so that little padding is computed.
        order = np.argsort([len(title) for title in titles], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(titles), _TITLES_AT_ONCE):
                rows = order[start : start + _TITLES_AT_ONCE]
                batch = self.tokens(self.inputs(titles[row] for row in rows))
                vectors[rows] = self.network(_moved(batch, self.device), unit=False).cpu().numpy()
        return vectors

    def save(self, folder: Path) -> None:
        """Write `text.json`, `text.safetensors` and the folder `text/` into a folder."""
        write_whole(folder / "text.json", json.dumps(asdict(self.spec), indent=1).encode())
        write_whole(folder / "text.safetensors", save(state_of(self.network)))
        self.network.transformer.config.save_pretrained(folder / "text")
        if isinstance(self.tokens, PretrainedTokens):
            self.tokens.tokenizer.save_pretrained(folder / "text")

    @classmethod
    def load(cls, folder: Path, words: WordPieces | None, device: torch.device) -> Self:
        """Read what `save` wrote, without a network connection.

        Args:
            folder: where it was saved.
            words: the catalogue's word pieces, which the small BERT reads.
            device: where it runs.
        """
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        spec = TextSpec(**json.loads((folder / "text.json").read_text("utf-8")))
        config = AutoConfig.from_pretrained(folder / "text", local_files_only=True)
        tokens: Tokens
        if spec.pretrained:
            own = AutoTokenizer.from_pretrained(folder / "text", local_files_only=True)
            tokens = PretrainedTokens(own, spec.max_tokens)
        elif words is not None:
            tokens = PieceTokens(words, spec.max_tokens)
        else:
            raise ValueError("the small text encoder needs the catalogue's word pieces")
        with seeded(0, torch.device("cpu")):
            transformer = AutoModel.from_config(config)
        network = TextNetwork(_without_pooler(transformer), neck=spec.neck)
        network.load_state_dict(load_file(folder / "text.safetensors"))
        return cls(spec, tokens, network, device)


def small_text_encoder(
    words: WordPieces,
    prefix: str,
    seed: int,
    device: torch.device,
    *,
    max_tokens: int = MAX_TOKENS,
) -> TextEncoder:
    """The small BERT, 128 wide, with weights drawn from a seed; word pieces are lower case."""
    from transformers import BertConfig, BertModel

    spec = TextSpec(pretrained=False, prefix=prefix, max_tokens=max_tokens, neck=True)
    config = BertConfig(
        vocab_size=len(words) + 1,
        max_position_embeddings=spec.max_tokens,
        pad_token_id=PAD,
        **_SMALL_SHAPE,
    )
    with seeded(seed, torch.device("cpu")):
        network = TextNetwork(BertModel(config, add_pooling_layer=False), neck=True)
    return TextEncoder(spec, PieceTokens(words, spec.max_tokens), network, device)


def small_recipe(epochs: int, batch_size: int, learning_rate: float) -> ArcFaceRecipe:
    """How the small BERT is trained where it feeds purchase prediction."""
    return ArcFaceRecipe(epochs, batch_size, learning_rate, *_MARGINS)


def train_on_matches(
    encoder: TextEncoder,
    titles: list[str],
    labels: NDArray[np.int64],
    recipe: ArcFaceRecipe,
    *,
    seed: int,
    name: str,
    progress: Callable[[str], None],
    freeze_words: bool = False,
    checkpoint: Checkpoint | None = None,
) -> None:
    """Train an encoder in place to tell match groups apart.

    Args:
        encoder: with a neck, on the device to train on.
        titles: one for each listing.
        labels: int64 [n], the class of each listing.
        recipe: epochs, rates and margins.
        seed: of everything that is drawn.
        name: what is trained, for the progress lines.
        progress: takes a line after each epoch and every few seconds of a long one.
        freeze_words: leaves the table of token vectors as it is.
        checkpoint: where the training can be taken up again; None keeps nothing.

    Raises:
        ValueError: if the recipe mixes pictures.
    """
    if recipe.cutmix:
        raise ValueError("cutmix is for pictures, a text encoder's recipe needs cutmix 0")
    texts = encoder.inputs(titles)
    words = encoder.network.transformer.get_input_embeddings().weight

    def batch_of(rows: NDArray[np.int64], _generator: torch.Generator) -> dict[str, Tensor]:
        return _moved(encoder.tokens([texts[row] for row in rows]), encoder.device)

    words.requires_grad_(not freeze_words)
    try:
        train_arcface(
            encoder.network,
            batch_of,
            labels,
            recipe,
            d_embedding=encoder.d,
            seed=seed,
            name=name,
            progress=progress,
            # The small BERT costs so little that nothing is saved, see `epoch_batches`.
            lengths=_lengths(encoder.tokens, texts) if encoder.spec.pretrained else None,
            checkpoint=checkpoint,
        )
    finally:
        words.requires_grad_(True)


def _lengths(tokens: Tokens, texts: list[str]) -> NDArray[np.int64]:
    """Tokens of each text, int64 [n]."""
    lengths = [
        tokens(texts[start : start + _TITLES_AT_ONCE])["attention_mask"].sum(1)
        for start in range(0, len(texts), _TITLES_AT_ONCE)
    ]
    return torch.cat(lengths).numpy()


def pretrained_text_encoder(
    setting: str,
    prefix: str,
    device: torch.device,
    progress: Callable[[str], None],
    *,
    max_tokens: int = MAX_TOKENS,
    lowercase: bool = False,
    neck: bool = False,
) -> TextEncoder:
    """A text encoder that others trained.

    Args:
        setting: a folder that transformers wrote, or a name on the hub (`NAME@REVISION` fixes its
            version).
        prefix: put before every title.
        device: where it runs.
        progress: takes a line about a download.
        max_tokens: tokens of a title that are embedded, where the encoder takes as many.
        lowercase: puts titles into lower case.
        neck: puts BatchNorm behind the pooling, for an encoder that is to be trained further.

    Returns:
        The encoder.

    Raises:
        UserError: if there is no such folder or name, or if what it holds is no text encoder with
            safetensors and a fast tokenizer.
    """
    folder = Path(setting)
    if not folder.is_dir():
        name, _, revision = setting.partition("@")
        remedy = "give a folder that transformers wrote in its place"
        files = ["*.json", "*.safetensors", "*.model", "*.txt"]
        folder = fetch(name, revision or None, files, remedy=remedy, progress=progress)
    transformer, tokenizer = _read_transformer(folder, setting)
    longest = getattr(transformer.config, "max_position_embeddings", None) or max_tokens
    n_tokens = min(max_tokens, int(tokenizer.model_max_length), int(longest))
    spec = TextSpec(
        pretrained=True, prefix=prefix, max_tokens=n_tokens, neck=neck, lowercase=lowercase
    )
    network = TextNetwork(transformer, neck=neck)
    return TextEncoder(spec, PretrainedTokens(tokenizer, n_tokens), network, device)


def _read_transformer(folder: Path, setting: str) -> tuple[Any, Any]:
    """Model and tokenizer of a folder; every weight of the model comes from the folder."""
    from transformers import AutoModel, AutoTokenizer

    try:
        with _quiet_transformers():
            transformer, report = AutoModel.from_pretrained(
                folder,
                use_safetensors=True,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"The text encoder '{setting}' cannot be loaded: {reason}") from error
    absent = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    if absent:
        raise UserError(f"The text encoder '{setting}' lacks weights, as '{absent[0]}'.")
    if transformer.config.is_encoder_decoder:
        transformer = transformer.get_encoder()
    if not tokenizer.is_fast or tokenizer.pad_token is None:
        raise UserError(
            f"The text encoder '{setting}' needs a fast tokenizer that has a token for padding."
        )
    return _without_pooler(transformer), tokenizer


def _without_pooler(transformer: Any) -> Any:
    """Take off the layer on the first token: not used here, and random where it was not saved."""
    if getattr(transformer, "pooler", None) is not None:
        transformer.pooler = None
    return transformer


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep the loading bar and the report of unused weights off the screen."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _moved(batch: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}
