"""`python -m purchase_predictor.match --data DIR`: which listings are the same product."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from purchase_predictor.cli import (
    Config,
    Data,
    Output,
    Overrides,
    Quiet,
    Reporter,
    Seed,
    require_data,
    run,
)

TextEncoder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME_OR_FOLDER", help="A transformers model for titles; may be repeated."
    ),
]
ImageEncoder = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME[:FILE]", help="A timm model for pictures; may be repeated."),
]
Language = Annotated[Literal["en", "ko"], typer.Option(help="Of the report's own words.")]


def match(
    data: Data = None,
    text_encoder: TextEncoder = None,
    image_encoder: ImageEncoder = None,
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    language: Language = "en",
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Find which listings are the same product, and train the encoders of pictures and titles.

    Climbs the ladder of matching strategies on groups held out, then matches the whole catalogue.
    Writes encoders/ (for train --encoders), matches.parquet, ladder.json, curve.json, report.html
    and quarantine.parquet to the output folder (runs/match by default), and logs them in MLflow.
    Training that was killed goes on when the command is called again.
    """
    require_data(data)
    changes = list(overrides or [])
    for view, encoders in (("text", text_encoder), ("image", image_encoder)):
        if encoders:
            changes.append(f"{view}.encoders={json.dumps(list(encoders))}")
    from purchase_predictor.settings import load_match_settings

    seeds = [] if seed is None else [f"seed={seed}"]
    settings = load_match_settings(config, [*changes, *seeds])
    from purchase_predictor.match_job import MatchJob

    MatchJob(
        settings=settings,
        data=data,
        folder=output or Path("runs") / "match",
        language=language,
        reporter=Reporter(quiet=quiet),
    ).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(match, "match", arguments)


if __name__ == "__main__":
    sys.exit(main())
