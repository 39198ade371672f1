"""`purchase-predictor COMMAND …`: loads the one command that is asked for."""

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from purchase_predictor import __version__
from purchase_predictor.cli import MISTAKE, printable
from purchase_predictor.errors import nearest

COMMANDS = {
    "train": "train a market's model and its baselines, evaluate, log and register them",
    "tune": "find settings by trial, as many for the transformer as for LightGBM",
    "compare": "hold a market's own model against one for all, with intervals and a report",
    "explain": "tell which phrases and terms move buyers, market by market",
    "explore": "open a page to change an offer and see what the model makes of it",
    "score": "give every impression of a data folder its probability",
    "follow": "join scores with what happened: calibration, drift, A/B, off-policy value",
    "match": "find which listings are the same product, train the encoders of products",
    "sample": "write the sample marketplace and its truth",
    "convert": "bring a public data set into the data layout",
}
HELP = "\n".join(
    [
        "Usage: purchase-predictor COMMAND [OPTIONS]",
        "",
        "  Predicts whether a shopper will buy, in every country they shop from.",
        "",
        "Commands:",
        *(f"  {name:<8}  {text}" for name, text in COMMANDS.items()),
        "",
        "Options:",
        "  --version  Show the version and exit.",
        "  --help     Show this message and exit; COMMAND --help tells a command's options.",
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command named first.

    Args:
        arguments: of the command line, without the program; None takes those of the process.

    Returns:
        The exit code of the command, 2 where there is no such command.
    """
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in {"--help", "-h"}:
        typer.echo(HELP)
        return 0
    if name == "--version":
        typer.echo(f"purchase-predictor {__version__}")
        return 0
    if name not in COMMANDS:
        hint = nearest(name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
        typer.echo(f"Error: there is no command '{printable(name)}'{hint}", err=True)
        return MISTAKE
    return import_module(f"purchase_predictor.{name}").main(rest)


if __name__ == "__main__":
    sys.exit(main())
