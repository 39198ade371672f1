"""How charts look: colours of systems, axes, sizes; words and table travel with the chart."""

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from purchase_predictor.report.pages import Chart

COLOURS = {
    "fusion": "#0072b2",
    "lightgbm": "#d55e00",
    "stack": "#009e73",
    "tabnet": "#a6527f",
}
"""Colours of the known systems, told apart by colour-blind readers (Okabe and Ito 2008)."""

SPARE_COLOURS = (
    "#56b4e9", "#8c6d00", "#6a51a3", "#333333", "#e69f00", "#cc79a7", "#117733", "#882255",
    "#999999", "#332288", "#88ccee", "#aa4499",
)  # fmt: skip
"""For whatever else is told apart: markets, mostly."""

GREY = "#8a8a8a"


LABEL_LIMIT = 220
"""Pixels of the longest label at the side of a grid of cells."""

LONG_LABEL_LIMIT = 260
"""Of a label at the side of a chart that has one column: names of settings, of offers, of markets
with their conversions."""

CELL = 46
"""Pixels that the figure in a cell needs."""


def width_of_cells(n_columns: int) -> int:
    """Pixels under which the figures of a grid of cells would lie on one another."""
    return LABEL_LIMIT + CELL * n_columns


def finished(
    chart: Chart,
    *,
    title: str,
    note: str,
    table: dict[str, Any],
    height: Any = 320,
    min_width: int = 0,
) -> Chart:
    """Give a chart its words, its size and its look.

    Args:
        chart: what is drawn.
        title: its heading.
        note: the sentences under that.
        table: the same in figures, `columns` and `rows`.
        height: pixels, or a step.
        min_width: pixels; on a narrower page it is scrolled sideways.
    """
    return chart.properties(
        title=alt.TitleParams(
            title,
            subtitle=textwrap.wrap(note, 84),
            anchor="start",
            fontSize=15,
            subtitleFontSize=12,
            subtitleColor="#555",
            offset=10,
        ),
        width="container",
        height=height,
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        usermeta={"title": title, "note": note, "table": table, "min_width": min_width},
    ).configure(
        font="Arial, Noto Sans, sans-serif",
        view=alt.ViewConfig(stroke=None),
        axis=alt.AxisConfig(
            gridColor="#ececec", domainColor="#999", tickColor="#999", labelFontSize=12,
            titleFontSize=12, titleFontWeight="normal", labelColor="#333", titleColor="#333",
        ),
        legend=alt.LegendConfig(labelFontSize=12, symbolStrokeWidth=2, symbolOpacity=1),
    )  # fmt: skip


def colour(
    systems: Sequence[str],
    label: Callable[[str], str] | None,
    *,
    field: str = "system",
    known: Mapping[str, str] = COLOURS,
) -> alt.Color:
    """Fixed colours by system; the legend lies under the plot so that it fits a telephone.

    Args:
        systems: what is told apart, in the order of the legend.
        label: a longer text for the legend; a line break in it is kept.
        field: the column that names them.
        known: colours of those that have their own.
    """
    spare = iter(SPARE_COLOURS * len(systems))
    colours = [known.get(system) or next(spare) for system in systems]
    legend: dict[str, Any] = {"orient": "bottom", "title": None, "labelLimit": 320}
    if label is None:  # columns that a telephone has room for
        legend["columns"] = max(1, min(5, 48 // (4 + max(map(len, systems), default=1))))
    else:
        legend |= {"direction": "vertical", "columns": 1}
        legend["labelExpr"] = in_lines({system: label(system) for system in systems})
    return alt.Color(
        f"{field}:N",
        scale=alt.Scale(domain=list(systems), range=colours),
        legend=alt.Legend(**legend),
    )


def in_lines(texts: Mapping[str, str]) -> str:
    """A Vega expression that writes a label as its text, line breaks kept.

    Args:
        texts: label → text.
    """
    lines = {label: text.split("\n") for label, text in texts.items()}
    return f"{json.dumps(lines)}[datum.label]"


def diagonal(largest: float) -> alt.Chart:
    """Where both axes are equal, from 0 to `largest`."""
    ends = pl.DataFrame({"x": [0.0, largest], "y": [0.0, largest]})
    return (
        alt.Chart(ends)
        .mark_line(strokeDash=[4, 4], color=GREY, strokeWidth=1)
        .encode(x="x:Q", y="y:Q")
    )


def percent(edge: float | None = None) -> alt.Axis:
    """An axis of shares; up to an edge on a square-root scale, ticks are closer near zero."""
    if edge is None:
        return alt.Axis(format="~%", tickCount=5)
    ticks = [0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1]
    if edge < 0.05:
        ticks = [tick / 10 for tick in ticks]
    return alt.Axis(format="~%", values=[tick for tick in ticks if tick <= edge])


def frame(
    rows: Sequence[Mapping[str, Any]], names: Sequence[str], numbers: Sequence[str]
) -> pl.DataFrame:
    """Rows as a table that has its columns even where there are no rows."""
    schema = {**dict.fromkeys(names, pl.String), **dict.fromkeys(numbers, pl.Float64)}
    return pl.DataFrame([{key: row[key] for key in schema} for row in rows], schema=schema)


def largest(points: pl.DataFrame, *columns: str) -> float:
    """Largest value of some columns; 1 where there are no rows."""
    return float(points.select(columns).to_numpy().max()) if len(points) else 1.0
