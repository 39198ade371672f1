"""The report of the match command: one HTML page, and the ladder as a console table.

The page knows nothing of how listings are matched; it shows the plain data that it is given.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup
from markupsafe import escape as escape_html
from rich.markup import escape
from rich.table import Table

from purchase_predictor.errors import DataError
from purchase_predictor.report.figures import number, text
from purchase_predictor.report.matching_charts import (
    Row,
    curve_chart,
    f1_text,
    ladder_chart,
    seconds_text,
)
from purchase_predictor.report.matching_words import Words, words_of
from purchase_predictor.report.pages import write_page
from purchase_predictor.report.thumbnails import thumbnail

__all__ = [
    "CategoryCheck",
    "Cluster",
    "Listing",
    "MatchReport",
    "Pair",
    "Suggestion",
    "Suspect",
    "curve_chart",
    "ladder_chart",
    "ladder_table",
    "thumbnail",
    "write_match_report",
]

SHOWN = 6
"""Listings of a cluster that are shown; of a larger one, the cheapest and the dearest."""

SECOND = "_second"
"""End of the name of a looser threshold, that of the nearest other listing."""

_KINDS_OF_PICTURE = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}

_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff"
"""Thai, Japanese and Chinese letters: no spaces between words, so each is compared alone."""

_TOKENS = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+|[\W_]+")


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
class CategoryCheck:
    """How often suggestions are right where the category is known and was hidden.

    Attributes:
        accuracy: share of right ones.
        n: listings it was checked on.
        low: lower bound of its interval, None where there is none.
        high: upper bound.
    """

    accuracy: float
    n: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class MatchReport:
    """All that the page shows.

    Attributes:
        title: heading of the page.
        facts: label → text, a short list about the data.
        ladder: entries of `ladder.json`: `rung, f1, low, high, gallery, seconds`, perhaps `note`.
        curve: `rung, gallery, f1, low, high`; no chart where it is empty.
        thresholds: name → largest distance; `x_second` stands beside `x`.
        pairs: examples, in the order in which each kind is shown.
        clusters: widest spread first.
        suspects: most suspicious first.
        suggestions: categories for listings without one.
        category_check: how good such suggestions are, where it could be measured.
        caveats: sentences.
        confidence: level of all intervals.
    """

    title: str
    facts: Mapping[str, str]
    ladder: Sequence[Row]
    curve: Sequence[Row] = ()
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    pairs: Sequence[Pair] = ()
    clusters: Sequence[Cluster] = ()
    suspects: Sequence[Suspect] = ()
    suggestions: Sequence[Suggestion] = ()
    category_check: CategoryCheck | None = None
    caveats: Sequence[str] = ()
    confidence: float = 0.95


def write_match_report(report: MatchReport, file: Path, *, language: str = "en") -> None:
    """Write the page; pictures are inside it and every text is escaped.

    Args:
        report: what it shows.
        file: where; replaced if it is there.
        language: `en` or `ko`.

    Raises:
        SettingsError: if the page is not written in that language.
        DataError: if a listing's picture is neither PNG nor JPEG.
    """
    words = words_of(language)
    level, charts = report.confidence, []
    if report.ladder:
        charts.append(ladder_chart(report.ladder, language=language, confidence=level))
    if report.curve:
        charts.append(curve_chart(report.curve, language=language, confidence=level))
    content = {
        "words": words,
        "bottom_line": bottom_line(report.ladder, words),
        "facts": report.facts,
        "blocks": [_block(kind, report.pairs, words) for kind in ("match", "missed", "false")],
        "clusters": [_cluster(cluster, words) for cluster in report.clusters],
        "suspects": [_suspect(suspect) for suspect in report.suspects],
        "suggestions": [_suggestion(suggestion) for suggestion in report.suggestions],
        "check": _check(report.category_check, words),
        "thresholds": _thresholds(report.thresholds),
        "caveats": report.caveats,
    }
    write_page("matching.html", charts, file, report.title, content, language=language)


def bottom_line(ladder: Sequence[Row], words: Words) -> str:
    """The best rung of the largest gallery, in a sentence.

    Args:
        ladder: entries of `ladder.json`.
        words: of the page's language.
    """
    if not ladder:
        return words.nothing_measured
    gallery = max(row["gallery"] for row in ladder)
    best = max((row for row in ladder if row["gallery"] == gallery), key=lambda row: row["f1"])
    return words.best.format(gallery=f"{gallery:,}", rung=best["rung"], f1=f1_text(best))


def ladder_table(ladder: Sequence[Row]) -> Table:
    """The ladder for the console: rung, F1 with its interval, gallery and seconds.

    Args:
        ladder: entries of `ladder.json`.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold underline", pad_edge=False)
    table.add_column("rung")
    for name in ("F1", "gallery", "seconds"):
        table.add_column(name, justify="left" if name == "F1" else "right", no_wrap=True)
    for row in ladder:
        table.add_row(escape(row["rung"]), f1_text(row), f"{row['gallery']:,}", seconds_text(row))
    return table


def differing_words(left: str, right: str) -> tuple[Markup, Markup]:
    """Both titles, escaped, the words marked that the other one lacks; case does not count.

    Args:
        left: a title.
        right: another.
    """
    return _marked(left, right), _marked(right, left)


def _marked(title: str, other: str) -> Markup:
    known = {token.casefold() for token in _TOKENS.findall(other)}
    parts = []
    for token in _TOKENS.findall(title):
        differs = re.match(r"[^\W_]", token) and token.casefold() not in known
        parts.append(Markup("<mark>{}</mark>").format(token) if differs else escape_html(token))
    return Markup("").join(parts)


def _block(kind: str, pairs: Sequence[Pair], words: Words) -> dict[str, Any]:
    return {
        "kind": kind,
        "title": getattr(words, kind),
        "note": getattr(words, f"{kind}_note"),
        "pairs": [_pair(pair) for pair in pairs if pair.kind == kind],
    }


def _pair(pair: Pair) -> dict[str, Any]:
    left, right = _shown(pair.left), _shown(pair.right)
    if pair.left.title and pair.right.title:
        left["title"], right["title"] = differing_words(pair.left.title, pair.right.title)
    views = [
        {"name": name, "cosine": number(cosine, ".2f"), "share": 100 * max(0.0, cosine or 0.0)}
        for name, cosine in pair.similarity.items()
    ]
    return {"sides": [left, right], "views": views}


def _cluster(cluster: Cluster, words: Words) -> dict[str, Any]:
    listings = sorted(cluster.listings, key=lambda each: (each.price is None, each.price or 0.0))
    left_out = max(0, len(listings) - SHOWN)
    half = SHOWN // 2
    shown = listings if not left_out else [*listings[:half], *listings[-half:]]
    ratio = cluster.price_high / cluster.price_low if cluster.price_low > 0 else None
    return {
        "prices": f"{_price(cluster.price_low)} – {_price(cluster.price_high)}",
        "ratio": "" if ratio is None else f"×{ratio:,.2f}",
        "market": cluster.market,
        "size": words.n_listings.format(n=f"{len(listings):,}"),
        "listings": [_shown(listing) for listing in shown],
        "gap_after": half if left_out else -1,
        "gap": words.left_out.format(n=f"{left_out:,}"),
    }


def _suspect(suspect: Suspect) -> dict[str, Any]:
    return {
        "score": number(suspect.score, ".2f"),
        "listing": _shown(suspect.listing),
        "title_like": _shown(suspect.title_like),
        "picture_like": _shown(suspect.picture_like),
    }


def _suggestion(suggestion: Suggestion) -> dict[str, Any]:
    return {
        "listing": _shown(suggestion.listing),
        "category": suggestion.category,
        "confidence": f"{suggestion.confidence:.0%}",
    }


def _check(check: CategoryCheck | None, words: Words) -> str:
    if check is None:
        return ""
    share = text({"value": check.accuracy, "low": check.low, "high": check.high}, ".1%")
    return words.check.format(accuracy=share, n=f"{check.n:,}")


def _thresholds(thresholds: Mapping[str, float | None]) -> list[list[str]]:
    """Name, threshold and looser threshold of each view or stage."""
    names = dict.fromkeys(name.removesuffix(SECOND) for name in thresholds)
    return [
        [
            name,
            number(thresholds.get(name)),
            number(thresholds[name + SECOND]) if name + SECOND in thresholds else "",
        ]
        for name in names
    ]


def _shown(listing: Listing) -> dict[str, Any]:
    return {
        "product_id": listing.product_id,
        "title": listing.title,
        "picture": "" if listing.picture is None else _data_uri(listing),
        "group": listing.group,
        "price": "" if listing.price is None else _price(listing.price),
    }


def _data_uri(listing: Listing) -> str:
    content = listing.picture or b""
    for start, kind in _KINDS_OF_PICTURE.items():
        if content.startswith(start):
            return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
    raise DataError(
        f"The picture of listing {listing.product_id!r} must be a PNG or JPEG file, "
        f"not one that begins with {content[:4]!r}."
    )


def _price(price: float) -> str:
    return f"{price:,.0f}" if price == round(price) else f"{price:,.2f}"
