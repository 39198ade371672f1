"""What carries the decision, market by market: price, position, repetition, device.

    python -m purchase_predictor.explain --model M --data data/trivago --impressions 20000 \
        --output runs/explain
    python -m benchmarks.carriers --explained runs/explain --data data/trivago \
        --output carriers.json

Reads the contributions of single impressions that `explain` wrote. The columns of a group are
added up in each impression; a group's share is the mean size of its sum over that of all groups,
with intervals over users, for the transformer (integrated gradients) and for LightGBM (TreeSHAP).
Their agreement is the rank correlation of a group's sums between the two, over impressions.
"""

import argparse
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from purchase_predictor.attribution.aggregates import clustered_ratio
from purchase_predictor.attribution.contributions import GRADIENTS, TREES
from purchase_predictor.errors import UserError
from purchase_predictor.report.figures import number, text

CONFIDENCE = 0.95
GROUPS = {
    "repetition": r"on_product|times_shown|since_product|since_shown|shown_before|touched",
    "price": r"price",
    "position": r"position|place_in_list",
    "device": r"^device$",
}
"""Patterns of columns' names; a column belongs to the first that it matches."""

REST = "the rest"
MIN_IMPRESSIONS = 100
NAMES = {GRADIENTS: "fusion", TREES: "lightgbm"}


def group_of(token: str) -> str:
    """The group that a column's name belongs to."""
    return next((name for name, own in GROUPS.items() if re.search(own, token)), REST)


def sums(explained: Path) -> pl.DataFrame:
    """Contribution of each group to each impression, `impression_id, market, method, GROUP, …`.

    Args:
        explained: output folder of `explain`.
    """
    rows = pl.scan_parquet(explained / "contributions.parquet")
    rows = rows.filter(pl.col("method").is_in(list(NAMES)))
    tokens = rows.select("modality", "token").unique().collect()
    groups = [
        # a title's words are no columns, whatever they are called
        REST if modality == "text" else group_of(token)
        for modality, token in tokens.iter_rows()
    ]
    known = tokens.with_columns(group=pl.Series(groups, dtype=pl.String))
    keys = ["impression_id", "market", "method", "group"]
    total = (
        rows.join(known.lazy(), on=["modality", "token"]).group_by(keys).agg(pl.col("value").sum())
    )
    wide = total.collect().pivot("group", index=keys[:3], values="value").fill_null(0.0)
    missing = [pl.lit(0.0).alias(name) for name in (*GROUPS, REST) if name not in wide.columns]
    return wide.with_columns(missing)


def shares(rows: pl.DataFrame) -> dict[str, list[float | None]]:
    """Share of each group with its interval, None of few users; `rows`: of one method."""
    sizes = np.abs(rows.select(*GROUPS, REST).to_numpy())
    unit = rows["unit"].to_numpy()
    return {
        name: [
            None if np.isnan(value) else value
            for value in clustered_ratio(size, sizes.sum(axis=1), unit, CONFIDENCE)
        ]
        for name, size in zip((*GROUPS, REST), sizes.T, strict=True)
    }


def agreement(by_method: Mapping[str, pl.DataFrame]) -> dict[str, float | None]:
    """Rank correlation of each group's sums between the two systems; None of what is constant."""
    both = by_method[GRADIENTS].join(by_method[TREES], on="impression_id", suffix="_trees")

    def likeness(name: str) -> float | None:
        pair: list[NDArray[np.float64]] = [both[name].to_numpy(), both[f"{name}_trees"].to_numpy()]
        return None if any(np.ptp(x) == 0 for x in pair) else float(spearmanr(*pair)[0])

    return {name: likeness(name) for name in GROUPS}


def carriers(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Shares and agreement of every market with enough impressions, then of all.

    Args:
        rows: of `sums`, with `unit`.
    """
    found = []
    parts = [(str(name), part) for (name,), part in rows.group_by("market")]
    for market, part in [*sorted(parts, key=lambda one: one[0]), ("all", rows)]:
        by_method = {
            method: part.filter(pl.col("method") == method)
            for method in NAMES
            if method in part["method"]
        }
        if GRADIENTS not in by_method or len(by_method[GRADIENTS]) < MIN_IMPRESSIONS:
            continue
        found.append(
            {
                "market": market,
                "n": len(by_method[GRADIENTS]),
                "shares": {NAMES[method]: shares(own) for method, own in by_method.items()},
                "agreement": agreement(by_method) if TREES in by_method else {},
            }
        )
    return found


def units(data: Path) -> pl.DataFrame:
    """The user, or else the session, of each impression: `impression_id, unit`."""
    rows = pl.scan_parquet(data / "impressions.parquet")
    unit = pl.coalesce("user_id", "session_id") if "user_id" in rows.collect_schema() else (
        pl.col("session_id")
    )  # fmt: skip
    return rows.select("impression_id", unit=unit.rank("dense").cast(pl.Int64)).collect()


def table_of(found: list[dict[str, Any]]) -> Table:
    """For the console: a line for each system, and one for how far they agree."""
    table = Table("market", "n", "system", *GROUPS, REST, box=None)
    for row in found:
        for system, own in row["shares"].items():
            cells = [
                text(dict(zip(("value", "low", "high"), share, strict=True)), ".0%")
                for share in own.values()
            ]
            table.add_row(row["market"], f"{row['n']:,}", system, *cells)
        if row["agreement"]:
            cells = [number(row["agreement"][name], "+.2f") for name in GROUPS]
            table.add_row("", "", "rank correlation", *cells)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Read, add up, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--explained", type=Path, required=True, help="output folder of explain")
    parser.add_argument("--data", type=Path, required=True, help="data folder that was explained")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    try:
        rows = sums(options.explained).join(units(options.data), on="impression_id")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    found = carriers(rows)
    Console(width=150).print(table_of(found))
    left = set(rows["market"]) - {row["market"] for row in found}
    if left:
        print(f"with fewer than {MIN_IMPRESSIONS} impressions: {', '.join(sorted(left))}")
    options.output.write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
