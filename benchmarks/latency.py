"""Latency: milliseconds from request to probabilities, the fusion's and LightGBM's side by side.

    python benchmarks/latency.py --model MODEL --data DIR --output latency.json

The model is loaded once, as a service would. A request is one row per list (`scoring_rows`):
the products shown together, the events before, no tables of a catalogue; once with one
candidate, once with fifty of one session. Requests of both systems alternate, so that what else
the machine does burdens both alike. Encoding is a part of every request and the same for both;
`encode` tells how much of it.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from features.context import Kind
from features.schema import Tables, load_tables
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scoring_rows import example_rows, score_rows

SYSTEMS = ("fusion", "lightgbm")
CANDIDATES = (1, 50)
WARM_UP = 5


def requests(tables: Tables, n_candidates: int, n: int) -> list[dict[str, Any]]:
    """Rows with as many candidates: those of a list, filled up from other lists.

    Args:
        tables: checked.
        n_candidates: of each request.
        n: requests.
    """
    rows = example_rows(tables, n_lists=n)
    offers = [offer for row in rows for offer in row["candidates"]]
    made = []
    for number, row in enumerate(rows):
        others = offers[number:] + offers[:number]
        candidates = (row["candidates"] + others * n_candidates)[:n_candidates]
        made.append({**row, "candidates": candidates})
    return made


def milliseconds(call: Callable[[], object]) -> float:
    """How long a call takes."""
    began = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - began)


def measured(
    predictor: PurchasePredictor, rows: list[dict[str, Any]], context: dict[str, Kind], n: int
) -> dict[str, list[float]]:
    """Milliseconds of n requests of each system, and of encoding alone."""
    preparation = predictor.preparation_

    def scored(row: dict[str, Any], system: str) -> None:
        answers = score_rows([row], context, lambda t: predictor.predict_proba(t, system))
        if len(answers[0]["probabilities"]) != len(row["candidates"]):
            raise RuntimeError("a candidate is missing in the answer")

    def encoded(row: dict[str, Any]) -> None:
        def only_encode(tables: Tables) -> pl.DataFrame:
            preparation.encode(tables)
            ids = tables.impressions.select("impression_id")
            return ids.with_columns(probability=pl.lit(0.5), flags=pl.lit([], pl.List(pl.String)))

        score_rows([row], context, only_encode)

    found: dict[str, list[float]] = {name: [] for name in (*SYSTEMS, "encode")}
    for number in range(n + WARM_UP):
        row = rows[number % len(rows)]
        for system in SYSTEMS:
            took = milliseconds(lambda s=system, r=row: scored(r, s))  # type: ignore[misc]
            if number >= WARM_UP:
                found[system].append(took)
        took = milliseconds(lambda r=row: encoded(r))  # type: ignore[misc]
        if number >= WARM_UP:
            found["encode"].append(took)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="model folder")
    parser.add_argument("--data", type=Path, required=True, help="data folder to ask about")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--requests", type=int, default=200, help="of each system and size")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    loading = time.perf_counter()
    predictor = PurchasePredictor.load(options.model)
    loading = time.perf_counter() - loading
    tables = load_tables(options.data, require_labels=False)
    context = predictor.preparation_.features_.context_
    table = []
    for n_candidates in CANDIDATES:
        rows = requests(tables, n_candidates, 50)
        for system, took in measured(predictor, rows, context, options.requests).items():
            p50, p99 = np.percentile(took, [50, 99])
            table.append(
                {"candidates": n_candidates, "system": system, "p50_ms": p50, "p99_ms": p99}
            )
    print(f"loaded in {loading:.1f} s")
    for row in table:
        print(
            f"{row['candidates']:>3} candidates  {row['system']:10}"
            f"p50 {row['p50_ms']:8.1f} ms  p99 {row['p99_ms']:8.1f} ms"
        )
    document = {"seconds_to_load": loading, "threads": options.threads, "rows": table}
    options.output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
