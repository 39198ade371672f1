"""What the page of a matching run is given: plain data, nothing of how it was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from purchase_predictor.report.figures import Figure
from purchase_predictor.report.matching_charts import Row


@dataclass(frozen=True)
class Listing:
    """A listing as the page shows it.

    Attributes:
        product_id: its id.
        title: None where it has none.
        picture: a small PNG or JPEG file, as `thumbnail` makes it; None where there is none.
        group: its match group, where known.
        price: in its own currency, where known.
    """

    product_id: str
    title: str | None = None
    picture: bytes | None = None
    group: str | None = None
    price: float | None = None


@dataclass(frozen=True)
class Pair:
    """Two listings that were matched, rightly or not, or should have been.

    Attributes:
        kind: `match` found and right, `missed` the same but not found, `false` found but another.
        left: one listing.
        right: the other.
        similarity: view → cosine, None where a listing lacks the view.
    """

    kind: Literal["match", "missed", "false"]
    left: Listing
    right: Listing
    similarity: Mapping[str, float | None]


@dataclass(frozen=True)
class Cluster:
    """Listings found to be the same product, at different prices.

    Attributes:
        listings: all of them.
        price_low: lowest price.
        price_high: highest price.
        market: where they are offered, if they are of one market.
    """

    listings: Sequence[Listing]
    price_low: float
    price_high: float
    market: str | None = None


@dataclass(frozen=True)
class Suspect:
    """A listing with the title of one product and the picture of another.

    Attributes:
        listing: the suspicious one.
        title_like: the listing whose title is like its own.
        picture_like: the listing whose picture is like its own.
        score: the higher, the more suspicious.
    """

    listing: Listing
    title_like: Listing
    picture_like: Listing
    score: float


@dataclass(frozen=True)
class Suggestion:
    """A category for a listing that has none.

    Attributes:
        listing: the listing.
        category: the one suggested.
        confidence: from 0 to 1.
    """

    listing: Listing
    category: str
    confidence: float


@dataclass(frozen=True)
class Band:
    """Suggestions of like confidence.

    Attributes:
        low: lower edge of their confidence.
        high: upper edge.
        n: how many there are.
        confidence: its mean.
        accuracy: share of right ones; `value`, `low`, `high`.
    """

    low: float
    high: float
    n: int
    confidence: float
    accuracy: Figure


@dataclass(frozen=True)
class CategoryCheck:
    """How often suggestions are right where the category is known and was hidden.

    Attributes:
        accuracy: share of right ones; `value`, `low`, `high`.
        n: listings it was checked on.
        coverage: share of the listings with a known category that get a suggestion.
        commonest: accuracy of always naming the commonest category.
        bands: from the least sure to the surest.
    """

    accuracy: Figure
    n: int
    coverage: float | None
    commonest: float | None
    bands: Sequence[Band] = ()


@dataclass(frozen=True)
class Counts:
    """What there was to match.

    Attributes:
        listings: all of them.
        titled: those with a title, an empty one too.
        empty: those whose title is empty.
        pictures: those with a picture file.
        hashes: those with a picture hash.
        groups: match groups.
        ungrouped: listings without one.
        parts: `train`, `validation`, `test` and `unused` → listings.
        may_train: products of the training period; None where there is no time.
    """

    listings: int
    titled: int
    empty: int
    pictures: int
    hashes: int
    groups: int
    ungrouped: int
    parts: Mapping[str, int]
    may_train: int | None = None


@dataclass(frozen=True)
class MatchReport:
    """All that the page shows.

    Attributes:
        data: name of the data.
        counts: what there was to match; None where that is not told.
        ladder: entries of `ladder.json`: `rung, f1, low, high, gain, gain_low, gain_high, gallery,
            seconds`, perhaps `note`.
        chosen: the rung of the ladder that validation chose; None where there is no ladder.
        curve: `rung, gallery, f1, low, high`; no chart where it is empty.
        thresholds: name → largest distance; `x_second` stands beside `x`.
        pairs: examples, in the order in which each kind is shown.
        clusters: widest spread first.
        suspects: most suspicious first.
        suggestions: categories for listings without one.
        category_check: how good such suggestions are, where it could be measured.
        unread: pictures that could not be read.
        notes: further sentences on what the figures do not say, shown as they are.
        confidence: level of all intervals.
    """

    data: str
    counts: Counts | None = None
    ladder: Sequence[Row] = ()
    chosen: str | None = None
    curve: Sequence[Row] = ()
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()
    clusters: Sequence[Cluster] = ()
    suspects: Sequence[Suspect] = ()
    suggestions: Sequence[Suggestion] = ()
    category_check: CategoryCheck | None = None
    unread: int = 0
    notes: Sequence[str] = ()
    confidence: float = 0.95
