"""The function that every engine runs: one shard of a working folder is scored and recorded."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from features.arrays import UNSEEN
from features.catalogue import clean_products
from features.checking import QUARANTINE, check_table
from features.context import Kind
from features.heap import return_memory
from features.reading import ROW, RawTables
from features.rules import Events, Products
from features.schema import Tables
from features.storage import ArrayStore
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.reference import Counts
from purchase_predictor.scored import in_training_period, scored_frame
from purchase_predictor.scoring.catalogue import StoredCatalogue
from purchase_predictor.scoring.work import WorkFolder

SHARD = "shard"
UNITS = "units"
"""Folder of the rows by shard, in which all rows of a unit are."""
CATALOGUE, UNREAD = "catalogue", "unread"
"""Step of which nothing is kept but which pictures are not read, by this key of its facts."""


class ShardScorer:
    """Scores shards that lie in a working folder; the catalogue is encoded once for all of them.

    Args:
        predictor: a fitted model.
        raw: the tables of the data folder, of which products and pictures are read here.
        work: where the rows lie by unit, and where scores and records go.

    Attributes:
        products: the catalogue, checked.
        products_set_aside: rows of it that could not be used.
    """

    def __init__(self, predictor: PurchasePredictor, raw: RawTables, work: WorkFolder) -> None:
        self.predictor, self.raw, self.work = predictor, raw, work
        checked = check_table(
            raw.products, "products", Products, files=raw.files.get("products", ())
        )
        self.products, _ = clean_products(checked, predictor.settings.data.max_title_chars)
        self.products_set_aside = checked.quarantine
        self.catalogue: StoredCatalogue | None = None

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Kinds of the context columns, as the model knows them."""
        return self.predictor.preparation_.features_.context_

    def finish(self, shard: int, system: str) -> dict[str, Any]:
        """Score a shard unless it was scored before.

        Args:
            shard: its number.
            system: that answers.

        Returns:
            `n_scored` and `counts`, as JSON holds them.
        """
        step = f"scores-{shard}"
        before = self.work.facts(step)
        if before is not None:
            return before
        file = self.work.folder / f"{step}.parquet"
        scored, counts = self._score(shard, system)
        if len(scored):
            scored.write_parquet(file)
        facts = {"n_scored": len(scored), "counts": asdict(counts)}
        self.work.finish(step, [file] if len(scored) else [], facts)
        return_memory()
        return facts

    def tables(
        self,
        events: pl.DataFrame,
        impressions: pl.DataFrame,
        products: pl.DataFrame | None = None,
    ) -> Tables:
        """Checked rows and the catalogue, or the products that are given of it."""
        return Tables(
            products=self.products if products is None else products,
            events=events,
            impressions=impressions,
            context=dict(self.kinds),
            folder=self.raw.folder,
            quarantine=pl.DataFrame(schema=QUARANTINE),
            rows={},
        )

    def _score(self, shard: int, system: str) -> tuple[pl.DataFrame, Counts]:
        """Scores of a shard, sorted by row, and what they and their inputs were like."""
        preparation, reference = self.predictor.preparation_, self.predictor.reference_
        impressions, events = (self._rows(table, shard) for table in ("impressions", "events"))
        if impressions is None:
            return pl.DataFrame(), Counts()
        events = Events.create_empty() if events is None else events
        if self.catalogue is None:
            self.catalogue = self._stored_catalogue()
        shown = pl.concat([impressions["product_id"], events["product_id"]])
        products, catalogue = self.catalogue.of(shown)
        encoded = preparation.encode(self.tables(events, impressions, products), catalogue)
        return_memory()  # what features freed would lie beside what the model takes
        scores = self.predictor.panel_.predict_proba(encoded, [system])
        until = self.predictor.facts_.learned_until
        counts = Counts()
        if reference is not None:
            # history that is scored again has earlier values of what is counted so far, and a
            # market that the model does not know is told of as such
            told = ~in_training_period(encoded, until) & (encoded.market != UNSEEN)
            own = {name: values[told] for name, values in scores.items()}
            counts = reference.count(encoded if told.all() else encoded.select(told), own)
        return scored_frame(encoded, scores[system], until), counts

    def _stored_catalogue(self) -> StoredCatalogue:
        store = ArrayStore(self.work.folder, chosen_by="beside the scores")
        preparation = self.predictor.preparation_
        encoded = preparation.catalogue(self.products, self.raw.folder, store)
        # for who scores no shard here: the process that began, or the one that resumes
        self.work.finish(CATALOGUE, [], {UNREAD: preparation.failures_})
        return StoredCatalogue.store(self.products, encoded, store)

    def _rows(self, table: str, shard: int) -> pl.DataFrame | None:
        return read_parts(self.work.folder / UNITS / table / f"{SHARD}={shard}")


def read_parts(folder: Path) -> pl.DataFrame | None:
    """The rows of a folder in the order of the table, None where there are none."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return None
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files]).sort(ROW)
