"""Whether the intervals of phrases' effects hold what the sample marketplace planted, by answer.

    python -m benchmarks.lever_intervals --data data/claims-0 data/claims-1 --output intervals.json

An interval of `explain` spans two answers of the readout: under the penalties that it was solved
with, and with hardly any on what can be pulled (`purchase_predictor.training.lever_errors`). For
each world this prepares the rows, as `quality.py` does (in a folder named after the output, where
a pre-training that is there is taken up), solves the readout, and counts for each answer alone and
for both how many planted effects of phrases are held: all; those of 0.3 log-odds or more in
markets with 1,000 training conversions or more; and how many phrases without an effect are taken
for real.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.effects import LARGE, planted
from benchmarks.quality import Run
from benchmarks.table import markdown
from features.arrays import N_RESERVED, TRAIN, EncodedMarket
from purchase_predictor.attribution.effects import PHRASE, phrase_direction
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import UserError
from purchase_predictor.settings import load_settings
from purchase_predictor.training.system import FusionSystem

CONFIDENCE = 0.95
MANY = 1000
"""Training conversions from which a market's large effects are counted."""

ANSWERS = ("solved", "relaxed", "both")


def solved_fusion(run: Run) -> FusionSystem:
    """The fusion of a world, its readout solved."""
    prepared, settings = run.prepared, run.settings
    fusion = FusionSystem(settings, prepared.sizes, clicks=prepared.clicks)
    fusion.fit(prepared.data, seed=settings.seed, progress=run.reporter.step)
    return fusion.refit(prepared.data, seed=settings.seed, progress=run.reporter.step)


def intervals_of(fusion: FusionSystem, data: EncodedMarket) -> pl.DataFrame:
    """`market, conversions, lever, phrase, answer, low, high` of all phrases.

    Args:
        fusion: of `solved_fusion`.
        data: what it was fitted on.
    """
    errors = fusion.lever_errors_
    if errors is None:
        raise ValueError("the readout was not solved")
    blocks = np.array(fusion.model_.readout.blocks)[errors.columns]
    codes = list(range(N_RESERVED, len(data.market_names)))
    learned = data.market[(data.part == TRAIN) & (data.converted == 1)]
    conversions = np.bincount(learned, minlength=len(data.market_names))
    rows = []
    for number, phrase in enumerate(data.products.phrase_names):
        direction = phrase_direction(blocks, number, codes)
        told = {"solved": errors.solved, "relaxed": errors.relaxed, "both": errors}
        for answer, found in told.items():
            low, high = found.interval(direction, CONFIDENCE)
            rows += [
                {
                    "market": data.market_names[code], "conversions": int(conversions[code]),
                    "lever": PHRASE, "phrase": phrase, "answer": answer,
                    "low": low[place], "high": high[place],
                }
                for place, code in enumerate(codes)
            ]  # fmt: skip
    return pl.DataFrame(rows)


def count(found: pl.DataFrame, truth: pl.DataFrame) -> list[dict[str, Any]]:
    """How many planted effects the intervals hold, by answer.

    Args:
        found: of `intervals_of`.
        truth: of `benchmarks.effects.planted`.

    Returns:
        A row for each answer, with pairs of how many and of how many.
    """
    both = found.join(truth, on=["market", "lever", "phrase"]).with_columns(
        held=pl.col("planted").is_between("low", "high"),
        taken=(pl.col("low") > 0) | (pl.col("high") < 0),
        large=(pl.col("planted").abs() >= LARGE) & (pl.col("conversions") >= MANY),
        null=pl.col("planted") == 0,
    )
    rows = []
    for answer in ANSWERS:
        part = both.filter(pl.col("answer") == answer)
        large, null = part.filter("large"), part.filter("null")
        rows.append(
            {
                "answer": answer,
                "all": (int(part["held"].sum()), len(part)),
                "large": (int(large["held"].sum()), len(large)),
                "null_taken": (int(null["taken"].sum()), len(null)),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Solve, count, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders")
    parser.add_argument("--set", action="append", default=[], help="key.path=value")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    reporter, document = Reporter(), []
    try:
        for folder in options.data:
            settings = load_settings(None, ["model.parts=readout", *options.set])
            parts = options.output.with_suffix("")
            run = Run(folder, settings, market="all", parts=parts, again=set(), reporter=reporter)
            found = intervals_of(solved_fusion(run), run.prepared.data)
            counted = count(found, planted(folder / "truth"))
            document.append({"data": run.name, "answers": counted})
            options.output.write_text(json.dumps(document, indent=1) + "\n")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(markdown(["world", "answer", "all", "large", "null taken"], table(document)))
    return 0


def table(document: list[dict[str, Any]]) -> list[list[str]]:
    """Cells by world and answer, the sum over worlds last."""
    total = {
        "data": "all",
        "answers": [
            {
                "answer": answer,
                **{
                    key: tuple(
                        sum(world["answers"][place][key][side] for world in document)
                        for side in (0, 1)
                    )
                    for key in ("all", "large", "null_taken")
                },
            }
            for place, answer in enumerate(ANSWERS)
        ],
    }
    return [[world["data"], *_cells(row)] for world in [*document, total]
            for row in world["answers"]]  # fmt: skip


def _cells(row: Mapping[str, Any]) -> list[str]:
    counted = ["{} of {}".format(*row[key]) for key in ("all", "large", "null_taken")]
    return [row["answer"], *counted]


if __name__ == "__main__":
    sys.exit(main())
