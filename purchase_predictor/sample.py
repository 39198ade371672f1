"""`python -m purchase_predictor.sample --output DIR`: the sample marketplace and its truth."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from purchase_predictor.cli import Config, Overrides, Quiet, Reporter, Seed, run, settings_from

Output = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="Data folder to write; it must be new.")
]
Size = Annotated[
    Literal["demo", "claims"],
    typer.Option(help="demo: 60,000 impressions, 2,000 listings; claims: 480,000 and 8,000."),
]
Culture = Annotated[
    Literal["on", "off", "shuffled"],
    typer.Option(
        help="off: effects are the same everywhere; shuffled: cultural profiles are dealt to the "
        "wrong markets. Negative controls."
    ),
]


def sample(
    output: Output = Path("data/sample"),
    size: Size = "demo",
    culture: Culture = "on",
    config: Config = None,
    overrides: Overrides = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Write the sample marketplace: nine countries, pictures, titles, and the truth of it all.

    Writes products.parquet, events.parquet, impressions.parquet, images/, and truth/ with the
    true, the best observable and the fitted probability of every impression, the effects of each
    market and what each listing was made from.
    """
    settings = settings_from(config, overrides, seed)
    reporter = Reporter(quiet=quiet)
    from purchase_predictor.data.marketplace import write_sample

    summary = write_sample(
        output, size=size, seed=settings.seed, culture=culture, progress=reporter.step
    )
    rows = [
        [
            row["market"],
            *(f"{row[split]:,}" for split in ("train", "validation", "test")),
            f"{row['conversions']:,}",
            f"{row['rate']:.2%}",
            f"{row['true_rate']:.2%}",
        ]
        for row in summary.markets.iter_rows(named=True)
    ]
    header = ["market", "train", "validation", "test", "conversions", "rate", "true rate"]
    reporter.table("Impressions", header, rows)
    reporter.line(
        f"{summary.n_impressions:,} impressions, {summary.n_events:,} events and "
        f"{summary.n_products:,} listings in {output} ({summary.seconds:.0f} s)"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(sample, "sample", arguments)


if __name__ == "__main__":
    sys.exit(main())
