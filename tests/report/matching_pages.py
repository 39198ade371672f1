"""A report of a matching run whose every text is there, some of it hostile."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

from PIL import Image

from purchase_predictor.report.matching import (
    Band,
    CategoryCheck,
    Cluster,
    Counts,
    Listing,
    MatchReport,
    Pair,
    Suggestion,
    Suspect,
    write_match_report,
)

HOSTILE = '</script><img src=x onerror="alert(1)">'
LONG = "blending: image, title, comb at stage 1, joint thresholds"
COUNTS = Counts(
    listings=34250,
    titled=34000,
    empty=0,
    pictures=32412,
    hashes=0,
    groups=11014,
    ungrouped=12,
    parts={"train": 20000, "validation": 7000, "test": 7000, "unused": 250},
)


def make_picture(size: tuple[int, int] = (40, 20), kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, kind, **options)
    return file.getvalue()


def make_ladder() -> list[dict[str, Any]]:
    figures = {"image": 0.70, LONG: 0.79, "all data": 0.75}
    return [
        {
            "rung": rung,
            "f1": f1 + gain,
            "low": f1 + gain - 0.01,
            "high": f1 + gain + 0.01,
            "gain": None if rung == "image" else -0.04,
            "gain_low": None if rung == "image" else -0.055,
            "gain_high": None if rung == "image" else 0.025,
            "gallery": gallery,
            "seconds": 1234.5,
        }
        for rung, f1 in figures.items()
        for gallery, gain in ((6821, 0.0), (3000, 0.1))
    ]


def make_report(**changes: Any) -> MatchReport:
    first = Listing("p1", "Susu Dancow 400g", make_picture(), group="g1", price=12000.0)
    second = Listing("p2", HOSTILE, None, group=HOSTILE, price=30000.5)
    report = MatchReport(
        data="shopee",
        counts=COUNTS,
        ladder=make_ladder(),
        chosen="all data",
        curve=[
            {"rung": LONG, "gallery": n, "f1": 0.9 - n / 1e5, "low": None, "high": None}
            for n in (500, 3000)
        ],
        thresholds={"image": 0.31, "image_second": 0.42, "tfidf": 0.5, "stage2_second": None},
        pairs=[
            Pair("missed", first, second, {"image": None, "title": -0.25}),
            Pair("false", first, Listing("p3"), {HOSTILE: 0.5}),
        ],
        clusters=[Cluster([second, first], 12000.0, 30000.5, HOSTILE)],
        suspects=[Suspect(first, second, first, 0.875)],
        suggestions=[Suggestion(second, HOSTILE, 0.97)],
        category_check=CategoryCheck(
            accuracy={"value": 0.874, "low": 0.85, "high": 0.89},
            n=1200,
            coverage=0.96,
            commonest=0.125,
            bands=[
                Band(0.0, 0.5, 200, 0.41, {"value": 0.44, "low": 0.4, "high": 0.48}),
                Band(0.9, 1.0, 1000, 0.98, {"value": 0.95, "low": None, "high": None}),
            ],
        ),
        notes=[HOSTILE],
    )
    return dataclasses.replace(report, **changes)


def write(report: MatchReport, folder: Path, language: str = "en") -> str:
    """The page without the bundle of Vega and its specifications."""
    write_match_report(report, folder / "page.html", language=language)
    page = (folder / "page.html").read_text("utf-8")
    return re.sub(r"<script[^>]*>.*?</script>", "", page, flags=re.DOTALL)
