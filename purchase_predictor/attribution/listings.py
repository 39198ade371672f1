"""Effects of what a listing is: its picture taken away or swapped, the best-selling brand.

The whole fusion answers (`asking`). A change is of the listing wherever the shopper met it; what
is counted of clicks and sales (how popular its brand is, say) stays as it was.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import N_RESERVED, EncodedMarket, ProductArrays
from purchase_predictor.attribution.asking import BOUNDS, Asker

IMAGE, IMAGE_SWAP, NUMBER_ONE = "image", "image_swap", "number_one_brand"
"""With its picture less without; with another listing's less with its own; of the market's
best-selling brand less of its own."""

MIN_SOLD = 30
"""Conversions of a market from which its best-selling brand is told."""


class ListingEffects:
    """Asks the fusion what it makes of the same listings, changed.

    Args:
        asker: of the rows.
    """

    def __init__(self, asker: Asker) -> None:
        self.asker = asker

    def ask(self, confidence: float, *, advance: Callable[[int], None]) -> pl.DataFrame:
        """Effects of the levers that the data have, by market.

        Args:
            confidence: level of the intervals.
            advance: told 1 at every market.

        Returns:
            Rows of `effects.parquet`, `p` null; bounds are null where there are too few users or
            listings.
        """
        rows = []
        for market in self.markets():
            sample = self.asker.sample(market)
            for lever, change in (
                (IMAGE, self._without_picture(sample)),
                (IMAGE_SWAP, self._swapped(sample)),
                (NUMBER_ONE, self._of_brand(sample, market)),
            ):
                if change is not None:
                    before, after, told = change
                    found = self.asker.change(before, after, told)
                    rows.append(found.row(market, lever, "", confidence))
            advance(1)
        bounds = dict.fromkeys(BOUNDS, pl.Float64)
        return pl.DataFrame(rows, schema_overrides=bounds, infer_schema_length=None)

    def markets(self) -> list[str]:
        """Markets that have rows and that the model knows."""
        data = self.asker.data
        labels = data.market_label[self.asker.eligible].astype(str)
        return [str(name) for name in np.unique(labels) if name in data.market_names]

    def _changed(self, sample: EncodedMarket, products: ProductArrays) -> EncodedMarket:
        return self.asker.scored_anew(replace(sample, products=products))

    def _without_picture(
        self, sample: EncodedMarket
    ) -> tuple[EncodedMarket, EncodedMarket, NDArray[np.bool_]] | None:
        """The learned missing picture, as in training, for every product offered."""
        products = sample.products
        told = products.has_image[sample.product]
        if not products.image.shape[1] or not told.any():
            return None
        image, there = products.image.copy(), products.has_image.copy()
        says = products.picture_phrases.copy()
        image[sample.product], says[sample.product], there[sample.product] = 0.0, 0.0, False
        bare = replace(products, image=image, picture_phrases=says, has_image=there)
        without = self._changed(sample, bare)
        return without, sample, told

    def _swapped(
        self, sample: EncodedMarket
    ) -> tuple[EncodedMarket, EncodedMarket, NDArray[np.bool_]] | None:
        """Each product offered has the picture of the next one of its category."""
        products = sample.products
        if not products.image.shape[1]:
            return None
        offered = np.unique(sample.product[products.has_image[sample.product]])
        image, moved = products.image.copy(), np.zeros(len(products), bool)
        says = products.picture_phrases.copy()
        for code in np.unique(products.category[offered]):
            own = offered[products.category[offered] == code]
            if len(own) > 1:
                other = np.roll(own, 1)
                image[own], says[own] = products.image[other], products.picture_phrases[other]
                moved[own] = True
        told = moved[sample.product]
        if not told.any():
            return None
        swapped = replace(products, image=image, picture_phrases=says)
        return sample, self._changed(sample, swapped), told

    def _of_brand(
        self, sample: EncodedMarket, market: str
    ) -> tuple[EncodedMarket, EncodedMarket, NDArray[np.bool_]] | None:
        """Every product offered is of the brand that sold most in the market."""
        data = self.asker.data
        sold = (data.market_label.astype(str) == market) & (data.converted == 1)
        brands = data.products.brand[data.product[sold]]
        counts = np.bincount(brands[brands >= N_RESERVED], minlength=N_RESERVED + 1)
        if counts.sum() < MIN_SOLD:
            return None
        first = int(counts.argmax())
        brand = sample.products.brand.copy()
        # a listing whose brand is not known is not told of: nothing is compared there
        told = (brand[sample.product] >= N_RESERVED) & (brand[sample.product] != first)
        if not told.any():
            return None
        brand[sample.product[told]] = first
        return sample, self._changed(sample, replace(sample.products, brand=brand)), told
