"""What `train` prints of its figures: one table and a sentence for each gap."""

from typing import Any

from rich.markup import escape
from rich.table import Table

from purchase_predictor.counted import Counted
from purchase_predictor.report.calibrated import ECE_NOTE
from purchase_predictor.report.figures import (
    Result,
    describe_scope,
    figure,
    gap_text,
    level,
    number,
    p_text,
    quoted_scope,
    text,
)

COLUMNS = {
    "auc": "AUC",
    "average_precision": "AP",
    "normalised_entropy": "norm. entropy",
    "ece": "ECE",
}


def metrics_table(result: Result) -> list[dict[str, str]]:
    """Figures of each system and ceiling in the quoted scope, with intervals.

    Args:
        result: what `evaluate` returned.

    Returns:
        A row for each system, then for each ceiling: `system`, the names of `COLUMNS`, and
        `share_closed`, the share of the way from the base rate to the observable ceiling
        (empty where no truth is known).
    """
    scope = quoted_scope(result)
    entries: dict[str, Any] = {**result["systems"]}
    entries |= {f"ceiling: {name}": entry for name, entry in result["ceilings"].items()}
    rows = []
    for name, entry in entries.items():
        row = {"system": name}
        row |= {metric: text(figure(entry, scope, metric)) for metric in COLUMNS}
        closed = entry[scope].get("share_closed")
        row["share_closed"] = text(closed, ".0%") if closed is not None else ""
        rows.append(row)
    return rows


def rich_table(result: Result) -> Table:
    """The same as a table for the console; its title says which scope is quoted.

    Args:
        result: what `evaluate` returned.
    """
    quoted = next(iter(result["systems"].values()))[quoted_scope(result)]
    counts = (
        f"{Counted(quoted['n']):row|rows}, {Counted(quoted['n_positive']):conversion|conversions}"
    )
    table = Table(
        title=f"{escape(describe_scope(result))}: {counts} ({level(result)} intervals)",
        title_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
        header_style="bold underline",
        pad_edge=False,
        caption=ECE_NOTE,
        caption_justify="left",
    )
    rows = metrics_table(result)
    shown = [name for name in rows[0] if any(row[name] for row in rows)]
    heads = {"system": "system", **COLUMNS, "share_closed": "to ceiling"}
    for name in shown:
        table.add_column(heads[name])
    for row in rows:
        # intervals stand under their figures: a console of 80 columns shows every digit
        table.add_row(*(row[name].replace(" (", "\n(").replace(": ", ":\n") for name in shown))
    return table


def gap_sentences(result: Result) -> list[str]:
    """One sentence for each gap in the quoted scope, the least that could be seen beside it.

    Args:
        result: what `evaluate` returned.
    """
    names = {"auc": "AUC", "normalised_entropy": "normalised entropy"}
    return [
        f"{gap['arm']} − {gap['against']}, {names.get(gap['metric'], gap['metric'])} "
        f"({describe_scope(result)}): {gap_text(gap)}, p {p_text(gap['p'])}: "
        f"{gap['verdict']} (smallest detectable {number(gap['smallest_detectable'], '.4f')})"
        for gap in result["gaps"]
        if gap["scope"] == quoted_scope(result)
    ]
