"""The same number of trials for every system, on the same rows; the best settings as one file.

    python benchmarks/tuning.py --data data/claims-100 --trials 20 --output runs/tuned.yaml

Rows are prepared once. A trial fits one system on the training rows and is ranked by log-loss on
the rows that stop training (V1), uncalibrated; the first trial of every system are the settings
that tuning starts from, the others are drawn by TPE from `configs/tune.yaml`. Fusion trials of
another size train the click encoder again; those of the same size share it. Trials are kept in a
journal beside the output, as is the pre-training, so a killed run goes on, and draws what it
would have drawn.

The output is for `--config`, of `quality.py` and of every command; OUTPUT.json has all trials.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.prepared import Prepared, clicks_key, make_system, prepare, with_clicks
from features.arrays import STOP
from features.schema import load_tables
from purchase_predictor.baselines.registry import NAMES, make_baseline
from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import SettingsError, UserError
from purchase_predictor.evaluation.metrics import log_loss
from purchase_predictor.panel import FUSION
from purchase_predictor.settings import Settings, load_settings
from purchase_predictor.training.preparation import fingerprint
from purchase_predictor.training.search import (
    Space,
    Value,
    as_overrides,
    load_spaces,
    starting_values,
    suggest,
)

DEFAULT_SYSTEMS = ",".join((FUSION, *NAMES))
TUNED = ("model", "pretraining", "training", "baselines")
"""Sections whose settings a trial may change: the rows are encoded before."""


class Tuning:
    """Trials of every system on one data set.

    Args:
        prepared: rows.
        config: settings that tuning starts from.
        overrides: laid over them.
        storage: where trials are kept.
        identity: hash of the data and the settings: trials of another one are not taken up.
        seed: of the sampler.
        reporter: tells what happens.
    """

    def __init__(
        self,
        prepared: Prepared,
        config: Path | None,
        overrides: list[str],
        *,
        storage: JournalStorage,
        identity: str,
        seed: int,
        reporter: Reporter,
    ) -> None:
        self.prepared = prepared
        self.config = config
        self.overrides = overrides
        self.storage = storage
        self.identity = identity
        self.seed = seed
        self.reporter = reporter
        start = load_settings(config, overrides)
        self.start = start
        self.with_clicks = {clicks_key(start): prepared}

    def run(self, name: str, space: Space, n_trials: int) -> optuna.Study:
        """Run what is missing of a system's trials.

        Args:
            name: of the system.
            space: where to look.
            n_trials: in all, those of an earlier run included.
        """
        described = json.dumps({key: found.model_dump() for key, found in space.items()})
        digest = hashlib.sha256(f"{self.identity} {described}".encode()).hexdigest()[:12]
        study = optuna.create_study(
            storage=self.storage,
            study_name=f"{name}-{digest}-seed{self.seed}",
            load_if_exists=True,
        )
        first = starting_values(self.start, space)
        for number in range(len(finished(study)), n_trials):
            study.sampler = sampler(number, self.seed)
            if number == 0 and not study.get_trials(states=(TrialState.WAITING,)):
                study.enqueue_trial(first)
            trial = study.ask()
            began = time.perf_counter()
            loss = self.try_out(name, suggest(trial, space))
            trial.set_user_attr("seconds", time.perf_counter() - began)
            study.tell(trial, loss)
            best = best_of(study)
            self.reporter.step(
                f"{name}: trial {number + 1} of {n_trials}, log-loss {loss:.5f}, best "
                f"{best.value:.5f}"
            )
        return study

    def try_out(self, name: str, values: Mapping[str, Value]) -> float:
        """Log-loss on the STOP rows of a system with these settings."""
        settings = load_settings(self.config, [*self.overrides, *as_overrides(values)])
        prepared = self.clicks_for(settings) if name == FUSION else self.prepared
        system = make_system(name, settings, prepared)
        system.fit(prepared.data, seed=settings.seed, progress=self.reporter.step)
        stop = prepared.data.select(prepared.data.part == STOP)
        known = ~np.isnan(stop.converted)
        return log_loss(stop.converted[known] == 1, system.predict_proba(stop)[known])

    def clicks_for(self, settings: Settings) -> Prepared:
        """The rows with a click encoder of these settings' size."""
        key = clicks_key(settings)
        if key not in self.with_clicks:
            self.reporter.step("click encoder of another size")
            self.with_clicks[key] = with_clicks(
                self.prepared, settings, progress=self.reporter.step
            )
        return self.with_clicks[key]


def sampler(number: int, seed: int) -> TPESampler:
    """What draws trial `number`: one for each trial, whatever was drawn in this process before.

    So a run that was killed draws what it would have.
    """
    return TPESampler(seed=seed * 10_000 + number, n_startup_trials=5)


def finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that have a value, in the order in which they were run."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def best_of(study: optuna.Study) -> optuna.trial.FrozenTrial:
    """The trial of the lowest log-loss, the earliest of equals."""
    return min(finished(study), key=lambda trial: (trial.value, trial.number))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Key paths as sections of keys, as a settings file has them."""
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def laid_over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two settings files as one: what `above` says wins."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, dict) and isinstance(value, dict)
        merged[key] = laid_over(under, value) if both else value  # type: ignore[arg-type]
    return merged


def describe(study: optuna.Study) -> dict[str, Any]:
    """A system's trials, as JSON holds them."""
    best = best_of(study)
    trials = finished(study)
    return {
        "best": best.params,
        "log_loss": best.value,
        "start_log_loss": trials[0].value,
        "n_trials": len(trials),
        "seconds": sum(trial.user_attrs["seconds"] for trial in trials),
        "trials": [
            {
                "log_loss": trial.value,
                "seconds": trial.user_attrs["seconds"],
                "values": trial.params,
            }
            for trial in trials
        ],
    }


def spaces_of(systems: list[str], file: Path | None) -> dict[str, Space]:
    """Where to look for the settings of the systems asked for.

    Raises:
        SettingsError: a system has no space, or a key belongs to what comes before the trials.
    """
    spaces = load_spaces(file)
    for name in systems:
        if name not in spaces:
            raise SettingsError(f"there is no space for system '{name}' to tune it in")
        for key in spaces[name]:
            if key.split(".")[0] not in TUNED or key == "model.history":
                raise SettingsError(f"{key} cannot be tuned here: rows are encoded once for all")
    return {name: spaces[name] for name in systems}


def benchmark(options: argparse.Namespace) -> None:
    """Tune every system and write the best settings."""
    reporter = Reporter(quiet=options.quiet)
    systems = options.systems.split(",")
    spaces = spaces_of(systems, options.space)
    start = load_settings(options.config, options.set)
    for name, space in spaces.items():  # what cannot be is told now, not after hours
        starting_values(start, space)
        if name != FUSION:
            make_baseline(name, start.baselines)
    reporter.step(f"reading {options.data}")
    tables = load_tables(
        options.data, require_labels=True, max_title_chars=start.data.max_title_chars
    )
    identity = json.dumps([fingerprint(tables), options.market, start.model_dump(exclude={
        "evaluation", "tracking", "comparison"})], sort_keys=True)  # fmt: skip
    output: Path = options.output
    output.parent.mkdir(parents=True, exist_ok=True)
    journal = JournalStorage(JournalFileBackend(str(output.with_suffix(".journal"))))
    store = output.with_suffix("") / fingerprint(tables)
    tuning = Tuning(
        prepare(tables, start, market=options.market, store=store, progress=reporter.step),
        options.config, options.set, storage=journal, identity=identity, seed=options.seed,
        reporter=reporter,
    )  # fmt: skip
    document: dict[str, Any] = {
        "benchmark": "tuning",
        "data": options.data.resolve().name,
        "market": options.market,
        "trials": options.trials,
        "ranked_by": "log-loss on the rows that stop training, uncalibrated",
        "sampler": f"TPE, seed {options.seed}; the first trial are the settings started from",
        "prepare_s": tuning.prepared.seconds,
        "systems": {},
    }
    chosen = {} if options.config is None else yaml.safe_load(options.config.read_text()) or {}
    chosen = laid_over(chosen, nested(dict(override_of(text) for text in options.set)))
    for name, space in spaces.items():
        study = tuning.run(name, space, options.trials)
        document["systems"][name] = describe(study)
        chosen = laid_over(chosen, nested(best_of(study).params))
        write(document, chosen, output)
        told = document["systems"][name]
        print(
            f"{name}: {told['n_trials']} trials in {told['seconds']:.0f} s, log-loss "
            f"{told['start_log_loss']:.5f} -> {told['log_loss']:.5f}"
        )
    print(f"best settings: {output}; all trials: {output.with_suffix('.json')}")


def override_of(text: str) -> tuple[str, Any]:
    """A `key.path=value` as key and value."""
    key, _, value = text.partition("=")
    return key.strip(), yaml.safe_load(value)


def write(document: Mapping[str, Any], chosen: Mapping[str, Any], output: Path) -> None:
    """Write the trials and the best settings so far."""
    tuned = ", ".join(f"{name} ({s['n_trials']})" for name, s in document["systems"].items())
    head = f"# Made by benchmarks/tuning.py on {document['data']}; systems (trials): {tuned}.\n"
    text = head + yaml.safe_dump(dict(chosen), sort_keys=False)
    write_file(output, lambda path: path.write_text(text))
    trials = json.dumps(document, indent=1) + "\n"
    write_file(output.with_suffix(".json"), lambda path: path.write_text(trials))


def main(arguments: list[str] | None = None) -> int:
    """Tune, print, write."""
    options = parse(arguments)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        benchmark(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder")
    parser.add_argument("--market", default="all", help="a market, or all")
    parser.add_argument("--systems", default=DEFAULT_SYSTEMS, help="comma-separated")
    parser.add_argument("--trials", type=int, default=20, help="trials of each system")
    parser.add_argument("--space", type=Path, help="where to look, instead of configs/tune.yaml")
    parser.add_argument("--config", type=Path, help="settings that tuning starts from")
    parser.add_argument("--set", action="append", default=[], help="key.path=value")
    parser.add_argument("--seed", type=int, default=0, help="of the sampler")
    parser.add_argument("--output", type=Path, required=True, help="YAML file")
    parser.add_argument("--quiet", action="store_true", help="print results only")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
