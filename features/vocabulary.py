"""Codes of text values, with reserved ones for padding, missing and unseen values."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import MISSING, N_RESERVED, UNSEEN

RESERVED = ("(padding)", "(missing)", "(unseen)")
"""Names of the reserved codes."""


@dataclass(frozen=True)
class Vocabulary:
    """Values that were seen in training, the commonest first; the first one has code 3."""

    values: tuple[str, ...]

    def __len__(self) -> int:
        """Number of codes, reserved ones included."""
        return len(self.values) + N_RESERVED

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each code."""
        return RESERVED + self.values

    @classmethod
    def fit(cls, values: pl.Series, *, min_count: int = 1) -> Self:
        """Give a code to each value.

        Args:
            values: of the training rows, null where missing.
            min_count: rarer values share the code UNSEEN, which is so learned too.
        """
        counts = values.drop_nulls().cast(pl.String).alias("value").value_counts()
        kept = counts.filter(pl.col("count") >= min_count).sort(
            "count", "value", descending=[True, False]
        )
        return cls(tuple(kept["value"].to_list()))

    def encode(self, values: pl.Series) -> NDArray[np.int32]:
        """Codes of values, int32 [n]."""
        known = pl.DataFrame(
            {
                "value": pl.Series(self.values, dtype=pl.String),
                "code": pl.Series(np.arange(N_RESERVED, len(self)), dtype=pl.Int32),
            }
        )
        texts = pl.DataFrame({"value": values.cast(pl.String)})
        found = texts.join(known, on="value", how="left", maintain_order="left").select(
            pl.when(pl.col("value").is_null())
            .then(pl.lit(MISSING, dtype=pl.Int32))
            .otherwise(pl.col("code").fill_null(UNSEEN))
        )
        return found.to_series().to_numpy().astype(np.int32)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"values": list(self.values)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        return cls(tuple(values["values"]))
