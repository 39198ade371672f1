"""Charts of the comparison, each with its table; texts in the language of the page."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from purchase_predictor.counted import Counted
from purchase_predictor.evaluation.gap import DIGITS, SAME
from purchase_predictor.report.comparing_data import CHANCE, EVERY, Comparison, Transfer
from purchase_predictor.report.comparing_words import Words
from purchase_predictor.report.figures import gap_text, number, p_text, text
from purchase_predictor.report.pages import Chart
from purchase_predictor.report.style import (
    GREY,
    LONG_LABEL_LIMIT,
    colour,
    finished,
    frame,
    width_of_cells,
)

Gap = dict[str, Any]

ROW_HEIGHT = 22
WIDE = alt.Step(ROW_HEIGHT)

KINDS = {"global": "#0072b2", "local": "#d55e00", "equivalent": "#009e73", "unknown": GREY,
         "summary": "#333333"}  # fmt: skip
ARM_COLOURS = {
    "global": "#0072b2", "global-with-adapters": "#56b4e9", "adapted": "#009e73",
    "local": "#d55e00", "pooled": "#a6527f", "global-without-country": "#8a8a8a",
}  # fmt: skip


def level_of(comparison: Comparison) -> str:
    """The level of the intervals, as in `95 %`."""
    return f"{comparison.data['confidence'] * 100:g}\N{NO-BREAK SPACE}%"


def kind_of(gap: Gap) -> str:
    """What a verdict counts as: `global`, `local`, `equivalent` or `unknown`."""
    if gap["verdict"] in ("global", "local", "equivalent"):
        return str(gap["verdict"])
    return "equivalent" if gap["verdict"] == SAME else "unknown"


def verdict_text(gap: Gap, words: Words, margin: float, over_chance: Gap | None = None) -> str:
    """A verdict in words.

    Args:
        gap: whose.
        words: of the page.
        margin: of equivalence.
        over_chance: of the same market, where it has no model of its own.
    """
    if gap["verdict"] == "global":
        return words.verdict_global
    if gap["verdict"] == "local":
        return words.verdict_local
    if gap["verdict"] == "equivalent":
        return words.verdict_equivalent.format(margin=margin)
    if gap["verdict"] == SAME:
        return words.verdict_same.format(digits=DIGITS)
    if gap["value"] is None:
        told = words.verdict_untrained.format(n=Counted(gap["n_train_positive"]))
        return told + _chance_text(over_chance, words)
    if gap["smallest_detectable"] is None or gap["p"] is None:
        return words.verdict_not_enough.format(n=Counted(gap["n_test_positive"]))
    return words.verdict_undecided.format(detectable=number(gap["smallest_detectable"]))


def _chance_text(gap: Gap | None, words: Words) -> str:
    """What became of the model for all beside chance, "" where there is nothing to judge it on."""
    if gap is None:
        return ""
    if gap["verdict"] == CHANCE:
        return words.under_chance.format(gap=gap_text(gap))
    if gap["verdict"] == gap["arm"]:
        return words.over_chance.format(gap=gap_text(gap))
    return words.chance_undecided


def gap_chart(comparison: Comparison, words: Words) -> Chart:
    """The primary gap of each market, the mean over markets, and a new market."""
    margin, over_chance = comparison.data["margin"], comparison.over_chance()
    gaps = sorted(comparison.primary(), key=lambda gap: -(gap["n_train_positive"] or 0))
    rows = [{**gap, "kind": kind_of(gap)} for gap in gaps if gap["value"] is not None]
    rows += _summary_rows(comparison, words)
    points = frame(rows, ["market", "kind"], ["value", "low", "high"])
    names = {
        "global": words.verdict_global,
        "local": words.verdict_local,
        "equivalent": words.verdict_equivalent.format(margin=margin),
        "unknown": words.verdict_not_enough.partition(":")[0],
        "summary": words.mean,
    }
    shown = [kind for kind in KINDS if kind in {row["kind"] for row in rows}]
    base = alt.Chart(points).encode(
        y=alt.Y(
            "market:N",
            title=None,
            sort=[row["market"] for row in rows],
            axis=alt.Axis(labelLimit=LONG_LABEL_LIMIT),
        ),
        color=colour(shown, names.__getitem__, field="kind", known=KINDS),
    )
    bars = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=words.gap_axis, scale=alt.Scale(zero=True)), x2="high:Q"
    )
    tips = ["market:N", *(alt.Tooltip(f"{name}:Q", format="+.4f") for name in _BOUNDS)]
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(x="value:Q", tooltip=tips)
    return finished(
        bars + dots + _zero(),
        title=words.gap,
        note=words.gap_note.format(level=level_of(comparison)),
        table={
            "columns": [
                words.market, words.verdict, words.gap, words.p_holm, words.detectable,
                words.conversions, words.test_conversions,
            ],
            "rows": [
                [
                    gap["market"],
                    verdict_text(gap, words, margin, over_chance.get(gap["market"])),
                    gap_text(gap),
                    p_text(gap["p_holm"]),
                    number(gap["smallest_detectable"]),
                    f"{gap['n_train_positive']:,}",
                    f"{gap['n_test_positive']:,}",
                ]
                for gap in gaps
            ],
        },
        height=WIDE,
    )  # fmt: skip


_BOUNDS = ("value", "low", "high")


def _summary_rows(comparison: Comparison, words: Words) -> list[dict[str, Any]]:
    found = comparison.across[0]
    if "mean" not in found:
        return []
    mean = {"value": found["mean"], "low": found["low"], "high": found["high"]}
    new = {"value": found["mean"], "low": found["new_low"], "high": found["new_high"]}
    return [
        {"market": words.mean, "kind": "summary", **mean},
        {"market": words.new_market, "kind": "summary", **new},
    ]


def arms_chart(comparison: Comparison, words: Words) -> Chart:
    """AUC of every arm in each market."""
    arms = list(comparison.figures)
    markets = [
        name for name in next(iter(comparison.figures.values())) if name not in ("macro", "pooled")
    ]
    rows = [
        {"market": market, "arm": arm, **comparison.figures[arm][market]["auc"]}
        for market in markets
        for arm in arms
    ]
    points = frame(rows, ["market", "arm"], list(_BOUNDS)).drop_nulls("value")
    base = alt.Chart(points).encode(
        y=alt.Y(
            "market:N",
            title=None,
            axis=alt.Axis(grid=True, tickBand="extent", labelLimit=LONG_LABEL_LIMIT),
        ),
        yOffset=alt.YOffset("arm:N", sort=arms),
        color=colour(arms, None, field="arm", known=ARM_COLOURS),
    )
    scale = alt.Scale(zero=False)
    bars = base.mark_rule(opacity=0.5).encode(
        x=alt.X("low:Q", title=words.auc, scale=scale), x2="high:Q"
    )
    tips = ["market:N", "arm:N", *(alt.Tooltip(f"{n}:Q", format=".4f") for n in _BOUNDS)]
    dots = base.mark_point(filled=True, size=40, opacity=1).encode(x="value:Q", tooltip=tips)
    table = {
        "columns": [words.market, *arms],
        "rows": [
            [market, *(text(comparison.figures[arm][market]["auc"]) for arm in arms)]
            for market in ["macro", *markets]
        ],
    }
    note = words.arms_note.format(level=level_of(comparison))
    return finished(bars + dots, title=words.arms, note=note, table=table, height=alt.Step(10))


def by_flat(comparison: Comparison, words: Words) -> str:
    """What is said of what LightGBM alone measured, "" where the fusion made them."""
    return "" if comparison.data.get("curves_by") == "fusion" else words.by_flat


def curve_chart(comparison: Comparison, words: Words) -> Chart:
    """How far local models of so many conversions are from the model of all markets."""
    curves = comparison.curves
    if curves is None:
        raise ValueError("no learning curves were measured")
    points = (
        curves.with_columns(gap=pl.col("local") - pl.col("everyone"))
        .group_by("market", "size", maintain_order=True)
        .agg(
            conversions=pl.col("conversions").mean(),
            value=pl.col("gap").mean(),
            n=pl.len(),
            local=pl.col("local").mean(),
        )
    )
    markets = points["market"].unique(maintain_order=True).to_list()
    line = (
        alt.Chart(points)
        .mark_line(point=True)
        .encode(
            x=alt.X(
                "conversions:Q", title=words.curve_axis, scale=alt.Scale(type="log", nice=False)
            ),
            y=alt.Y("value:Q", title=words.curve_gap),
            color=colour(markets, None, field="market", known={}),
            tooltip=["market:N", "conversions:Q", alt.Tooltip("value:Q", format="+.4f")],
        )
    )
    zero = alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY).encode(y=alt.datum(0))
    table = {
        "columns": [words.market, words.break_even, words.conversions],
        "rows": [
            [found["market"], break_even_text(found, words), f"{found['largest']:,.0f}"]
            for found in comparison.break_even
        ],
    }
    note = words.curve_note + by_flat(comparison, words)
    return finished(line + zero, title=words.curve, note=note, table=table)


def break_even_text(found: Mapping[str, Any], words: Words) -> str:
    """Conversions with their interval; an open end where the curve never crosses."""
    more = words.more_than.format(n=f"{found['largest']:,.0f}")
    if found["conversions"] is None:
        return more
    high = more if found["high"] is None else f"{found['high']:,.0f}"
    low = more if found["low"] is None else f"{found['low']:,.0f}"
    if found["conversions"] <= found["smallest"]:
        return words.fewer_than.format(n=f"{found['smallest']:,.0f}")
    return f"{found['conversions']:,.0f} ({low}–{high})"


def transfer_chart(transfer: Transfer, words: Words, by: str) -> Chart:
    """AUC by the market that was trained on and the market that is served.

    Args:
        transfer: what was found.
        words: of the page.
        by: `by_flat`.
    """
    matrix = transfer.matrix.drop_nulls("auc")
    trained = [EVERY, *sorted(set(matrix["trained_on"]) - {EVERY})]
    served = sorted(set(matrix["market"]))
    base = alt.Chart(matrix).encode(
        x=alt.X("market:N", title=words.served, sort=served, axis=alt.Axis(labelAngle=0)),
        y=alt.Y("trained_on:N", title=words.trained_on, sort=trained),
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "auc:Q", title=words.auc, scale=alt.Scale(scheme="blues"),
            legend=alt.Legend(orient="bottom"),
        ),
        tooltip=["trained_on:N", "market:N", alt.Tooltip("auc:Q", format=".4f")],
    )  # fmt: skip
    middle = (matrix["auc"].min() + matrix["auc"].max()) / 2  # type: ignore[operator]
    labels = base.mark_text(fontSize=11).encode(
        text=alt.Text("auc:Q", format=".2f"),
        color=alt.condition(alt.datum.auc > middle, alt.value("white"), alt.value("#1a1a1a")),
    )
    by_cell = {(row["trained_on"], row["market"]): row["auc"] for row in matrix.to_dicts()}
    table = {
        "columns": [words.trained_on, *served],
        "rows": [
            [name, *(number(by_cell.get((name, market))) for market in served)] for name in trained
        ],
    }
    return finished(
        cells + labels,
        title=words.transfer, note=words.transfer_note + by, table=table,
        height=alt.Step(26), min_width=width_of_cells(len(served)),
    )  # fmt: skip


def forest(
    gaps: Sequence[Gap], words: Words, *, title: str, note: str, by: str, axis: str
) -> Chart:
    """Gaps with their intervals, a row for each market, coloured by what is held against."""
    shown = [gap for gap in gaps if gap["value"] is not None and gap["scope"] != "pooled"]
    rows = [{**gap, "what": gap[by]} for gap in shown]
    points = frame(rows, ["market", "what"], list(_BOUNDS))
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    base = alt.Chart(points).encode(
        y=alt.Y(
            "market:N",
            title=None,
            axis=alt.Axis(grid=True, tickBand="extent", labelLimit=LONG_LABEL_LIMIT),
        ),
        yOffset=alt.YOffset("what:N", sort=kinds),
        color=colour(kinds, None, field="what", known={}),
    )
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("low:Q", title=axis, scale=alt.Scale(zero=True)), x2="high:Q"
    )
    tips = ["market:N", "what:N", *(alt.Tooltip(f"{n}:Q", format="+.4f") for n in _BOUNDS)]
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(x="value:Q", tooltip=tips)
    table = {
        "columns": [words.market, words.arm, axis],
        "rows": [[gap["market"], gap[by], text(gap, "+.3f")] for gap in shown],
    }
    return finished(
        bars + dots + _zero(), title=title, note=note, table=table, height=alt.Step(14)
    )


def trend_chart(comparison: Comparison, words: Words) -> Chart:
    """The gap that a new market of some size may expect."""
    trend = comparison.across[0]["trend"]
    names = {"at": "conversions", "predicted": "value", "new_low": "low", "new_high": "high"}
    points = pl.DataFrame({new: trend[old] for old, new in names.items()})
    x = alt.X("conversions:Q", title=words.trend_axis, scale=alt.Scale(type="log", nice=False))
    base = alt.Chart(points).encode(x=x)
    band = base.mark_area(opacity=0.2, color="#0072b2").encode(
        y=alt.Y("low:Q", title=words.gap_axis), y2="high:Q"
    )
    line = base.mark_line(color="#0072b2", point=True).encode(
        y="value:Q", tooltip=["conversions:Q", alt.Tooltip("value:Q", format="+.4f")]
    )
    gaps = [gap for gap in comparison.primary() if gap["value"] is not None]
    markets = pl.DataFrame(
        {
            "market": [gap["market"] for gap in gaps],
            "conversions": [float(gap["n_train_positive"]) for gap in gaps],
            "value": [gap["value"] for gap in gaps],
        }
    )
    place = alt.Chart(markets).encode(x="conversions:Q", y="value:Q")
    dots = place.mark_point(filled=True, size=45, color="#333333")
    dots += place.mark_text(fontSize=12, dy=-10).encode(text="market:N")
    table = {
        "columns": [words.trend_axis, words.gap],
        "rows": [
            [f"{row['conversions']:,.0f}", text(row, "+.3f")]
            for row in points.iter_rows(named=True)
        ],
    }
    note = words.trend_note.format(level=level_of(comparison))
    return finished(band + line + dots, title=words.trend, note=note, table=table)


def _zero() -> alt.Chart:
    return alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY).encode(x=alt.datum(0))
