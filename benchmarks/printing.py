"""What `quality.py` prints: a table for each run and a sentence for each comparison."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from purchase_predictor.report.console import gap_sentences
from purchase_predictor.report.figures import (
    METRIC_NAMES,
    describe_scope,
    figure,
    number,
    quoted_scope,
    text,
)

METRICS = {
    "auc": "AUC", "average_precision": "AP", "normalised_entropy": "norm. entropy", "ece": "ECE",
    "mrr": "MRR",
}  # fmt: skip


def print_runs(document: Mapping[str, Any], console: Console) -> None:
    """Print every run, then the differences over seeds.

    Args:
        document: what `quality.py` writes.
        console: where to.
    """
    for run in document["runs"]:
        console.print(run_table(run))
        for sentence in [*gap_sentences(run), *drop_sentences(run)]:
            console.print(sentence, markup=False, highlight=False)
    for gap in document["over_seeds"]:
        console.print(seed_sentence(gap), markup=False, highlight=False)


def run_table(run: Mapping[str, Any]) -> Table:
    """Figures and costs of each system in the quoted scope; the pooled AUC and entropy beside."""
    scope = quoted_scope(dict(run))
    facts = run["facts"]
    quoted = next(iter(run["systems"].values()))[scope]
    table = Table(
        title=f"{run['data']}, seed {run['seed']}, {describe_scope(dict(run))}: "
        f"{facts['n_train']:,} training rows ({facts['n_train_conversions']:,} conversions), "
        f"{quoted['n']:,} test rows ({quoted['n_positive']:,} conversions); "
        f"preparation {facts['prepare_s']:.0f} s",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold underline",
    )
    ceilings = list(run["ceilings"])
    heads = [*METRICS.values(), "pooled AUC", "pooled norm. entropy"]
    heads += [f"way to {name}" for name in ceilings if name != "true"]
    table.add_column("system")
    for head in [*heads, "fit s", "rows/s", "peak GB"]:
        table.add_column(head, justify="right")
    for name, system in run["systems"].items():
        cost = run["costs"][name]
        cells = [text(figure(system, scope, metric)) for metric in METRICS]
        cells += [text(figure(system, "pooled", m)) for m in ("auc", "normalised_entropy")]
        reached = run["shares"][name][scope]
        cells += [number(reached[c], ".1%") for c in ceilings if c != "true"]
        costs = [f"{cost['fit_s']:.1f}", f"{cost['rows_per_s']:,.0f}", f"{cost['peak_gb']:.2f}"]
        # intervals stand under their figures: more columns fit
        table.add_row(name, *(cell.replace(" (", "\n(") for cell in cells), *costs)
    return table


def drop_sentences(run: Mapping[str, Any]) -> list[str]:
    """What the fusion loses without each modality."""
    return [
        f"{run['data']}, seed {run['seed']}: fusion with{gap['arm'].replace('no ', 'out ')} − "
        f"fusion, log-loss ({gap['market']}): {text(gap, '+.5f')}: "
        f"{'worse' if (gap['low'] or 0) > 0 else 'not told'}"
        for gap in run["drops"]
        if gap["metric"] == "log_loss"
    ]


def seed_sentence(gap: Mapping[str, Any]) -> str:
    """A mean difference over seeds."""
    return (
        f"{gap['data']}, mean of {gap['n_seeds']} seeds, {gap['scope']}: {gap['arm']} − "
        f"{gap['against']}, {METRIC_NAMES[gap['metric']]}: {text(dict(gap), '+.4f')} "
        "(interval over users and seeds)"
    )
