"""`python -m purchase_predictor.score --model M --input DIR --output FILE.parquet`."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from purchase_predictor.cli import (
    Config,
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

Model = Annotated[
    str,
    typer.Option(metavar="FOLDER_OR_URI", help="A model folder, or models:/NAME@ALIAS of MLflow."),
]
Input = Annotated[Path, typer.Option("--input", metavar="DIR", help="Data folder to score.")]
Scores = Annotated[
    Path, typer.Option("--output", metavar="FILE.parquet", help="Where the scores go.")
]
System = Annotated[
    str | None,
    typer.Option(
        help="Who answers: fusion, lightgbm, stack, …", show_default="the model's champion"
    ),
]
ShardRows = Annotated[
    int | None,
    typer.Option(min=1, help="Impressions and events held in memory at once, about."),
]
EngineOption = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--engine",
        help="local: in this process; ray: by the workers of a cluster (RAY_ADDRESS, else this "
        "machine), to the same bytes.",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Workers of --engine ray that score at once.",
        show_default="as many as the cluster has cores for",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the finished shards of a run that stopped.")
]


def score(
    model: Model,
    source: Input,
    output: Scores,
    system: System = None,
    shard_rows: ShardRows = None,
    engine: EngineOption = "local",
    workers: Workers = None,
    resume: Resume = False,
    config: Config = None,
    overrides: Overrides = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Give every impression a calibrated probability of conversion.

    Rows are scored shard by shard, in memory that hardly grows with them, and come out in the
    order of the input. A market that training never saw is scored by its profile, from the model
    or from --set data.market_profiles=FILE, and flagged. FILE.parquet appears whole or not at
    all; beside it the rows that could not be used, with their reasons, and a manifest with counts
    and checksums, written last.

    Finished shards are kept in a hidden folder beside FILE.parquet until it is whole. With
    --resume they are not computed again, and the file is the same byte for byte; where nothing
    was begun, scoring begins, and where all is finished, nothing is done.

    With --engine ray the shards are scored by the workers of a Ray cluster, which must see the
    folders of input and output at the same paths. The shard of a worker that dies is scored again.
    """
    if output.suffix != ".parquet":
        raise SettingsError(f"--output {output} must end in .parquet")
    require_data(source)
    if workers is not None and engine != "ray":
        raise SettingsError("--workers goes with --engine ray")
    settings = settings_from(config, overrides, seed)
    make_output(output.parent, beside_data=True)
    from purchase_predictor.scoring.job import ScoringJob
    from purchase_predictor.scoring.shards import SHARD_ROWS

    reporter = Reporter(quiet=quiet)
    manifest = ScoringJob(
        model,
        source,
        output,
        system=system,
        shard_rows=SHARD_ROWS if shard_rows is None else shard_rows,
        profiles=settings.data.profiles_file,
        engine=engine,
        n_workers=workers,
        resume=resume,
        store=settings.tracking,
        reporter=reporter,
    ).run()
    rows = [[name, f"{manifest['rows'][name]:,}"] for name in ("read", "scored", "set_aside")]
    reporter.table(f"Impressions scored by {manifest['system']}", ["rows", "number"], rows)
    if manifest["set_aside_of_all_tables"]:
        reporter.line(f"rows set aside, with reasons: {output.stem}.quarantine.parquet beside it")
    reporter.line(f"scores: {output}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(score, "score", arguments)


if __name__ == "__main__":
    sys.exit(main())
