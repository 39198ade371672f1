"""What train prints of its figures."""

from io import StringIO
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from scipy.special import expit

from purchase_predictor.evaluation.summary import evaluate
from purchase_predictor.report.calibrated import calibration_sentences
from purchase_predictor.report.console import gap_sentences, metrics_table, rich_table
from purchase_predictor.report.figures import number, p_text, text
from purchase_predictor.settings import EvaluationSettings

SETTINGS = EvaluationSettings(resamples=50, confidence=0.9, min_test_conversions=30, ece_bins=10)


def make_result(markets: str, *, with_truth: bool) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    n = 1500
    x = generator.normal(-2, 1.2, n)
    predictions = pl.DataFrame(
        {
            "impression_id": np.arange(n),
            "unit": np.arange(n),
            "market": np.array(list(markets))[np.arange(n) % len(markets)],
            "list_number": np.arange(n) // 4,
            "converted": generator.random(n) < expit(x),
            "fusion": expit(x + generator.normal(0, 0.4, n)),
            "lightgbm": expit(x + generator.normal(0, 0.6, n)),
        }
    )
    truth = pl.DataFrame(
        {"impression_id": np.arange(n), "p_true": expit(x), "p_observable": expit(x)}
    )
    return evaluate(
        predictions,
        systems=["fusion", "lightgbm"],
        settings=SETTINGS,
        seed=0,
        truth=truth if with_truth else None,
    )


def test_rows_quote_the_macro_average_and_the_ceilings() -> None:
    result = make_result("ABC", with_truth=True)

    rows = metrics_table(result)

    names = [row["system"] for row in rows]
    assert names == ["fusion", "lightgbm", "ceiling: true", "ceiling: observable"]
    macro = result["systems"]["fusion"]["macro"]
    assert rows[0]["auc"] == text(macro["auc"])
    assert rows[0]["share_closed"].startswith(f"{macro['share_closed']['value']:.0%}")
    assert rows[2]["share_closed"] == ""


def test_table_shows_every_digit_on_80_columns() -> None:
    result = make_result("ABC", with_truth=True)
    console = Console(width=80, record=True, file=StringIO())

    console.print(rich_table(result))

    printed = console.export_text()
    assert "average over 3 markets: 1,500 rows" in printed
    assert "(90\N{NO-BREAK SPACE}%" in printed
    for row in metrics_table(result):
        for cell in (row["auc"], row["average_precision"], row["ece"]):
            value, bounds = cell.split(" ", 1)
            assert value in printed
            assert bounds in printed


def test_one_market_without_truth_has_no_way_closed() -> None:
    result = make_result("K", with_truth=False)

    table = rich_table(result)

    assert "market K" in str(table.title)
    assert [str(column.header) for column in table.columns] == [
        "system", "AUC", "AP", "norm. entropy", "ECE",
    ]  # fmt: skip


def test_only_what_is_surely_off_is_said_of_calibration() -> None:
    result = make_result("AB", with_truth=False)
    for entry in result["systems"].values():
        for metric in ("slope", "mean_ratio"):
            entry["pooled"][metric] = {"value": 1.01, "low": 0.98, "high": 1.04}
    assert calibration_sentences(result) == []
    result["systems"]["fusion"]["pooled"]["slope"] = {"value": 0.8, "low": 0.65, "high": 0.96}
    result["systems"]["lightgbm"]["pooled"]["mean_ratio"] = {
        "value": 1.2, "low": 1.1, "high": 1.3,
    }  # fmt: skip
    assert calibration_sentences(result) == [
        "fusion, calibration slope (all rows): 0.80 (0.65–0.96): the highest are too high and the "
        "lowest too low",
        "lightgbm, mean prediction / rate (all rows): 1.20 (1.10–1.30): more conversions are "
        "predicted than came",
    ]


def test_gap_sentences_say_what_could_have_been_seen() -> None:
    auc, entropy = gap_sentences(make_result("AB", with_truth=False))

    assert auc.startswith("fusion − lightgbm, AUC (average over 2 markets): ")
    assert "smallest detectable" in auc
    assert "normalised entropy" in entropy


def test_a_small_p_is_not_told_as_zero() -> None:
    result = make_result("AB", with_truth=False)
    for found in result["gaps"]:
        found["p"] = 1e-7
    assert all(", p < 0.001: " in sentence for sentence in gap_sentences(result))
    told = [p_text(p) for p in (None, 0.0, 0.00099, 0.001, 0.25)]
    assert told == ["–", "< 0.001", "< 0.001", "0.001", "0.250"]


def test_one_row_and_one_conversion_are_told_so() -> None:
    result = make_result("K", with_truth=False)
    for system in result["systems"].values():
        system["pooled"] |= {"n": 1, "n_positive": 1}
    assert "1 row, 1 conversion (" in str(rich_table(result).title)


def test_figures_without_a_value_are_a_dash() -> None:
    assert number(None) == "–"
    assert text({"value": None, "low": None, "high": None}) == "–"
    assert text({"value": 0.5, "low": None, "high": None}) == "0.500"
    assert text({"value": -0.01, "low": -0.02, "high": 0.0}, "+.2f") == "−0.01 (−0.02 to +0.00)"
