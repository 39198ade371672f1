"""The report of what happened after scoring: one HTML page, and tables for the console."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from purchase_predictor.report import following_charts as charts
from purchase_predictor.report.figures import number, text
from purchase_predictor.report.following_data import Followed, quoted, quoted_scope
from purchase_predictor.report.following_words import Words, words_of
from purchase_predictor.report.pages import Chart, write_page

CONSOLE = {
    "mean_ratio": "predicted / rate",
    "slope": "slope",
    "ece": "ECE",
    "auc": "AUC",
    "normalised_entropy": "norm. entropy",
    "lift_10": "lift 10 %",
}
"""Metrics of the console's table and their headings."""


def write_report(followed: Followed, file: Path, *, language: str = "en") -> None:
    """Write the page; every text is escaped and it needs no network.

    Args:
        followed: what was found.
        file: where; replaced if it is there.
        language: `en` or `ko`.

    Raises:
        SettingsError: the report is not written in that language.
    """
    words = words_of(language)
    period = words.periods[followed.data["period"]]
    write_page(
        "following.html",
        charts_of(followed, words),
        file,
        words.title,
        {
            "words": words,
            "bottom_lines": bottom_lines(followed, words),
            "facts": facts(followed, words),
            "refusals": refusals(followed, words),
            "flags": flag_rows(followed),
            "caveats": [caveat.format(period=period) for caveat in words.caveat_list],
        },
        language=language,
    )


def charts_of(followed: Followed, words: Words) -> list[Chart]:
    """The charts there is something to show in, the answer first."""
    shown = [
        charts.in_the_large_chart(followed, words),
        charts.reliability_chart(followed, words),
        charts.discrimination_chart(followed, words),
        charts.drift_chart(followed, words),
    ]
    if followed.drift["psi_by_chance"].count():
        shown.append(charts.psi_chart(followed, words))
    if followed.gaps:
        shown.append(charts.gap_chart(followed, words))
    if followed.apart:
        shown.append(charts.apart_chart(followed, words))
    if any(entry["refused"] is None for entry in followed.policy):
        shown.append(charts.policy_chart(followed, words))
    return shown


def bottom_lines(followed: Followed, words: Words) -> list[str]:
    """The answer: a sentence for each model, and one or two for each pair."""
    lines = [_model_line(entry, followed, words) for entry in followed.realised]
    for gap in _quoted_gaps(followed):
        values = {
            "arm": gap["arm"], "against": gap["against"], "n": f"{gap['n_test']:,}",
            "value": text(gap, "+.4f"), "verdict": words.verdicts[gap["verdict"]],
        }  # fmt: skip
        lines.append(words.bottom_gap.format(**values))
    for entry in followed.policy:
        if entry["scope"] == "pooled" and entry["refused"] is None:
            found = entry["estimates"]["dr"]["difference"]
            hundred = {name: None if x is None else 100 * x for name, x in found.items()}
            values = {
                "arm": entry["arm"], "against": entry["against"], "value": text(hundred, "+.2f"),
                "verdict": words.verdicts[entry["verdict"]],
            }  # fmt: skip
            lines.append(words.bottom_policy.format(**values))
    return lines


def _model_line(entry: dict[str, Any], followed: Followed, words: Words) -> str:
    """Whether one model was right on average, over all its rows."""
    pooled = entry["pooled"]
    ratio, rate = pooled["mean_ratio"], pooled["n_positive"] / pooled["n"]
    enough = pooled["n_positive"] >= followed.data["min_conversions"]
    if ratio["low"] is None or not enough:
        verdict = words.bottom_unknown
    elif ratio["low"] > 1:
        verdict = words.bottom_high
    else:
        verdict = words.bottom_low if ratio["high"] < 1 else words.bottom_right
    predicted = None if ratio["value"] is None else ratio["value"] * rate
    return words.bottom.format(
        model=entry["model"],
        predicted=number(predicted, ".2%"),
        rate=number(rate, ".2%"),
        verdict=verdict,
        ratio=text(ratio, ".2f"),
    )


def _quoted_gaps(followed: Followed) -> list[dict[str, Any]]:
    """The AUC gap of each pair on average over markets, or pooled where none is averaged."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for scope in ("macro", "pooled"):
        for gap in followed.gaps:
            if gap["metric"] == "auc" and gap["scope"] == scope and gap["value"] is not None:
                found.setdefault((gap["arm"], gap["against"]), gap)
    return list(found.values())


def facts(followed: Followed, words: Words) -> dict[str, str]:
    """What was joined and what was not."""
    data, joined, names = followed.data, followed.joined, words.facts
    aside = {**joined["scores"]["set_aside"], **joined["outcomes"]["set_aside"]}
    heads = words.heads
    counts = {
        names["not_in_outcomes"]: joined["scores_not_in_outcomes"],
        names["not_known"]: joined["scores_outcome_not_known"],
        names["without_score"]: joined["outcomes_without_score"],
        names["another_market"]: joined["scored_for_another_market"],
    }
    told = {
        names["data"]: f"{data['name']} ({data['fingerprint']})",
        names["scores"]: ", ".join(data["scores"]),
        names["time"]: f"{joined['first'][:10]} – {joined['last'][:10]}",
        names["joined"]: (
            f"{joined['joined']:,} {heads.impressions.lower()}, {joined['conversions']:,} "
            f"{heads.conversions.lower()}"
        ),
        **{name: f"{count:,}" for name, count in counts.items()},
    }
    if aside:
        told[names["set_aside"]] = "; ".join(f"{n:,} × {why}" for why, n in aside.items())
    return told


def refusals(followed: Followed, words: Words) -> list[str]:
    """Why there is no value of a policy, or a wrong one; each reason once, with its scopes."""
    where: dict[str, list[str]] = {}
    for entry in followed.policy:
        if entry["refused"] is not None:
            sentence = words.refusals[entry["refused"]].format(**entry["detail"])
            scope = charts.scope_name(entry["market"], words)
            where.setdefault(sentence, []).append(f"{entry['arm']} − {entry['against']}, {scope}")
    told = [f"{sentence} ({'; '.join(pairs)})" for sentence, pairs in where.items()]
    if any(entry.get("sums_to_one") for entry in followed.policy):
        told.append(words.policy_sums_to_one)
    return told


def flag_rows(followed: Followed) -> list[list[str]]:
    """What happened to flagged rows."""
    return [
        [
            entry["model"], entry["flag"], f"{entry['n']:,}", f"{entry['n_positive']:,}",
            number(entry["rate"], ".2%"), number(entry["predicted"], ".2%"),
            text({**entry, "value": entry["ratio"]}, ".2f"),
        ]
        for entry in followed.flags
    ]  # fmt: skip


def rich_tables(followed: Followed) -> list[Table]:
    """The answer as tables for the console: models, and pairs where there are some."""
    words = words_of("en")
    level = charts.level_of(followed)
    joined = followed.joined
    models = _table(
        f"{joined['joined']:,} impressions joined, {joined['conversions']:,} conversions "
        f"({level} intervals)",
        ["model", "over", *CONSOLE.values()],
    )
    for entry in followed.realised:
        figures = quoted(entry)
        cells = [text(figures[metric], ".3f").replace(" (", "\n(") for metric in CONSOLE]
        models.add_row(escape(entry["model"]), words.scope_names[quoted_scope(entry)], *cells)
    sentences = _table("", [""])
    for line in [*bottom_lines(followed, words), *refusals(followed, words)]:
        sentences.add_row(escape(line))
    sentences.show_header = False
    return [models, sentences]


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(
        title=escape(title) or None, title_justify="left", box=None, padding=(0, 1, 0, 0),
        header_style="bold underline", pad_edge=False,
    )  # fmt: skip
    for column in columns:
        table.add_column(column)
    return table
