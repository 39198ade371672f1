"""Tuning, step by step: read, prepare once, run the trials, write the best settings, log."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import yaml

from features.schema import load_tables
from purchase_predictor import tracking
from purchase_predictor.baselines.registry import make_baseline
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import SettingsError
from purchase_predictor.panel import FUSION
from purchase_predictor.report import pages
from purchase_predictor.report.tuning_charts import history_chart, importance_chart
from purchase_predictor.settings import Settings, load_settings
from purchase_predictor.training.search import Space, load_spaces, starting_values
from purchase_predictor.training.selection import fingerprint
from purchase_predictor.tuning.chosen import laid_over, nested, override_of, write_chosen
from purchase_predictor.tuning.prepared import one_at_a_time, prepare
from purchase_predictor.tuning.trials import TrialLog, Trials, best_of, describe, open_storage

TUNED = ("model", "pretraining", "training", "baselines")
"""Sections whose settings a trial may change: the rows are encoded before."""

UNTUNABLE = ("model.history", "model.market")


def spaces_of(systems: Sequence[str], file: Path | None) -> dict[str, Space]:
    """Where to look for the settings of the systems asked for.

    Raises:
        SettingsError: a system has no space, or a key belongs to what comes before the trials.
    """
    spaces = load_spaces(file)
    for name in systems:
        if name not in spaces:
            raise SettingsError(f"there is no space for system '{name}' to tune it in")
        for key in spaces[name]:
            if key.split(".")[0] not in TUNED or key in UNTUNABLE:
                raise SettingsError(f"{key} cannot be tuned here: rows are encoded once for all")
    return {name: spaces[name] for name in systems}


class TuneJob:
    """Tunes systems with one budget.

    Args:
        config: settings that tuning starts from.
        overrides: laid over them.
        market: whose rows, or `all`.
        systems: tuned, one after the other.
        n_trials: of each system.
        space: where to look; None takes `configs/tune.yaml`.
        storage: URL of a database; None keeps a journal file in the output folder.
        source: data folder.
        folder: where files go.
        reporter: tells what happens.
    """

    def __init__(
        self,
        config: Path | None,
        overrides: list[str],
        *,
        market: str,
        systems: Sequence[str],
        n_trials: int,
        space: Path | None,
        storage: str | None,
        source: Path,
        folder: Path,
        reporter: Reporter,
    ) -> None:
        self.config = config
        self.overrides = overrides
        self.market = market
        self.n_trials = n_trials
        self.storage = storage
        self.source = source
        self.folder = folder
        self.reporter = reporter
        self.start: Settings = load_settings(config, overrides)
        self.spaces = spaces_of(systems, space)
        for name, found in self.spaces.items():  # what cannot be is told now, not after hours
            starting_values(self.start, found)
            if name != FUSION:
                make_baseline(name, self.start.baselines)

    def run(self) -> dict[str, Any]:
        """Read, prepare, run what is missing, write after each system, log.

        Returns:
            What `trials.json` holds.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        start, reporter = self.start, self.reporter
        storage = open_storage(self.storage, self.folder / "study.journal")
        reporter.step(f"reading {self.source}")
        tables = load_tables(
            self.source, require_labels=True, max_title_chars=start.data.max_title_chars
        )
        mark = fingerprint(tables)
        values = start.model_values()
        identity = json.dumps([mark, self.market, values], sort_keys=True)
        store = self.folder / "prepared" / mark
        with one_at_a_time(store, reporter.step):
            prepared = prepare(
                tables, start, market=self.market, store=store, progress=reporter.step
            )
        name = self.source.resolve().name
        document: dict[str, Any] = {
            "data": name,
            "fingerprint": mark,
            "market": self.market,
            "trials": self.n_trials,
            "ranked_by": "log-loss on the rows that stop training, uncalibrated",
            "sampler": f"TPE, seed {start.seed}; the first trial is the settings started from",
            "prepare_s": prepared.seconds,
            "systems": {},
        }
        with tracking.start_run(
            start.tracking, experiment=name, run_name=f"tune-{self.market}",
            tags={"command": "tune", "market": self.market, "scope": "tuning"},
        ) as parent:  # fmt: skip
            parent.log_settings(start.model_dump())
            parent.log_data(mark, name, {"market": self.market})
            trials = Trials(
                prepared, self.config, self.overrides, storage=storage, identity=identity,
                seed=start.seed, step=reporter.step, open_log=self._child_of(parent, name),
            )  # fmt: skip
            self._run_systems(trials, document)
            self._log(parent, document)
        return document

    def _run_systems(self, trials: Trials, document: dict[str, Any]) -> None:
        chosen: dict[str, Any] = {}
        if self.config is not None:
            chosen = yaml.safe_load(self.config.read_text("utf-8")) or {}
        chosen = laid_over(chosen, nested(dict(override_of(text) for text in self.overrides)))
        for name, space in self.spaces.items():
            study = trials.run(name, space, self.n_trials)
            document["systems"][name] = describe(study)
            chosen = laid_over(chosen, nested(best_of(study).params))
            write_chosen(document, chosen, self.folder)

    def _child_of(self, parent: tracking.Run, experiment: str) -> Any:
        @contextmanager
        def opened(system: str, number: int) -> Iterator[TrialLog]:
            with tracking.start_run(
                self.start.tracking, experiment=experiment,
                run_name=f"{system}-trial-{number + 1}",
                tags={
                    "command": "tune", "market": self.market, "scope": "trial", "system": system,
                },
                parent=parent,
            ) as child:  # fmt: skip
                yield child

        return opened

    def _log(self, parent: tracking.Run, document: Mapping[str, Any]) -> None:
        best = {
            name: {"stop": {"log_loss": found["log_loss"]}, "start": found["start_log_loss"]}
            for name, found in document["systems"].items()
        }
        parent.log_result(best)
        drawn = [
            chart(name, found)
            for name, found in document["systems"].items()
            for chart in (history_chart, importance_chart)
        ]
        report = self.folder / "report.html"
        title = f"purchase_predictor: tuning on {document['data']}, market {self.market}"
        pages.write_html(drawn, report, title)
        for file in ("best.yaml", "trials.json", "report.html"):
            parent.log_file(self.folder / file)
