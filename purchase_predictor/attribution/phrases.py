"""Effects of phrases that the model has no weights of: written into titles, encoded anew, asked.

The whole fusion answers, readout and network, on a sample of impressions of each market. A phrase
is written in front of the title: at its end the model might not read it, which reads the first
`max_words` word pieces. The interval holds how impressions differ, by user and by listing; how
sure the model is of what it learned of such words it cannot hold, for they have no weight with an
error of its own. So there is no p and no contrast of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import N_RESERVED, EncodedMarket
from features.culture import load_profiles
from features.products import Phrases, phrase_flags
from features.schema import Tables
from purchase_predictor.attribution.asking import BOUNDS, Asker, Change
from purchase_predictor.attribution.effects import FOUND_PHRASE, PHRASE
from purchase_predictor.attribution.titles import without_phrases
from purchase_predictor.errors import DataError, nearest_market

MAX_NAMED = 12
"""Groups and markets that a warning names."""


class TitleEffects:
    """Asks the fusion what it makes of the same titles with and without a phrase.

    Args:
        asker: of the rows.
        tables: of the rows.
        lever: what such effects are called.
    """

    def __init__(self, asker: Asker, tables: Tables, *, lever: str = PHRASE) -> None:
        self.asker, self.tables, self.lever = asker, tables, lever
        self.preparation, self.data = asker.preparation, asker.data

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
            DataError: a market is misspelt; of the user's own phrases none is of a market of the
                data, or none of its titles can be asked about.
        """
        labels = set(self.data.market_label.astype(str).tolist())
        self._check_names(groups, labels)
        effects, left_out = [], []
        for group, markets in groups.items():
            # a phrase found in one market was not looked for in the others
            asked = set(markets) if self.lever == FOUND_PHRASE else labels | set(markets)
            for market in sorted(asked):
                reason = self._reason(market, markets, labels)
                if reason:
                    left_out.append(f"{group} in {market} ({reason})")
                else:
                    change = self._change(market, markets[market], markets)
                    effects.append(change.row(market, self.lever, group, confidence))
            advance(1)
        if not effects and self.lever != FOUND_PHRASE:
            known = ", ".join(sorted(labels))
            raise DataError(
                f"no group of phrases has words of a market with titles in the data: {known}"
            )
        if left_out:
            more = len(left_out) - MAX_NAMED
            named = ", ".join(left_out[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
            warn(f"phrases without an effect: {named}")
        if not effects:
            return pl.DataFrame()
        bounds = dict.fromkeys(BOUNDS, pl.Float64)
        return pl.DataFrame(effects, schema_overrides=bounds, infer_schema_length=None)

    def _check_names(self, groups: Phrases, labels: set[str]) -> None:
        """Refuse a market that nobody knows and that is spelled like one of the data."""
        known = labels | set(self.data.market_names[N_RESERVED:]) | set(load_profiles())
        for group, markets in groups.items():
            for market in markets:
                hint = "" if market in known else nearest_market(market, sorted(labels))
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
        sample = self.asker.sample(market)
        if not len(sample):
            return "no impressions left to ask about"
        return None if sample.products.has_text[sample.product].any() else "no titles"

    def _change(self, market: str, phrases: list[str], markets: Mapping[str, list[str]]) -> Change:
        sample = self.asker.sample(market)
        here = sample.products.has_text[sample.product]
        every = [phrase for own in markets.values() for phrase in own]
        rows = np.unique(sample.product[here])
        titles = [
            without_phrases(title, every)
            for title in self.tables.products["title"].gather(rows - 1).to_list()
        ]
        before, after = (
            self._with_titles(sample, rows, [f"{written}{title}" for title in titles])
            for written in ("", f"{phrases[0]} ")
        )
        return self.asker.change(before, after, here)

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
        products = replace(old, words=words, text=text, phrases=phrases)
        return self.asker.scored_anew(replace(data, products=products))
