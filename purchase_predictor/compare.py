"""`python -m purchase_predictor.compare --markets KR,US`: local against global."""

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
    make_output,
    require_data,
    run,
    settings_from,
)
from purchase_predictor.errors import SettingsError

Markets = Annotated[
    str | None,
    typer.Option(metavar="KR,US", help="Markets that are compared; all by default."),
]
Seeds = Annotated[
    int, typer.Option("--seeds", min=1, help="Models of each arm; five for a published claim.")
]
System = Annotated[
    str, typer.Option(help="Whose predictions are compared: fusion, lightgbm or stack.")
]
Language = Annotated[Literal["en", "ko"], typer.Option(help="Of the report.")]
Quick = Annotated[
    bool, typer.Option("--quick", help="Leave out learning curves, transfer and culture.")
]

Full = Annotated[
    bool,
    typer.Option(
        "--full",
        help="Learning curves, transfer and culture by the fusion, which takes hours, and not by "
        "LightGBM on simple columns.",
    ),
]


def compare(
    markets: Markets = None,
    seeds: Seeds = 1,
    system: System = "fusion",
    language: Language = "en",
    quick: Quick = False,
    full: Full = False,
    data: Data = None,
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Compare a market's own model with one for all: is it worth having, and from when on?

    Reads the finished runs of the same data and settings from MLflow and trains only what is
    missing. Writes gap.json, comparison.json, report.html and quarantine.parquet to the output
    folder (runs/compare by default), and logs them as a run.
    """
    require_data(data)
    if quick and full:
        raise SettingsError("--quick leaves out what --full is about: give one of them")
    settings = settings_from(config, overrides, seed)
    folder = output or Path("runs") / "compare"
    make_output(folder)
    from purchase_predictor.comparison import job
    from purchase_predictor.job import sample_folder
    from purchase_predictor.report.comparing import left_out, rich_tables, write_report
    from purchase_predictor.report.comparing_words import words_of

    reporter = Reporter(quiet=quiet)
    source = sample_folder(reporter) if data is None else data
    comparison = job.ComparisonJob(
        settings,
        markets=None if markets is None else [name.strip() for name in markets.split(",")],
        n_seeds=seeds,
        system=system,
        source=source,
        folder=folder,
        quick=quick,
        full=full,
        reporter=reporter,
    ).run()
    files = job.write(comparison, folder)
    report = folder / "report.html"
    write_report(comparison, report, language=language)
    job.log(comparison, [*files, report], settings)
    for table in rich_tables(comparison):
        reporter.show(table)
    if sentence := left_out(comparison, words_of("en")):
        reporter.line(sentence)
    reporter.line(f"report: {report}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(compare, "compare", arguments)


if __name__ == "__main__":
    sys.exit(main())
