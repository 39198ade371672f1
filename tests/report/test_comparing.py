"""The report of the comparison: what it says follows from what was found."""

from dataclasses import fields, replace
from pathlib import Path
from string import Formatter
from typing import Any

import polars as pl
import pytest

from purchase_predictor.errors import SettingsError
from purchase_predictor.evaluation.gap import SAME
from purchase_predictor.report.comparing import (
    answers,
    bottom_line,
    caveats,
    charts_of,
    exploratory_rows,
    facts,
    rich_tables,
    write_report,
)
from purchase_predictor.report.comparing_charts import (
    break_even_text,
    gap_chart,
    kind_of,
    verdict_text,
)
from purchase_predictor.report.comparing_data import (
    CHANCE,
    DIMENSIONS,
    EVERY,
    Comparison,
    Transfer,
)
from purchase_predictor.report.comparing_words import ENGLISH, KOREAN, Words, words_of

HOSTILE = '<script>alert("x")</script>'
ARMS = ("global", "local", "pooled")


def gap(market: str, verdict: str, value: float | None, **more: Any) -> dict[str, Any]:
    found = {
        "scope": "market", "market": market, "metric": "auc", "arm": "global", "against": "local",
        "value": value, "low": None if value is None else value - 0.01,
        "high": None if value is None else value + 0.01, "p": 0.01, "p_holm": 0.02,
        "smallest_detectable": 0.03, "n_train": 1000, "n_train_positive": 100, "n_test": 500,
        "n_test_positive": 50, "verdict": verdict, "primary": True, "equivalent_within": None,
        "reason": "",
    }  # fmt: skip
    return found | more


@pytest.fixture
def comparison() -> Comparison:
    figure = {"value": 0.75, "low": 0.7, "high": 0.8}
    scopes = {name: {"auc": figure} for name in ("macro", "pooled", "KR", HOSTILE)}
    interval = {"value": 0.01, "low": -0.01, "high": 0.03}
    return Comparison(
        data={
            "name": HOSTILE, "fingerprint": "abc", "system": "fusion", "seeds": 1,
            "markets": {}, "confidence": 0.95, "margin": 0.01,
        },
        figures=dict.fromkeys(ARMS, scopes),
        gaps=[
            gap("KR", "global", 0.031),
            gap(HOSTILE, "local", -0.02),
            gap("JP", "equivalent", 0.001),
            gap("DE", "not enough data", 0.004),
            gap("MX", "not enough data", None, n_train_positive=3, p=None),
            gap("KR", "global", 0.02, primary=False, against="pooled"),
        ],
        across=[
            {
                "markets": ["KR", HOSTILE, "JP", "DE"],
                "mean": 0.012, "low": 0.002, "high": 0.022, "new_low": -0.03, "new_high": 0.05,
                "trend": {
                    "at": [100.0, 1000.0], "predicted": [0.03, 0.01], "new_low": [0.0, -0.02],
                    "new_high": [0.06, 0.04], "above": None, "below": None,
                    "left_out_coverage": 0.75,
                },
            }
        ],
        kappa=[float("inf")],
        reasons={"MX": "few rows"},
        unstopped=["JP"],
        curves=pl.DataFrame(
            {
                "market": ["KR"] * 4, "conversions": [50, 52, 100, 101],
                "size": [50, 50, 100, 100],
                "repeat": [0, 1, 0, 1], "local": [0.6, 0.62, 0.7, 0.71], "everyone": [0.7] * 4,
            }
        ),
        break_even=[
            {
                "market": "KR", "conversions": 90.0, "low": 80.0, "high": None,
                "largest": 100.0, "smallest": 50.0,
            }
        ],
        transfer=Transfer(
            matrix=pl.DataFrame(
                {
                    "trained_on": [EVERY, "KR", EVERY], "market": ["KR", "KR", "US"],
                    "auc": [0.8, 0.7, None], "n_test_positive": [50, 50, 0],
                }
            ),
            gaps=[{"market": "KR", "scope": "market", "arm": "never seen", **interval}],
            culture=[{"market": "KR", "scope": "market", "arm": "random vectors 1", **interval}],
            beyond=[],
        ),
    )  # fmt: skip


def test_the_answer_counts_the_verdicts(comparison: Comparison) -> None:
    line = bottom_line(comparison, ENGLISH)

    assert "serves 1 of 5 markets better, their own models serve 1 better" in line
    assert (
        "either serves 1 equally well; for 1 there is not enough data to tell. In 1 more" in line
    )
    assert "the model for all is better than chance in 0." in line
    better = gap("MX", "global", 0.3, primary=False, against=CHANCE)
    beside = replace(comparison, gaps=[*comparison.gaps, better])
    assert "the model for all is better than chance in 1." in bottom_line(beside, ENGLISH)
    told = answers(beside, ENGLISH)[ENGLISH.own_question]
    assert "Not shown either way: DE." in told
    assert "be trained for: MX. The model for all is better than chance there in: MX." in told
    assert "+0.012 higher (+0.002 to +0.022;" in line
    assert ENGLISH.kind_question not in answers(beside, ENGLISH)
    tuned = gap("macro", "not enough data", 0.008, scope="macro", primary=False,
                arm="global-with-adapters", against="global")  # fmt: skip
    told = answers(replace(beside, gaps=[*beside.gaps, tuned]), ENGLISH)[ENGLISH.kind_question]
    assert "an AUC +0.008 (\N{MINUS SIGN}0.002 to +0.018) higher" in told
    unpooled = replace(comparison, across=[{"reason": "2 markets"}])
    assert bottom_line(unpooled, ENGLISH).endswith("chance in 0.")
    assert bottom_line(replace(unpooled, reasons={}), ENGLISH).endswith("to tell.")


def test_counts_of_one_have_a_noun_of_one(comparison: Comparison) -> None:
    one = {"n_train": 1, "n_train_positive": 1}
    single = replace(
        comparison,
        gaps=comparison.gaps[:1],
        data={**comparison.data, "markets": {"KR": one}},
    )
    assert "1 of 1 market better" in bottom_line(single, ENGLISH)
    told = facts(single, ENGLISH)[ENGLISH.rows]
    assert told.startswith("1 in training with 1 conversion (purchase), in the 1 market compared;")
    few = {**comparison.gaps[3], "p": None, "n_test_positive": 1}
    assert verdict_text(few, ENGLISH, 0.01) == "not enough data: 1 test conversion"
    untrained = {**comparison.gaps[4], "n_train_positive": 1}
    own = verdict_text(untrained, ENGLISH, 0.01)
    over = gap("MX", "global", 0.3, primary=False, against=CHANCE)
    told = verdict_text(untrained, ENGLISH, 0.01, over)
    assert (
        told == own + "; the model for all beats chance (AUC 0.5) by +0.3000 (+0.2900 to +0.3100)"
    )
    under = {**over, "verdict": CHANCE, "value": -0.3}
    assert "worse than chance" in verdict_text(untrained, ENGLISH, 0.01, under)
    unknown = {**over, "verdict": "not enough data"}
    assert verdict_text(untrained, ENGLISH, 0.01, unknown).endswith("chance cannot be told")
    assert "1 training conversion," in verdict_text(untrained, ENGLISH, 0.01)


@pytest.mark.parametrize("words", [ENGLISH, KOREAN])
def test_the_same_predictions_are_no_win(comparison: Comparison, words: Words) -> None:
    same = gap("KR", SAME, 0.0, low=-1e-6, high=1e-6, p_holm=2e-4)
    compared = replace(comparison, gaps=[same, {**same, "primary": False, "against": "pooled"}])

    told = words.verdict_same.format(digits=4)
    assert verdict_text(same, words, 0.01) == told
    assert [row[-2:] for row in exploratory_rows(compared, words)] == [["< 0.001", told]] * 2
    assert kind_of(same) == "equivalent"
    if words is ENGLISH:
        assert "either serves 1 equally well; for 0" in bottom_line(compared, words)


def test_every_win_shows_a_digit_on_the_console(comparison: Comparison) -> None:
    small = gap("KR", "global", 0.0002, low=0.0001, high=0.0003, p_holm=1e-9)
    table = rich_tables(replace(comparison, gaps=[small]))[0]
    assert list(table.columns[2].cells) == ["+0.0002 (+0.0001 to +0.0003)"]
    assert list(table.columns[3].cells) == ["< 0.001"]
    (chart_row,) = gap_chart(replace(comparison, gaps=[small]), ENGLISH).usermeta["table"]["rows"]
    assert chart_row[2:4] == ["+0.0002 (+0.0001 to +0.0003)", "< 0.001"]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_what_quick_left_out_is_told(
    comparison: Comparison, tmp_path: Path, language: str
) -> None:
    words = words_of(language)
    quick = replace(comparison, curves=None, break_even=[], transfer=None)
    write_report(quick, tmp_path / "quick.html", language=language)
    write_report(comparison, tmp_path / "whole.html", language=language)

    assert "--quick" in words.left_out
    assert "--full" in words.left_out
    assert words.left_out in (tmp_path / "quick.html").read_text("utf-8")
    assert words.left_out not in (tmp_path / "whole.html").read_text("utf-8")


def test_the_three_questions_have_answers(comparison: Comparison) -> None:
    told = answers(comparison, ENGLISH)

    own = told[ENGLISH.own_question]
    assert f"Of their own: {HOSTILE}. The model for all: KR. Either: JP." in own
    assert "Not shown either way: DE." in own
    assert "KR 90 (80–more than 100)" in told[ENGLISH.size_question]
    assert ENGLISH.new_question not in told  # one market is no average
    even = {**comparison.break_even[0], "conversions": None}
    open_ended = answers(replace(comparison, break_even=[even]), ENGLISH)
    assert "at most 100, KR" in open_ended[ENGLISH.size_question]


def test_a_new_country_is_told_from_the_markets_left_out(comparison: Comparison) -> None:
    assert comparison.transfer is not None
    seen = comparison.transfer.gaps[0]
    gaps = [{**seen, "scope": "macro", "value": -0.002}, seen, {**seen, "value": -0.03}]
    wider = replace(comparison, transfer=replace(comparison.transfer, gaps=gaps))
    told = answers(wider, ENGLISH)[ENGLISH.new_question]
    assert "−0.002 (−0.010 to +0.030)" in told
    assert "in single countries −0.030 to +0.010" in told


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        ((100.0, 420.4), None, ["model for all is expected to be the better one in a market of "
                                "100\N{EN DASH}420 training conversions"]),
        (None, (800.0, 1000.0), ["its own model is expected to be the better one in a market of "
                                 "800\N{EN DASH}1,000 training conversions"]),
        ((100.0, 100.2), (999.9, 1000.0), ["in a market of 100 training", "of 1,000 training"]),
        (None, None, ["shows neither model to be better at any size from 100 to 1,000 training"]),
    ],
)  # fmt: skip
def test_the_trend_over_markets_tells_for_which_sizes_it_shows_anything(
    comparison: Comparison,
    above: tuple[float, float] | None,
    below: tuple[float, float] | None,
    expected: list[str],
) -> None:
    trend = {**comparison.across[0]["trend"], "above": above, "below": below}
    found = replace(comparison, across=[{**comparison.across[0], "trend": trend}])

    told = answers(found, ENGLISH)[ENGLISH.size_question]

    assert all(part in told for part in expected)
    assert "drew level" in told
    assert "over 4 markets" in told
    assert told.count("95\N{NO-BREAK SPACE}%") == len(expected) + 1  # and that of curves
    assert "held the gap in 75% of the markets that can be left out in turn." in told
    korean = answers(found, KOREAN)[KOREAN.size_question]
    assert korean.count("95\N{NO-BREAK SPACE}%") == len(expected) + 1


def test_without_a_trend_or_curves_less_is_answered(comparison: Comparison) -> None:
    summary = comparison.across[0]
    unknown = {**summary, "trend": {**summary["trend"], "left_out_coverage": float("nan")}}
    without = replace(comparison, across=[unknown], break_even=[])
    told = answers(without, ENGLISH)[ENGLISH.size_question]
    assert "left out" not in told
    assert "drew level" not in told
    nothing = replace(without, across=[{k: v for k, v in summary.items() if k != "trend"}])
    assert ENGLISH.size_question not in answers(nothing, ENGLISH)


def test_being_told_the_country_is_answered_without_transfer(comparison: Comparison) -> None:
    assert ENGLISH.country_question not in answers(comparison, ENGLISH)
    country = gap("macro", "global", 0.021, scope="macro", against="global-without-country")
    found = replace(comparison, gaps=[*comparison.gaps, country], transfer=None)

    told = answers(found, ENGLISH)

    assert "is worth +0.021 (+0.011 to +0.031) AUC on average" in told[ENGLISH.country_question]
    assert ENGLISH.culture_question not in told


@pytest.mark.parametrize(
    ("lows", "shown"),
    [
        ((0.002, 0.001, 0.003), True),
        ((-0.002, 0.001, 0.003), False),
        ((0.002, -0.001, 0.003), False),
        ((None, 0.001, 0.003), False),
        ((0.002, 0.001, None), False),
    ],
)
def test_culture_tells_something_only_beyond_every_draw_of_random_numbers(
    comparison: Comparison, lows: tuple[float | None, ...], shown: bool
) -> None:
    worth, first, second = (
        {"market": "macro", "scope": "macro", "arm": DIMENSIONS, "value": 0.015, "low": low,
         "high": 0.03}
        for low in lows
    )  # fmt: skip
    random = {**worth, "arm": "random vectors 1"}
    assert comparison.transfer is not None
    transfer = replace(comparison.transfer, culture=[worth, random], beyond=[first, second])
    found = replace(comparison, transfer=transfer)

    told = answers(found, ENGLISH)[ENGLISH.culture_question]

    assert (ENGLISH.culture_shown in told) is shown
    assert (ENGLISH.culture_not_shown in told) is not shown
    assert "2 draws of them: +0.015" in told
    assert "By LightGBM" in told
    fusion = replace(found, data={**found.data, "curves_by": "fusion"})
    assert "By LightGBM" not in answers(fusion, ENGLISH)[ENGLISH.culture_question]
    assert (KOREAN.culture_shown in answers(found, KOREAN)[KOREAN.culture_question]) is shown
    for missing in (replace(transfer, beyond=[]), replace(transfer, culture=[random])):
        other = answers(replace(found, transfer=missing), ENGLISH)
        assert ENGLISH.culture_question not in other


def test_a_comparison_of_one_seed_calls_itself_preliminary(comparison: Comparison) -> None:
    counted = {"n_train": 1200, "n_train_positive": 40}
    data = {**comparison.data, "markets": {"KR": counted, "US": counted}}
    told = facts(replace(comparison, data=data), ENGLISH)
    assert "preliminary" in told[ENGLISH.seeds]
    assert told[ENGLISH.rows].startswith("2,400 in training with 80 conversions")
    several = facts(replace(comparison, data={**data, "seeds": 5}), ENGLISH)
    assert several[ENGLISH.seeds] == "5"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (0, "one model for all"),
        (1, "its own model"),
        (2, "equivalent (within ±0.01)"),
        (3, "a gap of 0.030 or more would be found four times"),
        (4, "3 training conversions"),
    ],
)
def test_a_verdict_says_why(comparison: Comparison, place: int, expected: str) -> None:
    assert expected in verdict_text(comparison.gaps[place], ENGLISH, 0.01)


def test_too_few_test_conversions_are_named(comparison: Comparison) -> None:
    few = {**comparison.gaps[3], "p": None, "n_test_positive": 12}
    assert verdict_text(few, ENGLISH, 0.01) == "not enough data: 12 test conversions"


def test_a_break_even_that_was_not_reached_is_open(comparison: Comparison) -> None:
    found = comparison.break_even[0]
    assert break_even_text(found, ENGLISH) == "90 (80–more than 100)"
    assert break_even_text({**found, "conversions": None}, ENGLISH) == "more than 100"
    assert break_even_text({**found, "conversions": 50.0}, ENGLISH) == "50 or fewer"


def test_a_kappa_that_never_counts_and_seeds_are_told(comparison: Comparison) -> None:
    assert facts(comparison, ENGLISH)[ENGLISH.kappa] == "never"
    several = replace(comparison, data={**comparison.data, "seeds": 5})
    assert any("and of the models" in line for line in caveats(several, ENGLISH))
    assert not any("and of the models" in line for line in caveats(comparison, ENGLISH))


def test_models_that_nothing_stopped_are_told(comparison: Comparison) -> None:
    told = [line for line in caveats(comparison, ENGLISH) if line.startswith("JP: ")]
    assert len(told) == 1
    assert "learns to its last epoch" in told[0]
    assert "own models of JP had no rows" in answers(comparison, ENGLISH)[ENGLISH.own_question]
    of_sizes = answers(comparison, ENGLISH)[ENGLISH.size_question]
    assert of_sizes.endswith("rests on JP, too, whose own models had no rows to be stopped by.")
    in_korean = answers(comparison, KOREAN)[KOREAN.size_question]
    assert "정할 데이터가 없었던 JP도" in in_korean
    none = replace(comparison, unstopped=[])
    assert "no rows" not in answers(none, ENGLISH)[ENGLISH.size_question]
    assert "had no rows" not in answers(none, ENGLISH)[ENGLISH.own_question]
    assert len(caveats(none, ENGLISH)) == len(caveats(comparison, ENGLISH)) - 1


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_page_shows_every_chart_with_its_table_and_no_script_of_the_data(
    comparison: Comparison, tmp_path: Path, language: str
) -> None:
    file = tmp_path / "report.html"
    write_report(comparison, file, language=language)
    page = file.read_text("utf-8")

    n_charts = len(charts_of(comparison, words_of(language)))
    assert n_charts == 7
    assert page.count('<div class="chart"') == page.count("<details") - 1 == n_charts
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_the_console_shows_markets_with_their_verdicts(comparison: Comparison) -> None:
    table = rich_tables(comparison)[0]
    assert table.row_count == 5
    assert "90 (80–more than 100)" in list(table.columns[-1].cells)


def test_both_languages_say_the_same_things() -> None:
    for field in fields(Words):
        english, korean = getattr(ENGLISH, field.name), getattr(KOREAN, field.name)
        named = [
            {name for _, name, _, _ in Formatter().parse(text) if name}
            for text in (english, korean)
        ]
        assert named[0] == named[1], field.name
        assert english
        assert korean
    with pytest.raises(SettingsError, match="did you mean 'ko'"):
        words_of("kr")
