"""Sections of the explanation's page on contributions: modalities, words, single impressions."""

import base64
from typing import Any

import altair as alt
import polars as pl

from purchase_predictor.report.contributing_data import ContributionReport, Impression
from purchase_predictor.report.contributing_words import CONTRIBUTION_WORDS, ContributionWords
from purchase_predictor.report.figures import number, text
from purchase_predictor.report.language import in_language
from purchase_predictor.report.pages import Chart
from purchase_predictor.report.style import finished

MODALITY_COLOURS = {
    "text": "#0072b2", "image": "#e69f00", "clickstream": "#009e73", "terms": "#cc79a7",
    "culture": "#999999", "identity-and-context": "#56b4e9",
}  # fmt: skip

ATTRACTS, DETERS = (0, 114, 178), (213, 94, 0)
"""Blue and orange, as in the charts of effects."""

WORDS_OF_MARKET = 6
STEPS_SHOWN = 12
OTHERS_SHOWN = 6
AFTER_LAST_WORD = 80
"""Characters of a title that are shown beyond what the model reads of it."""

LONGEST_NAME = 60


def contribution_words(language: str) -> ContributionWords:
    """The words of a language.

    Raises:
        SettingsError: if the report is not written in it.
    """
    return in_language(CONTRIBUTION_WORDS, language)


def contribution_context(report: ContributionReport, words: ContributionWords) -> dict[str, Any]:
    """What the template shows of contributions besides the chart of `share_chart`."""
    return {
        "words": words,
        "saved_note": saved_note(report, words),
        "saved": saved_table(report.modalities, words),
        "word_rows": word_rows(report.words),
        "words_note": words.words_note.format(n=f"{len(report.words):,}"),
        "impressions_note": impressions_note(report, words),
        "impressions": [impression_context(each, words) for each in report.impressions],
    }


def share_chart(report: ContributionReport, words: ContributionWords) -> Chart:
    """Share of each modality, a bar for each market and system."""
    systems = {"shapley": words.fusion, "tree_shap": words.lightgbm}
    shown = report.modalities.filter(
        (pl.col("measure") == "share") & pl.col("method").is_in(list(systems))
    ).with_columns(
        row=pl.col("market") + " · " + pl.col("method").replace(systems),
        name=pl.col("modality").replace(dict(words.modalities)),
    )
    order = shown["row"].unique(maintain_order=True).to_list()
    names = list(words.modalities.values())
    bars = (
        alt.Chart(shown.select("row", "name", "value"))
        .mark_bar()
        .encode(
            y=alt.Y("row:N", title=None, sort=order, axis=alt.Axis(labelLimit=160)),
            x=alt.X("value:Q", title=words.share, stack="zero", axis=alt.Axis(format="~%"),
                    scale=alt.Scale(domain=[0, 1])),
            color=alt.Color(
                "name:N", sort=names, title=None,
                scale=alt.Scale(domain=names, range=list(MODALITY_COLOURS.values())),
                legend=alt.Legend(orient="bottom", columns=3),
            ),
            order=alt.Order("rank:Q"),
            tooltip=["row:N", "name:N", alt.Tooltip("value:Q", format=".1%")],
        )
        .transform_calculate(rank=f"indexof({names}, datum.name)")
    )  # fmt: skip
    cells = {(r["row"], r["name"]): r for r in shown.iter_rows(named=True)}
    table = {
        "columns": ["", *names],
        "rows": [[row, *(text(cells[row, name], ".2f") for name in names)] for row in order],
    }
    held = words.held_out if report.held_out else words.not_held_out
    note = words.shares_note.format(n=f"{report.n:,}", held=held)
    return finished(bars, title=words.shares, note=note, table=table, height=alt.Step(18))


def saved_table(modalities: pl.DataFrame, words: ContributionWords) -> dict[str, Any] | None:
    """Log-loss saved, a row for each market that has intervals; None where no outcome is known."""
    known = modalities.filter(pl.col("measure") == "log_loss").drop_nulls("value")
    if not len(known):
        return None
    shown = known.drop_nulls("low")
    thousandths = shown.with_columns(pl.col("value", "low", "high") * 1000)
    cells = {(r["market"], r["modality"]): r for r in thousandths.iter_rows(named=True)}
    markets = shown["market"].unique(maintain_order=True).to_list()
    return {
        "columns": ["", *words.modalities.values()],
        "rows": [
            [market, *(text(cells[market, name], "+.1f") for name in words.modalities)]
            for market in markets
        ],
    }


def saved_note(report: ContributionReport, words: ContributionWords) -> str:
    """What the log-loss saved means, and the markets it is not told of."""
    level = f"{report.confidence * 100:g}\N{NO-BREAK SPACE}%"
    note = words.saved_note.format(level=level)
    saved = report.modalities.filter(pl.col("measure") == "log_loss").drop_nulls("value")
    few = saved.filter(pl.col("low").is_null())["market"].unique(maintain_order=True)
    if not len(few):
        return note
    return f"{note} {words.too_few.format(n=report.min_conversions, markets=', '.join(few))}"


def impressions_note(report: ContributionReport, words: ContributionWords) -> str:
    """How single impressions are read, and which markets they are of where that is not all."""
    n = len({each.market for each in report.impressions})
    if n >= report.n_markets:
        return words.impressions_note
    first = words.first_markets.format(n=n, total=report.n_markets)
    return f"{words.impressions_note} {first}"


def word_rows(table: pl.DataFrame) -> list[list[str]]:
    """The largest contributions of words in each market."""
    sure = table.filter((pl.col("low") > 0) | (pl.col("high") < 0))
    first = sure.group_by("market", maintain_order=True).head(WORDS_OF_MARKET).sort(
        "market", maintain_order=True
    )  # fmt: skip
    return [
        [row["market"], shortened(row["token"]), text(row, "+.3f"), f"{row['n_impressions']:,}"]
        for row in first.iter_rows(named=True)
    ]


def impression_context(impression: Impression, words: ContributionWords) -> dict[str, Any]:
    """One impression as the template shows it; every text in it is escaped there."""
    outcome = {None: "", True: words.converted, False: words.not_converted}
    others = sorted(impression.others, key=lambda other: -abs(other[2]))
    picture = next((v for name, _, v in others if name == "(picture)"), 0.0)
    latest = impression.path[-STEPS_SHOWN:]
    hidden = len(impression.path) - len(latest)
    largest = max((abs(word.value) for word in impression.words), default=0.0)
    strongest = max((abs(step.value) for step in latest), default=0.0)
    return {
        "id": shortened(impression.impression_id),
        "market": impression.market,
        "probability": f"{100 * impression.probability:.2f}\N{NO-BREAK SPACE}%",
        "outcome": outcome[impression.converted],
        "title": [
            {"text": piece, "style": shade(value, largest), "value": signed(value)}
            for piece, value in title_pieces(impression)
        ],
        "picture": data_uri(impression.picture),
        "picture_value": signed(picture),
        "hidden": words.earlier.format(n=hidden) if hidden else "",
        "path": [
            {
                "name": shortened(step.name), "title": shortened(step.title),
                "style": shade(step.value, strongest), "value": signed(step.value),
            }
            for step in latest
        ],
        "others": [
            [shortened(words.tokens.get(name, name)), signed(value)]
            for name, _, value in others
            if value and name != "(picture)"
        ][:OTHERS_SHOWN],
        "modalities": [
            [name, signed(impression.modalities[key])] for key, name in words.modalities.items()
        ],
    }  # fmt: skip


def title_pieces(impression: Impression) -> list[tuple[str, float | None]]:
    """The title in pieces: words with what they contribute, None between them."""
    title, pieces, at = impression.title, list[tuple[str, float | None]](), 0
    for word in impression.words:
        if word.start > at:
            pieces.append((title[at : word.start], None))
        pieces.append((title[word.start : word.stop], word.value))
        at = word.stop
    rest = title[at : at + AFTER_LAST_WORD]
    if len(title) > at + AFTER_LAST_WORD:
        rest += "…"
    return [*pieces, (rest, None)] if rest else pieces


def shade(value: float | None, largest: float) -> str:
    """Style of a shaded word; "" where there is nothing to show."""
    if not value or not largest:
        return ""
    red, green, blue = ATTRACTS if value > 0 else DETERS
    return f"background:rgba({red},{green},{blue},{0.6 * abs(value) / largest:.2f})"


def signed(value: float | None) -> str:
    """A contribution with its sign; "" where there is none."""
    return "" if value is None else number(value, "+.3f")


def shortened(name: str) -> str:
    """A name that may be of any length, as far as it is shown."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def data_uri(picture: bytes | None) -> str:
    """A small JPEG within the page; "" where there is none."""
    if picture is None:
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(picture).decode('ascii')}"
