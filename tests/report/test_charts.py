"""Charts say what the figures say, and their page needs no network."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.special import expit

from purchase_predictor.evaluation.summary import evaluate
from purchase_predictor.report import charts, curves
from purchase_predictor.report.explaining import grid_chart
from purchase_predictor.report.explaining_words import ENGLISH
from purchase_predictor.report.pages import write_html
from purchase_predictor.settings import EvaluationSettings

SETTINGS = EvaluationSettings(resamples=50, confidence=0.95, min_test_conversions=30, ece_bins=10)
HOSTILE = '</script><img src=x onerror="alert(1)">'
Run = tuple[pl.DataFrame, dict[str, Any]]


def make_run(markets: list[str], n: int = 2400) -> Run:
    generator = np.random.default_rng(0)
    x = generator.normal(-2, 1.2, n)
    predictions = pl.DataFrame(
        {
            "impression_id": [f"i{k}" for k in range(n)],
            "unit": np.arange(n),
            "market": np.array(markets)[np.arange(n) % len(markets)],
            "list_number": np.arange(n) // 4,
            "converted": generator.random(n) < expit(x),
            "fusion": expit(x + generator.normal(0, 0.4, n)),
            "lightgbm": np.round(expit(x + generator.normal(0, 0.6, n)), 2),
        },
        schema_overrides={"market": pl.String, "impression_id": pl.String},
    )
    truth = predictions.select("impression_id", p_true=expit(x), p_observable=expit(x))
    systems = ["fusion", "lightgbm"]
    return predictions, evaluate(
        predictions, systems=systems, settings=SETTINGS, seed=0, truth=truth
    )


@pytest.fixture(scope="module")
def run() -> Run:
    return make_run(["KR", "US", HOSTILE])


def every_chart(run: Run) -> list[charts.Chart]:
    predictions, result = run
    history = [{"train_loss": 0.3, "log_loss": 0.25}, {"train_loss": 0.2, "log_loss": 0.27}]
    return [
        charts.roc_chart(predictions, result),
        charts.calibration_chart(predictions, result),
        charts.lift_chart(predictions, result),
        charts.comparison_chart(result),
        charts.comparison_chart(result, metric="slope"),
        charts.gap_chart(result),
        charts.training_chart(history),
    ]


def test_area_under_the_drawn_curve_is_the_quoted_auc(run: Run) -> None:
    points = curves.roc_points(*run)

    for system, figures in run[1]["systems"].items():
        curve = points.filter(pl.col("system") == system)
        area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
        assert area == pytest.approx(figures["macro"]["auc"]["value"], abs=2e-3)


def test_drawn_lift_passes_through_the_quoted_one(run: Run) -> None:
    points = curves.lift_points(*run)

    for system, figures in run[1]["systems"].items():
        curve = points.filter(pl.col("system") == system)
        at_tenth = np.interp(np.log(0.1), np.log(curve["share"]), curve["lift"])
        assert at_tenth == pytest.approx(figures["macro"]["lift_10"]["value"], rel=0.01)
        assert curve["lift"][-1] == pytest.approx(1.0)


def test_calibration_points_hold_every_row_once(run: Run) -> None:
    predictions, _ = run

    points = curves.calibration_points(predictions, ["lightgbm"], n_bins=8, confidence=0.95)

    assert points["n"].sum() == len(predictions)
    mean = (points["predicted"] * points["n"]).sum() / len(predictions)
    assert mean == pytest.approx(predictions["lightgbm"].mean())
    assert (points["low"] <= points["rate"]).all()
    assert (points["rate"] <= points["high"]).all()


def test_every_chart_has_a_title_and_a_table_that_fits_its_columns(run: Run) -> None:
    for chart in every_chart(run):
        words = chart.to_dict()["usermeta"]
        assert words["title"]
        assert words["table"]["rows"]
        for row in words["table"]["rows"]:
            assert len(row) == len(words["table"]["columns"])


def test_page_needs_no_network_and_escapes_names(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "page.html"

    charts.write_html(every_chart(run), file, f"Run {HOSTILE}", language="ko")

    page = file.read_text("utf-8")
    markup = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # the bundle of Vega
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", markup)
    assert "vegaEmbed" in page
    assert HOSTILE not in page
    assert "&lt;/script&gt;&lt;img" in page
    assert '<html lang="ko">' in page
    assert markup.count("<table>") == 7
    specifications = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page)
    assert len(specifications) == 7
    assert all(json.loads(text)["width"] == "container" for text in specifications)
    assert HOSTILE in json.dumps(json.loads(specifications[3]), ensure_ascii=False).replace(
        '\\"', '"'
    )


def test_pictures(run: Run, tmp_path: Path) -> None:
    chart = charts.comparison_chart(run[1])

    charts.write_png(chart, tmp_path / "a.png", width=400, scale=1)
    charts.write_svg(chart, tmp_path / "a.svg")

    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert "lightgbm" in (tmp_path / "a.svg").read_text("utf-8")


def test_training_chart_marks_the_first_best_epoch() -> None:
    history = [{"train_loss": 0.3, "log_loss": loss} for loss in (0.25, 0.21, 0.21, 0.3)]

    words = charts.training_chart(history).to_dict()["usermeta"]

    assert "epoch 2" in words["note"]


@pytest.mark.parametrize("markets", [["KR"], ["KR", "US"]])
def test_one_market_is_quoted_by_its_name(markets: list[str]) -> None:
    _, result = make_run(markets, 1200)

    note = charts.roc_chart(*make_run(markets, 1200)).to_dict()["usermeta"]["note"]

    rows = charts.comparison_chart(result).to_dict()["usermeta"]["table"]["rows"]
    if markets == ["KR"]:
        assert "market KR" in note
        assert [row[0] for row in rows] == ["KR"]
    else:
        assert "average over 2 markets" in note
        assert [row[0] for row in rows][:2] == ["average", "pooled"]


@pytest.mark.parametrize("n", [0, 12])
def test_too_few_rows_draw_without_a_crash(n: int, tmp_path: Path) -> None:
    run = make_run(["KR", "US"], n)

    charts.write_html(
        [
            charts.roc_chart(*run),
            charts.calibration_chart(*run),
            charts.lift_chart(*run),
            charts.comparison_chart(run[1]),
            charts.gap_chart(run[1]),
            charts.training_chart([]),
        ],
        tmp_path / "page.html",
        "Nothing",
    )

    assert (tmp_path / "page.html").stat().st_size > 100_000


@pytest.mark.parametrize("n_markets", [2, 9])
def test_a_grid_of_effects_is_no_narrower_than_its_figures(n_markets: int, tmp_path: Path) -> None:
    markets = [f"M{number}" for number in range(n_markets)]
    named = pl.DataFrame(
        {
            "market": markets, "name": "sale", "logit": 0.1, "logit_low": 0.0, "logit_high": 0.2,
            "p": 0.5, "sure": False,
        }
    )  # fmt: skip

    write_html(grid_chart(named, ENGLISH), tmp_path / "grid.html", "A grid")

    (width,) = re.findall(r"min-width: (\d+)px", (tmp_path / "grid.html").read_text("utf-8"))
    assert int(width) == 220 + 46 * n_markets
