"""What the page of a matching run shows: its parts as plain data, pictures read once."""

from typing import Any

import numpy as np
import polars as pl

from purchase_predictor.encoders.pictures import PictureReader
from purchase_predictor.errors import DataError
from purchase_predictor.matching.bench import Bench
from purchase_predictor.matching.findings import Findings, examples
from purchase_predictor.matching.gallery import draw_galleries
from purchase_predictor.matching.generations import Generations
from purchase_predictor.matching.ladder import Ladder, Step
from purchase_predictor.matching.listings import THUMBNAIL, Listings
from purchase_predictor.report import matching as page
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
    return page.MatchReport(
        title=f"Product matching: {listings.folder.resolve().name}",
        facts=facts(listings),
        ladder=[step.row() for step in ladder.steps_],
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
        category_check=_category_check(findings),
        caveats=_caveats(listings, best, generations),
        confidence=settings.ladder.confidence,
    )


def facts(listings: Listings) -> dict[str, str]:
    """What there is to match, label by label."""
    products, split = listings.products, listings.split
    n = len(listings)
    titles = products["title"].drop_nulls()
    empty = int((titles.str.strip_chars() == "").sum())
    found = {
        "listings": f"{n:,}, {len(titles):,} with a title"
        + f", {empty:,} of them empty" * (empty > 0),
        "pictures": f"{int((listings.pictures.number >= 0).sum()):,}; picture hashes: "
        f"{n - products['image_hash'].null_count():,}",
        "match groups": f"{products['match_group'].n_unique() - _nulls(products):,}; "
        f"{n - int(split.grouped.sum()):,} listings have none",
        "parts": ", ".join(
            f"{name} {int((split.part == name).sum()):,}"
            for name in ("train", "validation", "test", "unused")
        ),
    }
    if listings.has_impressions:
        found["may train"] = f"{int(listings.eligible.sum()):,} products of the training period"
    return found


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
        self.reader = PictureReader(limits.max_image_bytes, limits.max_image_pixels, THUMBNAIL)
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


def _category_check(findings: Findings) -> page.CategoryCheck | None:
    check = findings.categories
    if check is None or check.accuracy is None:
        return None
    return page.CategoryCheck(accuracy=check.accuracy, n=check.n_suggested)


def _caveats(listings: Listings, best: Step, generations: Generations) -> list[str]:
    unread = len(generations.views[generations.last].failures)
    told = [f"{unread:,} pictures could not be read and count as missing."] * (unread > 0)
    told += [
        f"F1 falls as the gallery grows: the figure of {best.gallery:,} listings does not hold "
        f"for the {len(listings):,} of the whole catalogue.",
        "Test groups were never seen in training or tuning; training listings are matched by "
        "encoders that know them, so matches among them look better than those of new listings.",
        "A listing whose title and picture disagree is one to look at, no verdict.",
    ]
    return told + list(generations.encoders[generations.last].spec.notes)
