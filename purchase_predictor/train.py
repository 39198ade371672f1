"""`python -m purchase_predictor.train --market KR`: the main job."""

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
    settings_from,
)

Market = Annotated[str, typer.Option(help="A market, or all.")]
Scope = Annotated[
    Literal["local", "global", "adapted"] | None,
    typer.Option(
        help="local: this market's rows alone; global: all markets; adapted: global, fine-tuned. "
        "By default local, and global for --market all."
    ),
]
Baselines = Annotated[
    str | None,
    typer.Option(
        help="Comma-separated: lightgbm, catboost, tabnet, tabm, logistic.",
        show_default="lightgbm",
    ),
]
TextEncoder = Annotated[
    str | None, typer.Option(metavar="NAME_OR_FOLDER", help="A transformers model for titles.")
]
ImageEncoder = Annotated[
    str | None, typer.Option(metavar="NAME[:FILE]", help="A timm model for pictures.")
]
Encoders = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Encoders trained before, with their weights.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


def train(
    market: Market = "all",
    scope: Scope = None,
    data: Data = None,
    baselines: Baselines = None,
    text_encoder: TextEncoder = None,
    image_encoder: ImageEncoder = None,
    encoders: Encoders = None,
    resume: Resume = False,
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Train a market's model and its baselines, evaluate on the held-out future, log, register.

    Writes model/, metrics.json, predictions.parquet (test rows), quarantine.parquet and
    report.html to the output folder (runs/MARKET-SCOPE by default), and logs all of it in MLflow.
    """
    require_data(data)
    changes = list(overrides or [])
    if baselines is not None:
        changes.append(f"baselines.systems=[{baselines}]")
    if text_encoder is not None:
        changes.append(f"encoders.text_encoder={text_encoder}")
    if image_encoder is not None:
        changes.append(f"encoders.image_encoder={image_encoder}")
    settings = settings_from(config, changes, seed)
    chosen = scope or ("global" if market == "all" else "local")
    folder = output or Path("runs") / f"{market}-{chosen}"
    from purchase_predictor.job import Job

    Job(
        settings=settings,
        market=market,
        scope=chosen,
        data=data,
        encoders=encoders,
        folder=folder,
        resume=resume,
        reporter=Reporter(quiet=quiet),
    ).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(train, "train", arguments)


if __name__ == "__main__":
    sys.exit(main())
