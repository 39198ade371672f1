"""The report of an explanation: what moves buyers, market by market; English and Korean."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
from rich.markup import escape
from rich.table import Table

from purchase_predictor.report.attending import attention_context
from purchase_predictor.report.beside import BesideReport, beside_context
from purchase_predictor.report.checking import check_context
from purchase_predictor.report.contributing import (
    contribution_context,
    contribution_words,
    share_chart,
)
from purchase_predictor.report.contributing_data import ContributionReport
from purchase_predictor.report.explaining_words import ENGLISH, LANGUAGES, Words, lever_name
from purchase_predictor.report.figures import NOTHING, number, p_text, text
from purchase_predictor.report.language import in_language
from purchase_predictor.report.pages import Chart, write_page
from purchase_predictor.report.style import (
    GREY,
    LABEL_LIMIT,
    colour,
    finished,
    width_of_cells,
)

SHOWN_CONTRASTS = 40
MAX_ROWS = 30


def words_of(language: str) -> Words:
    """The words of a language.

    Raises:
        SettingsError: if the report is not written in it.
    """
    return in_language(LANGUAGES, language)


def write_explanation(
    facts: Mapping[str, Any],
    effects: pl.DataFrame,
    contrasts: pl.DataFrame,
    file: Path,
    *,
    contributions: ContributionReport | None = None,
    checks: Sequence[Mapping[str, Any]] = (),
    beside: BesideReport | None = None,
    language: str = "en",
) -> None:
    """Write the page; every text is escaped and it needs no network.

    Args:
        facts: data, model, level, whether offers were assigned at random.
        effects: as `effects.parquet`.
        contrasts: as `contrasts.parquet`.
        file: where; replaced if it is there.
        contributions: to single impressions; None leaves them out.
        checks: as `faithfulness.json`; none leaves their section out.
        beside: what another model says; None leaves it out.
        language: `en` or `ko`.
    """
    words = words_of(language)
    named = _named(effects, words)
    charts = []
    if len(named):  # data without terms, titles, pictures and brands have no lever
        charts += [grid_chart(named, words), forest_chart(named, facts, words)]
    single = attention = beside_section = None
    if beside is not None:
        modalities = contribution_words(language).modalities
        beside_section = beside_context(beside, words, modalities, language)
    if contributions is not None:
        of_single = contribution_words(language)
        charts.append(share_chart(contributions, of_single))
        single = contribution_context(contributions, of_single)
        attention = attention_context(contributions, language)
    write_page(
        "explaining.html",
        charts,
        file,
        words.title,
        {
            "words": words,
            "bottom_line": bottom_line(named, words),
            "facts": {str(key): str(value) for key, value in facts.items()},
            "contrasts": contrast_rows(contrasts, words),
            "contributions": single,
            "attention": attention,
            "beside": beside_section,
            "checks": check_context(checks, facts["confidence"], language) if checks else None,
            "caveats": caveats(facts, set(effects["lever"]), words),
        },
        language=language,
    )


def caveats(facts: Mapping[str, Any], levers: set[str], words: Words) -> list[str]:
    """What the page does not say; `levers`: kinds that are on it."""
    own, nowhere = facts["own_phrases"], facts["nowhere"]
    return [
        words.randomised if facts["randomised"] else words.association,
        words.readout,
        words.two_levers,
        words.small,
        *([words.own_phrases.format(names=", ".join(own))] if own else []),
        *([words.nowhere.format(names=", ".join(nowhere))] if nowhere else []),
        *([words.asked] if levers & {"image", "number_one_brand"} else []),
        *([words.found] if "found_phrase" in levers else []),
    ]


def _named(effects: pl.DataFrame, words: Words) -> pl.DataFrame:
    names = [lever_name(row, words) for row in effects.iter_rows(named=True)]
    # without a p nothing is known of how sure the model is
    sure = ((pl.col("logit_low") > 0) | (pl.col("logit_high") < 0)) & pl.col("p").is_not_null()
    return effects.with_columns(pl.Series("name", names, dtype=pl.String), sure=sure)


def bottom_line(named: pl.DataFrame, words: Words) -> str:
    """The answer in a sentence or two."""
    sure = named.filter("sure")
    if not len(sure):
        return words.nothing
    row = sure.sort(pl.col("logit").abs(), descending=True).row(0, named=True)
    bounds = {
        key: number(row[column], "+.2f")
        for key, column in (("logit", "logit"), ("low", "logit_low"), ("high", "logit_high"))
    }
    told = words.strongest.format(lever=row["name"], market=row["market"], **bounds)
    asked = named["p"].is_not_null().sum()  # without a p an effect cannot be sure
    return words.bottom_line.format(n=len(sure), total=asked) + told


def grid_chart(named: pl.DataFrame, words: Words) -> Chart:
    """Market by lever."""
    edge = float(named["logit"].abs().max() or 1.0)  # type: ignore[arg-type]
    order = named["name"].unique(maintain_order=True).to_list()
    base = alt.Chart(named.select("market", "name", "logit", "sure")).encode(
        x=alt.X("market:N", title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=LABEL_LIMIT)),
    )
    cells = base.mark_rect().encode(
        color=alt.Color(
            "logit:Q", title=words.effect,
            scale=alt.Scale(
                domain=[-edge, 0, edge], range=["#d55e00", "#ffffff", "#0072b2"],
                interpolate="rgb",
            ),
            legend=alt.Legend(orient="bottom"),
        ),
        tooltip=["market:N", "name:N", alt.Tooltip("logit:Q", format="+.3f")],
    )  # fmt: skip
    figures = base.mark_text(fontSize=11).encode(
        text=alt.Text("logit:Q", format="+.2f"),
        opacity=alt.condition(alt.datum.sure, alt.value(1.0), alt.value(0.45)),
        color=alt.condition(
            f"abs(datum.logit) > {0.6 * edge} && datum.sure",
            alt.value("white"),
            alt.value("#1a1a1a"),
        ),
    )
    markets = named["market"].unique(maintain_order=True).to_list()
    by_cell = {(row["name"], row["market"]): row for row in named.iter_rows(named=True)}
    table = {
        "columns": [words.lever, *markets],
        "rows": [
            [name, *(_interval(by_cell.get((name, market))) for market in markets)]
            for name in order
        ],
    }
    return finished(
        cells + figures, title=words.grid, note=words.grid_note, table=table,
        height=alt.Step(26), min_width=width_of_cells(len(markets)),
    )  # fmt: skip


def forest_chart(named: pl.DataFrame, facts: Mapping[str, Any], words: Words) -> Chart:
    """Each effect with its interval, a row for each lever, the markets beside one another."""
    markets = named["market"].unique(maintain_order=True).to_list()
    order = named["name"].unique(maintain_order=True).to_list()
    columns = ["market", "name", "logit", "logit_low", "logit_high"]
    base = alt.Chart(named.select(columns)).encode(
        y=alt.Y(
            "name:N", title=None, sort=order,
            axis=alt.Axis(grid=True, tickBand="extent", labelLimit=LABEL_LIMIT),
        ),
        yOffset=alt.YOffset("market:N", sort=markets),
        color=colour(markets, None, field="market", known={}),
    )  # fmt: skip
    bars = base.mark_rule(strokeWidth=2, opacity=0.6).encode(
        x=alt.X("logit_low:Q", title=words.effect), x2="logit_high:Q"
    )
    dots = base.mark_point(filled=True, size=30, opacity=1).encode(
        x="logit:Q", tooltip=["market:N", "name:N", alt.Tooltip("logit:Q", format="+.3f")]
    )
    zero = alt.Chart().mark_rule(strokeDash=[4, 4], color=GREY).encode(x=alt.datum(0))
    level = f"{facts['confidence'] * 100:g}\N{NO-BREAK SPACE}%"
    table = {
        "columns": [words.market, words.lever, words.effect, words.points, words.sure],
        "rows": [
            [row["market"], row["name"], _interval(row), _points(row), _sure(row, words)]
            for row in named.iter_rows(named=True)
        ],
    }
    return finished(
        bars + dots + zero,
        title=words.forest.format(level=level), note=words.forest_note, table=table,
        height=alt.Step(8),
    )  # fmt: skip


def contrast_rows(contrasts: pl.DataFrame, words: Words) -> list[list[str]]:
    """The surest differences between markets."""
    first = contrasts.sort("p_holm", "p").head(SHOWN_CONTRASTS)
    return [
        [
            lever_name(row, words), row["market"], row["against"],
            f"{number(row['logit'], '+.2f')} "
            f"({number(row['low'], '+.2f')} to {number(row['high'], '+.2f')})",
            p_text(row["p_holm"]),
        ]
        for row in first.iter_rows(named=True)
    ]  # fmt: skip


def rich_effects(effects: pl.DataFrame) -> Table:
    """The surest effects as a table for the console."""
    named = _named(effects, ENGLISH).sort("p", nulls_last=True).head(MAX_ROWS)
    table = Table(
        title=escape(bottom_line(_named(effects, ENGLISH), ENGLISH)),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold underline",
        pad_edge=False,
    )
    for column in ("market", "lever", "log-odds", "percentage points", "clear of zero"):
        table.add_column(column)
    for row in named.iter_rows(named=True):
        place = escape(row["market"]), escape(row["name"])
        table.add_row(*place, _interval(row), _points(row), _sure(row, ENGLISH))
    return table


def _sure(row: Mapping[str, Any], words: Words) -> str:
    """Whether the interval of an effect is clear of zero.

    The interval of one without a p leaves out how sure the model is of its weights.
    """
    if row["p"] is None:
        return words.not_tested
    return words.yes if row["sure"] else words.no


def _interval(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return NOTHING
    return text(
        {"value": row["logit"], "low": row["logit_low"], "high": row["logit_high"]}, "+.2f"
    )


def _points(row: Mapping[str, Any]) -> str:
    return text(
        {"value": row["points"], "low": row["points_low"], "high": row["points_high"]}, "+.2f"
    )
