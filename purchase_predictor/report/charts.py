"""Charts of a run (Altair), each with its table; HTML that opens offline, PNG and SVG.

A chart carries its title, a note and its table in `usermeta`, which Vega ignores and the page
shows: whoever cannot see the picture reads the numbers.
"""

from collections.abc import Callable, Sequence
from typing import Any

import altair as alt
import polars as pl

from purchase_predictor.counted import Counted
from purchase_predictor.evaluation.metrics import HIGHER_IS_BETTER
from purchase_predictor.report import curves
from purchase_predictor.report.calibrated import ECE_NOTE, calibration_sentences
from purchase_predictor.report.figures import (
    METRIC_NAMES,
    describe_scope,
    figure,
    figures_of,
    gap_text,
    level,
    number,
    p_text,
    quoted_scope,
    scopes,
    text,
)
from purchase_predictor.report.pages import Chart, write_html, write_png, write_svg
from purchase_predictor.report.style import (
    COLOURS,
    GREY,
    colour,
    diagonal,
    finished,
    frame,
    largest,
    percent,
)

__all__ = [
    "calibration_chart",
    "comparison_chart",
    "gap_chart",
    "lift_chart",
    "roc_chart",
    "training_chart",
    "write_html",
    "write_png",
    "write_svg",
]


def roc_chart(predictions: pl.DataFrame, result: dict[str, Any]) -> Chart:
    """ROC curve by system, its AUC with interval in the legend.

    Args:
        predictions: market, converted and a column of probabilities for each system.
        result: what `evaluate` returned for them.
    """
    points = curves.roc_points(predictions, result)
    legend = colour(list(result["systems"]), _with_figure(result, "auc"))
    line = (
        alt.Chart(points)
        .mark_line(strokeWidth=2, interpolate="linear")
        .encode(
            x=alt.X("false_positive_rate:Q", title="False positive rate", axis=percent()),
            y=alt.Y("true_positive_rate:Q", title="True positive rate", axis=percent()),
            color=legend,
            order="false_positive_rate:Q",
            tooltip=[
                "system:N",
                alt.Tooltip("false_positive_rate:Q", format=".1%"),
                alt.Tooltip("true_positive_rate:Q", format=".1%"),
            ],
        )
    )
    return finished(
        diagonal(1.0) + line,
        title="ROC curve",
        note=f"AUC: {describe_scope(result)}, with {level(result)} intervals.",
        table=_figure_table(result, ["auc", "average_precision", "normalised_entropy"]),
    )


def calibration_chart(
    predictions: pl.DataFrame, result: dict[str, Any], *, n_bins: int = 15
) -> Chart:
    """Reliability diagram: conversion rate against mean prediction in equal-mass bins.

    Args:
        predictions: converted and a column of probabilities for each system.
        result: what `evaluate` returned for them.
        n_bins: bins; each holds as many rows.
    """
    systems = list(result["systems"])
    confidence = result["intervals"]["confidence"]
    points = curves.calibration_points(predictions, systems, n_bins=n_bins, confidence=confidence)
    edge = 1.04 * largest(points, "high", "predicted")
    scale = alt.Scale(type="sqrt", domain=[0, edge], nice=False)
    x = alt.X("predicted:Q", title="Mean prediction", scale=scale, axis=percent(edge))
    y = alt.Y("rate:Q", title="Conversion rate", scale=scale, axis=percent(edge))
    base = alt.Chart(points).encode(x=x, color=colour(systems, None))
    bars = base.mark_rule(opacity=0.45).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    dots = base.mark_line(strokeWidth=1, point=alt.OverlayMarkDef(size=36)).encode(
        y=y,
        tooltip=[
            "system:N",
            "bin:O",
            alt.Tooltip("n:Q", format=","),
            alt.Tooltip("predicted:Q", format=".2%"),
            alt.Tooltip("rate:Q", format=".2%"),
        ],
    )
    each = len(predictions) / n_bins
    return finished(
        diagonal(edge) + bars + dots,
        title="Calibration",
        note=(
            f"All test rows pooled, about {each:,.0f} impressions a point; bars are Wilson's "
            f"{level(result)} intervals, rows taken as independent; square-root axes. "
            + "".join(f"{sentence}. " for sentence in calibration_sentences(result))
            + ECE_NOTE
        ),
        table={
            "columns": ["System", "Bin", "Impressions", "Mean prediction", "Rate", "Interval"],
            "rows": [
                [
                    row["system"],
                    str(row["bin"]),
                    f"{row['n']:,}",
                    f"{row['predicted']:.2%}",
                    f"{row['rate']:.2%}",
                    f"{row['low']:.2%} – {row['high']:.2%}",
                ]
                for row in points.iter_rows(named=True)
            ],
        },
    )


def lift_chart(predictions: pl.DataFrame, result: dict[str, Any]) -> Chart:
    """Lift by system against the share of impressions chosen, highest prediction first.

    Args:
        predictions: market, converted and a column of probabilities for each system.
        result: what `evaluate` returned for them.
    """
    points = curves.lift_points(predictions, result)
    systems = list(result["systems"])
    line = (
        alt.Chart(points)
        .mark_line(strokeWidth=2)
        .encode(
            x=alt.X(
                "share:Q",
                title="Share of impressions, highest prediction first",
                scale=alt.Scale(type="log", domain=[0.01, 1]),
                axis=alt.Axis(format="~%", values=[0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]),
            ),
            y=alt.Y(
                "lift:Q", title="Lift over the average rate", scale=alt.Scale(zero=True, nice=True)
            ),
            color=colour(systems, _with_figure(result, "lift_10")),
            tooltip=[
                "system:N",
                alt.Tooltip("share:Q", format=".1%"),
                alt.Tooltip("lift:Q", format=".2f"),
            ],
        )
    )
    scope = describe_scope(result)
    even = alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY).encode(y=alt.datum(1))
    tenth = alt.Chart().mark_rule(strokeDash=[1, 3], color=GREY).encode(x=alt.datum(0.1))
    return finished(
        line + even + tenth,
        title="Lift",
        note=(
            f"{scope[:1].upper()}{scope[1:]}. Legend: lift among the tenth of "
            f"impressions predicted highest, with {level(result)} intervals."
        ),
        table=_figure_table(result, ["lift_10", "mrr"]),
    )


def comparison_chart(result: dict[str, Any], *, metric: str = "auc") -> Chart:
    """Systems side by side in each market: dot and interval, the ceiling where it is known.

    Args:
        result: what `evaluate` returned.
        metric: which metric.
    """
    systems, ceiling = list(result["systems"]), result["ceilings"].get("observable")
    rows = [
        {"market": label, "system": system, **figure(result["systems"][system], scope, metric)}
        for scope, label in scopes(result)
        for system in systems
    ]
    marks = [
        {"market": label, **figure(ceiling, scope, metric)}
        for scope, label in scopes(result)
        if ceiling is not None
    ]
    left_out = len(result["markets_left_out"])
    best = HIGHER_IS_BETTER.get(metric)
    note = {True: "Higher is better.", False: "Lower is better.", None: "1 is right."}[best]
    note += f" Bars: {level(result)} intervals."
    note += " Grey ticks: the observable ceiling." if marks else ""
    few = f" In the table only: {Counted(left_out):market|markets} with too few conversions."
    note += few * bool(left_out)
    chart = _dots(rows, METRIC_NAMES[metric], systems)
    if marks:
        ticks = frame(marks, ["market"], ["value"])
        order = [label for _, label in scopes(result)]
        chart += (
            alt.Chart(ticks)
            .mark_tick(color=GREY, thickness=2)
            .encode(x="value:Q", y=alt.Y("market:N", sort=order))
        )
    table = [
        [label, *(text(figure(result["systems"][s], scope, metric)) for s in systems)]
        + ([text(figure(ceiling, scope, metric))] if ceiling is not None else [])
        + [f"{figures_of(result['systems'][systems[0]], scope)['n_positive']:,}"]
        for scope, label in scopes(result, every=True)
    ]
    columns = ["Market", *systems, *(["ceiling"] if ceiling is not None else []), "Conversions"]
    return finished(
        chart,
        title=f"{METRIC_NAMES[metric]} by market",
        note=note,
        table={"columns": columns, "rows": table},
        height=alt.Step(13),
    )


def gap_chart(result: dict[str, Any], *, metric: str = "auc") -> Chart:
    """Differences from LightGBM by market, paired on the same rows.

    Args:
        result: what `evaluate` returned.
        metric: `auc` or `normalised_entropy`.
    """
    gaps = [gap for gap in result["gaps"] if gap["metric"] == metric]
    arms = list(dict.fromkeys(gap["arm"] for gap in gaps))
    labels = dict(scopes(result, every=True))
    shown = [scope for scope, _ in scopes(result)]
    rows = [
        {**gap, "system": gap["arm"], "market": labels[scope]}
        for scope in shown
        for gap in gaps
        if gap["market"] == scope
    ]
    against = gaps[0]["against"] if gaps else "lightgbm"
    title = f"{METRIC_NAMES[metric]} gap"
    better = "above" if HIGHER_IS_BETTER[metric] else "below"
    zero = alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY).encode(x=alt.datum(0))
    return finished(
        _dots(rows, f"{title}, arm − {against}", arms) + zero,
        title=title,
        note=(
            f"Arm − {against} on the same rows; {better} zero the arm is better. "
            f"Bars: paired {level(result)} intervals; p after Holm over markets."
        ),
        table={
            "columns": ["Market", "Arm", "Gap", "p (Holm)", "Detectable", "Verdict"],
            "rows": [
                [
                    labels[gap["market"]],
                    gap["arm"],
                    gap_text(gap),
                    p_text(gap["p_holm"]),
                    number(gap["smallest_detectable"], ".3f"),
                    gap["verdict"],
                ]
                for gap in gaps
                if gap["market"] in labels
            ],
        },
        height=alt.Step(13),
    )


def training_chart(
    history: Sequence[dict[str, float]],
    *,
    lines: dict[str, str] | None = None,
) -> Chart:
    """Loss by epoch, the epoch whose weights were kept marked.

    Args:
        history: figures of each epoch, in order.
        lines: key of the figures → name of the line; the last one decides which epoch is best.
    """
    lines = lines or {"train_loss": "training", "log_loss": "validation"}
    rows = [
        {"epoch": epoch, "part": name, "loss": float(figures[key])}
        for epoch, figures in enumerate(history, start=1)
        for key, name in lines.items()
    ]
    points = frame(rows, ["part"], ["epoch", "loss"])
    name = list(lines.values())[-1]
    best = points.filter(pl.col("part") == name).sort("loss", maintain_order=True).head(1)
    line = (
        alt.Chart(points)
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=36))
        .encode(
            x=alt.X("epoch:Q", title="Epoch", axis=alt.Axis(format="d", tickMinStep=1)),
            y=alt.Y("loss:Q", title="Log-loss", scale=alt.Scale(zero=False)),
            color=alt.Color(
                "part:N",
                title=None,
                scale=alt.Scale(domain=list(lines.values()), range=[GREY, COLOURS["fusion"]]),
                legend=alt.Legend(orient="bottom"),
            ),
            tooltip=["part:N", "epoch:Q", alt.Tooltip("loss:Q", format=".4f")],
        )
    )
    ring = alt.Chart(best).mark_point(size=160, color=COLOURS["fusion"], strokeWidth=2)
    kept = f"Ring: epoch {best['epoch'][0]:.0f}, whose weights were kept." if len(best) else ""
    return finished(
        line + ring.encode(x="epoch:Q", y="loss:Q"),
        title="Training",
        note=kept,
        table={
            "columns": ["Epoch", *lines.values()],
            "rows": [
                [str(epoch), *(f"{figures[key]:.4f}" for key in lines)]
                for epoch, figures in enumerate(history, start=1)
            ],
        },
    )


def _dots(rows: list[dict[str, Any]], title: str, systems: Sequence[str]) -> Chart:
    """A dot with its interval for each system in each market, markets in the order of the rows."""
    points = frame(rows, ["market", "system"], ["value", "low", "high"])
    base = alt.Chart(points).encode(
        y=alt.Y(
            "market:N",
            title=None,
            sort=list(dict.fromkeys(row["market"] for row in rows)),
            axis=alt.Axis(grid=True, tickBand="extent", labelLimit=120, ticks=False),
        ),
        yOffset=alt.YOffset("system:N", sort=list(systems)),
        color=colour(systems, None),
    )
    axis, scale = alt.Axis(tickCount=7), alt.Scale(zero=False)
    x = alt.X("value:Q", title=title, scale=scale, axis=axis)
    tips = ["market:N", "system:N", *(f"{name}:Q" for name in ("value", "low", "high"))]
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("low:Q", title=title, scale=scale, axis=axis), x2="high:Q"
    )
    return bars + base.mark_point(filled=True, size=45, opacity=1).encode(x=x, tooltip=tips)


def _with_figure(result: dict[str, Any], metric: str) -> Callable[[str], str]:
    scope = quoted_scope(result)
    form = ".2f" if metric == "lift_10" else ".3f"
    return lambda name: f"{name}: {text(figure(result['systems'][name], scope, metric), form)}"


def _figure_table(result: dict[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """Systems and ceilings by metric, in the quoted scope."""
    entries = {**result["systems"]}
    entries |= {f"ceiling: {name}": entry for name, entry in result["ceilings"].items()}
    scope = quoted_scope(result)
    return {
        "columns": ["System", *(METRIC_NAMES[metric] for metric in metrics)],
        "rows": [
            [name, *(text(figure(entry, scope, metric)) for metric in metrics)]
            for name, entry in entries.items()
        ],
    }
