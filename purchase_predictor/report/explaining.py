"""The report of an explanation: what moves buyers, market by market; English and Korean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
from rich.markup import escape
from rich.table import Table

from purchase_predictor.report.checking import check_context
from purchase_predictor.report.contributing import (
    contribution_context,
    contribution_words,
    share_chart,
)
from purchase_predictor.report.contributing_data import ContributionReport
from purchase_predictor.report.figures import NOTHING, number, text
from purchase_predictor.report.language import in_language
from purchase_predictor.report.pages import Chart, write_page
from purchase_predictor.report.style import GREY, colour, finished

SHOWN_CONTRASTS = 40
MAX_ROWS = 30


@dataclass(frozen=True)
class Words:
    """Headings, notes and patterns of the page; braces are filled in by `str.format`."""

    title: str
    bottom_line: str
    nothing: str
    strongest: str
    grid: str
    grid_note: str
    forest: str
    forest_note: str
    contrasts: str
    contrasts_note: str
    market: str
    lever: str
    against: str
    effect: str
    points: str
    difference: str
    p_holm: str
    table: str
    discount_rate: str
    free_shipping: str
    phrase: str
    caveats: str
    association: str
    randomised: str
    readout: str
    two_levers: str
    small: str
    own_phrases: str


ENGLISH = Words(
    title="What moves buyers, market by market",
    bottom_line="{n} of {total} effects are surely not zero (95 % intervals, not corrected). ",
    nothing="No effect is surely different from zero. ",
    strongest="The strongest: {lever} in {market}, {logit} in log-odds ({low} to {high}).",
    grid="Effect of each lever in each market",
    grid_note=(
        "Log-odds of buying with the lever less without it, averaged over the market's "
        "impressions. Blue attracts, orange deters; pale figures could be zero."
    ),
    forest="The same with {level} intervals",
    forest_note=(
        "Errors hold what the rows leave open, what was drawn to the other markets, and what "
        "rows of one user or one listing share."
    ),
    contrasts="Differences between markets",
    contrasts_note=(
        "Market less against; p after Holm over all levers and pairs; smallest p first."
    ),
    market="Market",
    lever="Lever",
    against="Against",
    effect="Log-odds",
    points="Percentage points",
    difference="Difference",
    p_holm="p (Holm)",
    table="Table",
    discount_rate="discount, ten points more",
    free_shipping="free shipping (the term)",
    phrase="“{phrase}” in the title",
    caveats="What this does not say",
    association=(
        "Effects explain the model. Sellers choose phrases and discounts, so without offers "
        "assigned at random an effect is an association, not what a change would bring."
    ),
    randomised=(
        "Every offer of this data was assigned at random: effects are what a change brings."
    ),
    readout=(
        "They are those of the solved part of the model, where every phrase and term has a "
        "weight of its own in each market; the network beside it has no part in them."
    ),
    two_levers="“Free shipping” the phrase and free shipping the term are two levers.",
    small=(
        "A market with few conversions is drawn towards the others: its effects are theirs "
        "unless its own rows say otherwise."
    ),
    own_phrases=(
        "Phrases that the model has no weights of ({names}) were written in front of titles "
        "and the whole model was asked: their intervals tell how that differs between users and "
        "listings, not how sure the model is; of fewer than ten users or listings there is none."
    ),
)

KOREAN = Words(
    title="시장마다 무엇이 구매자를 움직이는가",
    bottom_line="{total}개 효과 가운데 {n}개는 분명히 0이 아닙니다(95 % 구간, 보정하지 않음). ",
    nothing="분명히 0이 아닌 효과는 없습니다. ",
    strongest="가장 강한 것: {market}의 {lever}, 로그 오즈 {logit} ({low} ~ {high}).",
    grid="시장별 각 요소의 효과",
    grid_note=(
        "요소가 있을 때의 구매 로그 오즈에서 없을 때를 뺀 값을 시장의 노출에 대해 평균한 "
        "것입니다. "
        "파란색은 끌어당기고 주황색은 밀어냅니다. 옅은 숫자는 0일 수 있습니다."
    ),
    forest="같은 효과와 {level} 구간",
    forest_note=(
        "오차에는 데이터가 정하지 못한 것, 다른 시장 쪽으로 당겨진 것, 한 사용자나 한 상품의 "
        "행들이 "
        "공유하는 것이 모두 들어 있습니다."
    ),
    contrasts="시장 사이의 차이",
    contrasts_note="시장에서 기준을 뺀 값. p는 모든 요소와 쌍에 대한 Holm 보정, 작은 것부터.",
    market="시장",
    lever="요소",
    against="기준",
    effect="로그 오즈",
    points="퍼센트포인트",
    difference="차이",
    p_holm="p (Holm)",
    table="표",
    discount_rate="할인 10포인트 추가",
    free_shipping="무료 배송 (조건)",
    phrase="제목의 “{phrase}”",
    caveats="말하지 않는 것",
    association=(
        "효과는 모델을 설명합니다. 문구와 할인은 판매자가 고르므로, 무작위로 배정된 제안이 없으면 "
        "효과는 연관일 뿐이며 바꾸었을 때의 결과가 아닙니다."
    ),
    randomised="이 데이터의 모든 제안은 무작위로 배정되었습니다. 효과는 바꾸었을 때의 결과입니다.",
    readout=(
        "효과는 모델에서 직접 푼 부분의 것입니다. 거기서는 모든 문구와 조건이 시장마다 자기 "
        "가중치를 가지며, 옆의 신경망은 포함되지 않습니다."
    ),
    two_levers="문구 “무료 배송”과 조건 무료 배송은 서로 다른 요소입니다.",
    small=(
        "구매가 적은 시장은 다른 시장 쪽으로 당겨집니다. 자기 데이터가 달리 말하지 않으면 다른 "
        "시장의 효과와 같습니다."
    ),
    own_phrases=(
        "모델에 가중치가 없는 문구({names})는 제목 앞에 써넣고 모델 전체에 물었습니다. 그 구간은 "
        "사용자와 상품마다 얼마나 다른지를 말할 뿐 모델이 얼마나 확신하는지는 말하지 않으며, "
        "사용자나 상품이 열보다 적으면 구간이 없습니다."
    ),
)

LANGUAGES = {"en": ENGLISH, "ko": KOREAN}


def words_of(language: str) -> Words:
    """The words of a language.

    Raises:
        SettingsError: if the report is not written in it.
    """
    return in_language(LANGUAGES, language)


def lever_name(row: Mapping[str, Any], words: Words) -> str:
    """A lever as people call it."""
    if row["lever"] == "phrase":
        return words.phrase.format(phrase=str(row["phrase"]).replace("_", " "))
    named = {"discount_rate": words.discount_rate, "free_shipping": words.free_shipping}
    return named.get(row["lever"], str(row["lever"]))


def write_explanation(
    facts: Mapping[str, Any],
    effects: pl.DataFrame,
    contrasts: pl.DataFrame,
    file: Path,
    *,
    contributions: ContributionReport | None = None,
    checks: Sequence[Mapping[str, Any]] = (),
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
        language: `en` or `ko`.
    """
    words, own = words_of(language), facts["own_phrases"]
    named = _named(effects, words)
    charts = [grid_chart(named, words), forest_chart(named, facts, words)]
    single = None
    if contributions is not None:
        of_single = contribution_words(language)
        charts.append(share_chart(contributions, of_single))
        single = contribution_context(contributions, of_single)
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
            "checks": check_context(checks, facts["confidence"], language) if checks else None,
            "caveats": [
                words.randomised if facts["randomised"] else words.association,
                words.readout,
                words.two_levers,
                words.small,
                *([words.own_phrases.format(names=", ".join(own))] if own else []),
            ],
        },
        language=language,
    )


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
        y=alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=220)),
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
        cells + figures, title=words.grid, note=words.grid_note, table=table, height=alt.Step(26)
    )


def forest_chart(named: pl.DataFrame, facts: Mapping[str, Any], words: Words) -> Chart:
    """Each effect with its interval, a row for each lever, the markets beside one another."""
    markets = named["market"].unique(maintain_order=True).to_list()
    order = named["name"].unique(maintain_order=True).to_list()
    columns = ["market", "name", "logit", "logit_low", "logit_high"]
    base = alt.Chart(named.select(columns)).encode(
        y=alt.Y(
            "name:N", title=None, sort=order,
            axis=alt.Axis(grid=True, tickBand="extent", labelLimit=220),
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
        "columns": [words.market, words.lever, words.effect, words.points],
        "rows": [
            [row["market"], row["name"], _interval(row), _points(row)]
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
            number(row["p_holm"]),
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
    for column in ("market", "lever", "log-odds", "percentage points"):
        table.add_column(column)
    for row in named.iter_rows(named=True):
        table.add_row(escape(row["market"]), escape(row["name"]), _interval(row), _points(row))
    return table


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
