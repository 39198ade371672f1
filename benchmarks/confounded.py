"""The offers of a sample marketplace that sellers chose, without those assigned at random.

    python benchmarks/confounded.py --data data/claims-0 --output data/claims-0-confounded

A model that is trained on them, explained and held against the truth (`effects.py`) shows what
sellers' habits do to effects: they put phrases on discounted and on weak goods.
"""

import argparse
import shutil
import sys
from pathlib import Path

import polars as pl

from purchase_predictor.errors import UserError

TABLE = "impressions.parquet"


def write_confounded(data: Path, folder: Path) -> int:
    """Write them beside copies of all else (links out of a folder are refused). Rows left.

    Args:
        data: a sample marketplace.
        folder: to write; it must be new.

    Raises:
        UserError: the folder is there.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already: name a new folder")
    chosen = pl.read_parquet(data / TABLE).filter(~pl.col("randomised").fill_null(value=False))
    shutil.copytree(data, folder)
    chosen.write_parquet(folder / TABLE)
    return len(chosen)


def main(arguments: list[str] | None = None) -> int:
    """Write and tell how many are left."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a sample marketplace")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    options = parser.parse_args(arguments)
    try:
        print(f"{write_confounded(options.data, options.output):,} impressions left")
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
