"""The report of the comparison: one HTML page, and tables for the console."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from purchase_predictor.counted import Counted
from purchase_predictor.evaluation.gap import DIGITS, SAME
from purchase_predictor.report.comparing_charts import (
    arms_chart,
    break_even_text,
    by_flat,
    curve_chart,
    forest,
    gap_chart,
    kind_of,
    level_of,
    transfer_chart,
    trend_chart,
    verdict_text,
)
from purchase_predictor.report.comparing_data import DIMENSIONS, Comparison
from purchase_predictor.report.comparing_words import Words, words_of
from purchase_predictor.report.figures import gap_text, number, p_text, text
from purchase_predictor.report.pages import Chart, write_page

KINDS_OF_GLOBAL = ("global-with-adapters", "global")
"""Arm and against of the contrast that says which of the models for all to take."""

TOLD_THE_COUNTRY = ("global", "global-without-country")
"""Arm and against of the contrast that says what being told the country is worth."""


def write_report(comparison: Comparison, file: Path, *, language: str = "en") -> None:
    """Write the page; every text is escaped and it needs no network.

    Args:
        comparison: what was found.
        file: where; replaced if it is there.
        language: `en` or `ko`.

    Raises:
        SettingsError: the report is not written in that language.
    """
    words = words_of(language)
    write_page(
        "comparing.html",
        charts_of(comparison, words),
        file,
        words.title,
        {
            "words": words,
            "bottom_line": bottom_line(comparison, words),
            "answers": answers(comparison, words),
            "left_out": left_out(comparison, words),
            "facts": facts(comparison, words),
            "exploratory": exploratory_rows(comparison, words),
            "caveats": caveats(comparison, words),
        },
        language=language,
    )


def charts_of(comparison: Comparison, words: Words) -> list[Chart]:
    """The charts there is something to show in, the answer first."""
    charts = [gap_chart(comparison, words), arms_chart(comparison, words)]
    if "trend" in comparison.across[0]:
        charts.append(trend_chart(comparison, words))
    if comparison.curves is not None and len(comparison.curves):
        charts.append(curve_chart(comparison, words))
    transfer = comparison.transfer
    by = by_flat(comparison, words)
    if transfer is not None:
        charts.append(transfer_chart(transfer, words, by))
    if transfer is not None and transfer.gaps:
        charts.append(
            forest(
                transfer.gaps, words, title=words.never_seen, note=words.never_seen_note + by,
                by="arm", axis=words.auc_difference,
            )
        )  # fmt: skip
        charts.append(
            forest(
                transfer.culture, words, title=words.culture, note=words.culture_note + by,
                by="arm", axis=words.auc_difference,
            )
        )  # fmt: skip
    return charts


def bottom_line(comparison: Comparison, words: Words) -> str:
    """The answer in a sentence or two."""
    verdicts = [kind_of(gap) for gap in comparison.primary()]
    n_untrained = sum(gap["market"] in comparison.reasons for gap in comparison.primary())
    n_better = len(_better_than_chance(comparison))
    known = {n: Counted(verdicts.count(n)) for n in ("global", "local", "equivalent")}
    line = words.bottom_line.format(
        n=Counted(len(verdicts)),
        n_global=known["global"],
        n_local=known["local"],
        n_equivalent=known["equivalent"],
        n_unknown=Counted(len(verdicts) - n_untrained - sum(known.values())),
    )
    if n_untrained:
        n = {"n": Counted(n_untrained), "n_better": Counted(n_better)}
        line += words.bottom_untrained.format(**n)
    found = comparison.across[0]
    if "mean" not in found:
        return line
    return line + words.bottom_pooled.format(**_told({**found, "value": found["mean"]}))


def _better_than_chance(comparison: Comparison) -> list[str]:
    """Markets without a model of their own that the model for all serves better than chance."""
    over = comparison.over_chance()
    return [market for market, gap in over.items() if gap["verdict"] == gap["arm"]]


def answers(comparison: Comparison, words: Words) -> dict[str, str]:
    """The questions that people have, each with its answer as far as there is one."""
    told = {words.own_question: _who_has_their_own(comparison, words)}
    kind = _macro_gap(comparison, *KINDS_OF_GLOBAL)
    if kind is not None:
        told[words.kind_question] = words.kind_answer.format(**_told(kind))
    by = by_flat(comparison, words)
    sizes = [_from_which_size(comparison, words) + by] if comparison.break_even else []
    sizes += _by_the_trend(comparison, words)
    if sizes:
        told[words.size_question] = " ".join(sizes)
    gaps = [] if comparison.transfer is None else comparison.transfer.gaps
    mean = _averages(gaps)
    single = [g["value"] for g in gaps if g["scope"] == "market" and g["value"] is not None]
    if mean and single:
        bounds = {name: mean[0][name] for name in ("value", "low", "high")}
        bounds |= {"least": min(single), "most": max(single)}
        told[words.new_question] = words.new_answer.format(
            **{name: number(value, "+.3f") for name, value in bounds.items()}
        )
        told[words.new_question] += by
    country, culture = _macro_gap(comparison, *TOLD_THE_COUNTRY), _of_culture(comparison, words)
    if country is not None:
        told[words.country_question] = words.country_answer.format(worth=text(country, "+.3f"))
    if culture is not None:
        told[words.culture_question] = culture
    return told


def _macro_gap(comparison: Comparison, arm: str, against: str) -> dict[str, Any] | None:
    """The gap in AUC of two arms on average over the markets, None where it was not measured."""
    wanted = ("macro", "auc", arm, against)
    found = (
        gap
        for gap in comparison.gaps
        if tuple(gap[name] for name in ("scope", "metric", "arm", "against")) == wanted
    )
    return next((gap for gap in found if gap["value"] is not None), None)


def left_out(comparison: Comparison, words: Words) -> str:
    """What `--quick` left out and how to have it, "" where nothing was."""
    return words.left_out if comparison.curves is None else ""


def _who_has_their_own(comparison: Comparison, words: Words) -> str:
    named: dict[str, list[str]] = {
        name: [] for name in ("global", "local", "equivalent", "unknown", "untrained")
    }
    for gap in comparison.primary():
        kind = "untrained" if gap["market"] in comparison.reasons else kind_of(gap)
        named[kind].append(gap["market"])
    named["better"] = _better_than_chance(comparison)
    lists = {name: ", ".join(markets) or words.nobody for name, markets in named.items()}
    told = words.own_answer.format(everyone=lists["global"], **lists)
    if named["unknown"]:
        told += words.own_undecided.format(**lists)
    if comparison.unstopped:
        told += words.own_unstopped.format(unstopped=", ".join(comparison.unstopped))
    return told + words.own_untrained.format(**lists) if named["untrained"] else told


def _from_which_size(comparison: Comparison, words: Words) -> str:
    found = [one for one in comparison.break_even if one["conversions"] is not None]
    if found:
        each = (f"{one['market']} {break_even_text(one, words)}" for one in found)
        return words.size_answer.format(level=level_of(comparison), found="; ".join(each))
    largest = max(comparison.break_even, key=lambda one: one["largest"])
    return words.size_unseen.format(largest=f"{largest['largest']:,.0f}", market=largest["market"])


def _by_the_trend(comparison: Comparison, words: Words) -> list[str]:
    """For which sizes of market the trend over markets shows which model is better."""
    found = comparison.across[0]
    trend = found.get("trend")
    if trend is None:
        return []
    facts = {
        "n": len(found["markets"]), "level": level_of(comparison),
        "smallest": f"{trend['at'][0]:,.0f}", "largest": f"{trend['at'][-1]:,.0f}",
    }  # fmt: skip
    spans = [(words.size_global, trend["above"]), (words.size_local, trend["below"])]
    told = [text.format(span=_span(*span), **facts) for text, span in spans if span is not None]
    told = told or [words.size_neither.format(**facts)]
    share = trend["left_out_coverage"]
    if np.isfinite(share):
        told.append(words.size_left_out.format(share=f"{share:.0%}"))
    unstopped = [market for market in comparison.unstopped if market in found["markets"]]
    if unstopped:
        told.append(words.size_unstopped.format(unstopped=", ".join(unstopped)))
    return told


def _span(least: float, most: float) -> str:
    ends = f"{least:,.0f}", f"{most:,.0f}"
    return ends[0] if ends[0] == ends[1] else "\N{EN DASH}".join(ends)


def _of_culture(comparison: Comparison, words: Words) -> str | None:
    """Whether cultural dimensions tell more of a country never seen than random numbers do."""
    transfer = comparison.transfer
    if transfer is None:
        return None
    worth = [gap for gap in _averages(transfer.culture) if gap["arm"] == DIMENSIONS]
    beyond = _averages(transfer.beyond)
    if not worth or not beyond:
        return None
    shown = all(gap["low"] is not None and gap["low"] > 0 for gap in [*worth, *beyond])
    told = words.culture_answer.format(
        worth=text(worth[0], "+.3f"),
        n=Counted(len(beyond)),
        beyond=", ".join(text(gap, "+.3f") for gap in beyond),
        shown=words.culture_shown if shown else words.culture_not_shown,
    )
    return told + by_flat(comparison, words)


def _averages(gaps: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [gap for gap in gaps if gap["scope"] == "macro" and gap["value"] is not None]


def _told(gap: Mapping[str, Any]) -> dict[str, str]:
    return {name: number(gap[name], "+.3f") for name in ("value", "low", "high")}


def facts(comparison: Comparison, words: Words) -> dict[str, str]:
    """What was compared."""
    data = comparison.data
    n, positive = (
        sum(market[name] for market in data["markets"].values())
        for name in ("n_train", "n_train_positive")
    )
    kappa = [
        words.never if value == float("inf") else f"{value:,.0f}" for value in comparison.kappa
    ]
    return {
        words.data: f"{data['name']} ({data['fingerprint']})",
        words.system: data["system"],
        words.rows: words.rows_text.format(
            n=Counted(n), positive=Counted(positive), markets=Counted(len(data["markets"]))
        ),
        words.seeds: str(data["seeds"]) if data["seeds"] > 1 else words.preliminary,
        words.kappa: ", ".join(kappa),
    }


def exploratory_rows(comparison: Comparison, words: Words) -> list[list[str]]:
    """Every contrast on average over markets and in each of them."""
    names = {"auc": "AUC", "normalised_entropy": "NE"}
    return [
        [
            gap["arm"], gap["against"], names[gap["metric"]], gap["market"], gap_text(gap),
            p_text(gap["p_holm"]),
            words.verdict_same.format(digits=DIGITS) if gap["verdict"] == SAME else gap["verdict"],
        ]
        for gap in comparison.gaps
        if gap["scope"] != "pooled"
    ]  # fmt: skip


def caveats(comparison: Comparison, words: Words) -> list[str]:
    """What the page does not say."""
    korean = words_of("ko") is words
    and_models = (
        (" 및 모델의 우연" if korean else " and of the models")
        if (comparison.data["seeds"] > 1)
        else ""
    )
    told = [
        words.caveat_primary,
        words.caveat_averages,
        words.caveat_undecided.format(margin=comparison.data["margin"]),
        words.caveat_seeds.format(and_models=and_models),
        words.caveat_dimensions,
    ]
    if comparison.unstopped:
        markets = ", ".join(comparison.unstopped)
        told.append(words.caveat_unstopped.format(markets=markets))
    if comparison.curves is None:
        return told
    by_fusion = comparison.data.get("curves_by") == "fusion"
    return [*told, words.caveat_full if by_fusion else words.caveat_flat]


def rich_tables(comparison: Comparison) -> list[Table]:
    """The answer as a table for the console."""
    words = words_of("en")
    table = Table(
        title=escape(bottom_line(comparison, words)),
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold underline",
        pad_edge=False,
    )
    for column in ("market", "verdict", "global − local, AUC", "p (Holm)", "break-even"):
        table.add_column(column)
    over_chance = comparison.over_chance()
    even: dict[str, Any] = {found["market"]: found for found in comparison.break_even}
    for gap in comparison.primary():
        market = gap["market"]
        table.add_row(
            escape(market),
            verdict_text(gap, words, comparison.data["margin"], over_chance.get(market)),
            gap_text(gap),
            p_text(gap["p_holm"]),
            break_even_text(even[market], words) if market in even else "",
        )
    return [table]
