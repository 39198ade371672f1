"""Quick models for many questions: LightGBM on the columns that need no trained encoder.

A learning curve or a transfer matrix takes hundreds of fits. Here each is LightGBM on numbers and
categories, everything that is learned (vocabularies, popularity, usual prices) learned from the
very rows that the fit may see: a market left out is left out of all of it. Pictures, titles and
next-click scores take no part, so these AUCs are below those of the arms.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import LEFT_OUT, TEST, EncodedMarket
from features.culture import Profiles, load_profiles
from features.encoding import FeatureEncoder
from features.products import load_phrases
from features.schema import Tables
from features.splits import Split, select_markets
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.settings import Settings

Floats = NDArray[np.float64]


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

    def fit(self, data: EncodedMarket, *, seed: int) -> LightGBMSystem:
        """Fit LightGBM on encoded rows."""
        system = LightGBMSystem(self.settings.baselines.lightgbm)
        return system.fit(data, seed=seed, progress=_silent)


def test_rows(data: EncodedMarket, p: Floats) -> pl.DataFrame:
    """The test rows and what a model says of them.

    Args:
        data: encoded rows.
        p: float64 [n_test], of the test rows in their order.

    Returns:
        `impression_id, market, converted, unit, list_number` and `p`.
    """
    test = data.select(data.part == TEST)
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


def predicted(models: FlatModels, data: EncodedMarket, *, seed: int) -> pl.DataFrame:
    """Fit on the rows that may be learned from and predict the test rows: `test_rows`."""
    system = models.fit(data, seed=seed)
    return test_rows(data, system.predict_proba(data.select(data.part == TEST)))


def _silent(_line: str) -> None:
    pass
