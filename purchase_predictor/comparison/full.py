"""The fusion in place of LightGBM in curves, transfer and culture: `compare --full`."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import TEST
from features.culture import Profiles
from features.schema import Tables
from features.splits import Split, select_markets, training_products
from purchase_predictor.comparison.flat import scored_rows, without_codes
from purchase_predictor.encoders.content import ContentEncoders, silent
from purchase_predictor.fitting import Fitting
from purchase_predictor.settings import Settings
from purchase_predictor.training.loop import no_epoch
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.selection import Selection, check_rows


class FusionModels:
    """Fits the fusion for a choice of markets, everything before it included.

    Vocabularies, encoders of pictures and titles and pre-training learn from the markets named and
    from no others. The encoders see all training products of these markets, also where labels are
    taken from a part of the rows: they use none. That is a training each, hours for a data set.

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
        self._content: dict[tuple[str, ...], ContentEncoders] = {}

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
        """What a fusion of some markets says of the test rows of others.

        Args:
            learn: as for `FlatModels.predict`, as are all others.
            score: likewise.
            seed: likewise.
            part: likewise.
            profiles: likewise.
            codes: likewise.

        Returns:
            As `flat.scored_rows`.

        Raises:
            DataError: the rows are too few to learn from.
        """
        split = self.split if part is None else replace(self.split, part=part)
        selection = Selection(*select_markets(self.tables, split, learn))
        check_rows(selection, ", ".join(learn), self.settings.comparison.min_conversions)
        settings = self.settings.model_copy(update={"seed": seed})
        preparation = Preparation(settings)
        data = preparation.fit(
            selection, content=self._encoders(learn), profiles=profiles, progress=silent
        )
        clicks = preparation.clicks_
        fusion = Fitting(
            settings,
            preparation.sizes(),
            None if clicks is None else clicks.model_.state_dict(),
            folder=None,
            resume=False,
            progress=silent,
            on_epoch=no_epoch,
        ).fusion(data if codes else without_codes(data))
        tables, of_score = select_markets(self.tables, self.split, score)
        encoded = preparation.encode(tables)
        held = tables.impressions.filter(pl.Series(of_score.part == TEST))["impression_id"]
        test = encoded.select(np.isin(encoded.impression_id.astype(str), held.to_numpy()))
        test = test if codes else without_codes(test)
        return scored_rows(test, fusion.predict_proba(test))

    def _encoders(self, learn: Sequence[str]) -> ContentEncoders:
        """Of pictures and titles, trained once for each choice of markets."""
        key = tuple(learn)
        if key not in self._content:
            tables, split = select_markets(self.tables, self.split, learn)
            self._content[key] = ContentEncoders.fit(
                tables.products,
                tables.folder,
                self.settings.encoders,
                self.settings.data,
                training=training_products(tables, split),
                seed=self.settings.seed,
                progress=silent,
            )
        return self._content[key]
