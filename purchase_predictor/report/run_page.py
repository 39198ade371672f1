"""What a run's page in MLflow says: the figures worth a column, and a description."""

from collections.abc import Mapping
from typing import Any

from purchase_predictor.report.calibrated import calibration_sentences
from purchase_predictor.report.console import COLUMNS, gap_sentences, metrics_table
from purchase_predictor.report.figures import METRIC_NAMES, Result, describe_scope

MARKET_METRICS = ("auc", "normalised_entropy", "average_precision", "ece", "mean_ratio")
"""What is logged of every market."""

POOLED_METRICS = ("auc", "normalised_entropy", "average_precision", "log_loss", "brier")
"""What is logged of all rows pooled."""


def logged_figures(systems: Mapping[str, Any]) -> dict[str, Any]:
    """Figures that become columns of MLflow; `metrics.json` has all of them.

    Every metric of every market with both ends of its interval is 1,500 columns for nine markets,
    and a page of as many charts. The average over markets is whole; of a market and of all rows
    the main metrics are logged, and the interval of the AUC. Names are short, `fusion.KR.auc`,
    since the columns are narrow.

    Args:
        systems: the `systems` of `metrics.json`.

    Returns:
        System, then `macro`, `pooled` or the market, then metric.
    """
    return {
        name: {
            **{
                market: _main(figures, MARKET_METRICS)
                for market, figures in system["markets"].items()
            },
            "macro": {metric: _with_ends(system["macro"][metric]) for metric in METRIC_NAMES},
            "pooled": _main(system["pooled"], POOLED_METRICS),
        }
        for name, system in systems.items()
    }


def _main(figures: Mapping[str, Any], metrics: tuple[str, ...]) -> dict[str, Any]:
    kept: dict[str, Any] = {metric: figures[metric]["value"] for metric in metrics}
    kept["auc"] = _with_ends(figures["auc"])
    return kept | {"n_positive": figures["n_positive"]}


def _with_ends(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {end: figure[end] for end in ("value", "low", "high")}


def run_note(result: Result, *, market: str, scope: str, champion: str, n_train: int) -> str:
    """A run's description in Markdown: what it is, how good it is, where to look further.

    Args:
        result: what `evaluate` returned.
        market: whose the model is, or `all`.
        scope: local, global or adapted.
        champion: the system that answers.
        n_train: training rows.
    """
    whose = "all markets" if market == "all" else f"market {market}"
    lines = [
        f"The {scope} model of {whose}, of {n_train:,} training rows. `{champion}` answers: it "
        "was best on validation rows.",
        "",
        f"Test rows, {describe_scope(result)}:",
        "",
        "| system | " + " | ".join(COLUMNS.values()) + " |",
        "|---" * (1 + len(COLUMNS)) + "|",
    ]
    lines += [
        f"| {row['system']} | " + " | ".join(row[metric] for metric in COLUMNS) + " |"
        for row in metrics_table(result)
    ]
    sentences = [*gap_sentences(result), *calibration_sentences(result)]
    if sentences:
        lines += ["", *(f"- {sentence}" for sentence in sentences)]
    return "\n".join(lines) + "\n"
