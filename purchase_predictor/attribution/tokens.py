"""The tokens that gradients attribute to.

A token is a word piece, a phrase, a part of the product, a column or an event. Market and culture
are no tokens: gradients compare an impression with one in the same market of which nothing else is
known, so what a market makes of a word is the word's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from features.arrays import MISSING, PAD
from purchase_predictor.attribution.shapley import IDENTITY, MODALITIES
from purchase_predictor.model.inputs import FusionBatch, FusionShape

TITLE, PICTURE, PATH = "(title)", "(picture)", "(path so far)"
"""Tokens that are not a word, a column or an event: embeddings of the title and of the picture,
and the state that the events add up to."""

MODALITY_OF_GROUP = {
    "terms": "terms", "clickstream": "clickstream", "culture": "culture", "context": IDENTITY,
}  # fmt: skip
"""Modality of each group of columns (`features.arrays.Group`)."""

TOKEN_OF_PART = {
    "image": PICTURE, "text": TITLE, "identity": "product_id", "category": "product category",
    "brand": "product brand",
}  # fmt: skip
"""Token of each part of a product but the phrases (`ProductEncoder.part_names`)."""

MARKET_ALONE = tuple(name == "culture" for name in MODALITIES)
"""The subset of modalities that gradients start from."""


def phrase_token(name: str) -> str:
    """The token of a group of phrases."""
    return f"phrase: {name}"


def column_token(name: str) -> str:
    """The token of a column; a user's column cannot take the name of another token."""
    taken = name in (TITLE, PICTURE, PATH, *TOKEN_OF_PART.values())
    return f"{name} (given)" if taken or name.startswith(phrase_token("")) else name


@dataclass(frozen=True)
class Token:
    """A token that every impression has.

    Attributes:
        name: as it is written to files.
        modality: one of `MODALITIES`.
    """

    name: str
    modality: str


@dataclass(frozen=True)
class TokenGrid:
    """Tokens of a batch in the order of the columns of gates and attributions.

    Word pieces, then what every impression has, then events.

    Attributes:
        n_words: word pieces, padded.
        fixed: tokens that every impression has.
        n_events: events of the longest sequence.
    """

    n_words: int
    fixed: tuple[Token, ...]
    n_events: int

    @classmethod
    def of(
        cls, shape: FusionShape, phrase_names: Sequence[str], batch: FusionBatch
    ) -> "TokenGrid":
        """The grid of a batch.

        Args:
            shape: of the model.
            phrase_names: groups of phrases that the model knows.
            batch: N impressions.
        """
        views = {"image": shape.d_image, "text": shape.d_text + shape.n_word_pieces}
        parts = [
            Token(name, part if part in views else IDENTITY)
            for part, name in TOKEN_OF_PART.items()
            if views.get(part, 1)
        ]
        columns = (*shape.numbers, *shape.categories)
        return cls(
            n_words=batch.products.words.shape[1] if shape.n_word_pieces else 0,
            fixed=(
                *(Token(phrase_token(name), "text") for name in phrase_names[: shape.n_phrases]),
                *parts,
                *(Token(column_token(c.name), MODALITY_OF_GROUP[c.group]) for c in columns),
                Token(PATH, "clickstream"),
            ),
            n_events=batch.sessions.product.shape[1],
        )

    def __len__(self) -> int:
        return self.n_words + len(self.fixed) + self.n_events

    def split(self, values: Tensor) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Values of words [N, n_words], of each fixed token [N], of events [N, n_events]."""
        words, fixed, events = values.split([self.n_words, len(self.fixed), self.n_events], dim=1)
        names = [token.name for token in self.fixed]
        return words, dict(zip(names, fixed.unbind(dim=1), strict=True)), events


def events_in_sight(batch: FusionBatch) -> Tensor:
    """Which events of its sequence each impression sees, bool [N, L]."""
    place = torch.arange(batch.sessions.product.shape[1])
    return place < batch.events_seen()[:, None]


def real_words(batch: FusionBatch) -> Tensor:
    """Which word pieces of its product's title are there, bool [N, W]."""
    words = batch.products.words.index_select(0, batch.product)
    return (words != PAD) & (words != MISSING)
