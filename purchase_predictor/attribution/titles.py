"""Word pieces joined back to words as people write them.

Where a script parts words by spaces, a word is what lies between them. Chinese, Japanese, Thai,
Lao, Khmer and Burmese part nothing: there a piece is a word of its own, since a byte-pair merge is
as near to one as a catalogue of titles tells, but no piece begins inside a written character.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from features.products import phrase_spans

_UNPARTED = (
    "CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "IDEOGRAPHIC",
)  # fmt: skip
_JOINERS = frozenset("\N{ZERO WIDTH JOINER}\N{VARIATION SELECTOR-16}")


@dataclass(frozen=True)
class TitleWords:
    """The words of a title as far as the model reads it.

    Attributes:
        spans: first character and one past the last of each word, in the title as given.
        word_of_piece: int64 [n_pieces], the word of each word piece.
    """

    spans: tuple[tuple[int, int], ...]
    word_of_piece: NDArray[np.int64]


def title_words(titles: Sequence[str], tokenizer: Tokenizer) -> list[TitleWords]:
    """Words of titles and the pieces they were cut into.

    Args:
        titles: as given.
        tokenizer: of the catalogue's word pieces (`WordPieces.tokenizer`), which cuts after as
            many as the model reads.
    """
    encodings = tokenizer.encode_batch(list(titles))
    return [
        _joined(title, encoding.offsets, encoding.word_ids)
        for title, encoding in zip(titles, encodings, strict=True)
    ]


def words_of_phrases(
    title: str, spans: Sequence[tuple[int, int]], phrases: Iterable[str]
) -> list[int]:
    """Which words of a title are part of one of some phrases.

    Args:
        title: as given.
        spans: of its words.
        phrases: as in `configs/phrases.yaml`; found by the rule of the model's own flags.

    Returns:
        Places among the words, ascending.
    """
    inside = _inside(title, phrases)
    return [place for place, (start, stop) in enumerate(spans) if inside[start:stop].any()]


def without_phrases(title: str, phrases: Iterable[str]) -> str:
    """A title with phrases taken out; the blanks around them become one.

    Args:
        title: as given.
        phrases: as in `configs/phrases.yaml`; found by the rule of the model's own flags.
    """
    inside = _inside(title, phrases)
    if not inside.any():
        return title
    left = "".join(" " if cut else letter for letter, cut in zip(title, inside, strict=True))
    return " ".join(left.split())


def _inside(title: str, phrases: Iterable[str]) -> NDArray[np.bool_]:
    """Characters of a title that belong to one of some phrases, bool [len(title)]."""
    inside = np.zeros(len(title), bool)
    for start, stop in phrase_spans(title, phrases):
        inside[start:stop] = True
    return inside


def _joined(
    title: str, offsets: Sequence[tuple[int, int]], numbers: Sequence[int | None]
) -> TitleWords:
    spans: list[tuple[int, int]] = []
    word_of_piece = []
    last = None
    for (start, stop), number in zip(offsets, numbers, strict=True):
        if spans and _goes_on(title, spans[-1][1], start, same_run=number == last):
            spans[-1] = (spans[-1][0], max(stop, spans[-1][1]))
        else:
            spans.append((start, stop))
        last = number
        word_of_piece.append(len(spans) - 1)
    return TitleWords(tuple(spans), np.array(word_of_piece, np.int64))


def _goes_on(title: str, stop: int, start: int, *, same_run: bool) -> bool:
    """Whether the piece that begins at `start` belongs to the word that ends at `stop`."""
    if not 0 < stop < len(title) or start < stop:
        return True  # both are of one character that normalisation made several of
    first, before = title[start : start + 1], title[stop - 1]
    if start == stop and (_JOINERS & {first, before} or unicodedata.category(first)[0] == "M"):
        return True
    return same_run and not (_unparted(first) and _unparted(before))


def _unparted(character: str) -> bool:
    """Whether its script writes words without spaces."""
    base = unicodedata.normalize("NFKC", character)[:1] or character
    return unicodedata.name(base, "").startswith(_UNPARTED)
