"""What the page of an explanation is given of single impressions: plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl


@dataclass(frozen=True)
class Word:
    """A word of a title and where it stands.

    Attributes:
        start: its first character.
        stop: one past its last.
        value: what it contributes, log-odds, its share of a phrase that it is part of included.
    """

    start: int
    stop: int
    value: float


@dataclass(frozen=True)
class Step:
    """An event of the click path.

    Attributes:
        name: type of the event, with the product's id where it has one.
        title: of the product; "" where it has none.
        value: what it contributes, log-odds.
    """

    name: str
    title: str
    value: float


@dataclass(frozen=True)
class Impression:
    """One impression, explained.

    Attributes:
        impression_id: as in the data.
        market: where it was shown.
        probability: calibrated.
        converted: None where it is not known.
        title: "" where there is none.
        words: of the title, in order.
        picture: a small JPEG; None where there is none.
        path: events before it, oldest first.
        others: name, modality and contribution of every other token.
        modalities: Shapley value of each modality, log-odds.
    """

    impression_id: str
    market: str
    probability: float
    converted: bool | None
    title: str
    words: Sequence[Word]
    picture: bytes | None
    path: Sequence[Step]
    others: Sequence[tuple[str, str, float]]
    modalities: Mapping[str, float]


class AttentionAgreement(Protocol):
    """How far attention goes with what can be trusted (`attribution.attending.Agreement`)."""

    @property
    def method(self) -> str:
        """Name of the way attention was followed."""

    @property
    def with_contributions(self) -> tuple[float, float, float]:
        """Rank correlation with integrated gradients in size: mean, low, high."""

    @property
    def with_effects(self) -> float | None:
        """Rank correlation with effects of phrases in size."""

    @property
    def n(self) -> int:
        """Impressions of the former."""

    @property
    def n_effects(self) -> int:
        """Pairs of phrase and market of the latter."""


@dataclass(frozen=True)
class ContributionReport:
    """Contributions as the page shows them.

    Attributes:
        n: impressions explained.
        held_out: whether they are rows that the model was never fitted on.
        modalities: as `modalities.parquet`.
        words: `market, token, value, low, high, n_impressions`, largest in size first.
        impressions: single ones.
        confidence: level of the intervals.
        min_conversions: in the sample, for a market's log-loss saved to have an interval.
        n_markets: in the sample; more than there are impressions shown, if it is large.
        attention: how far attention agrees with what can be trusted.
        heads: as `heads.parquet`.
    """

    n: int
    held_out: bool
    modalities: pl.DataFrame
    words: pl.DataFrame
    impressions: Sequence[Impression] = field(default_factory=list)
    confidence: float = 0.95
    min_conversions: int = 30
    n_markets: int = 0
    attention: Sequence[AttentionAgreement] = ()
    heads: pl.DataFrame | None = None
