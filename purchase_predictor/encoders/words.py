"""Word pieces of titles: byte-pair merges learned on the catalogue's training titles.

Merges rather than a unigram model: in the `tokenizers` library they come out the same in every
process, and they keep whole phrases ("한정수량", "送料無料") as one piece, which is what an
explanation is read by. Without byte fallback: a character seen only once in training is UNSEEN
in training already, so the code that new characters get at prediction is learned.
"""

import json
from collections import Counter
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from features.arrays import MISSING, N_RESERVED

RESERVED = ("[PAD]", "[MISSING]", "[UNSEEN]")
"""Names of the reserved codes PAD, MISSING and UNSEEN, in this order."""

BEGIN = "▁"
"""Begins a piece that begins a word; other pieces go on where the piece before them ended."""

_LONGEST_PIECE = 24
_ALPHABET_SHARE = 4
_ROWS_AT_ONCE = 8192


class WordPieces:
    """A vocabulary of word pieces; real pieces have codes from `N_RESERVED` on.

    Attributes:
        json: the tokenizer as text, all that has to be kept.
        names: the piece of each code; those that begin a word begin with `BEGIN`.
    """

    def __init__(self, json: str) -> None:
        """Take a vocabulary as `json` keeps it."""
        self.json = json
        pieces = Tokenizer.from_str(json).get_vocab()
        self.names = tuple(sorted(pieces, key=pieces.__getitem__))

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def fit(cls, titles: pl.Series, n_word_pieces: int) -> "WordPieces":
        """Learn the pieces of titles.

        Args:
            titles: titles of training products; nulls are passed over.
            n_word_pieces: size of the vocabulary at most, reserved codes included.

        Returns:
            The vocabulary; the same titles in the same order give the same one.
        """
        known = titles.drop_nulls()
        tokenizer = Tokenizer(models.BPE(unk_token=RESERVED[-1], fuse_unk=True))
        tokenizer.normalizer = normalizers.Sequence(
            [
                normalizers.NFKC(),
                normalizers.Lowercase(),
                normalizers.Replace(Regex(r"[\p{Cc}\s]+"), " "),
            ]
        )
        # Words and runs of punctuation. Marking what goes on inside a word, as BERT does, would
        # let the library number single characters in an order that differs between processes.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Whitespace(), pre_tokenizers.Metaspace(BEGIN, "always")]
        )
        alphabet = _alphabet(tokenizer, known, n_word_pieces)
        trainer = trainers.BpeTrainer(
            vocab_size=n_word_pieces,
            special_tokens=list(RESERVED),
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            max_token_length=_LONGEST_PIECE,
            min_frequency=2,
            show_progress=False,
        )
        tokenizer.train_from_iterator(_pieces_of(known), trainer, length=len(known))
        return cls(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False))

    def tokenizer(self, max_words: int) -> Tokenizer:
        """A tokenizer that cuts after `max_words` pieces and pads no title."""
        tokenizer = Tokenizer.from_str(self.json)
        tokenizer.enable_truncation(max_words)
        return tokenizer

    def encode(self, titles: pl.Series, max_words: int) -> NDArray[np.int32]:
        """Codes of the first pieces of each title.

        Args:
            titles: any titles, nulls among them.
            max_words: pieces of a title that are kept.

        Returns:
            int32 [len(titles), max_words], PAD on the right; a null is MISSING, then PAD; an
            empty title is all PAD.
        """
        tokenizer = self.tokenizer(max_words)
        tokenizer.enable_padding(length=max_words)
        codes = np.zeros((len(titles), max_words), dtype=np.int32)
        for start in range(0, len(titles), _ROWS_AT_ONCE):
            rows = titles.slice(start, _ROWS_AT_ONCE).fill_null("").to_list()
            found = tokenizer.encode_batch_fast(rows)
            codes[start : start + len(rows)] = [encoding.ids for encoding in found]
        codes[titles.is_null().to_numpy(), 0] = MISSING
        return codes


def _pieces_of(titles: pl.Series) -> Iterator[list[str]]:
    for start in range(0, len(titles), _ROWS_AT_ONCE):
        yield titles.slice(start, _ROWS_AT_ONCE).to_list()


def _alphabet(tokenizer: Tokenizer, titles: pl.Series, n_word_pieces: int) -> list[str]:
    """Characters seen twice or more, the most frequent first, as many as leave room for merges.

    The library breaks ties of its own choice by chance; here they are broken by code point.
    """
    counts: Counter[str] = Counter()
    for rows in _pieces_of(titles):
        counts.update(tokenizer.normalizer.normalize_str("\n".join(rows)))
    del counts[" "]
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    room = (n_word_pieces - N_RESERVED) // _ALPHABET_SHARE
    return [BEGIN, *(character for character, count in ranked[:room] if count > 1)]
