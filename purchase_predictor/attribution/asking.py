"""Asking the whole fusion about impressions as they are and changed, where no weight tells it.

The interval of such an effect holds how impressions differ, by user and by listing; how sure the
model is of what it learned it cannot hold. So there is no p and no contrast.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from features.arrays import EncodedMarket
from purchase_predictor.attribution.aggregates import two_way_interval
from purchase_predictor.attribution.sampling import sample_lists
from purchase_predictor.training.next_click import SCORE_COLUMNS, with_scores
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.system import FusionSystem

Floats = NDArray[np.float64]

ROWS_OF_MARKET = 400
"""Impressions of a market that are asked about, whole lists."""

BOUNDS = ("logit_low", "logit_high", "points_low", "points_high")


@dataclass(frozen=True)
class Change:
    """What a lever does to each sampled impression of a market.

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

    def row(self, market: str, lever: str, phrase: str, confidence: float) -> dict[str, object]:
        """As a row of `effects.parquet`; bounds are None for too few users or listings."""
        row: dict[str, object] = {"market": market, "lever": lever, "phrase": phrase}
        for name in ("logit", "points"):
            own: Floats = getattr(self, name)
            value, *bounds = two_way_interval(own, self.unit, self.product, confidence)
            low, high = (None if np.isnan(bound) else bound for bound in bounds)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
        return row | {"n_impressions": len(self.logit)}


class Asker:
    """Asks the fusion about samples of impressions, as they are and changed.

    Args:
        fusion: that is asked.
        preparation: that encoded the rows.
        data: the rows, encoded.
        calibrate: probabilities and market codes to calibrated probabilities.
        seed: of the samples.
        eligible: bool [len(data)], rows that may be asked about; all where it is None.
    """

    def __init__(
        self,
        fusion: FusionSystem,
        preparation: Preparation,
        data: EncodedMarket,
        *,
        calibrate: Callable[[Floats, NDArray[np.integer]], Floats],
        seed: int,
        eligible: NDArray[np.bool_] | None = None,
    ) -> None:
        self.fusion, self.preparation, self.data = fusion, preparation, data
        self.calibrate, self.seed = calibrate, seed
        self.eligible = np.ones(len(data), bool) if eligible is None else eligible
        self.samples: dict[str, EncodedMarket] = {}

    def sample(self, market: str) -> EncodedMarket:
        """Impressions of a market, whole lists; the same each time."""
        if market not in self.samples:
            here = (self.data.market_label.astype(str) == market) & self.eligible
            drawn = sample_lists(self.data, here, ROWS_OF_MARKET, seed=self.seed)
            self.samples[market] = self.data.select(drawn)
        return self.samples[market]

    def change(
        self, before: EncodedMarket, after: EncodedMarket, rows: NDArray[np.bool_]
    ) -> Change:
        """What the fusion makes of a change.

        Args:
            before: n impressions.
            after: the same, changed.
            rows: bool [n], which of them are told.
        """
        raw = [np.clip(self.fusion.predict_proba(x), 1e-7, 1 - 1e-7) for x in (before, after)]
        calibrated = [self.calibrate(p, before.market) for p in raw]
        return Change(
            logit=(logit(raw[1]) - logit(raw[0]))[rows],
            points=100 * (calibrated[1] - calibrated[0])[rows],
            unit=before.unit[rows],
            product=before.product[rows],
        )

    def scored_anew(self, data: EncodedMarket) -> EncodedMarket:
        """Impressions whose products were changed, with the next-click scores that follow."""
        clicks = self.preparation.clicks_
        if clicks is None:
            return data
        n = data.numbers.shape[1] - len(SCORE_COLUMNS)
        bare = replace(data, numbers=data.numbers[:, :n], number_columns=data.number_columns[:n])
        return with_scores(bare, clicks.score(bare))
