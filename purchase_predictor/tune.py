"""`python -m purchase_predictor.tune --market KR --trials 50`: settings by trial."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

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
)

Market = Annotated[str, typer.Option(help="A market, or all.")]
N_TRIALS = Annotated[
    int, typer.Option("--trials", min=1, help="Of each system: one budget for all.")
]
Systems = Annotated[
    str,
    typer.Option(help="Comma-separated: fusion, lightgbm, catboost, tabnet, tabm, logistic."),
]
Space = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Where to look, instead of configs/tune.yaml."),
]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="Database of the study, which several processes may share "
        "(postgresql+psycopg://…); a journal file in the output folder by default.",
    ),
]


def tune(
    market: Market = "all",
    trials: N_TRIALS = 50,
    systems: Systems = "fusion,lightgbm",
    space: Space = None,
    storage: Storage = None,
    data: Data = None,
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Find settings by Optuna, as many trials for each system; the best go into one file.

    Trials are ranked by log-loss on the rows that stop training. Writes best.yaml, for --config
    of every command, trials.json and report.html to the output folder (runs/tune-MARKET by
    default). A run that was killed goes on where it was; several processes may run at once.
    """
    require_data(data)
    changes = [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
    folder = output or Path("runs") / f"tune-{market}"
    make_output(folder)
    from purchase_predictor.job import sample_folder
    from purchase_predictor.tuning.job import TuneJob

    reporter = Reporter(quiet=quiet)
    job = TuneJob(
        config,
        changes,
        market=market,
        systems=[name.strip() for name in systems.split(",")],
        n_trials=trials,
        space=space,
        storage=storage,
        source=sample_folder(reporter) if data is None else data,
        folder=folder,
        reporter=reporter,
    )
    document = job.run()
    rows = [
        [
            name,
            str(found["n_trials"]),
            f"{found['start_log_loss']:.5f}",
            f"{found['log_loss']:.5f}",
            f"{found['seconds']:,.0f} s",
        ]
        for name, found in document["systems"].items()
    ]
    columns = ["system", "trials", "log-loss at start", "best", "took"]
    reporter.table("Log-loss on the rows that stop training", columns, rows)
    reporter.line(f"best settings: {folder / 'best.yaml'}, for --config")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit code is 2 for a user's mistake."""
    return run(tune, "tune", arguments)


if __name__ == "__main__":
    sys.exit(main())
