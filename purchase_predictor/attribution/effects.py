"""Counterfactual effects: the same impressions with and without a phrase or a term.

The effect of a lever in a market is the mean difference in log-odds over the market's impressions
of the solved part of the fusion, the readout: there a phrase is a column, in every market one of
its own, so that nothing about it is hidden in an embedding, and its weights have an error that can
be worked out (`training.lever_errors`). Sellers choose phrases: without a randomised arm an effect
is an association.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.special import expit

from features.arrays import N_RESERVED, EncodedMarket
from features.schema import Tables
from purchase_predictor.errors import DataError, SettingsError
from purchase_predictor.evaluation.gap import holm
from purchase_predictor.evaluation.metrics import safe_logit
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.system import FusionSystem

Floats = NDArray[np.float64]

PHRASE, DISCOUNT, SHIPPING = "phrase", "discount_rate", "free_shipping"
FOUND_PHRASE = "found_phrase"
"""A phrase that contributions proposed (`discovery`)."""

DISCOUNT_STEP = 0.1
"""Ten points more."""

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Lever:
    """Something about an offer that can be changed.

    Attributes:
        kind: `phrase`, `discount_rate` or `free_shipping`.
        phrase: group of phrases; "" for a term.
        direction: float64 [n_markets, k], how far it moves the lever columns, on average over the
            impressions of each market.
        has: bool [n], rows that have it now; all False where it is a step from where they are.
        known: bool [n], rows whose present state is known; others take no part.
    """

    kind: str
    phrase: str
    direction: Floats
    has: NDArray[np.bool_]
    known: NDArray[np.bool_]

    def moves(self, place: int) -> bool:
        """Whether it moves anything in a market: a term unknown there does not."""
        return bool(self.direction[place].any())


class EffectsOfLevers:
    """Effects of phrases and terms by market.

    Args:
        fusion: that is asked.
        preparation: that encoded its rows.
        tables: impressions over which effects are averaged.
        predict: calibrated probabilities of encoded rows by the fusion, float64 [n].

    Raises:
        SettingsError: the model's fusion has no readout.
    """

    def __init__(
        self,
        fusion: FusionSystem,
        preparation: Preparation,
        tables: Tables,
        *,
        predict: Callable[[EncodedMarket], Floats],
    ) -> None:
        errors = fusion.lever_errors_
        if errors is None:
            raise SettingsError("the model has no readout, from which effects are told")
        self.preparation = preparation
        self.tables = tables
        self.predict = predict
        self.fusion = fusion
        self.errors = errors
        self.readout = fusion.model_.cpu().readout
        self.blocks = np.array(self.readout.blocks)[errors.columns]
        self.weights = errors.solved.weights
        self.data = preparation.encode(tables)
        label = self.data.market_label.astype(str)
        self.markets = [name for name in self.data.market_names if (label == name).any()]
        if not self.markets:
            known = ", ".join(self.data.market_names[N_RESERVED:])
            raise DataError(f"none of the rows is of a market that the model knows: {known}")
        self.rows_of = [np.flatnonzero(label == name) for name in self.markets]

    def levers(self) -> list[Lever]:
        """All that the data and the model allow to ask for."""
        found = [self._phrase(n, name) for n, name in enumerate(self._phrase_names())]
        terms = self.tables.impressions
        if terms["discount_rate"].is_not_null().any():
            more = (pl.col("discount_rate") + DISCOUNT_STEP).clip(upper_bound=1.0)
            found.append(self._term(DISCOUNT, {"discount_rate": (pl.col("discount_rate"), more)}))
        if terms["free_shipping"].is_not_null().any():
            pair = (pl.lit(value=False), pl.lit(value=True))
            found.append(self._term(SHIPPING, {"free_shipping": pair}))
        return found

    def unknown_phrases(self, levers: Sequence[Lever]) -> list[str]:
        """Phrases that no title shown here has and the readout has no weight of.

        Their effect would be a zero with the width of the penalties, which looks measured.

        Args:
            levers: of `levers`.
        """
        return [
            lever.phrase
            for lever in levers
            if lever.kind == PHRASE
            and not lever.has.any()
            and not self.weights[lever.direction.any(axis=0)].any()
        ]

    def effects(self, levers: Sequence[Lever], *, confidence: float) -> pl.DataFrame:
        """`effects.parquet`: an effect for each lever and market.

        Args:
            levers: of `levers`.
            confidence: level of the intervals.

        Returns:
            `market, lever, phrase, logit, logit_low, logit_high, points, points_low, points_high,
            n_impressions, p`; points are percentage points of conversion.
        """
        z = safe_logit(self.predict(self.data))
        rows = []
        for lever in levers:
            logit = lever.direction @ self.weights
            low, high = self.errors.interval(lever.direction, confidence)
            p = self.errors.p(lever.direction)
            for place, market in enumerate(self.markets):
                if not lever.moves(place):
                    continue
                here = self.rows_of[place][lever.known[self.rows_of[place]]]
                bounds = logit[place], low[place], high[place]
                points = [_points(z[here], lever.has[here], bound) for bound in bounds]
                rows.append(
                    {
                        "market": market, "lever": lever.kind, "phrase": lever.phrase,
                        "logit": bounds[0], "logit_low": bounds[1], "logit_high": bounds[2],
                        "points": points[0], "points_low": points[1], "points_high": points[2],
                        "n_impressions": len(here), "p": p[place],
                    }
                )  # fmt: skip
        return pl.DataFrame(rows, schema=_EFFECTS)  # of no lever too: no terms, no phrases

    def contrasts(self, levers: Sequence[Lever], *, confidence: float) -> pl.DataFrame:
        """`contrasts.parquet`: each lever in one market less in another.

        Args:
            levers: of `levers`.
            confidence: level of the intervals.

        Returns:
            `lever, phrase, market, against, logit, low, high, p, p_holm`, Holm over all of them.
        """
        rows = []
        for lever in levers:
            for i, market in enumerate(self.markets):
                for j in range(i + 1, len(self.markets)):
                    if not (lever.moves(i) and lever.moves(j)):
                        continue
                    direction = (lever.direction[i] - lever.direction[j])[None]
                    low, high = self.errors.interval(direction, confidence)
                    rows.append(
                        {
                            "lever": lever.kind, "phrase": lever.phrase, "market": market,
                            "against": self.markets[j], "logit": (direction @ self.weights).item(),
                            "low": low.item(), "high": high.item(),
                            "p": self.errors.p(direction).item(),
                        }
                    )  # fmt: skip
        frame = pl.DataFrame(rows, schema=_CONTRASTS)
        return frame.with_columns(p_holm=pl.Series(holm(frame["p"].to_list()), dtype=pl.Float64))

    def _phrase_names(self) -> list[str]:
        return list(self.preparation.features_.phrases_)[: self.readout.n_phrases]

    def _phrase(self, number: int, name: str) -> Lever:
        """A phrase put into the title: its own column, and the one of the market."""
        codes = [self.data.market_names.index(market) for market in self.markets]
        direction = phrase_direction(self.blocks, number, codes)
        has = self.data.products.phrases[self.data.product, number] > 0
        return Lever(PHRASE, name, direction, has, np.ones(len(has), bool))

    def _term(self, kind: str, change: dict[str, tuple[pl.Expr, pl.Expr]]) -> Lever:
        """A term changed in the table and encoded anew, with all that follows from it.

        Every offer of a list gets it: what an offer has beyond its neighbours is not changed.
        """
        given = self.tables.impressions.select("row", kind).sort("row")
        place = np.searchsorted(given["row"].to_numpy(), self.data.row)
        known = given[kind].is_not_null().to_numpy()[place]
        without, changed = (
            self._designs({name: pair[side] for name, pair in change.items()}, known)
            for side in (0, 1)
        )
        has = np.zeros(len(self.data), bool)
        if kind == SHIPPING:
            has = given[kind].fill_null(value=False).to_numpy()[place]
        return Lever(kind, "", changed - without, has, known)

    @torch.inference_mode()
    def _designs(self, values: dict[str, pl.Expr], known: NDArray[np.bool_]) -> Floats:
        """Mean of the lever columns over the known impressions of each market, 0 without any."""
        changed = replace(self.tables, impressions=self.tables.impressions.with_columns(**values))
        features = self.preparation.features_
        encoded = features.transform(changed, None, products=self.data.products)
        n = encoded.numbers.shape[1]
        numbers = np.concatenate([encoded.numbers, self.data.numbers[:, n:]], axis=1)
        data: EncodedMarket = self.fusion.columns_of(replace(self.data, numbers=numbers))
        columns = torch.from_numpy(self.errors.columns)
        x = np.empty((len(data), len(columns)), np.float32)
        for places, batch in Batcher(data, batch_size=ROWS_AT_ONCE).scoring_batches():
            x[places] = self.readout.design(batch).index_select(1, columns).numpy()
        means = np.zeros((len(self.markets), x.shape[1]))
        for place, rows in enumerate(self.rows_of):
            if known[rows].any():
                means[place] = x[rows[known[rows]]].mean(axis=0, dtype=np.float64)
        return means


def phrase_direction(blocks: NDArray[np.str_], number: int, codes: Sequence[int]) -> Floats:
    """How a phrase that is put into a title moves the lever columns, float64 [n_markets, k].

    Args:
        blocks: [k], of `Readout.blocks`, those of the lever columns.
        number: of the phrase.
        codes: of the markets.
    """
    direction = np.zeros((len(codes), len(blocks)))
    direction[:, np.flatnonzero(blocks == "phrases")[number]] = 1.0
    by_market = np.flatnonzero(blocks == f"phrase {number} by market")
    if len(by_market):
        direction[np.arange(len(codes)), by_market[codes]] = 1.0
    return direction


_EFFECTS = {
    "market": pl.String, "lever": pl.String, "phrase": pl.String,
    "logit": pl.Float64, "logit_low": pl.Float64, "logit_high": pl.Float64,
    "points": pl.Float64, "points_low": pl.Float64, "points_high": pl.Float64,
    "n_impressions": pl.Int64, "p": pl.Float64,
}  # fmt: skip
_CONTRASTS = {
    "lever": pl.String, "phrase": pl.String, "market": pl.String, "against": pl.String,
    "logit": pl.Float64, "low": pl.Float64, "high": pl.Float64, "p": pl.Float64,
}  # fmt: skip


def _points(z: Floats, has: NDArray[np.bool_], logit: float) -> float:
    """Percentage points of conversion that a difference in log-odds makes, on average."""
    without = z - logit * has
    return float(100 * (expit(without + logit) - expit(without)).mean())
