"""`python -m purchase_predictor.explain --model M`: which words and terms move buyers."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

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

if TYPE_CHECKING:
    from purchase_predictor.beside_job import Beside as Told
    from purchase_predictor.explaining_job import Explanation
    from purchase_predictor.settings import Settings

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
Beside = Annotated[
    str | None,
    typer.Option(
        "--beside",
        metavar="FOLDER_OR_URI",
        help="Another model (local beside global, say) whose story is told beside.",
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
    beside: Beside = None,
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
    impressions, as many of each market, and where the network looks (attention), beside how far
    that agrees. Writes effects.parquet, contrasts.parquet, contributions.parquet,
    modalities.parquet, words.parquet, attention.parquet, heads.parquet, with --check
    faithfulness.json, with --beside beside.parquet and beside_modalities.parquet, and report.html
    to the output folder (runs/explain by default), and logs them as a run.
    """
    require_data(data)
    for option, wanted in (("--check", check), ("--discover", discover)):
        if wanted and not impressions:
            raise SettingsError(f"{option} is about impressions explained: --impressions is 0")
    settings = settings_from(config, overrides, seed)
    from features.products import load_phrases

    own = None if phrases is None else load_phrases(phrases)
    folder = output or Path("runs") / "explain"
    make_output(folder)
    from purchase_predictor import explaining_job as job
    from purchase_predictor.beside_job import refuse_strangers, tell_beside
    from purchase_predictor.job import sample_folder
    from purchase_predictor.scoring.job import load_model

    reporter = Reporter(quiet=quiet)
    predictor, version = load_model(model, settings.tracking)
    other = None if beside is None else load_model(beside, settings.tracking)[0]
    if other is not None:  # told before the long part
        refuse_strangers(predictor, other)
    source = sample_folder(reporter) if data is None else data
    explanation = job.explain_model(
        predictor, source, folder,
        version=version, n_impressions=impressions, phrases=own, discover=discover,
        seed=settings.seed, reporter=reporter,
    )  # fmt: skip
    told = None
    if other is not None:
        told = tell_beside(explanation, other, source, folder, reporter=reporter)
    _finish(explanation, told, folder, settings, check=check, language=language, reporter=reporter)


def _finish(
    explanation: "Explanation",
    beside: "Told | None",
    folder: Path,
    settings: "Settings",
    *,
    check: bool,
    language: str,
    reporter: Reporter,
) -> None:
    """Test it if asked to, write it, log it, show it."""
    from purchase_predictor import explaining_job as job
    from purchase_predictor.report.explaining import rich_effects, write_explanation

    checks: list[dict[str, object]] = []
    files = job.write(explanation, folder) + ([] if beside is None else beside.files)
    if check:
        checks, file = job.check(explanation, folder, seed=settings.seed, reporter=reporter)
        files.append(file)
    report, single = folder / "report.html", explanation.single
    write_explanation(
        explanation.facts, explanation.effects, explanation.contrasts, report,
        contributions=None if single is None else single.report, checks=checks,
        beside=None if beside is None else beside.report, language=language,
    )  # fmt: skip
    job.log(explanation, [*files, report], settings.tracking)
    reporter.show(rich_effects(explanation.effects))
    reporter.line(f"report: {report}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(explain, "explain", arguments)


if __name__ == "__main__":
    sys.exit(main())
