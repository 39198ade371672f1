"""Ladders of several runs of `match` side by side, as a Markdown table.

    python benchmarks/ladder_table.py Shopee=runs/shopee/ladder.json sample=runs/match/ladder.json

A column for each run and gallery size; F1 with its interval over match groups.
"""

import argparse
import json
from pathlib import Path


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=FILE", help="name and ladder.json")
    columns: dict[str, dict[str, str]] = {}
    for run in parser.parse_args().runs:
        name, _, file = run.partition("=")
        for row in json.loads(Path(file).read_text("utf-8")):
            figure = f"{row['f1']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
            rung = "image" if row["rung"] == "picture hash" else row["rung"]
            columns.setdefault(f"{name}, {row['gallery']:,}", {})[rung] = figure
    rungs = list(dict.fromkeys(rung for column in columns.values() for rung in column))
    longest = max(columns.values(), key=len)
    rungs.sort(key=lambda rung: list(longest).index(rung) if rung in longest else len(longest))
    print(f"| rung | {' | '.join(columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    for rung in rungs:
        print(f"| {rung} | {' | '.join(column.get(rung, '') for column in columns.values())} |")


if __name__ == "__main__":
    main()
