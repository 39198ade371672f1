"""`python -m purchase_predictor.convert SOURCE --raw DIR --output DIR`: a public data set in."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from purchase_predictor.errors import UserError

app = typer.Typer(
    help="Convert a public data set into the data layout.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Raw = Annotated[Path, typer.Option(help="The publisher's file, or the folder that holds it.")]
Output = Annotated[Path, typer.Option(help="Data folder to write.")]
Drop = Annotated[list[str] | None, typer.Option(help="Input to leave out; may be repeated.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]


@app.command()
def trivago(raw: Raw, output: Output, drop: Drop = None, quiet: Quiet = False) -> None:
    """RecSys Challenge 2019: shown hotels, and the one clicked out (a proxy of a conversion)."""
    from purchase_predictor.data.sources import trivago as source

    _convert(source.convert, raw, output, drop or [], quiet)


@app.command()
def online_shoppers(raw: Raw, output: Output, drop: Drop = None, quiet: Quiet = False) -> None:
    """UCI Online Shoppers Purchasing Intention: sessions without products or clicks."""
    from purchase_predictor.data.sources import online_shoppers as source

    _convert(source.convert, raw, output, drop or [], quiet)


def _convert(
    convert: Callable[..., dict[str, int]], raw: Path, output: Path, drop: list[str], quiet: bool
) -> None:
    counts = convert(raw, output, drop=drop)
    if quiet:
        return
    width = max(len(name) for name in counts)
    lines = [f"{name:<{width}}  {number:>10,}" for name, number in counts.items()]
    typer.echo("\n".join([*lines, f"Written to {output}."]))


def main() -> None:
    """Run the command; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
