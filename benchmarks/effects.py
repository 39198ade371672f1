"""Effects that `explain` finds, held against those that the sample marketplace planted.

    python -m purchase_predictor.explain --model M --data data/claims-0 --output runs/effects
    python benchmarks/effects.py --effects runs/effects --truth data/claims-0/truth

For each market: how many effects, rank correlation, signs of the large ones, coverage of the
intervals, null phrases taken for real, and the bias (mean error). Then how many differences
between markets are claimed, and the two that the project is about.

What sellers' own choices do to the effects is told by the same commands on the offers that they
chose (`confounded.py`).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.stats import spearmanr

from purchase_predictor.errors import UserError

LARGE = 0.3
"""Log-odds from which a sign must be right."""

ALPHA = 0.05

HEADLINES = (("limited_quantity", "KR", "US"), ("free_shipping", "US", "KR"))


def planted(truth: Path) -> pl.DataFrame:
    """The planted effects as `market, lever, phrase, planted`.

    Args:
        truth: folder with `effects.json`.
    """
    rows = []
    for market, levers in json.loads((truth / "effects.json").read_text("utf-8")).items():
        rows += [(market, "phrase", name, value) for name, value in levers["phrase"].items()]
        rows += [(market, name, "", levers[name]) for name in ("discount_rate", "free_shipping")]
    columns = ["market", "lever", "phrase", "planted"]
    return pl.DataFrame(rows, schema=columns, orient="row")


def compare(effects: pl.DataFrame, truth: pl.DataFrame) -> list[dict[str, Any]]:
    """What was found beside what was planted, for each market and for all.

    Args:
        effects: as `effects.parquet`.
        truth: of `planted`.
    """
    both = effects.join(truth, on=["market", "lever", "phrase"]).with_columns(
        covered=pl.col("planted").is_between("logit_low", "logit_high"),
        flagged=(pl.col("logit_low") > 0) | (pl.col("logit_high") < 0),
        same=(pl.col("logit") > 0) == (pl.col("planted") > 0),
    )
    groups = [(str(market), part) for (market,), part in both.group_by("market")]
    rows = []
    for market, part in [*sorted(groups, key=lambda group: group[0]), ("all", both)]:
        large, null = (
            part.filter(pl.col("planted").abs() >= LARGE),
            part.filter(pl.col("planted") == 0),
        )
        rows.append(
            {
                "market": market,
                "n": len(part),
                "rank_correlation": float(
                    spearmanr(part["logit"].to_numpy(), part["planted"].to_numpy())[0]
                ),
                "large": f"{int(large['same'].sum())}/{len(large)}",
                "covered": float(np.mean(part["covered"].to_numpy())),
                "null_flagged": f"{int(null['flagged'].sum())}/{len(null)}",
                "bias": float(np.mean((part["logit"] - part["planted"]).to_numpy())),
            }
        )
    return rows


def headlines(contrasts: pl.DataFrame) -> list[str]:
    """The contrasts that the project is about, whichever way round they were written."""
    told = []
    for phrase, market, against in HEADLINES:
        for row in contrasts.filter(pl.col("phrase") == phrase).iter_rows(named=True):
            if {row["market"], row["against"]} != {market, against}:
                continue
            turned = 1 if row["market"] == market else -1
            low, high = sorted([turned * row["low"], turned * row["high"]])
            told.append(
                f"{phrase}, {market} − {against}: {turned * row['logit']:+.2f} "
                f"({low:+.2f} to {high:+.2f}), p after Holm {row['p_holm']:.2g}"
            )
    return told


def claimed(contrasts: pl.DataFrame) -> int:
    """How many differences between markets are claimed after Holm's correction."""
    return int((contrasts["p_holm"] < ALPHA).sum())


def main(arguments: list[str] | None = None) -> int:
    """Read, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--effects", type=Path, required=True, help="output folder of explain")
    parser.add_argument("--truth", type=Path, required=True, help="folder with effects.json")
    parser.add_argument("--output", type=Path, help="JSON file")
    options = parser.parse_args(arguments)
    try:
        rows = compare(
            pl.read_parquet(options.effects / "effects.parquet"), planted(options.truth)
        )
        contrasts = pl.read_parquet(options.effects / "contrasts.parquet")
        told, n_claimed = headlines(contrasts), claimed(contrasts)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(
        f"{'market':8}{'n':>4}{'rank corr.':>12}{'signs':>8}{'covered':>9}{'null':>7}{'bias':>7}"
    )
    for row in rows:
        print(
            f"{row['market']:8}{row['n']:>4}{row['rank_correlation']:>12.2f}{row['large']:>8}"
            f"{row['covered']:>9.2f}{row['null_flagged']:>7}{row['bias']:>+7.2f}"
        )
    print(f"contrasts with p after Holm below {ALPHA}: {n_claimed} of {len(contrasts)}")
    print("\n".join(told))
    if options.output is not None:
        document = {"markets": rows, "headlines": told, "contrasts_claimed": n_claimed}
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
