"""The table of scores that every way of scoring gives."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import EncodedMarket


def scored_frame(encoded: EncodedMarket, probability: NDArray[np.float64]) -> pl.DataFrame:
    """Scores in the order of the input.

    Args:
        encoded: n rows.
        probability: float64 [n], calibrated.

    Returns:
        `impression_id, market, probability, row, flags`, sorted by `row`.
    """
    flags = pl.DataFrame(dict(encoded.flags))
    raised = [pl.when(flag).then(pl.lit(flag)) for flag in flags.columns]
    return (
        pl.DataFrame(
            {
                "impression_id": encoded.impression_id.astype(str),
                "market": encoded.market_label.astype(str),
                "probability": probability,
                "row": encoded.row,
            }
        )
        .with_columns(flags.select(flags=pl.concat_list(raised).list.drop_nulls()))
        .sort("row")
    )
