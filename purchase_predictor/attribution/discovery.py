"""Phrases that nobody listed: words in a row whose contributions are largest, as candidates.

Contributions only propose. What a candidate does is measured by writing it into titles of other
shoppers than those it was found on.
"""

import unicodedata
from collections import defaultdict

import numpy as np

from features.products import Phrases
from purchase_predictor.attribution.aggregates import MIN_UNITS, two_way_interval
from purchase_predictor.attribution.contributions import Contributions, Explained

MAX_WORDS = 3
"""Words of a candidate at most."""

LONGEST = 40
"""Characters of a candidate at most: a longer one is no phrase."""


class PhraseFinder:
    """Collects what words in a row contribute, market by market.

    Args:
        asked: that explains the rows.
    """

    def __init__(self, asked: Contributions) -> None:
        self.asked = asked
        self.found: dict[tuple[str, str], list[tuple[float, int, int]]] = defaultdict(list)

    def __call__(self, part: Explained) -> None:
        """Take note of a batch whose tensors are still there."""
        gated, gradients = part.gated, part.gradients
        if gated is None or gradients is None:
            raise ValueError("expected a batch with its tensors, got one without")
        sample = self.asked.sample
        words = self.asked.title_tokens(part.places, gradients[:, : gated.grid.n_words])
        for place, own in zip(part.places, words, strict=True):
            product, unit = int(sample.product[place]), int(sample.unit[place])
            title, parted = self.asked.title_of(product)
            market, values = str(sample.market_label[place]), [value for _, value in own]
            seen: dict[str, float] = {}
            for start in range(len(values)):
                for stop in range(start + 1, min(start + MAX_WORDS, len(values)) + 1):
                    text = title[parted.spans[start][0] : parted.spans[stop - 1][1]]
                    seen.setdefault(plain(text), sum(values[start:stop]))
            for text, value in seen.items():
                self.found[market, text].append((value, unit, product))

    def candidates(self, n: int, *, known: Phrases, confidence: float) -> Phrases:
        """The candidates of each market, largest mean contribution first.

        Args:
            n: of a market.
            known: phrases that have an effect already; what is one of them, is part of one or
                holds one is no candidate.
            confidence: level of the intervals; a candidate's is off zero.

        Returns:
            Each candidate as a group of its own: text: {market: [text]}.
        """
        taken = {plain(p) for group in known.values() for own in group.values() for p in own}
        ranked: dict[str, list[tuple[float, str]]] = defaultdict(list)
        for (market, text), rows in self.found.items():
            value, unit, product = (np.array(column) for column in zip(*rows, strict=True))
            if min(len(np.unique(unit)), len(np.unique(product))) < MIN_UNITS or not worded(text):
                continue
            if any(overlap(text, other) for other in taken):
                continue
            mean, low, high = two_way_interval(value, unit, product, confidence)
            if low > 0 or high < 0:
                ranked[market].append((-abs(mean), text))
        groups: Phrases = defaultdict(dict)
        for market, own in sorted(ranked.items()):
            chosen: list[str] = []
            for _, text in sorted(own):
                if len(chosen) < n and not any(overlap(text, other) for other in chosen):
                    chosen.append(text)
                    groups[text][market] = [text]
        return dict(groups)


def plain(text: str) -> str:
    """A phrase as it is compared: one form of each character, small letters, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def worded(text: str) -> bool:
    """Whether it is a phrase that a person could write: it has a letter and is not too long."""
    return len(text) <= LONGEST and any(character.isalpha() for character in text)


def overlap(first: str, second: str) -> bool:
    """Whether one holds the other, blanks aside."""
    a, b = first.replace(" ", ""), second.replace(" ", "")
    return a in b or b in a
