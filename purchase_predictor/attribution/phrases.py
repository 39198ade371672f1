"""Effects of phrases that the model has no weights of: written into titles, encoded anew, asked.

The whole fusion answers, readout and network, on a sample of impressions of each market. A phrase
is written in front of the title: at its end the model might not read it, which reads the first
`max_words` word pieces. The interval holds how impressions differ, by user and by listing; how
sure the model is of what it learned of such words it cannot hold, for they have no weight with an
error of its own. So there is no p and no contrast of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import logit

from features.arrays import N_RESERVED, EncodedMarket
from features.culture import load_profiles
from features.products import Phrases, phrase_flags
from features.schema import Tables
from purchase_predictor.attribution.aggregates import two_way_interval
from purchase_predictor.attribution.effects import PHRASE
from purchase_predictor.attribution.sampling import sample_lists
from purchase_predictor.attribution.titles import without_phrases
from purchase_predictor.errors import DataError, nearest
from purchase_predictor.training.next_click import SCORE_COLUMNS, with_scores
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.system import FusionSystem

Floats = NDArray[np.float64]

ROWS_OF_MARKET = 400
"""Impressions of a market that are asked about, whole lists."""

MAX_NAMED = 12
"""Groups and markets that a warning names."""


@dataclass(frozen=True)
class Change:
    """What a phrase does to each sampled impression of a market.

    Attributes:
        logit: float64 [n], differences in log-odds.
        points: float64 [n], in percentage points of conversion.
        unit: int64 [n].
        product: int32 [n].
    """

    logit: Floats
    points: Floats
    unit: NDArray[np.int64]
    product: NDArray[np.int32]


class TitleEffects:
    """Asks the fusion what it makes of the same titles with and without a phrase.

    Args:
        fusion: that is asked.
        preparation: that encoded the rows.
        tables: of the rows.
        data: the rows, encoded.
        calibrate: probabilities and market codes to calibrated probabilities.
        seed: of the sample.
    """

    def __init__(
        self,
        fusion: FusionSystem,
        preparation: Preparation,
        tables: Tables,
        data: EncodedMarket,
        *,
        calibrate: Callable[[Floats, NDArray[np.integer]], Floats],
        seed: int,
    ) -> None:
        self.fusion, self.preparation, self.tables = fusion, preparation, tables
        self.data, self.calibrate, self.seed = data, calibrate, seed
        self.samples: dict[str, EncodedMarket] = {}

    def ask(
        self,
        groups: Phrases,
        confidence: float,
        *,
        advance: Callable[[int], None],
        warn: Callable[[str], None],
    ) -> pl.DataFrame:
        """Effects of groups of phrases in the markets that have words for them.

        Args:
            groups: group: {market: [phrase, …]}; the first phrase of a market is written.
            confidence: level of the intervals.
            advance: told 1 at every group.
            warn: told once which groups have no effect in which markets, and why.

        Returns:
            Rows of `effects.parquet`, `p` null; bounds are null where there are too few users or
            listings.

        Raises:
            DataError: a market is misspelt; none of the markets of the data has a phrase, or none
                of them a title.
        """
        labels = set(self.data.market_label.astype(str).tolist())
        self._check_names(groups, labels)
        effects, left_out = [], []
        for group, markets in groups.items():
            for market in sorted(labels | set(markets)):
                reason = self._reason(market, markets, labels)
                if reason:
                    left_out.append(f"{group} in {market} ({reason})")
                else:
                    change = self._change(market, markets[market], markets)
                    effects.append(_effect(group, market, change, confidence))
            advance(1)
        if not effects:
            known = ", ".join(sorted(labels))
            raise DataError(
                f"no group of phrases has words of a market with titles in the data: {known}"
            )
        if left_out:
            more = len(left_out) - MAX_NAMED
            named = ", ".join(left_out[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
            warn(f"phrases without an effect: {named}")
        bounds = dict.fromkeys(_BOUNDS, pl.Float64)
        return pl.DataFrame(effects, schema_overrides=bounds, infer_schema_length=None)

    def _check_names(self, groups: Phrases, labels: set[str]) -> None:
        """Refuse a market that nobody knows and that is spelled like one of the data."""
        known = labels | set(self.data.market_names[N_RESERVED:]) | set(load_profiles())
        for group, markets in groups.items():
            for market in markets:
                hint = "" if market in known else nearest(market, sorted(labels))
                if hint:
                    raise DataError(f"phrases of {group}: there is no market '{market}'{hint}")

    def _reason(
        self, market: str, markets: Mapping[str, list[str]], labels: set[str]
    ) -> str | None:
        """Why a group has no effect in a market; None where it has one."""
        if market not in labels:
            return "not in the data"
        if market not in markets:
            return "no words"
        if market not in self.data.market_names:
            return "unknown to the model"
        sample = self._sample(market)
        return None if sample.products.has_text[sample.product].any() else "no titles"

    def _change(self, market: str, phrases: list[str], markets: Mapping[str, list[str]]) -> Change:
        sample = self._sample(market)
        here = sample.products.has_text[sample.product]
        every = [phrase for own in markets.values() for phrase in own]
        rows = np.unique(sample.product[here])
        titles = [
            without_phrases(title, every)
            for title in self.tables.products["title"].gather(rows - 1).to_list()
        ]
        p = []
        for written in ("", f"{phrases[0]} "):
            changed = self._with_titles(sample, rows, [f"{written}{title}" for title in titles])
            p.append(np.clip(self.fusion.predict_proba(changed), 1e-7, 1 - 1e-7))
        calibrated = [self.calibrate(each, sample.market) for each in p]
        return Change(
            logit=(logit(p[1]) - logit(p[0]))[here],
            points=100 * (calibrated[1] - calibrated[0])[here],
            unit=sample.unit[here],
            product=sample.product[here],
        )

    def _sample(self, market: str) -> EncodedMarket:
        if market not in self.samples:
            here = self.data.market_label.astype(str) == market
            drawn = sample_lists(self.data, here, ROWS_OF_MARKET, seed=self.seed)
            self.samples[market] = self.data.select(drawn)
        return self.samples[market]

    def _with_titles(
        self, data: EncodedMarket, rows: NDArray[np.integer], titles: list[str]
    ) -> EncodedMarket:
        """The rows with new titles of some products, wherever they are shown or were touched."""
        table = self.tables.products[rows - 1].with_columns(
            title=pl.Series(titles, dtype=pl.String), image=pl.lit(None, dtype=pl.String)
        )
        content = self.preparation.content_.encode(table, self.tables.folder)
        old = data.products
        words, text, phrases = old.words.copy(), old.text.copy(), old.phrases.copy()
        words[rows], text[rows] = content.words, content.text
        phrases[rows] = phrase_flags(table["title"], self.preparation.features_.phrases_)
        changed = replace(data, products=replace(old, words=words, text=text, phrases=phrases))
        clicks = self.preparation.clicks_
        if clicks is None:
            return changed
        n = changed.numbers.shape[1] - len(SCORE_COLUMNS)
        bare = replace(
            changed, numbers=changed.numbers[:, :n], number_columns=changed.number_columns[:n]
        )
        return with_scores(bare, clicks.score(bare))


_BOUNDS = ("logit_low", "logit_high", "points_low", "points_high")


def _effect(group: str, market: str, change: Change, confidence: float) -> dict[str, object]:
    row: dict[str, object] = {"market": market, "lever": PHRASE, "phrase": group}
    for name in ("logit", "points"):
        own: Floats = getattr(change, name)
        value, *bounds = two_way_interval(own, change.unit, change.product, confidence)
        low, high = (None if np.isnan(bound) else bound for bound in bounds)
        row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return row | {"n_impressions": len(change.logit)}
