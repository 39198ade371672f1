"""Contributions of modalities, words, pictures, columns and events to single impressions.

Three methods, in log-odds of the model before calibration: exact Shapley values over modalities;
integrated gradients over tokens, of readout and network together; TreeSHAP of LightGBM, in the
same tokens. The first two attribute the fusion, the third another system: its story stands beside.
"""

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from features.schema import Tables
from purchase_predictor.attribution import shapley
from purchase_predictor.attribution.additive import Additive, ReadoutTokens
from purchase_predictor.attribution.gradients import GatedNetwork, integrated_gradients
from purchase_predictor.attribution.shapley import MODALITIES
from purchase_predictor.attribution.titles import TitleWords, title_words
from purchase_predictor.attribution.tokens import Token, TokenGrid, events_in_sight
from purchase_predictor.attribution.trees import TreeTokens
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.baselines.system import System
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.system import FusionSystem

Floats = NDArray[np.float64]

SHAPLEY, GRADIENTS, TREES = "shapley", "integrated_gradients", "tree_shap"
METHODS = (SHAPLEY, GRADIENTS, TREES)

ROWS_AT_ONCE = 256

SCHEMA = {
    "impression_id": pl.String, "market": pl.String, "modality": pl.String, "token": pl.String,
    "value": pl.Float64, "method": pl.String,
}  # fmt: skip
"""Columns of `contributions.parquet`."""


@dataclass(frozen=True)
class GatedFusion:
    """The fusion on one batch, as a function of gates of its tokens (`gradients`).

    Attributes:
        batch: N impressions.
        grid: its tokens.
        additive: the readout.
        network: the network.
        weights: of readout, of network, and a constant.
    """

    batch: FusionBatch
    grid: TokenGrid
    additive: Additive
    network: GatedNetwork
    weights: tuple[float, float, float]

    @torch.no_grad()
    def logit(self, gates: torch.Tensor) -> Floats:
        """Logit of each row less the readout's of the market alone, float64 [N].

        Args:
            gates: float [N, n_tokens].
        """
        of_readout, of_network, _ = self.weights
        logit = of_readout * self.additive.logit(gates).double()
        if of_network:
            logit = logit + of_network * self.network(gates).double()
        return logit.numpy()

    def change(self) -> Floats:
        """Logit as it is less that of the market alone, float64 [N]."""
        ones = torch.ones(len(self.batch), len(self.grid))
        return self.logit(ones) - self.logit(torch.zeros_like(ones))

    def contributions(self) -> Floats:
        """Integrated gradients, float64 [N, n_tokens]; the readout's part is exact."""
        of_readout, of_network, _ = self.weights
        values = of_readout * self.additive.contributions().double()
        if of_network:
            values = values + of_network * integrated_gradients(self.network).double()
        return values.numpy()


@dataclass(frozen=True)
class Explained:
    """What was found of a batch.

    Attributes:
        places: int64 [N], rows of the sample.
        subsets: float64 [N, N_SUBSETS], logits under every subset of the modalities.
        logit: float64 [N], of the model asked as it is, without any mask.
        by_modality: method to float64 [N, 6], sums over tokens.
        error: float64 [N], of the sum of integrated gradients, relative (`completeness`).
        frame: as `contributions.parquet`; what contributes nothing is left out.
        details: of the rows that were asked for, by their place in the sample.
        gated: the fusion on these rows, for further questions; None once it is let go.
        gradients: float64 [N, n_tokens], integrated gradients in its tokens; likewise.
    """

    places: NDArray[np.int64]
    subsets: Floats
    logit: Floats
    by_modality: dict[str, Floats]
    error: Floats
    frame: pl.DataFrame
    details: dict[int, "Detail"]
    gated: GatedFusion | None = None
    gradients: Floats | None = None

    def without_tensors(self) -> "Explained":
        """The same without what is only needed until the next batch."""
        return replace(self, frame=self.frame.clear(), gated=None, gradients=None)


@dataclass(frozen=True)
class Detail:
    """One impression, token by token.

    Attributes:
        title: as given; "" where there is none.
        spans: first character and one past the last of each word of it.
        words: contribution of each word, by integrated gradients.
        events: name, product (row of the catalogue, 0 for none) and contribution of each event
            that it has seen, oldest first.
        others: contribution of each further token.
    """

    title: str
    spans: tuple[tuple[int, int], ...]
    words: tuple[float, ...]
    events: tuple[tuple[str, int, float], ...]
    others: tuple[tuple[Token, float], ...]


class Contributions:
    """Explains impressions one by one, some at a time.

    Args:
        fusion: that is asked.
        trees: LightGBM on the same rows; None where the model has none.
        preparation: that encoded the rows.
        tables: of the rows.
        sample: encoded rows to explain, whole lists.
    """

    def __init__(
        self,
        fusion: FusionSystem,
        trees: LightGBMSystem | None,
        preparation: Preparation,
        tables: Tables,
        sample: EncodedMarket,
    ) -> None:
        # a copy whose weights want no gradients
        self.model = copy.deepcopy(fusion.model_.cpu()).eval().requires_grad_(False)
        self.shape = fusion.shape_
        self.sample = sample
        self.data = fusion.columns_of(sample)
        self.phrase_names = tuple(sample.products.phrase_names)
        self.readout = ReadoutTokens(self.model.readout, self.shape, self.phrase_names)
        self.trees = None if trees is None else TreeTokens(trees, sample)
        self.event_types = preparation.features_.vocabularies_["event_type"].names
        self.titles = tables.products["title"].to_list()
        words, max_words = preparation.content_.words, preparation.content_.spec.max_words
        self.parted: dict[int, tuple[str, TitleWords]] = {}
        self.tokenizer = None if words is None else words.tokenizer(max_words)

    @classmethod
    def of_systems(
        cls,
        systems: Mapping[str, System],
        preparation: Preparation,
        tables: Tables,
        sample: EncodedMarket,
    ) -> Self:
        """Those of a model's systems that can be explained; `systems`: by name."""
        fusion, trees = systems["fusion"], systems.get("lightgbm")
        assert isinstance(fusion, FusionSystem)  # noqa: S101 - what a model holds by that name
        assert trees is None or isinstance(trees, LightGBMSystem)  # noqa: S101 - likewise
        return cls(fusion, trees, preparation, tables, sample)

    def batches(self, shown: Collection[int] = ()) -> Iterator[Explained]:
        """Explain the whole sample, memory bounded by a batch.

        Args:
            shown: places of the sample that are wanted in detail.
        """
        for places, batch in Batcher(self.data, batch_size=ROWS_AT_ONCE).scoring_batches():
            yield self._explain(places, batch, shown)

    def of(self, rows: NDArray[np.bool_]) -> "Contributions":
        """The same for a part of the sample; `rows`: bool [n], whole lists."""
        part = copy.copy(self)
        part.sample, part.data = self.sample.select(rows), self.data.select(rows)
        return part

    def gated(self, batch: FusionBatch) -> GatedFusion:
        """The fusion on a batch of the sample as a function of gates."""
        grid = TokenGrid.of(self.shape, self.phrase_names, batch)
        network = GatedNetwork(self.model, batch, grid, self.phrase_names)
        first, second, constant = self.model.weights.tolist()
        return GatedFusion(
            batch, grid, self.readout(batch, grid), network, (first, second, constant)
        )

    def _explain(
        self, places: NDArray[np.int64], batch: FusionBatch, shown: Collection[int]
    ) -> Explained:
        subsets = shapley.subset_logits(self.model, batch)
        logit = self.model(batch).logits.double().mean(dim=1).numpy()
        players = subsets @ shapley.shapley_weights(len(MODALITIES)).T
        gated = self.gated(batch)
        values, change = gated.contributions(), gated.change()
        by_modality = {SHAPLEY: players}
        frames = [self.frame(places, players, [Token("", name) for name in MODALITIES], SHAPLEY)]
        modality_of = ["text"] * gated.grid.n_words
        modality_of += [token.modality for token in gated.grid.fixed]
        modality_of += ["clickstream"] * gated.grid.n_events
        by_modality[GRADIENTS] = summed(values, modality_of)
        n_words, stop = gated.grid.n_words, gated.grid.n_words + len(gated.grid.fixed)
        words = self.title_tokens(places, values[:, :n_words])
        events = self.event_tokens(places, batch, values[:, stop:])
        frames += [
            self.named(places, words, "text", GRADIENTS),
            self.frame(places, values[:, n_words:stop], list(gated.grid.fixed), GRADIENTS),
            self.named(
                places, [[(n, v) for n, _, v in own] for own in events], "clickstream", GRADIENTS
            ),
        ]
        details = {}
        for row in np.flatnonzero(np.isin(places, list(shown))):
            title, parted = self.title_of(int(self.sample.product[places[row]]))
            others = zip(gated.grid.fixed, values[row, n_words:stop].tolist(), strict=True)
            details[int(places[row])] = Detail(
                title, parted.spans, tuple(v for _, v in words[row]), tuple(events[row]),
                tuple(others),
            )  # fmt: skip
        if self.trees is not None:
            of_trees = self.trees(self.sample, places)
            by_modality[TREES] = summed(of_trees, [t.modality for t in self.trees.tokens])
            frames.append(self.frame(places, of_trees, self.trees.tokens, TREES))
        error = completeness_error(values, change)
        return Explained(
            places, subsets, logit, by_modality, error, pl.concat(frames), details, gated, values
        )

    # ---- tokens by name

    def title_tokens(
        self, places: NDArray[np.int64], values: Floats
    ) -> list[list[tuple[str, float]]]:
        """Words of each row's title, as people write them, with what they contribute.

        Args:
            places: int64 [N], rows of the sample.
            values: float64 [N, W], of word pieces.
        """
        if not values.shape[1]:
            return [[] for _ in places]
        found = []
        for place, own in zip(places, values, strict=True):
            title, words = self.title_of(int(self.sample.product[place]))
            totals = np.zeros(len(words.spans))
            np.add.at(totals, words.word_of_piece, own[: len(words.word_of_piece)])
            texts = (title[start:stop] for start, stop in words.spans)
            found.append([(t, float(v)) for t, v in zip(texts, totals, strict=True)])
        return found

    def title_of(self, product: int) -> tuple[str, TitleWords]:
        """Title and words of a row of the catalogue; none where it has no title."""
        if product not in self.parted:
            title = self.titles[product - 1] if product else None
            found = "", TitleWords((), np.zeros(0, np.int64))
            if title is not None and self.tokenizer is not None:
                found = title, title_words([title], self.tokenizer)[0]
            self.parted[product] = found
        return self.parted[product]

    def event_tokens(
        self, places: NDArray[np.int64], batch: FusionBatch, values: Floats
    ) -> list[list[tuple[str, int, float]]]:
        """Events that each row has seen, oldest first: name, product, contribution.

        Args:
            places: int64 [N], rows of the sample.
            batch: of these rows.
            values: float64 [N, L].
        """
        seen = events_in_sight(batch).numpy()
        events, products = self.data.events, self.data.products.product_id
        start = self.data.sequence_start[self.data.sequence[places]]
        found = []
        for row, first in enumerate(start):
            own = first + np.flatnonzero(seen[row])
            names = [
                f"{self.event_types[events.event_type[event]]} {products[events.product[event]]}"
                if events.product[event]
                else self.event_types[events.event_type[event]]
                for event in own
            ]
            touched = events.product[own].tolist()
            found.append(list(zip(names, touched, values[row, seen[row]].tolist(), strict=True)))
        return found

    def named(
        self,
        places: NDArray[np.int64],
        tokens: list[list[tuple[str, float]]],
        modality: str,
        method: str,
    ) -> pl.DataFrame:
        """Rows of `contributions.parquet` of what each row has of its own: name and value."""
        rows = np.repeat(places, [len(own) for own in tokens])
        flat = [token for own in tokens for token in own]
        return self._rows(
            rows, [modality] * len(flat), [name for name, _ in flat], [v for _, v in flat],
            method,
        )  # fmt: skip

    def frame(
        self, places: NDArray[np.int64], values: Floats, tokens: list[Token], method: str
    ) -> pl.DataFrame:
        """Rows of `contributions.parquet` of tokens that all rows have; zeros are left out."""
        row, column = np.nonzero(values)
        modality = np.array([token.modality for token in tokens], object)[column]
        name = np.array([token.name for token in tokens], object)[column]
        return self._rows(places[row], modality, name, values[row, column], method)

    def _rows(
        self,
        places: NDArray[np.int64],
        modality: list[str] | NDArray[np.object_],
        token: list[str] | NDArray[np.object_],
        value: list[float] | Floats,
        method: str,
    ) -> pl.DataFrame:
        columns = {
            "impression_id": self.sample.impression_id[places],
            "market": self.sample.market_label[places],
            "modality": modality,
            "token": token,
            "value": value,
        }
        frame = pl.DataFrame(columns, schema_overrides={n: SCHEMA[n] for n in columns})
        return frame.with_columns(method=pl.lit(method))


def summed(values: Floats, modality_of: list[str]) -> Floats:
    """Sums over the tokens of each modality, float64 [n, 6]."""
    names = np.array(modality_of)
    return np.stack([values[:, names == name].sum(axis=1) for name in MODALITIES], axis=1)


def completeness_error(values: Floats, change: Floats) -> Floats:
    """How far contributions are from adding up.

    Args:
        values: float64 [n, n_tokens].
        change: float64 [n], what they should add up to.

    Returns:
        float64 [n], relative to the change, or to 0.1 where that is larger.
    """
    return np.abs(values.sum(axis=1) - change) / np.maximum(np.abs(change), 0.1)
