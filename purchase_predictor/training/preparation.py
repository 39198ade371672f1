"""From checked tables to encoded rows: features, content of products, next-click scores."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.arrays import (
    MISSING,
    N_RESERVED,
    STOP,
    TRAIN,
    UNSEEN,
    EncodedMarket,
    ProductArrays,
)
from features.culture import Profiles, load_profiles
from features.encoding import FeatureEncoder
from features.products import load_phrases
from features.schema import Tables
from features.storage import IN_MEMORY, ArrayStore, return_pages
from purchase_predictor.encoders.content import ContentEncoders, ProductContent
from purchase_predictor.settings import Settings
from purchase_predictor.training.loop import OnEpoch, Progress, no_epoch
from purchase_predictor.training.next_click import NextClick, with_scores, without_scores
from purchase_predictor.training.picture_phrases import PicturePhrases, folds, frequent
from purchase_predictor.training.selection import Selection
from purchase_predictor.training.shapes import ContentSizes, shape_of

MIN_COVERAGE = 0.7
"""Where products come and go faster than this, what training learns of a product's identity is
mostly its own rows' outcome, and misleads: on hotel searches 48 % of training rows but 22 % of
validation rows had one, and every system lost by it (docs/decisions.md)."""

PRODUCTS_AT_ONCE = 16_384
"""Of a catalogue that is encoded for scoring: what encoders need besides is four times as much."""


@dataclass(frozen=True)
class EncodedCatalogue:
    """A catalogue that rows are encoded with, again and again.

    Attributes:
        told: as its table tells it; flags of rows come from here.
        whole: with words, texts and pictures.
    """

    told: ProductArrays
    whole: ProductArrays


class Preparation:
    """Turns tables into encoded rows, the same way in training and in scoring.

    Args:
        settings: all settings.

    Attributes:
        failures_: product, path and reason of each picture of the last catalogue that is not read.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failures_: list[tuple[str, str, str]] = []

    def fit(
        self,
        selection: Selection,
        *,
        content: ContentEncoders,
        folder: Path | None = None,
        resume: bool = False,
        profiles: Profiles | None = None,
        progress: Progress,
        on_epoch: OnEpoch = no_epoch,
    ) -> EncodedMarket:
        """Fit vocabularies and scores on training rows.

        Args:
            selection: the rows.
            content: trained encoders of pictures and titles.
            folder: of checkpoints.
            resume: goes on from them.
            profiles: of markets; None takes those of the settings.
            progress: told what happens.
            on_epoch: told the figures of each epoch of pre-training.

        Returns:
            The rows, encoded.
        """
        self.content_ = content
        self.features_ = FeatureEncoder.fit(
            selection.tables,
            selection.split,
            history=self.settings.model.history,
            min_identity_count=self.settings.data.min_identity_count,
            profiles=self._profiles(selection.tables, progress) if profiles is None else profiles,
            phrases=load_phrases(None),
        )
        self.identities_ = True
        tables = selection.tables
        store = self.settings.training.array_store
        data = self.features_.transform(tables, selection.split, store=store)
        store.settle()
        products = self._fit_products(data, tables, progress)
        store.settle()
        data = self._seen(replace(data, products=products))
        self.coverage_ = {
            name: identity_coverage(data.products, data.product[data.part == part])
            for name, part in (("training", TRAIN), ("validation", STOP))
        }
        if self.coverage_["validation"] < MIN_COVERAGE * self.coverage_["training"]:
            known = ", ".join(f"{v:.0%} of {name} rows" for name, v in self.coverage_.items())
            progress(f"product identities are not used: they are known in {known}")
            self.identities_ = False
            data = replace(data, products=self._identified(data.products))
        self.clicks_: NextClick | None = None
        reason = self._why_no_clicks(data)
        if reason:
            progress(f"next-click pre-training is skipped: {reason}")
            return data
        self.clicks_ = NextClick(without_scores(shape_of(data, self.sizes())), self.settings).fit(
            data, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch
        )
        return with_scores(data, self.clicks_.scores_)

    def _profiles(self, tables: Tables, progress: Progress) -> Profiles:
        """The profiles of markets; says which markets of the data have none."""
        file = self.settings.data.profiles_file
        profiles = load_profiles(file)
        markets = tables.impressions["market"].unique().sort().to_list()
        without = [market for market in markets if market not in profiles]
        if without:
            progress(
                f"{len(without)} of {len(markets)} markets have no profile in "
                f"{file or 'configs/markets.yaml'} (setting data.market_profiles): "
                f"{', '.join(without)}"
            )
        return profiles

    def add_profiles(self, file: Path) -> None:
        """Tell of markets that came after training, so that they are scored by their profiles.

        Args:
            file: laid out as `configs/markets.yaml`, in the dimensions of training.

        Raises:
            DataError: the file cannot be read, or has dimensions that the model does not know.
        """
        self.features_ = self.features_.with_profiles(load_profiles(file), str(file))

    def _why_no_clicks(self, data: EncodedMarket) -> str:
        products = data.products
        if not self.settings.pretraining.epochs:
            return "pretraining.epochs is 0"
        if not ((data.events.part == TRAIN) & (data.events.product > 0)).any():
            return "no training event names a product"
        if not self.identities_ and not (products.has_text.any() or products.has_image.any()):
            return "nothing tells the products apart"
        return ""

    def catalogue(
        self, products: pl.DataFrame, folder: Path, store: ArrayStore = IN_MEMORY
    ) -> EncodedCatalogue:
        """Encode products once for all rows that show them.

        Args:
            products: the checked table.
            folder: the data folder, in which the pictures are.
            store: where words, texts and pictures lie, a kilobyte a product.

        Raises:
            UserError: the folder of the store cannot be written, or its disk has no room.
        """
        told = self.features_.catalogue(products)
        layout = self.picture_phrases_ is not None
        tables = (
            products.slice(start, PRODUCTS_AT_ONCE)
            for start in range(0, max(1, len(products)), PRODUCTS_AT_ONCE)
        )
        pieces = ((t, self.content_.encode(t, folder, layout=layout)) for t in tables)
        return EncodedCatalogue(told, self._with_content(told, pieces, store))

    def encode(self, tables: Tables, catalogue: EncodedCatalogue | None = None) -> EncodedMarket:
        """Encode rows that are to be scored.

        Args:
            tables: checked.
            catalogue: of their products, where it is there already.
        """
        if catalogue is None:
            catalogue = self.catalogue(tables.products, tables.folder)
        data = self.features_.transform(tables, None, products=catalogue.told)
        if catalogue.whole.image.shape[1]:  # a picture that is named and not read is none
            missing = ~catalogue.whole.has_image[data.product]
            data = replace(data, flags={**data.flags, "missing_image": missing})
        data = self._seen(replace(data, products=catalogue.whole))
        return data if self.clicks_ is None else with_scores(data, self.clicks_.score(data))

    @property
    def markets(self) -> tuple[str, ...]:
        """The markets that training saw, the one of most rows first."""
        return self.features_.vocabularies_["market"].values

    def sizes(self) -> ContentSizes:
        """Vocabulary sizes of the model."""
        vocabularies, words = self.features_.vocabularies_, self.content_.words
        return ContentSizes(
            n_identities=len(vocabularies["identity"]),
            n_categories=len(vocabularies["category"]),
            n_brands=len(vocabularies["brand"]),
            n_word_pieces=0 if words is None else len(words),
        )

    def _fit_products(
        self, data: EncodedMarket, tables: Tables, progress: Progress
    ) -> ProductArrays:
        """The catalogue with its content, and what pictures tell of phrases, learned."""
        products = data.products
        wanted = self.settings.encoders.picture_phrases and len(frequent(products.phrases)) > 0
        content = self.content_.encode(tables.products, tables.folder, layout=wanted)
        known = np.zeros(len(products), bool)
        known[data.product[data.part == TRAIN]] = True
        known[data.events.product[data.events.part == TRAIN]] = True
        self.picture_phrases_ = PicturePhrases.fit(
            content.layout,
            products.phrases[1:],
            folds(tables.products, content.layout),
            known[1:] & content.has_image & content.has_text,
            seed=self.settings.seed,
        )
        if content.layout.shape[1]:
            names = ", ".join(self.picture_phrase_names(products)) or "none"
            progress(f"pictures tell of phrases in titles: {names}")
        return self._with_content(products, [(tables.products, content)])

    def picture_phrase_names(self, products: ProductArrays) -> tuple[str, ...]:
        """Groups of phrases that pictures tell."""
        probe = self.picture_phrases_
        return () if probe is None else tuple(products.phrase_names[place] for place in probe.kept)

    def _with_content(
        self,
        products: ProductArrays,
        pieces: Iterable[tuple[pl.DataFrame, ProductContent]],
        store: ArrayStore = IN_MEMORY,
    ) -> ProductArrays:
        """The products with the content of their table, which comes a piece at a time."""
        self.failures_ = []
        arrays: dict[str, Any] = {}
        place = 1  # below the missing product
        for table, content in pieces:
            for name, values in self._arrays_of(table, content).items():
                if name not in arrays:
                    arrays[name] = store.zeros((len(products), *values.shape[1:]), values.dtype)
                arrays[name][place : place + len(table)] = values
                return_pages(arrays[name])
            place += len(table)
            self.failures_ += content.failures
        arrays["words"][0, :1] = MISSING
        whole = replace(products, **arrays)
        if self.picture_phrases_ is not None:
            whole = replace(whole, picture_phrase_names=self.picture_phrase_names(products))
        return self._identified(whole)

    def _arrays_of(self, table: pl.DataFrame, content: ProductContent) -> dict[str, NDArray[Any]]:
        """Fields of `ProductArrays`, a row for each product of the table."""
        names = ("words", "text", "image", "has_text", "has_image")
        found: dict[str, NDArray[Any]] = {name: getattr(content, name) for name in names}
        if self.picture_phrases_ is not None:
            found["picture_phrases"] = self.picture_phrases_.score(
                content.layout, folds(table, content.layout), content.has_image
            )
        return found

    def _seen(self, data: EncodedMarket) -> EncodedMarket:
        """The rows as the model may see them."""
        return data.without_market() if self.settings.model.market == "none" else data

    def _identified(self, products: ProductArrays) -> ProductArrays:
        if self.identities_:
            return products
        unseen = np.where(products.identity >= N_RESERVED, UNSEEN, products.identity)
        return replace(products, identity=unseen.astype(np.int32))


def identity_coverage(products: ProductArrays, product: NDArray[np.int32]) -> float:
    """Share of the impressions of a product (int32 [n]) whose product has its own identity."""
    shown = products.identity[product[product > 0]]
    return float((shown >= N_RESERVED).mean()) if len(shown) else 0.0
