"""Attention in the names that people know, and how far it goes with what can be trusted."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.products import Phrases
from purchase_predictor.attribution.aggregates import (
    FEWEST,
    clustered_ratio,
    rank_correlations,
    rank_or_none,
)
from purchase_predictor.attribution.attention import METHODS, Attention, attention_of
from purchase_predictor.attribution.contributions import Contributions, Explained
from purchase_predictor.attribution.titles import words_of_phrases
from purchase_predictor.model.inputs import FusionBatch

Floats = NDArray[np.float64]

WORDS = "(words of the title)"

HEADS = {
    "market": pl.String, "layer": pl.Int64, "head": pl.Int64, "token": pl.String,
    "value": pl.Float64, "n_impressions": pl.Int64,
}  # fmt: skip
"""Columns of `heads.parquet`: mean attention weight; layer 0 is the reading of the product."""


@dataclass(frozen=True)
class Attended:
    """Attention of a batch of N impressions by name.

    Attributes:
        frame: as `attention.parquet`, the columns of `contributions.parquet`; values have no sign.
        heads: sums over impressions, columns of `HEADS`.
        likeness: method to float64 [N], rank correlation over tokens with integrated gradients in
            size; NaN where there is none.
        on_phrases: method to float64 [N, n_phrases], on the words of each phrase; NaN where the
            title does not have it.
    """

    frame: pl.DataFrame
    heads: pl.DataFrame
    likeness: Mapping[str, Floats]
    on_phrases: Mapping[str, Floats]


class Attending:
    """Reads the attention of impressions that were explained.

    Args:
        asked: that explained them.
        phrases: groups of phrases that the model knows.
    """

    def __init__(self, asked: Contributions, phrases: Phrases) -> None:
        self.asked = asked
        self.phrases = [
            [p for own in phrases[name].values() for p in own] for name in asked.phrase_names
        ]
        self.places: dict[int, list[list[int]]] = {}

    def __call__(self, part: Explained) -> Attended:
        """Attention of a batch whose tensors are still there."""
        gated, gradients = part.gated, part.gradients
        if gated is None or gradients is None:
            raise ValueError("expected a batch with its tensors, got one without")
        found = attention_of(gated.network, self.asked.shape)
        sizes = found.tokens.sizes_of(gradients)
        frames, on_phrases = [], {}
        for method in found.values:
            words, frame = self._named(part.places, gated.batch, found, method)
            frames.append(frame)
            on_phrases[method] = self._on_phrases(part.places, words)
        return Attended(
            frame=pl.concat(frames),
            heads=self._heads(part.places, gated.batch, found),
            likeness={m: rank_correlations(v, sizes) for m, v in found.values.items()},
            on_phrases=on_phrases,
        )

    def _named(
        self, places: NDArray[np.int64], batch: FusionBatch, found: Attention, method: str
    ) -> tuple[list[list[tuple[str, float]]], pl.DataFrame]:
        grid, values, asked = found.tokens.grid, found.values[method], self.asked
        first, last = grid.n_words, grid.n_words + len(grid.fixed)
        words = asked.title_tokens(places, values[:, :first])
        events = asked.event_tokens(places, batch, values[:, last:])
        frames = [
            asked.named(places, words, "text", method),
            asked.frame(places, values[:, first:last], list(grid.fixed), method),
            asked.named(
                places, [[(n, v) for n, _, v in own] for own in events], "clickstream", method
            ),
        ]
        return words, pl.concat(frames)

    def _on_phrases(
        self, places: NDArray[np.int64], words: list[list[tuple[str, float]]]
    ) -> Floats:
        """Attention on the words of each phrase, NaN where a title has none of it."""
        found = np.full((len(places), len(self.phrases)), np.nan)
        for row, (place, own) in enumerate(zip(places, words, strict=True)):
            product = int(self.asked.sample.product[place])
            if product not in self.places:
                title, parted = self.asked.title_of(product)
                # flags say which phrases a title has: only those are searched for
                held = self.asked.sample.products.phrases[product] > 0
                self.places[product] = [
                    words_of_phrases(title, parted.spans, phrases) if there else []
                    for phrases, there in zip(self.phrases, held, strict=True)
                ]
            for number, inside in enumerate(self.places[product]):
                if inside:
                    found[row, number] = sum(own[word][1] for word in inside)
        return found

    def _heads(
        self, places: NDArray[np.int64], batch: FusionBatch, found: Attention
    ) -> pl.DataFrame:
        """Sums by market, layer, head and kind of token."""
        grid, heads = found.tokens.grid, found.heads
        last = grid.n_words + len(grid.fixed)
        kinds = {WORDS: heads[..., : grid.n_words].sum(axis=-1)}
        kinds |= {token.name: heads[..., grid.n_words + k] for k, token in enumerate(grid.fixed)}
        types = batch.sessions.event_type.index_select(0, batch.slot // batch.n_slots).numpy()
        of_events = heads[..., last:]
        for code in np.unique(types):
            its = (types == code)[:, None, None, :]
            kinds[f"(event) {self.asked.event_types[code]}"] = (of_events * its).sum(axis=-1)
        market = self.asked.sample.market_label[places].astype(str)
        _, n_layers, n_heads = next(iter(kinds.values())).shape
        layer, head = np.divmod(np.arange(n_layers * n_heads), n_heads)
        frames = []
        for name in np.unique(market):
            here = market == name
            for kind, values in kinds.items():
                columns = {"layer": layer, "head": head, "value": values[here].sum(axis=0).ravel()}
                frames.append(
                    pl.DataFrame(columns).with_columns(
                        market=pl.lit(str(name)), token=pl.lit(kind), n_impressions=int(here.sum())
                    )
                )
        return pl.concat(frames).select(pl.col(n).cast(dtype) for n, dtype in HEADS.items())


def mean_heads(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """`heads.parquet`: means, of the sums of all batches; what is never looked at is left out."""
    market_n = pl.concat(
        part.group_by("market").agg(n=pl.col("n_impressions").first()) for part in parts
    ).group_by("market").agg(pl.col("n").sum())  # fmt: skip
    whole = (
        pl.concat(parts).group_by("market", "layer", "head", "token").agg(pl.col("value").sum())
    )
    return (
        whole.join(market_n, on="market")
        .with_columns(pl.col("value") / pl.col("n"), n_impressions="n")
        .filter(pl.col("value") > 0)
        .select(*HEADS)
        .sort("market", "layer", "head", "token")
    )


@dataclass(frozen=True)
class Agreement:
    """How far attention of a method goes with what can be trusted.

    Attributes:
        method: of `attention.METHODS`.
        with_contributions: mean rank correlation with integrated gradients in size, over the
            tokens of an impression; low and high, clustered by user; NaN where it has none.
        n: impressions it is over.
        with_effects: rank correlation with effects of phrases in size, over phrases and markets;
            None for too few of them.
        n_effects: pairs of phrase and market it is over.
    """

    method: str
    with_contributions: tuple[float, float, float]
    n: int
    with_effects: float | None
    n_effects: int


def agreements(
    likeness: Mapping[str, Floats],
    on_phrases: Mapping[str, Floats],
    phrase_names: tuple[str, ...],
    effects: pl.DataFrame,
    market: NDArray[np.str_],
    unit: NDArray[np.int64],
    confidence: float,
) -> list[Agreement]:
    """What attention agrees with.

    Args:
        likeness: of the whole sample, as in `Attended`.
        on_phrases: likewise.
        phrase_names: the second axis of the latter.
        effects: as `effects.parquet`.
        market: str [n].
        unit: int64 [n].
        confidence: level of the intervals.
    """
    rows = effects.filter(lever="phrase").select("market", "phrase", "logit").iter_rows()
    asked = {(name, phrase): abs(logit) for name, phrase, logit in rows}
    found = []
    for method in METHODS:
        known = np.isfinite(likeness[method])
        mean = clustered_ratio(
            likeness[method][known], np.ones(int(known.sum())), unit[known], confidence
        )
        pairs = []
        for number, phrase in enumerate(phrase_names):
            on = on_phrases[method][:, number]
            for name in np.unique(market):
                own = on[(market == name) & np.isfinite(on)]
                if len(own) >= FEWEST and (str(name), phrase) in asked:
                    pairs.append((own.mean(), asked[str(name), phrase]))
        rank = rank_or_none([on for on, _ in pairs], [effect for _, effect in pairs])
        found.append(Agreement(method, mean, int(known.sum()), rank, len(pairs)))
    return found
