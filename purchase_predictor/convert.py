"""`python -m purchase_predictor.convert SOURCE --raw DIR --output DIR`: a public data set in."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from purchase_predictor.cli import Quiet, Reporter, run

Raw = Annotated[
    Path,
    typer.Option(
        "--raw", metavar="DIR", help="The publisher's file, or the folder that holds it."
    ),
]
Output = Annotated[Path, typer.Option("--output", metavar="DIR", help="Data folder to write.")]
Drop = Annotated[
    list[str] | None,
    typer.Option("--drop", metavar="COLUMN", help="Input to leave out; may be repeated."),
]


def trivago(raw: Raw, output: Output, drop: Drop = None, quiet: Quiet = False) -> None:
    """RecSys Challenge 2019: shown hotels, and the one clicked out (a proxy of a conversion)."""
    from purchase_predictor.data.sources import trivago as source

    _convert(source.convert, raw, output, drop or [], quiet)


def online_shoppers(raw: Raw, output: Output, drop: Drop = None, quiet: Quiet = False) -> None:
    """UCI Online Shoppers Purchasing Intention: sessions without products or clicks."""
    from purchase_predictor.data.sources import online_shoppers as source

    _convert(source.convert, raw, output, drop or [], quiet)


def shopee(raw: Raw, output: Output, drop: Drop = None, quiet: Quiet = False) -> None:
    """Shopee price match: listings with title, picture hash and match group, to be matched."""
    from purchase_predictor.data.sources import shopee as source

    _convert(source.convert, raw, output, drop or [], quiet)


def magento(raw: Raw, output: Output, drop: Drop = None, quiet: Quiet = False) -> None:
    """Magento 2 product export: each photo a listing, a product's colour a match group."""
    from purchase_predictor.data.sources import magento as source

    _convert(source.convert, raw, output, drop or [], quiet)


def _convert(
    convert: Callable[..., dict[str, int]], raw: Path, output: Path, drop: list[str], quiet: bool
) -> None:
    counts = convert(raw, output, drop=drop)
    reporter = Reporter(quiet=quiet)
    rows = [(name, f"{number:,}") for name, number in counts.items()]
    reporter.table(f"Written to {output}", ("rows", "number"), rows)


SOURCES = {
    "trivago": trivago,
    "online-shoppers": online_shoppers,
    "shopee": shopee,
    "magento": magento,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(SOURCES, "convert", arguments)


if __name__ == "__main__":
    sys.exit(main())
