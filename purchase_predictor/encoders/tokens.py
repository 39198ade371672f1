"""What cuts titles into the tokens of a text encoder: the catalogue's word pieces, or others'."""

import json
from typing import Any, Protocol

import torch
from torch import Tensor

from features.arrays import PAD
from purchase_predictor.encoders.words import WordPieces


class Tokens(Protocol):
    """Cuts titles into the tokens of a text encoder."""

    def __call__(self, titles: list[str]) -> dict[str, Tensor]:
        """The batch of some titles, padded to the longest; each has a token at least."""

    def as_json(self) -> str:
        """All that decides on the tokens, as text."""


class PieceTokens:
    """The catalogue's word pieces behind a first token, which an empty title has too."""

    def __init__(self, words: WordPieces, max_tokens: int) -> None:
        """Take over a vocabulary."""
        self.words, self.first = words, len(words)
        self.tokenizer = words.tokenizer(max_tokens - 1)

    def __call__(self, titles: list[str]) -> dict[str, Tensor]:
        """See `Tokens`."""
        found = [encoding.ids for encoding in self.tokenizer.encode_batch_fast(titles)]
        ids = torch.full((len(found), 1 + max(map(len, found))), PAD)
        ids[:, 0] = self.first
        for row, codes in enumerate(found):
            ids[row, 1 : 1 + len(codes)] = torch.tensor(codes, dtype=torch.int64)
        return {"input_ids": ids, "attention_mask": (ids != PAD).long()}

    def as_json(self) -> str:
        """See `Tokens`."""
        return self.words.json


class PretrainedTokens:
    """A tokenizer of transformers."""

    def __init__(self, tokenizer: Any, max_tokens: int) -> None:
        """Take over a tokenizer."""
        self.tokenizer, self.max_tokens = tokenizer, max_tokens
        # Padding and truncation are state that calls change; they are no part of the tokenizer.
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        self._json = json.dumps(parts | {"padding": None, "truncation": None})

    def __call__(self, titles: list[str]) -> dict[str, Tensor]:
        """See `Tokens`."""
        return dict(
            self.tokenizer(
                titles,
                padding=True,
                truncation=True,
                max_length=self.max_tokens,
                return_tensors="pt",
            )
        )

    def as_json(self) -> str:
        """See `Tokens`."""
        return self._json
