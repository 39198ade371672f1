"""Tables out of results: what is counted, what is averaged, what is written where."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from benchmarks import table
from benchmarks.comparing import GAP_METRICS, calibration_rows, fusion_gaps, over_seeds, shares
from purchase_predictor.errors import UserError
from purchase_predictor.evaluation.summary import evaluate
from purchase_predictor.settings import load_settings
from purchase_predictor.training.search import load_spaces

SETTINGS = load_settings(overrides=["evaluation.resamples=40"]).evaluation
SYSTEMS = ["fusion", "lightgbm"]


def frame_of(seed: int, *, fusion_noise: float, lightgbm_noise: float) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    n = 1500
    logit = rng.normal(0, 1.5, n)

    def seen(noise: float) -> np.ndarray:
        return 1 / (1 + np.exp(-(logit + rng.normal(0, noise, n))))

    return pl.DataFrame(
        {
            "impression_id": [f"i{row}" for row in range(n)],
            "market": np.where(np.arange(n) % 2 == 0, "KR", "US"),
            "converted": rng.random(n) < 1 / (1 + np.exp(-logit)),
            "unit": np.arange(n) // 3,
            "list_number": np.arange(n) // 3,
            "fusion": seen(fusion_noise),
            "lightgbm": seen(lightgbm_noise),
            "p_observable": 1 / (1 + np.exp(-logit)),
            "p_true": 1 / (1 + np.exp(-logit)),
        }
    )


def run_of(name: str, seed: int, frame: pl.DataFrame) -> dict[str, Any]:
    """An entry of `runs`, as `quality.py` writes it."""
    result = evaluate(
        frame.drop("p_observable", "p_true"),
        systems=SYSTEMS,
        settings=SETTINGS,
        seed=0,
        truth=frame.select("impression_id", "p_true", "p_observable"),
        gap_metrics=GAP_METRICS,
    )
    dropped = frame.with_columns(pl.col("lightgbm").alias("no text"))
    return {
        "data": name,
        "seed": seed,
        "facts": {
            "n_train": 5000, "n_train_conversions": 400, "prepare_s": 12.0,
            "click_auc": {"training": 0.61, "validation": None},
        },
        "costs": {s: {"fit_s": 1.0, "rows_per_s": 5000.0, "peak_gb": 1.5} for s in SYSTEMS},
        "shares": shares(result),
        "levelled_shares": {"fusion": 0.875},
        "calibration": calibration_rows(result),
        "drops": fusion_gaps(dropped, ["no text"], SETTINGS, seed=0),
        **result,
    }  # fmt: skip


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Two worlds: the fusion is clearly better in the first, clearly worse in the second."""
    frames = {
        0: frame_of(0, fusion_noise=0.2, lightgbm_noise=2.0),
        1: frame_of(1, fusion_noise=2.0, lightgbm_noise=0.2),
    }
    same = {0: frames[0], 1: frames[0]}
    return {
        "benchmark": "quality",
        "config": "tuned.yaml",
        "set": [],
        "runs": [run_of(f"world-{seed}", 0, frame) for seed, frame in frames.items()],
        "over_seeds": [{"data": "world-0", **gap} for gap in over_seeds(same, SYSTEMS, SETTINGS)],
    }


TUNING = {
    "data": "world-100",
    "ranked_by": "log-loss",
    "sampler": "TPE",
    "systems": {
        "fusion": {
            "n_trials": 20, "seconds": 1234.5, "start_log_loss": 0.2, "log_loss": 0.19,
        }
    },
}  # fmt: skip


def rows_of(text: str, start: str) -> list[list[str]]:
    """Cells of the table rows that begin with `start`."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_runs_are_counted_on_the_side_on_which_they_are_clear(document: dict[str, Any]) -> None:
    counted = rows_of(table.tally(document["runs"]), "fusion − lightgbm")

    by_metric = {cells[1]: cells[3:] for cells in counted}
    assert by_metric["AUC"] == ["1 of 2", "1 of 2"]
    assert by_metric["Normalised entropy"] == ["1 of 2", "1 of 2"]


@pytest.mark.parametrize(
    ("metric", "low", "high", "better", "worse"),
    [
        ("auc", 0.01, 0.02, True, False),
        ("auc", -0.02, -0.01, False, True),
        ("auc", -0.01, 0.01, False, False),
        ("log_loss", 0.01, 0.02, False, True),
        ("log_loss", -0.02, -0.01, True, False),
        ("auc", None, None, False, False),
    ],
)
def test_an_interval_is_clear_of_zero_on_one_side(
    metric: str, low: float | None, high: float | None, better: bool, worse: bool
) -> None:
    gap = {"metric": metric, "low": low, "high": high}

    assert (table.is_better(gap), table.is_worse(gap)) == (better, worse)


def test_the_page_holds_every_part(document: dict[str, Any]) -> None:
    page = table.quality_page([document, TUNING])

    for heading in (
        "## Tuning", "## world-0, world-1", "### world-0, seed 0", "### Over seeds",
        "### Calibration", "### Without a modality",
    ):  # fmt: skip
        assert page.count(f"\n{heading}\n") == 1
    assert rows_of(page, "world-100") == [
        ["world-100", "fusion", "20", "1,234", "0.20000", "0.19000"]
    ]
    assert len(rows_of(page, "*observable ceiling*")) == 2
    auc = document["runs"][0]["systems"]["fusion"]["macro"]["auc"]
    assert rows_of(page, "fusion")[0][1].startswith(f"{auc['value']:.3f} ({auc['low']:.3f}")
    place = rows_of(page, "system")[0].index("the same, level put right")
    assert rows_of(page, "fusion")[0][place] == "87.5%"
    assert rows_of(page, "lightgbm")[0][place] == table.NOTHING


def test_markets_with_few_conversions_are_not_judged_on_calibration(
    document: dict[str, Any],
) -> None:
    (first, _) = document["runs"]
    few = {**first, "calibration": [{**row, "n_positive": 299} for row in first["calibration"]]}

    assert table.calibration_table([few]) == ""
    found = rows_of(table.calibration_table([first]), "world-0, seed 0")
    assert len(found) == 6
    row = first["calibration"][0]
    assert found[0][-2:] == [f"{row['ratio_to_best']:.2f}", f"{row['best_ece_share']:.1%}"]


def test_dropped_modalities_name_the_markets_in_which_they_tell(document: dict[str, Any]) -> None:
    first, second = rows_of(table.drops_table(document["runs"]), "world-0, seed 0"), rows_of(
        table.drops_table(document["runs"]), "world-1, seed 0"
    )  # fmt: skip

    assert first[0][4:] == ["2 of 2", "KR, US"]
    assert second[0][4:] == ["0 of 2", "–"]


def test_the_short_table_averages_worlds_and_says_how_many_are_clear(
    document: dict[str, Any],
) -> None:
    short = table.readme_block([document, TUNING])

    fusion, lightgbm = rows_of(short, "world-0, world-1 (mean of 2)")
    values = [run["systems"]["fusion"]["macro"]["auc"]["value"] for run in document["runs"]]
    assert fusion[2] == f"{np.mean(values):.3f}"
    assert fusion[8].endswith("; better in 1, worse in 1")
    assert lightgbm[8] == "–"


def test_seeds_of_one_data_folder_are_quoted_with_the_interval_over_both(
    document: dict[str, Any],
) -> None:
    seeds = {**document, "runs": [document["runs"][0], {**document["runs"][0], "seed": 1}]}
    (gap,) = (
        gap
        for gap in document["over_seeds"]
        if (gap["arm"], gap["metric"], gap["scope"]) == ("fusion", "auc", "macro")
    )

    fusion, lightgbm = rows_of(table.readme_block([seeds]), "world-0 (mean of 2 seeds)")

    assert fusion[8] == f"{gap['value']:+.4f} ({gap['low']:+.4f} to {gap['high']:+.4f})"
    assert lightgbm[8] == "–"


def test_one_run_is_quoted_with_its_interval(document: dict[str, Any]) -> None:
    alone = {**document, "runs": document["runs"][:1]}

    fusion, _ = rows_of(table.readme_block([alone]), "world-0")

    assert fusion[8].startswith("+")
    assert " to +" in fusion[8]


def test_the_block_is_replaced_and_the_rest_stays(
    document: dict[str, Any], tmp_path: Path
) -> None:
    readme, docs, results = (tmp_path / name for name in ("README.md", "q.md", "r.json"))
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    results.write_text(json.dumps(document))
    command = [str(results), "--docs", str(docs), "--readme", str(readme)]

    assert table.main(command) == 0
    once = readme.read_text()
    assert table.main(command) == 0

    assert readme.read_text() == once
    assert once.startswith(f"before\n{table.BEGIN}\n| data |")
    assert once.endswith(f"|\n{table.END}\nafter\n")
    assert "old" not in once
    assert docs.read_text() == table.quality_page([document])


@pytest.mark.parametrize("page", ["nothing", table.BEGIN, f"{table.END} {table.BEGIN}"])
def test_a_page_without_the_marks_is_named(page: str) -> None:
    with pytest.raises(UserError, match=r"README\.md must hold"):
        table.with_block(page, "new", "README.md")


def test_results_of_tuning_alone_make_no_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tuned.json"
    file.write_text(json.dumps(TUNING))

    assert table.main([str(file)]) == 2

    assert "none of the files has a run" in capsys.readouterr().err


def test_a_file_of_something_else_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "ablation.json"
    file.write_text(json.dumps({"benchmark": "ablation", "runs": []}))
    assert table.main([str(file)]) == 2
    assert "ablation.json is neither" in capsys.readouterr().err


def test_lightgbm_is_tuned_where_the_tune_command_tunes_it() -> None:
    file = Path(table.__file__).with_name("tune.yaml")
    assert load_spaces(file)["lightgbm"] == load_spaces(None)["lightgbm"]
