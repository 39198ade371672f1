"""Quick models for many questions: LightGBM on the columns that need no trained encoder.

A learning curve or a transfer matrix takes hundreds of fits. Here each is LightGBM on numbers and
categories, everything that is learned (vocabularies, popularity, usual prices) learned from the
very rows that the fit may see: a market left out is left out of all of it. Pictures, titles and
next-click scores take no part, so these AUCs are below those of the arms.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import LEFT_OUT, N_RESERVED, TEST, EncodedMarket
from features.culture import Profiles, load_profiles
from features.encoding import FeatureEncoder
from features.products import load_phrases
from features.schema import Tables
from features.splits import Split, select_markets
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.settings import Settings

Floats = NDArray[np.float64]


class QuickModels(Protocol):
    """Fits a model for a choice of markets: `FlatModels`, or `full.FusionModels`."""

    tables: Tables
    split: Split
    markets: list[str]

    def predict(
        self,
        learn: Sequence[str],
        score: Sequence[str],
        *,
        seed: int,
        part: NDArray[np.int8] | None = None,
        profiles: Profiles | None = None,
        codes: bool = True,
    ) -> pl.DataFrame:
        """What a model of some markets says of the test rows of others."""
        ...


class FlatModels:
    """Encodes rows for a choice of markets and fits LightGBM on them.

    Args:
        tables: checked, of all markets.
        split: of all rows.
        settings: all settings.
    """

    def __init__(self, tables: Tables, split: Split, settings: Settings) -> None:
        self.tables = tables
        self.markets = tables.impressions["market"].unique().sort().to_list()
        self.split = split
        self.settings = settings

    def encode(
        self,
        learn: Sequence[str],
        score: Sequence[str],
        *,
        part: NDArray[np.int8] | None = None,
        profiles: Profiles | None = None,
    ) -> EncodedMarket:
        """Encode the rows of some markets by what the training rows of others say.

        Args:
            learn: markets whose training rows vocabularies and statistics are fitted on.
            score: markets whose rows are encoded as well; those that are not in `learn` have test
                rows only.
            part: int8 [n], in place of the split's, to learn from fewer rows.
            profiles: cultural dimensions in place of the published ones.
        """
        split = self.split if part is None else replace(self.split, part=part)
        known, known_split = select_markets(self.tables, split, learn)
        encoder = FeatureEncoder.fit(
            known,
            known_split,
            history=self.settings.model.history,
            min_identity_count=self.settings.data.min_identity_count,
            profiles=load_profiles(self.settings.data.profiles_file)
            if profiles is None
            else profiles,
            phrases=load_phrases(None),
        )
        wanted = list(dict.fromkeys([*learn, *score]))
        rows, rows_split = select_markets(self.tables, split, wanted)
        foreign = ~rows.impressions["market"].is_in(list(learn)).to_numpy()
        hidden = np.where(foreign & (rows_split.part != TEST), LEFT_OUT, rows_split.part)
        rows_split = replace(rows_split, part=hidden.astype(np.int8))
        return encoder.transform(rows, rows_split)

    def predict(
        self,
        learn: Sequence[str],
        score: Sequence[str],
        *,
        seed: int,
        part: NDArray[np.int8] | None = None,
        profiles: Profiles | None = None,
        codes: bool = True,
    ) -> pl.DataFrame:
        """What a model of some markets says of the test rows of others.

        Args:
            learn: as for `encode`, as are `part` and `profiles`.
            score: markets whose test rows are wanted.
            seed: of the model.
            part: likewise.
            profiles: likewise.
            codes: whether it is told which market a row is of, beside the profile.

        Returns:
            As `scored_rows`.

        Raises:
            DataError: the rows are too few to learn from.
        """
        data = self.encode(learn, score, part=part, profiles=profiles)
        data = data if codes else without_codes(data)
        system = self.fit(data, seed=seed)
        test = data.select((data.part == TEST) & np.isin(data.market_label, list(score)))
        return scored_rows(test, system.predict_proba(test))

    def fit(self, data: EncodedMarket, *, seed: int) -> LightGBMSystem:
        """Fit LightGBM on encoded rows."""
        system = LightGBMSystem(self.settings.baselines.lightgbm)
        return system.fit(data, seed=seed, progress=_silent)


def scored_rows(test: EncodedMarket, p: Floats) -> pl.DataFrame:
    """Test rows and what a model says of them.

    Args:
        test: encoded rows.
        p: float64 [n].

    Returns:
        `impression_id, market, converted, unit, list_number` and `p`.
    """
    return pl.DataFrame(
        {
            "impression_id": test.impression_id.astype(str),
            "market": test.market_label.astype(str),
            "converted": test.converted == 1,
            "unit": test.unit,
            "list_number": test.list_number,
            "p": p,
        }
    )


def without_codes(data: EncodedMarket) -> EncodedMarket:
    """Rows whose market is told by its profile alone: a code says nothing of a new market."""
    return replace(data, market=np.full_like(data.market, N_RESERVED))


def _silent(_line: str) -> None:
    pass
