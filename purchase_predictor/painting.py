"""From an impression explained to what pages show of it: its words, picture, path and the rest."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from features.schema import Tables
from purchase_predictor.attribution.contributions import SHAPLEY, Detail
from purchase_predictor.attribution.shapley import MODALITIES
from purchase_predictor.attribution.titles import words_of_phrases
from purchase_predictor.attribution.tokens import phrase_token
from purchase_predictor.encoders.pictures import PictureReader
from purchase_predictor.errors import DataError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.contributing_data import Impression, Step, Word
from purchase_predictor.report.thumbnails import SIDE, thumbnail

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Painter:
    """Makes what pages show of an impression.

    Attributes:
        predictor: that was asked.
        tables: of the rows.
        sample: n rows that were explained.
        probability: float64 [n], calibrated.
        details: of the rows that are shown, by their place in the sample.
        by_modality: method to float64 [n, 6].
    """

    predictor: PurchasePredictor
    tables: Tables
    sample: EncodedMarket
    probability: Floats
    details: Mapping[int, Detail]
    by_modality: Mapping[str, Floats]

    def impression(self, place: int) -> Impression:
        """A row that was explained in detail; `place`: its place in the sample."""
        detail, sample = self.details[place], self.sample
        converted: Any = sample.converted[place]
        words, others = self._with_phrases(detail)
        values = self.by_modality[SHAPLEY][place].tolist()
        return Impression(
            impression_id=str(sample.impression_id[place]),
            market=str(sample.market_label[place]),
            probability=float(self.probability[place]),
            converted=None if np.isnan(converted) else bool(converted),
            title=detail.title,
            words=words,
            picture=self._picture(int(sample.product[place])),
            path=[Step(name, self._title(row), value) for name, row, value in detail.events],
            others=others,
            modalities=dict(zip(MODALITIES, values, strict=True)),
        )

    def _with_phrases(self, detail: Detail) -> tuple[list[Word], list[tuple[str, str, float]]]:
        """Words of the title, those of a phrase with its contribution; and the further tokens."""
        values, others = list(detail.words), []
        groups = self.predictor.preparation_.features_.phrases_
        found = {
            phrase_token(group): words_of_phrases(
                detail.title, detail.spans, [p for own in markets.values() for p in own]
            )
            for group, markets in groups.items()
        }
        for token, value in detail.others:
            places = found.get(token.name)
            if not places or not value:
                others.append((token.name, token.modality, value))
                continue
            for place in places:
                values[place] += value / len(places)
        spans = zip(detail.spans, values, strict=True)
        return [Word(start, stop, value) for (start, stop), value in spans], others

    def _title(self, product: int) -> str:
        return (self.tables.products["title"][product - 1] or "") if product else ""

    def _picture(self, product: int) -> bytes | None:
        file = self.tables.products["image"][product - 1] if product else None
        if file is None:
            return None
        limits = self.predictor.settings.data
        reader = PictureReader(limits.max_image_bytes, limits.max_image_pixels, SIDE)
        try:
            return thumbnail(reader.content(self.tables.folder, file), reader)
        except DataError:  # told where pictures are embedded
            return None
