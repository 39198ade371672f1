"""`python -m purchase_predictor.explain --model M`: which words and terms move buyers."""

import sys
import tempfile
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
    run,
    settings_from,
)
from purchase_predictor.errors import DataError, SettingsError

Model = Annotated[
    str,
    typer.Option(metavar="FOLDER_OR_URI", help="A model folder, or models:/NAME@ALIAS of MLflow."),
]
Impressions = Annotated[
    int,
    typer.Option(min=0, help="How many are explained one by one, about; 0 leaves that out."),
]
Phrases = Annotated[
    Path | None,
    typer.Option("--phrases", metavar="FILE", help="Laid out as configs/phrases.yaml."),
]
Discover = Annotated[
    int,
    typer.Option(
        min=0, metavar="N", help="Find N phrases in each market among words that contribute most."
    ),
]
Check = Annotated[
    bool, typer.Option("--check", help="Test whether the explanations are true to the model.")
]
Language = Annotated[Literal["en", "ko"], typer.Option(help="Of the report.")]


def explain(
    model: Model,
    data: Data = None,
    impressions: Impressions = 1000,
    phrases: Phrases = None,
    discover: Discover = 0,
    check: Check = False,
    language: Language = "en",
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Tell which phrases and terms move buyers in which market, by how much and how surely.

    The same impressions with and without a phrase in the title, ten points of discount, free
    shipping: the mean difference in log-odds by market, with intervals, and the differences
    between markets. Then what modalities, words, picture, events and terms contribute to single
    impressions, as many of each market. Writes effects.parquet, contrasts.parquet,
    contributions.parquet, modalities.parquet, words.parquet, with --check faithfulness.json, and
    report.html to the output folder (runs/explain by default), and logs them as a run.
    """
    if data is not None and not data.exists():  # told before anything heavy is imported
        raise DataError(f"there is no data folder {data}")
    if check and not impressions:
        raise SettingsError("--check tests explanations of impressions: --impressions is 0")
    if discover and not impressions:
        raise SettingsError("--discover looks among impressions explained: --impressions is 0")
    settings = settings_from(config, overrides, seed)
    from features.products import load_phrases

    wanted = None if phrases is None else load_phrases(phrases)
    folder = output or Path("runs") / "explain"
    make_output(folder)
    from purchase_predictor import explaining_job as job
    from purchase_predictor.job import sample_folder
    from purchase_predictor.predictor import PurchasePredictor
    from purchase_predictor.report.explaining import rich_effects, write_explanation
    from purchase_predictor.scoring_job import find_model

    reporter = Reporter(quiet=quiet)
    with tempfile.TemporaryDirectory() as place:
        found, version = find_model(model, settings.tracking, Path(place))
        predictor = PurchasePredictor.load(found)
    source = sample_folder(reporter) if data is None else data
    explanation = job.explain_model(
        predictor, source, folder,
        version=version, n_impressions=impressions, phrases=wanted, discover=discover,
        reporter=reporter,
    )  # fmt: skip
    checks: list[dict[str, object]] = []
    if check:
        checks, file = job.check(explanation, folder, seed=settings.seed, reporter=reporter)
    files = [*job.write(explanation, folder), *([file] if check else [])]
    report, single = folder / "report.html", explanation.single
    write_explanation(
        explanation.facts, explanation.effects, explanation.contrasts, report,
        contributions=None if single is None else single.report, checks=checks,
        language=language,
    )  # fmt: skip
    job.log(explanation, [*files, report], settings.tracking)
    reporter.show(rich_effects(explanation.effects))
    reporter.line(f"report: {report}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(explain, "explain", arguments)


if __name__ == "__main__":
    sys.exit(main())
