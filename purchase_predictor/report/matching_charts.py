"""Charts of product matching: the ladder of strategies, and F1 against the gallery's size."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from purchase_predictor.report.figures import level, number, text
from purchase_predictor.report.matching_words import Words, note_in, words_of
from purchase_predictor.report.pages import Chart
from purchase_predictor.report.style import COLOURS, colour, finished, frame, in_lines

Row = Mapping[str, Any]
"""An entry of `ladder.json` or of the curve: `rung, f1, low, high, gallery` and more."""

LABEL_WIDTH = 26
"""Characters of a line of a rung's name beside the plot."""

LEGEND_WIDTH = 44
LINE = 15
"""Pixels that a line of a label needs."""


def ladder_chart(
    ladder: Sequence[Row], *, language: str = "en", confidence: float = 0.95
) -> Chart:
    """F1 of each rung with its interval, rungs from top to bottom as they were climbed.

    Args:
        ladder: `rung, f1, low, high, gain, gain_low, gain_high, gallery, seconds` and, if there
            is one, `note`; bounds and gains may be None.
        language: `en` or `ko`.
        confidence: level of the intervals.
    """
    words = words_of(language)
    points = _points(ladder, words)
    galleries = _galleries(points)
    rungs = {name: textwrap.fill(name, LABEL_WIDTH) for name in _names(ladder)}
    lines = max((name.count("\n") + 1 for name in rungs.values()), default=1)
    base = alt.Chart(points).encode(
        y=alt.Y(
            "rung:N",
            title=None,
            sort=list(rungs),
            axis=alt.Axis(
                grid=True, tickBand="extent", ticks=False, labelLimit=0, labelExpr=in_lines(rungs)
            ),
        ),
        yOffset=alt.YOffset("size:N", sort=galleries),
        color=colour(
            galleries,
            None,
            field="size",
            known=dict(zip(galleries, COLOURS.values(), strict=False)),
        ),
    )
    axis, scale = alt.Axis(tickCount=6, format=".2f"), alt.Scale(zero=False, padding=8)
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("low:Q", title="F1", scale=scale, axis=axis), x2="high:Q"
    )
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(
        x=alt.X("f1:Q", title="F1", scale=scale, axis=axis), tooltip=_tips(words)
    )
    return finished(
        bars + dots,
        title=words.ladder,
        note=words.ladder_note.format(level=_level(confidence)),
        table=_ladder_table(ladder, words),
        height=alt.Step(max(15, -(-LINE * lines // max(1, len(galleries))))),
    )


def curve_chart(curve: Sequence[Row], *, language: str = "en", confidence: float = 0.95) -> Chart:
    """F1 against the number of listings in the gallery, by rung, with a band for the interval.

    Args:
        curve: `rung, gallery, f1, low, high`; the bounds may be None.
        language: `en` or `ko`.
        confidence: level of the intervals.
    """
    words = words_of(language)
    points = _points(curve, words)
    rungs = _names(curve)
    sizes = sorted(set(points["gallery"].to_list())) or [1.0]
    x = alt.X(
        "gallery:Q",
        title=words.gallery_axis,
        scale=alt.Scale(type="log", domain=[sizes[0] * 0.9, sizes[-1] * 1.1], nice=False),
        axis=alt.Axis(values=sizes, format=",d", labelOverlap="greedy", labelSeparation=2),
    )
    base = alt.Chart(points).encode(
        x=x,
        color=colour(
            rungs,
            lambda name: textwrap.fill(name, LEGEND_WIDTH),
            field="rung",
            known=dict(zip(rungs, COLOURS.values(), strict=False)),
        ),
    )
    scale = alt.Scale(zero=False)
    axis = alt.Axis(tickCount=6, format=".2f")
    band = (
        base.transform_filter("isValid(datum.low) && isValid(datum.high)")
        .mark_area(opacity=0.15)
        .encode(y=alt.Y("low:Q", title="F1", scale=scale, axis=axis), y2="high:Q")
    )
    line = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=45)).encode(
        y=alt.Y("f1:Q", title="F1", scale=scale, axis=axis), tooltip=_tips(words)
    )
    return finished(
        band + line,
        title=words.curve,
        note=words.curve_note.format(level=_level(confidence)),
        table={
            "columns": [words.rung, "F1", words.gallery],
            "rows": [[row["rung"], _cell(row), f"{row['gallery']:,}"] for row in curve],
        },
    )


def f1_text(row: Row) -> str:
    """F1 with its interval, as in `0.871 (0.862–0.880)`.

    Args:
        row: an entry of the ladder or of the curve.
    """
    return text({"value": row["f1"], "low": row["low"], "high": row["high"]})


def gain_text(row: Row) -> str:
    """Gain over an earlier rung with its interval, as in `+0.012 (+0.004 to +0.020)`.

    Args:
        row: an entry of the ladder.
    """
    gain = {"value": row["gain"], "low": row["gain_low"], "high": row["gain_high"]}
    return text(gain, "+.3f")


def seconds_text(row: Row) -> str:
    """Seconds that a rung took.

    Args:
        row: an entry of the ladder.
    """
    return number(row["seconds"], ",.1f")


def _cell(row: Row) -> str:
    # the joiner keeps the bounds on one line where a narrow screen breaks the figure in two
    return f1_text(row).replace("–", "–\N{WORD JOINER}")


def _gain_cell(row: Row) -> str:
    # in no language, and its bounds on one line
    return gain_text(row).replace(" to ", "\N{NO-BREAK SPACE}–\N{WORD JOINER}\N{NO-BREAK SPACE}")


def _ladder_table(ladder: Sequence[Row], words: Words) -> dict[str, Any]:
    noted = any(row.get("note") for row in ladder)
    return {
        "columns": [
            words.rung,
            "F1",
            words.gain,
            words.gallery,
            words.seconds,
            *([words.note] if noted else []),
        ],
        "rows": [
            [
                row["rung"],
                _cell(row),
                _gain_cell(row),
                f"{row['gallery']:,}",
                seconds_text(row),
                *([note_in(row.get("note") or "", words)] if noted else []),
            ]
            for row in ladder
        ],
    }


def _points(rows: Sequence[Row], words: Words) -> pl.DataFrame:
    sized = [{**row, "size": words.n_listings.format(n=f"{row['gallery']:,}")} for row in rows]
    return frame(sized, ["rung", "size"], ["gallery", "f1", "low", "high"])


def _galleries(points: pl.DataFrame) -> list[str]:
    sizes = points.select("size", "gallery").unique().sort("gallery")
    return list(sizes["size"])


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["rung"] for row in rows))


def _tips(words: Words) -> list[Any]:
    figures = [
        alt.Tooltip(f"{name}:Q", title=title, format=".3f")
        for name, title in (("f1", "F1"), ("low", "−"), ("high", "+"))
    ]
    return [
        alt.Tooltip("rung:N", title=words.rung),
        alt.Tooltip("size:N", title=words.gallery),
        *figures,
    ]


def _level(confidence: float) -> str:
    return level({"intervals": {"confidence": confidence}})
