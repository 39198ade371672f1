"""`python -m purchase_predictor.follow --scores FILE --outcomes DIR`: what happened afterwards."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from purchase_predictor.cli import (
    Config,
    Output,
    Overrides,
    Quiet,
    Reporter,
    Seed,
    require_data,
    run,
    settings_from,
)

Scores = Annotated[
    list[Path],
    typer.Option(
        "--scores",
        metavar="FILE",
        help="Scores as the score command writes them; may be repeated. Models of later files "
        "are held against those of earlier ones.",
    ),
]
Outcomes = Annotated[
    Path,
    typer.Option("--outcomes", metavar="DIR", help="Data folder whose impressions converted."),
]
Language = Annotated[Literal["en", "ko"], typer.Option(help="Of the report.")]


def follow(
    scores: Scores,
    outcomes: Outcomes,
    language: Language = "en",
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Join scores with what happened: calibration, drift, model against model.

    Where the impressions carry the propensity with which chance showed an offer, also says what
    ranking by one model instead of another is worth. Writes follow.json, calibration.parquet,
    drift.parquet and report.html to the output folder (runs/follow by default), and logs them as
    a run.
    """
    for file in scores:  # told before anything heavy is imported
        require_data(file, "file of scores")
    require_data(outcomes)
    settings = settings_from(config, overrides, seed)
    folder = output or Path("runs") / "follow"
    from purchase_predictor.following import job
    from purchase_predictor.report.following import rich_tables, write_report

    reporter = Reporter(quiet=quiet)
    followed = job.FollowJob(settings, scores, outcomes, reporter).run()
    files = job.write(followed, folder)
    report = folder / "report.html"
    write_report(followed, report, language=language)
    job.log(followed, [*files, report], settings)
    for table in rich_tables(followed):
        reporter.show(table)
    reporter.line(f"report: {report}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(follow, "follow", arguments)


if __name__ == "__main__":
    sys.exit(main())
