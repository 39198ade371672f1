"""Every system on the same rows, calibrated alike, judged on the same held-out future.

    python benchmarks/quality.py --data data/claims-0 data/claims-1 --seeds 0 \
        --systems fusion,lightgbm,catboost,tabnet,tabm,logistic,stack --output runs/quality.json

For each data folder and seed the rows are prepared once; every system learns from them and is
calibrated on the same validation rows; the stack is that of the package. Figures, intervals and
gaps are those of `purchase_predictor.evaluation`. What is finished lies beside the output file
(pre-training, raw predictions of each system, test predictions of each run) and is not made again
while data, settings and system stay the same; the code is not part of that: after a change of it
take another output.

Several seeds on one data folder give the mean difference over seeds, whose interval is over users
and seeds both. `--drop text` trains the fusion once more without a modality and holds it against
the whole one of the same data and seed.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console

from benchmarks.comparing import (
    GAP_METRICS,
    calibration_rows,
    fusion_gaps,
    levelled_shares,
    over_seeds,
    shares,
)
from benchmarks.fitted import Fitted, fit_system, held_rows, key_of, predictions, stack_cost
from benchmarks.prepared import DROPPED_COLUMNS, without_modality
from benchmarks.printing import print_runs
from features.arrays import TRAIN
from features.schema import Tables, load_tables
from purchase_predictor.baselines.registry import NAMES, make_baseline
from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import SettingsError, UserError, nearest
from purchase_predictor.evaluation.summary import evaluate
from purchase_predictor.job import read_truth
from purchase_predictor.panel import FUSION, LIGHTGBM, STACK
from purchase_predictor.settings import Settings, load_settings
from purchase_predictor.training.selection import fingerprint
from purchase_predictor.tuning.prepared import Prepared, prepare

DEFAULT_SYSTEMS = f"{FUSION},{','.join(NAMES)},{STACK}"


class Run:
    """One data folder and one seed.

    Args:
        folder: of the data.
        settings: with the seed.
        market: a market, or `all`.
        parts: folder of finished systems.
        again: names of systems that are fitted anew whatever is there.
        reporter: tells what happens.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        *,
        market: str,
        parts: Path,
        again: set[str],
        reporter: Reporter,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.market = market
        self.again = again
        self.reporter = reporter
        self.name = folder.resolve().name
        self.stem = parts / f"{self.name}-{market}-seed{settings.seed}"

    @cached_property
    def tables(self) -> Tables:
        """The checked tables."""
        self.tell("reading")
        limit = self.settings.data.max_title_chars
        return load_tables(self.folder, require_labels=True, max_title_chars=limit)

    @cached_property
    def fingerprint(self) -> str:
        """Of the data."""
        return fingerprint(self.tables)

    @cached_property
    def prepared(self) -> Prepared:
        """The rows, prepared when the first system asks for them."""
        store = self.stem.parent / f"{self.name}-{self.fingerprint[:16]}"
        return prepare(
            self.tables,
            self.settings,
            market=self.market,
            store=store,
            progress=self.reporter.step,
        )

    @cached_property
    def rows(self) -> pl.DataFrame:
        """What calibration and evaluation ask of the rows."""
        return held_rows(self.prepared.data)

    def tell(self, text: str) -> None:
        """Say what happens in this run."""
        self.reporter.step(f"{self.name}, seed {self.settings.seed}: {text}")

    def fit(self, name: str, dropped: str = "") -> Fitted:
        """A fitted system, from its file where there is one."""
        key = key_of(self.fingerprint, self.settings, self.market, name, dropped)
        stem = self.stem.with_name(f"{self.stem.name}-{name}" + f"-no-{dropped}" * bool(dropped))
        if name not in self.again:
            found = Fitted.load(stem, key)
            if found is not None:
                return found
        prepared = self.prepared
        if dropped:
            prepared = without_modality(
                prepared, dropped, self.settings, progress=self.reporter.step
            )
        self.reporter.step(
            f"{self.name}, seed {self.settings.seed}: {name} {dropped and 'without '}{dropped}"
        )
        fitted = fit_system(
            name,
            prepared,
            self.settings,
            key=key,
            rows=self.rows,
            progress=self.reporter.step,
        )
        data = self.prepared.data
        learned = data.converted[data.part == TRAIN]
        facts = {"n_train": len(learned), "n_train_conversions": int(learned.sum())}
        fitted = Fitted(name, key, fitted.cost, fitted.frame, {**fitted.facts, **facts})
        fitted.save(stem)
        return fitted

    def judge(
        self, systems: list[str], dropped: list[str], known: list[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Figures of all systems; those of a finished run where nothing changed.

        Args:
            systems: names.
            dropped: modalities that the fusion is trained without.
            known: entries of an earlier output file.
        """
        fitted = [self.fit(name) for name in systems if name != STACK]
        without = {modality: self.fit(FUSION, modality) for modality in dropped}
        evaluation = self.settings.evaluation.model_dump()
        state = [[one.key for one in [*fitted, *without.values()]], systems, evaluation]
        if not self.again:
            for entry in known:
                if entry["state"] == state and entry["data"] == self.name:
                    return dict(entry)
        frame, validation = predictions(fitted)
        write_file(self.stem.with_name(f"{self.stem.name}.parquet"), frame.write_parquet)
        self.reporter.step(
            f"{self.name}, seed {self.settings.seed}: evaluating {len(frame):,} rows"
        )
        truth = read_truth(self.folder)
        result = evaluate(
            frame,
            systems=systems,
            settings=self.settings.evaluation,
            seed=self.settings.seed,
            truth=truth,
            gap_metrics=GAP_METRICS,
        )
        costs = {one.name: one.cost for one in fitted}
        if STACK in systems:
            costs[STACK] = stack_cost(fitted)
        return {
            "data": self.name,
            "seed": self.settings.seed,
            "market": self.market,
            "fingerprint": self.fingerprint,
            "state": state,
            "facts": dict(fitted[0].facts),
            "costs": {name: vars(cost) for name, cost in costs.items()},
            "validation_log_loss": validation,
            "shares": shares(result),
            "levelled_shares": {} if truth is None else levelled_shares(frame, truth, result),
            "calibration": calibration_rows(result),
            "drops": self._drops(without, fitted),
            **result,
        }

    def _drops(self, without: dict[str, Fitted], fitted: list[Fitted]) -> list[dict[str, Any]]:
        if not without:
            return []
        whole = next(one for one in fitted if one.name == FUSION)
        frame, _ = predictions([whole])
        arms = [f"no {modality}" for modality in without]
        for arm, one in zip(arms, without.values(), strict=True):
            alone, _ = predictions([one])
            frame = frame.with_columns(alone[FUSION].alias(arm))
        write_file(self.stem.with_name(f"{self.stem.name}-drops.parquet"), frame.write_parquet)
        return fusion_gaps(frame, arms, self.settings.evaluation, self.settings.seed)


def main(arguments: list[str] | None = None) -> int:
    """Fit what is missing, judge, print, write."""
    options = parse(arguments)
    try:
        benchmark(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def benchmark(options: argparse.Namespace) -> None:
    """All runs of the command line."""
    reporter = Reporter(quiet=options.quiet)
    output: Path = options.output
    parts = output.with_suffix("")
    systems = check_systems(options.systems.split(","), options.drop)
    known = json.loads(output.read_text())["runs"] if output.is_file() else []
    document: dict[str, Any] = {
        "benchmark": "quality",
        "config": None if options.config is None else options.config.name,
        "set": options.set,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        "runs": [],
        "over_seeds": [],
    }
    for folder in options.data:
        seeds = {}
        for seed in options.seeds:
            settings = load_settings(options.config, [*options.set, f"seed={seed}"])
            for name in systems:  # a missing library is told now, not after hours
                if name not in (FUSION, STACK):
                    make_baseline(name, settings.baselines)
            run = Run(
                folder, settings, market=options.market, parts=parts,
                again=set(filter(None, options.again.split(","))), reporter=reporter,
            )  # fmt: skip
            document["runs"].append(run.judge(systems, options.drop, known))
            seeds[seed] = run.stem.with_name(f"{run.stem.name}.parquet")
            write(document, output)
        if len(seeds) > 1 and LIGHTGBM in systems:
            frames = {seed: pl.read_parquet(file) for seed, file in seeds.items()}
            gaps = over_seeds(frames, systems, settings.evaluation)
            document["over_seeds"] += [{"data": folder.resolve().name, **gap} for gap in gaps]
            write(document, output)
    console = Console(soft_wrap=True)
    if not console.is_terminal:  # in a file lines are not cut at 80 columns
        console.width = 200
    print_runs(document, console)
    print(f"written to {output}, predictions to {parts}/")


def check_systems(systems: list[str], dropped: list[str]) -> list[str]:
    """The names, in the order asked for, the stack last.

    Raises:
        SettingsError: a name is unknown, or what the stack or `--drop` is made of is missing.
    """
    known = [FUSION, *NAMES, STACK]
    for name in systems:
        if name not in known:
            raise SettingsError(f"there is no system '{name}'{nearest(name, known)}")
    for name in (FUSION, LIGHTGBM):
        if STACK in systems and name not in systems:
            raise SettingsError(f"the stack needs {name} among --systems")
    if dropped and FUSION not in systems:
        raise SettingsError("--drop needs fusion among --systems")
    return [name for name in systems if name != STACK] + [STACK] * (STACK in systems)


def write(document: Mapping[str, Any], output: Path) -> None:
    """Write the results so far, whole or not at all."""
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    write_file(output, lambda path: path.write_text(text))


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds of the models")
    parser.add_argument("--market", default="all", help="a market, or all")
    parser.add_argument("--systems", default=DEFAULT_SYSTEMS, help="comma-separated")
    parser.add_argument("--config", type=Path, help="settings, best.yaml of tune for example")
    parser.add_argument("--set", action="append", default=[], help="key.path=value")
    parser.add_argument(
        "--drop", action="append", default=[], choices=list(DROPPED_COLUMNS),
        help="train the fusion without this modality, too; may be repeated",
    )  # fmt: skip
    parser.add_argument("--again", default="", help="systems to fit anew, comma-separated")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--quiet", action="store_true", help="print results only")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
