"""Charts of what happened after scoring, each with its table; texts in the page's language."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import polars as pl

from purchase_predictor.report.figures import NOTHING, gap_text, number, p_text, text
from purchase_predictor.report.following_data import Followed
from purchase_predictor.report.following_words import Words
from purchase_predictor.report.pages import Chart
from purchase_predictor.report.style import (
    COLOURS,
    GREY,
    LONG_LABEL_LIMIT,
    SPARE_COLOURS,
    colour,
    diagonal,
    finished,
    frame,
    largest,
    percent,
)

Entry = dict[str, Any]

PALETTE = (*COLOURS.values(), *SPARE_COLOURS)

BOUNDS = ("value", "low", "high")


def level_of(followed: Followed) -> str:
    """The level of the intervals, as in `95 %`."""
    return f"{followed.data['confidence'] * 100:g}\N{NO-BREAK SPACE}%"


def in_the_large_chart(followed: Followed, words: Words) -> Chart:
    """Mean prediction over realised rate of each model in each market."""
    heads = words.heads
    figures = {"mean_ratio": heads.ratio, "slope": heads.slope, "ece": heads.ece}
    return _forest(
        _figure_rows(followed, words, "mean_ratio"), axis=heads.ratio, even=1.0,
        title=words.in_the_large, note=words.in_the_large_note.format(level=level_of(followed)),
        table=_figure_table(followed, words, figures),
    )  # fmt: skip


def discrimination_chart(followed: Followed, words: Words) -> Chart:
    """AUC of each model in each market."""
    heads = words.heads
    figures = {"auc": heads.auc, "normalised_entropy": heads.entropy, "lift_10": heads.lift}
    return _forest(
        _figure_rows(followed, words, "auc"), axis=heads.auc, even=None,
        title=words.discrimination,
        note=words.discrimination_note.format(level=level_of(followed)),
        table=_figure_table(followed, words, figures),
    )  # fmt: skip


def reliability_chart(followed: Followed, words: Words) -> Chart:
    """Realised rate against mean prediction in equal-mass bins."""
    points, heads = followed.reliability, words.heads
    edge = 1.04 * largest(points, "high", "predicted")
    scale = alt.Scale(type="sqrt", domain=[0, edge], nice=False)
    x = alt.X("predicted:Q", title=heads.predicted, scale=scale, axis=percent(edge))
    y = alt.Y("rate:Q", title=heads.rate, scale=scale, axis=percent(edge))
    base = alt.Chart(points).encode(x=x, color=_coloured(followed.labels(), "system"))
    bars = base.mark_rule(opacity=0.45).encode(y=alt.Y("low:Q", scale=scale), y2="high:Q")
    tips = ["system:N", "bin:O", "n:Q", *(alt.Tooltip(f"{n}:Q", format=".2%") for n in _BOTH)]
    dots = base.mark_line(strokeWidth=1, point=alt.OverlayMarkDef(size=36)).encode(
        y=y, tooltip=tips
    )
    columns = [heads.model, heads.bin, heads.impressions, heads.predicted, heads.rate]
    return finished(
        diagonal(edge) + bars + dots,
        title=words.reliability,
        note=words.reliability_note.format(level=level_of(followed)),
        table={
            "columns": [*columns, heads.interval],
            "rows": [
                [
                    row["system"], str(row["bin"]), f"{row['n']:,}", f"{row['predicted']:.2%}",
                    f"{row['rate']:.2%}", f"{row['low']:.2%}–{row['high']:.2%}",
                ]
                for row in points.iter_rows(named=True)
            ],
        },
    )  # fmt: skip


_BOTH = ("predicted", "rate")


def drift_chart(followed: Followed, words: Words) -> Chart:
    """Mean prediction over realised rate, period by period, all markets."""
    points = _over_time(followed)
    known = points.drop_nulls("low")
    out = known.filter((pl.col("low") > 1) | (pl.col("high") < 1))
    note = words.drift_note.format(
        period=words.periods[followed.data["period"]], level=level_of(followed), n=len(known),
        n_out=len(out), expected=f"{len(known) * (1 - followed.data['confidence']):.1f}",
    )  # fmt: skip
    base = _timeline(points.drop_nulls("ratio"), followed)
    scale = _ratio_scale(points)
    y = alt.Y("ratio:Q", title=words.heads.ratio, scale=scale)
    band = base.mark_rule(opacity=0.45, clip=True).encode(
        y=alt.Y("low:Q", scale=scale), y2="high:Q"
    )
    tips = ["model:N", "period:O", *(alt.Tooltip(f"{n}:Q", format=".3f") for n in _DRIFT)]
    line = base.mark_line(strokeWidth=1, point=alt.OverlayMarkDef(size=36)).encode(
        y=y, tooltip=tips
    )
    heads = words.heads
    columns = [heads.model, words.periods[followed.data["period"]], heads.impressions]
    return finished(
        band + line + _level(1.0),
        title=words.drift,
        note=note,
        table={
            "columns": [*columns, heads.conversions, heads.rate, heads.predicted, heads.ratio],
            "rows": [
                [
                    row["model"], row["period"], f"{row['n']:,}",
                    f"{row['n_positive']:,}", number(row["rate"], ".2%"),
                    number(row["predicted"], ".2%"),
                    text({**row, "value": row["ratio"]}, ".2f"),
                ]
                for row in points.iter_rows(named=True)
            ],
        },
    )  # fmt: skip


_DRIFT = ("ratio", "low", "high")


def psi_chart(followed: Followed, words: Words) -> Chart:
    """How far the scores of each period are from those of the first."""
    points = _over_time(followed).drop_nulls("psi_by_chance")
    base = _timeline(points, followed)
    line = base.mark_line(strokeWidth=1, point=alt.OverlayMarkDef(size=36)).encode(
        y=alt.Y("psi:Q", title=words.psi_axis), tooltip=["model:N", "period:O", "psi:Q"]
    )
    chance = base.mark_line(strokeDash=[4, 4], opacity=0.6).encode(y="psi_by_chance:Q")
    once = 1 / (1 - followed.data["confidence"])
    period = words.periods[followed.data["period"]]
    return finished(
        chance + line,
        title=words.psi,
        note=words.psi_note.format(period=period, once=f"{once:.0f}"),
        table={
            "columns": [words.heads.model, period, "PSI", words.heads.by_chance],
            "rows": [
                [
                    row["model"], row["period"], number(row["psi"]),
                    number(row["psi_by_chance"]),
                ]
                for row in points.iter_rows(named=True)
            ],
        },
    )  # fmt: skip


def gap_chart(followed: Followed, words: Words) -> Chart:
    """Paired gaps of models on the same impressions."""
    shown = [gap for gap in followed.gaps if gap["value"] is not None]
    rows = [
        {**gap, "market": scope_name(gap["market"], words), "what": _versus(gap)}
        for gap in shown
        if gap["metric"] == "auc"
    ]
    heads = words.heads
    metrics = {"auc": heads.auc, "normalised_entropy": heads.entropy}
    columns = [heads.arm, heads.against, heads.market, heads.metric, heads.difference]
    return _forest(
        rows, axis=words.gaps_axis, even=0.0, title=words.gaps,
        note=words.gaps_note.format(level=level_of(followed)),
        table={
            "columns": [
                *columns, heads.p_holm, heads.detectable, heads.impressions, heads.conversions,
                heads.verdict,
            ],
            "rows": [
                [
                    gap["arm"], gap["against"], scope_name(gap["market"], words),
                    metrics[gap["metric"]], gap_text(gap), p_text(gap["p_holm"]),
                    number(gap["smallest_detectable"], ".4f"), f"{gap['n_test']:,}",
                    f"{gap['n_test_positive']:,}", words.verdicts[gap["verdict"]],
                ]
                for gap in shown
            ],
        },
    )  # fmt: skip


def apart_chart(followed: Followed, words: Words) -> Chart:
    """Differences of conversion rates of models that served different impressions."""
    rows = [
        {**entry, "what": _versus(entry)} for entry in followed.apart if entry["value"] is not None
    ]
    heads = words.heads
    columns = [heads.arm, heads.against, heads.market, heads.rate, heads.difference]
    return _forest(
        rows, axis=words.apart_axis, even=0.0, title=words.apart, form=".2%",
        note=words.apart_note.format(level=level_of(followed)),
        table={
            "columns": [
                *columns, heads.detectable, heads.users_both, heads.common_period, heads.verdict,
            ],
            "rows": [_apart_cells(entry, words) for entry in followed.apart],
        },
    )  # fmt: skip


def policy_chart(followed: Followed, words: Words) -> Chart:
    """Value of what one model ranks first minus that of another, by three estimates."""
    valued = [entry for entry in followed.policy if entry["refused"] is None]
    told = [(entry, name) for entry in valued for name in _estimators(entry, words)]
    rows = [
        {
            **entry["estimates"][name]["difference"],
            "market": f"{_versus(entry)}, {scope_name(entry['market'], words)}",
            "what": words.estimators[name],
        }
        for entry, name in told
    ]
    ways = dict.fromkeys(entry["logging"] for entry in valued)
    note = words.policy_note.format(
        level=level_of(followed), logging=" ".join(words.policy_logging[way] for way in ways)
    )
    heads = words.heads
    return _forest(
        rows, axis=words.policy_axis, even=0.0, title=words.policy, note=note, form=".2%",
        table={
            "columns": [
                heads.arm, heads.against, heads.market, heads.estimator,
                f"{heads.value_of}: {heads.arm}", f"{heads.value_of}: {heads.against}",
                heads.difference, heads.lists, heads.lists_apart, heads.effective,
                heads.conversions, heads.verdict,
            ],
            "rows": [_policy_cells(entry, name, words) for entry, name in told],
        },
    )  # fmt: skip


def scope_name(market: str, words: Words) -> str:
    """A market, or what the scope is called on the page."""
    return words.scope_names.get(market, market)


def _estimators(entry: Entry, words: Words) -> list[str]:
    """All estimates where they differ and markets are together, else the doubly robust one."""
    every = entry["scope"] == "pooled" and entry["logging"] == "chosen"
    return list(words.estimators) if every else ["dr"]


def _policy_cells(entry: Entry, name: str, words: Words) -> list[str]:
    figures = entry["estimates"][name]
    sides = ("arm", "against")
    return [
        entry["arm"], entry["against"], scope_name(entry["market"], words),
        words.estimators[name], text(figures["arm"], ".2%"), text(figures["against"], ".2%"),
        text(figures["difference"], "+.2%"), f"{entry['n_lists']:,}",
        f"{entry['n_different']:,}", " / ".join(f"{entry['effective'][s]:,.0f}" for s in sides),
        " / ".join(f"{entry['n_positive'][s]:,}" for s in sides),
        words.verdicts[entry["verdict"]],
    ]  # fmt: skip


def _apart_cells(entry: Entry, words: Words) -> list[str]:
    names = [entry["arm"], entry["against"], entry["market"]]
    if entry["value"] is None:
        return [*names, *[NOTHING] * 5, words.no_common_period]
    rates = (text(entry[f"rate_{side}"], ".2%") for side in ("arm", "against"))
    return [
        *names, " / ".join(rates), text(entry, "+.2%"),
        number(entry["smallest_detectable"], ".2%"), f"{entry['n_units_both']:,}",
        f"{entry['first'][:10]} – {entry['last'][:10]}", words.verdicts[entry["verdict"]],
    ]  # fmt: skip


def _versus(entry: Entry) -> str:
    return f"{entry['arm']} − {entry['against']}"


def _scopes(entry: Entry) -> dict[str, Entry]:
    """What a model is shown in: the mean of markets where there is one, else all, and markets."""
    markets: dict[str, Entry] = entry["markets"]
    if len(markets) == 1:
        return dict(markets)
    first = "macro" if len(entry["markets_averaged"]) > 1 else "pooled"
    return {first: entry[first], **markets}


def _figure_rows(followed: Followed, words: Words, metric: str) -> list[Entry]:
    return [
        {"market": scope_name(scope, words), "what": entry["model"], **figures[metric]}
        for entry in followed.realised
        for scope, figures in _scopes(entry).items()
    ]


def _figure_table(
    followed: Followed, words: Words, metrics: Mapping[str, str]
) -> dict[str, list[Any]]:
    heads = words.heads
    columns = [heads.model, heads.market, heads.impressions, heads.conversions]
    return {
        "columns": [*columns, *metrics.values()],
        "rows": [
            [
                entry["model"], scope_name(scope, words), f"{figures['n']:,}",
                f"{figures['n_positive']:,}", *(text(figures[metric]) for metric in metrics),
            ]
            for entry in followed.realised
            for scope, figures in _scopes(entry).items()
        ],
    }  # fmt: skip


def _forest(
    rows: Sequence[Entry],
    *,
    axis: str,
    even: float | None,
    title: str,
    note: str,
    table: dict[str, Any],
    form: str = ".3f",
) -> Chart:
    """Figures with their intervals: a row for each market, a colour for each model or pair."""
    points = frame(rows, ["market", "what"], list(BOUNDS)).drop_nulls("value")
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    base = alt.Chart(points).encode(
        y=alt.Y(
            "market:N", title=None, sort=list(dict.fromkeys(row["market"] for row in rows)),
            axis=alt.Axis(grid=True, tickBand="extent", labelLimit=LONG_LABEL_LIMIT),
        ),
        yOffset=alt.YOffset("what:N", sort=kinds),
        color=_coloured(kinds, "what"),
    )  # fmt: skip
    shares = {"format": "~%"} if form.endswith("%") else {}
    ticks = alt.Axis(tickCount=7, **shares)
    x = alt.X("low:Q", title=axis, scale=alt.Scale(zero=False), axis=ticks)
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(x=x, x2="high:Q")
    tips = ["market:N", "what:N", *(alt.Tooltip(f"{n}:Q", format=form) for n in BOUNDS)]
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(x="value:Q", tooltip=tips)
    shown = bars + dots
    if even is not None:
        shown += alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY).encode(x=alt.datum(even))
    return finished(shown, title=title, note=note, table=table, height=alt.Step(14))


def _over_time(followed: Followed) -> pl.DataFrame:
    """Periods of all markets together, by name: a browser would move a time to its own zone."""
    pooled = followed.drift.filter(pl.col("scope") == "pooled")
    return pooled.with_columns(pl.col("period").cast(pl.String))


def _timeline(points: pl.DataFrame, followed: Followed) -> alt.Chart:
    return alt.Chart(points).encode(
        x=alt.X(
            "period:O", title=None, axis=alt.Axis(labelAngle=0, labelOverlap="greedy", grid=True)
        ),
        color=_coloured(followed.labels(), "model"),
    )


def _ratio_scale(points: pl.DataFrame) -> alt.Scale:
    """Holds every ratio, 1, and all but the widest intervals: a thin period must not flatten."""
    ratios = [1.0, *points["ratio"].drop_nulls()]
    low = min([*ratios, points["low"].quantile(0.1) or 1.0])
    high = max([*ratios, points["high"].quantile(0.9) or 1.0])
    pad = 0.05 * max(high - low, 0.1)
    return alt.Scale(domain=[low - pad, high + pad], nice=False, zero=False)


def _coloured(kinds: Sequence[str], field: str) -> alt.Color:
    """Colours by place: versions of one system are told apart as well as systems are."""
    return colour(kinds, str, field=field, known=dict(zip(kinds, PALETTE, strict=False)))


def _level(value: float) -> alt.Chart:
    return alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY).encode(y=alt.datum(value))
