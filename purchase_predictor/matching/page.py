"""What the page of a matching run shows: its parts as plain data, pictures read once."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from purchase_predictor.encoders.pictures import PictureReader
from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.intervals import percentile_interval
from purchase_predictor.matching.bench import Bench
from purchase_predictor.matching.findings import Findings, examples
from purchase_predictor.matching.gallery import Split, draw_galleries
from purchase_predictor.matching.generations import Generations
from purchase_predictor.matching.ladder import Ladder, Step, resampled_mean
from purchase_predictor.matching.listings import Listings
from purchase_predictor.matching.uses import CategoryCheck
from purchase_predictor.report import matching as page
from purchase_predictor.report.thumbnails import SIDE
from purchase_predictor.settings import MatchSettings

SHOWN = 8
"""Examples of each kind on the page."""


def make_report(
    listings: Listings,
    generations: Generations,
    ladder: Ladder,
    curve: list[dict[str, Any]],
    findings: Findings,
    settings: MatchSettings,
) -> page.MatchReport:
    """Gather what the page shows.

    Args:
        listings: the catalogue.
        generations: encoders and views.
        ladder: climbed.
        curve: F1 against gallery size.
        findings: of the whole catalogue.
        settings: of the run.
    """
    best, show = ladder.best(), _Show(listings, settings)
    last, check = generations.last, None
    if findings.categories is not None and findings.categories.n_suggested:
        check = check_categories(findings.categories, listings.split, settings)
    return page.MatchReport(
        data=listings.folder.resolve().name,
        counts=counts(listings),
        ladder=[step.row() for step in ladder.steps_],
        chosen=best.rung.name,
        curve=curve,
        thresholds=_flat(best.thresholds),
        pairs=_pairs(
            listings,
            generations,
            best,
            show,
            k=settings.ladder.neighbours,
            cap=settings.ladder.largest_group,
        ),
        clusters=show.clusters(findings),
        suspects=show.suspects(findings),
        suggestions=show.suggestions(findings),
        category_check=check,
        unread=len(generations.views[last].failures),
        notes=generations.encoders[last].spec.notes,
        confidence=settings.ladder.confidence,
    )


def facts(listings: Listings) -> dict[str, str]:
    """What there is to match, label by label, in English."""
    return page.facts(counts(listings))


def counts(listings: Listings) -> page.Counts:
    """What there is to match."""
    products, split = listings.products, listings.split
    titles = products["title"].drop_nulls()
    eligible = int(listings.eligible.sum())
    return page.Counts(
        listings=len(listings),
        titled=len(titles),
        empty=int((titles.str.strip_chars() == "").sum()),
        pictures=int((listings.pictures.number >= 0).sum()),
        hashes=len(listings) - products["image_hash"].null_count(),
        groups=products["match_group"].n_unique() - _nulls(products),
        ungrouped=len(listings) - int(split.grouped.sum()),
        parts={
            name: int((split.part == name).sum())
            for name in ("train", "validation", "test", "unused")
        },
        may_train=eligible if listings.has_impressions else None,
    )


def _nulls(products: pl.DataFrame) -> int:
    return int(products["match_group"].null_count() > 0)


def _pairs(
    listings: Listings, generations: Generations, best: Step, show: "_Show", *, k: int, cap: int
) -> list[page.Pair]:
    """Examples from the gallery of all test groups."""
    galleries = draw_galleries(listings.split, "test")
    views = generations.views[generations.last]
    bench = Bench(galleries, views, listings.products["title"], k=k)
    matches = best.rung.strategy.match(bench, best.thresholds, cap)
    rows = np.concatenate([gallery.rows for gallery in galleries])
    return [
        page.Pair(
            example.kind,  # type: ignore[arg-type]
            show.listing(example.left),
            show.listing(example.right),
            example.similarity,
        )
        for example in examples(bench, rows, matches, n_each=SHOWN)
    ]


class _Show:
    """Listings as the page shows them, their pictures read once."""

    def __init__(self, listings: Listings, settings: MatchSettings) -> None:
        self.listings = listings
        limits = settings.data
        self.reader = PictureReader(limits.max_image_bytes, limits.max_image_pixels, SIDE)
        self.rows: dict[int, page.Listing] = {}

    def listing(self, row: int) -> page.Listing:
        """A listing of the catalogue by its row."""
        if row not in self.rows:
            values = self.listings.products.row(row, named=True)
            picture = None
            if self.listings.pictures.number[row] >= 0:
                try:
                    content = self.reader.content(self.listings.folder, values["image"])
                    picture = page.thumbnail(content, self.reader)
                except DataError:  # counted and told where pictures are embedded
                    picture = None
            self.rows[row] = page.Listing(
                values["product_id"],
                title=values["title"],
                picture=picture,
                group=values["match_group"],
                price=values["price"],
            )
        return self.rows[row]

    def clusters(self, findings: Findings) -> list[page.Cluster]:
        """Clusters with the widest spread of prices."""
        prices = self.listings.prices
        shown = []
        for row in findings.spread.head(SHOWN).iter_rows(named=True):
            members = np.flatnonzero(findings.table["cluster"].to_numpy() == row["cluster"])
            own = prices.filter(pl.col("market").eq_missing(row["market"]))
            median = dict(own.group_by("product_id").agg(pl.col("price").median()).iter_rows())
            listed = [self.listing(int(member)) for member in members]
            priced = [
                page.Listing(
                    one.product_id, one.title, one.picture, one.group, median[one.product_id]
                )
                for one in listed
                if one.product_id in median
            ]
            shown.append(page.Cluster(priced, row["price_low"], row["price_high"], row["market"]))
        return shown

    def suspects(self, findings: Findings) -> list[page.Suspect]:
        """Listings with the title of one product and the picture of another."""
        return [
            page.Suspect(
                self.listing(row["row"]),
                self.listing(row["title_like"]),
                self.listing(row["picture_like"]),
                row["score"],
            )
            for row in findings.suspects.head(SHOWN).iter_rows(named=True)
        ]

    def suggestions(self, findings: Findings) -> list[page.Suggestion]:
        """Categories for listings without one, the surest first."""
        lacking = (
            findings.table.with_row_index("row")
            .filter(self.listings.products["category"].is_null())
            .drop_nulls("suggested_category")
            .sort("category_confidence", descending=True, maintain_order=True)
        )
        return [
            page.Suggestion(
                self.listing(row["row"]), row["suggested_category"], row["category_confidence"]
            )
            for row in lacking.head(SHOWN).iter_rows(named=True)
        ]


def _flat(thresholds: Any) -> dict[str, float | None]:
    """Thresholds by name, the looser one of the nearest other listing as NAME_second."""
    flat: dict[str, float | None] = {}
    for name, value in thresholds.items():
        if name == "further":
            flat |= _flat(value)
        elif isinstance(value, list | tuple):
            flat[name] = value[0]
            if len(value) > 1:
                flat[f"{name}_second"] = value[1]
        else:
            flat[name] = value
    return flat


def check_categories(
    check: CategoryCheck, split: Split, settings: MatchSettings
) -> page.CategoryCheck:
    """How good suggestions are, with intervals over joined groups.

    Args:
        check: with at least one suggestion.
        split: joined groups of the listings.
        settings: resamples and level of the intervals.
    """
    judged = check.judged
    unit = split.key[judged["row"].to_numpy()].astype(str)
    right = judged["right"].to_numpy().astype(np.float64)
    confidence = judged["confidence"].to_numpy()

    def share(those: NDArray[np.bool_]) -> dict[str, float | None]:
        mean = resampled_mean(
            right[those],
            unit[those],
            n_resamples=settings.ladder.resamples,
            seed=settings.seed,
        )
        return percentile_interval(*mean, settings.ladder.confidence)

    bands = []
    for row in check.bands.iter_rows(named=True):
        low, high = row["confidence_low"], row["confidence_high"]
        those = (confidence >= low) & ((confidence < high) | (high == 1.0))
        bands.append(page.Band(low, high, row["n_listings"], row["confidence"], share(those)))
    return page.CategoryCheck(
        accuracy=share(np.ones(len(right), dtype=np.bool_)),
        n=len(right),
        coverage=check.coverage,
        commonest=check.commonest,
        bands=bands,
    )
