"""What an offer would be given if it were another one: the numbers behind the page of `explore`.

A shopper of the data is taken as they were, with their path and the offers beside; one offer is
changed, and the model is asked as it is asked for any data folder.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.arrays import N_RESERVED
from features.clickstream import session_units
from features.reading import safe_path
from features.schema import Tables, tables_from_frames
from purchase_predictor.attribution.contributions import Contributions
from purchase_predictor.errors import DataError, nearest_market
from purchase_predictor.painting import Painter
from purchase_predictor.panel import FUSION
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.contributing_data import Impression

MAX_LISTINGS = 200
"""Listings of a market that are offered to choose from: those shown most often."""

UPLOADED = "a picture that was handed in"
"""Name of the file that holds one; it lies beside the pictures of the catalogue."""


@dataclass(frozen=True)
class Offer:
    """What can be changed of an offer.

    Attributes:
        title: None where there is none.
        picture: path inside the data folder, or the bytes of a file; None where there is none.
        discount_rate: in [0, 1]; None where it is not known.
        free_shipping: None where it is not known.
    """

    title: str | None
    picture: str | bytes | None
    discount_rate: float | None
    free_shipping: bool | None


@dataclass(frozen=True)
class Case:
    """An impression of the data that questions are asked about.

    Attributes:
        impression_id: of the data.
        unit: whose it is, as `session_units` names them.
        product_id: the listing that is offered.
        moved: whether another listing was offered in the data; the chosen one was never shown in
            the market.
        offer: as it is in the data.
    """

    impression_id: str
    unit: str
    product_id: str
    moved: bool
    offer: Offer


@dataclass(frozen=True)
class Answer:
    """What the model says of an offer.

    Attributes:
        impression: probability of the fusion, calibrated, and what contributes to its log-odds.
        trouble: a sentence about what could not be used as given; "" where all could.
    """

    impression: Impression
    trouble: str


class Explorer:
    """Asks a model about offers that are not in the data.

    Args:
        predictor: a fitted model.
        tables: shoppers, listings and offers to begin from.

    Raises:
        DataError: none of the impressions offers a listing in a market that the model knows.
    """

    def __init__(self, predictor: PurchasePredictor, tables: Tables) -> None:
        self.predictor, self.tables = predictor, tables
        self.units = session_units(tables)
        known = predictor.preparation_.features_.vocabularies_["market"].names[N_RESERVED:]
        listed = tables.products.select("product_id", "title", "image")
        self.shown = (
            tables.impressions.filter(pl.col("market").is_in(known))
            .join(listed, on="product_id", how="inner", maintain_order="left")
            .sort("timestamp", "row")
        )
        self.markets = self.shown["market"].unique().sort().to_list()
        if not self.markets:
            raise DataError(
                "there is no impression of a listing of products in a market that the model "
                f"knows: {', '.join(known)}"
            )

    def listings(self, market: str) -> pl.DataFrame:
        """The listings shown most often in a market: `product_id, title, image, n`."""
        counted = self.shown.filter(market=market).group_by("product_id", "title", "image")
        return counted.agg(n=pl.len()).sort("n", "product_id", descending=True).head(MAX_LISTINGS)

    def case(self, market: str, product_id: str) -> Case:
        """The last impression of a listing in a market; without one, of any listing there.

        Raises:
            DataError: there is no such market or listing.
        """
        if market not in self.markets:
            hint = nearest_market(market, self.markets) or f"; there are {', '.join(self.markets)}"
            raise DataError(f"there is no market '{market}' to explore{hint}")
        product = self.tables.products.filter(product_id=product_id)
        if product.is_empty():
            raise DataError(f"there is no listing '{product_id[:60]}' in products")
        here = self.shown.filter(market=market)
        own = here.filter(product_id=product_id)
        row = (own if len(own) else here).row(-1, named=True)
        unit = self.units.filter(session_id=row["session_id"])["unit"].item()
        told = product.row(0, named=True)
        offer = Offer(told["title"], told["image"], row["discount_rate"], row["free_shipping"])
        return Case(row["impression_id"], unit, product_id, own.is_empty(), offer)

    def ask(self, case: Case, offer: Offer) -> Answer:
        """Probability and contributions of an offer in the place of that of the data.

        Args:
            case: whom it is made, when and beside what.
            offer: `case.offer`, or another.

        Raises:
            DataError: the offer cannot be one (a discount of more than all, say).
        """
        with tempfile.TemporaryDirectory(prefix="explore-") as place:
            tables = self.tables_of(case, offer, Path(place))
            preparation = self.predictor.preparation_
            data = preparation.encode(tables)
            asked = data.impression_id == case.impression_id
            sample = data.select(data.list_number == data.list_number[asked][0])
            at = int(np.flatnonzero(sample.impression_id == case.impression_id)[0])
            panel = self.predictor.panel_
            probability = panel.predict_proba(sample, [FUSION])[FUSION]
            explainer = Contributions.of_systems(panel.systems_, preparation, tables, sample)
            parts = [part for part in explainer.batches([at]) if at in part.places]
            details = parts[0].details
            by_modality = {}
            for method, values in parts[0].by_modality.items():
                by_modality[method] = np.empty((len(sample), values.shape[1]))
                by_modality[method][parts[0].places] = values
            painter = Painter(self.predictor, tables, sample, probability, details, by_modality)
            impression = painter.impression(at)
        return Answer(impression, self._trouble(case, offer, tables))

    def tables_of(self, case: Case, offer: Offer, place: Path) -> Tables:
        """The shopper's own tables with the offer in place, checked as any data folder is.

        Args:
            case: whom it is made.
            offer: what is offered.
            place: an empty folder for pictures, where one was handed in.

        Raises:
            DataError: the offer cannot be one.
        """
        sessions = self.units.filter(unit=case.unit).select("session_id")
        events, impressions = (
            frame.join(sessions, on="session_id", how="semi", maintain_order="left").drop("row")
            for frame in (self.tables.events, self.tables.impressions)
        )
        asked = pl.col("impression_id") == case.impression_id
        changes: Mapping[str, Any] = {
            "product_id": case.product_id,
            "discount_rate": offer.discount_rate,
            "free_shipping": offer.free_shipping,
        }
        impressions = impressions.with_columns(
            pl.when(asked).then(pl.lit(value, dtype=impressions[name].dtype)).otherwise(name)
            .alias(name)
            for name, value in changes.items()
        )  # fmt: skip
        touched = pl.concat([events["product_id"], impressions["product_id"]]).unique()
        products = self.tables.products.filter(pl.col("product_id").is_in(touched.implode()))
        folder, picture = self.tables.folder, offer.picture
        if isinstance(picture, bytes):
            copy_pictures(products["image"].drop_nulls().unique().to_list(), folder, place)
            folder, picture = place, UPLOADED
            (place / UPLOADED).write_bytes(offer.picture)  # type: ignore[arg-type]
        chosen = pl.col("product_id") == case.product_id
        products = products.with_columns(
            title=pl.when(chosen).then(pl.lit(offer.title, pl.String)).otherwise("title"),
            image=pl.when(chosen).then(pl.lit(picture, pl.String)).otherwise("image"),
        )
        tables = tables_from_frames(
            products, None if events.is_empty() else events, impressions, folder=folder,
            require_labels=False,
            max_title_chars=self.predictor.settings.data.max_title_chars,
            context=self.predictor.preparation_.features_.context_,
        )  # fmt: skip
        if tables.impressions.filter(asked).is_empty():
            raise DataError(f"this is no offer: {tables.quarantine['reason'][0]}")
        return tables

    def _trouble(self, case: Case, offer: Offer, tables: Tables) -> str:
        """What of the offer the model did not get as it was given."""
        reasons = [
            f"The picture is not used: {reason}"
            for product, _, reason in self.predictor.preparation_.failures_
            if product == case.product_id
        ]
        told = tables.products.filter(product_id=case.product_id)["title"].item()
        if offer.title is not None and len(told) < len(offer.title):
            reasons.append(f"The title is read up to its character {len(told):,}.")
        return " ".join(reasons)


def copy_pictures(paths: list[str], folder: Path, place: Path) -> None:
    """Copy those pictures of a data folder that are there, under the same paths."""
    for path in paths:
        try:
            source = safe_path(folder, path)
        except DataError:  # told where pictures are embedded
            continue
        if source.is_file():
            target = place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
