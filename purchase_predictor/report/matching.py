"""The report of the match command: one HTML page, and the ladder as a console table.

The page knows nothing of how listings are matched; it shows the plain data that it is given.
"""

import base64
import re
from collections.abc import Mapping, Sequence
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
    gain_text,
    ladder_chart,
    seconds_text,
)
from purchase_predictor.report.matching_data import (
    Band,
    CategoryCheck,
    Cluster,
    Counts,
    Listing,
    MatchReport,
    Pair,
    Suggestion,
    Suspect,
)
from purchase_predictor.report.matching_words import Words, words_of
from purchase_predictor.report.pages import write_page
from purchase_predictor.report.thumbnails import thumbnail

__all__ = [
    "Band",
    "CategoryCheck",
    "Cluster",
    "Counts",
    "Listing",
    "MatchReport",
    "Pair",
    "Suggestion",
    "Suspect",
    "curve_chart",
    "facts",
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
        "bottom_line": bottom_line(report, words),
        "facts": {} if report.counts is None else facts(report.counts, language=language),
        "blocks": [_block(kind, report.pairs, words) for kind in ("match", "missed", "false")],
        "clusters": [_cluster(cluster, words) for cluster in report.clusters],
        "suspects": [_suspect(suspect) for suspect in report.suspects],
        "suggestions": [_suggestion(suggestion) for suggestion in report.suggestions],
        "check": _check(report.category_check, words),
        "bands": _bands(report.category_check),
        "thresholds": _thresholds(report.thresholds),
        "caveats": caveats(report, words),
    }
    title = words.title.format(name=report.data)
    write_page("matching.html", charts, file, title, content, language=language)


def bottom_line(report: MatchReport, words: Words) -> str:
    """The rung that validation chose and its F1 in the largest gallery, in a sentence.

    The highest F1 of the ladder would be one chosen on the test listings it is measured on.

    Args:
        report: what the page shows.
        words: of the page's language.
    """
    if not report.ladder:
        return words.nothing_measured
    row = _chosen_row(report)
    gallery = f"{row['gallery']:,}"
    return words.best.format(gallery=gallery, rung=row["rung"], f1=f1_text(row))


def _chosen_row(report: MatchReport) -> Row:
    gallery = max(row["gallery"] for row in report.ladder)
    (chosen,) = (
        row for row in report.ladder if row["gallery"] == gallery and row["rung"] == report.chosen
    )
    return chosen


def facts(counts: Counts, *, language: str = "en") -> dict[str, str]:
    """What there was to match, label by label.

    Args:
        counts: of the listings.
        language: `en` or `ko`.
    """
    words = words_of(language)
    told = words.listings_told_empty if counts.empty else words.listings_told
    found = {
        words.listings: told.format(
            n=f"{counts.listings:,}", titled=f"{counts.titled:,}", empty=f"{counts.empty:,}"
        ),
        words.pictures: words.pictures_told.format(
            n=f"{counts.pictures:,}", hashes=f"{counts.hashes:,}"
        ),
        words.groups: words.groups_told.format(
            n=f"{counts.groups:,}", ungrouped=f"{counts.ungrouped:,}"
        ),
        words.parts: ", ".join(
            f"{getattr(words, f'part_{name}')} {n:,}" for name, n in counts.parts.items()
        ),
    }
    if counts.may_train is not None:
        found[words.may_train] = words.may_train_told.format(n=f"{counts.may_train:,}")
    return found


def caveats(report: MatchReport, words: Words) -> list[str]:
    """What the figures do not say, a sentence each.

    Args:
        report: what the page shows.
        words: of the page's language.
    """
    told = []
    if report.unread:
        told.append(words.unread.format(n=f"{report.unread:,}"))
    if report.ladder and report.counts is not None:
        gallery = f"{_chosen_row(report)['gallery']:,}"
        told.append(words.falls.format(gallery=gallery, n=f"{report.counts.listings:,}"))
        told.append(words.seen)
    if report.suspects:
        told.append(words.no_verdict)
    return [*told, *report.notes]


def ladder_table(ladder: Sequence[Row]) -> Table:
    """The ladder for the console: rung, F1 and gain with their intervals, gallery and seconds.

    Args:
        ladder: entries of `ladder.json`.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold underline", pad_edge=False)
    table.add_column("rung")
    for name in ("F1", "gain", "gallery", "seconds"):
        justify: Literal["left", "right"] = "left" if name in ("F1", "gain") else "right"
        table.add_column(name, justify=justify, no_wrap=True)
    for row in ladder:
        figures = f1_text(row), gain_text(row), f"{row['gallery']:,}", seconds_text(row)
        table.add_row(escape(row["rung"]), *figures)
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
    return words.check.format(
        accuracy=text(check.accuracy, ".1%"),
        n=f"{check.n:,}",
        commonest=number(check.commonest, ".1%"),
        coverage=number(check.coverage, ".1%"),
    )


def _bands(check: CategoryCheck | None) -> list[list[str]]:
    """Confidence from and to, its mean, number of suggestions and their accuracy."""
    return [
        [
            f"{band.low:.0%}–{band.high:.0%}",
            number(band.confidence, ".1%"),
            f"{band.n:,}",
            text(band.accuracy, ".1%"),
        ]
        for band in (check.bands if check else ())
    ]


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
