"""`python -m purchase_predictor.convert SOURCE --raw DIR --output DIR`: a public data set in."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
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
Sampled = Annotated[
    int,
    typer.Option("--sampled", min=1, max=1000, help="Items to show beside each true one."),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything that is drawn.")]


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


def amazon_m2(
    raw: Raw,
    output: Output,
    drop: Drop = None,
    sampled: Sampled = 9,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Amazon-M2, KDD Cup 2023: sessions of six shops, the next product among sampled others."""
    from purchase_predictor.data.sources import amazon_m2 as source

    convert = partial(source.convert, n_sampled=sampled, seed=seed)
    _convert(convert, raw, output, drop or [], quiet, source.notes(sampled, seed))


def xmrec(
    raw: Raw,
    output: Output,
    drop: Drop = None,
    sampled: Sampled = 9,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """XMarket (XMRec): ratings of 18 Amazon markets, each rated item among sampled others."""
    from purchase_predictor.data.sources import xmrec as source

    convert = partial(source.convert, n_sampled=sampled, seed=seed)
    _convert(convert, raw, output, drop or [], quiet, source.notes(sampled, seed))


def _convert(
    convert: Callable[..., dict[str, int]],
    raw: Path,
    output: Path,
    drop: list[str],
    quiet: bool,
    notes: Sequence[str] = (),
) -> None:
    counts = convert(raw, output, drop=drop)
    reporter = Reporter(quiet=quiet)
    rows = [(name, f"{number:,}") for name, number in counts.items()]
    reporter.table(f"Written to {output}", ("rows", "number"), rows)
    for note in notes:
        reporter.line(note)


SOURCES: dict[str, Callable[..., None]] = {
    "trivago": trivago,
    "online-shoppers": online_shoppers,
    "shopee": shopee,
    "magento": magento,
    "amazon-m2": amazon_m2,
    "xmrec": xmrec,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(SOURCES, "convert", arguments)


if __name__ == "__main__":
    sys.exit(main())
