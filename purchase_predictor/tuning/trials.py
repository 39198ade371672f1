"""Trials of one system's settings: kept in a study that several processes may share.

The first trial of every system are the settings that tuning starts from, the others are drawn by
TPE from `configs/tune.yaml`. A trial fits the system on the training rows and is ranked by its
log-loss on the rows that stop training (V1), uncalibrated. Fusion trials of another size train the
click encoder again; those of the same size share it. A killed run goes on, and draws what it would
have drawn: what was running then is run again first.
"""

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from features.arrays import STOP
from purchase_predictor.errors import SettingsError
from purchase_predictor.evaluation.metrics import log_loss
from purchase_predictor.panel import FUSION
from purchase_predictor.settings import Settings, load_settings
from purchase_predictor.training.search import Space, Value, as_overrides, starting_values, suggest
from purchase_predictor.tuning.prepared import Prepared, clicks_key, make_system, with_clicks

Step = Callable[[str], None]

N_STARTUP = 5
"""Trials drawn at random before TPE has something to go on, and before any is pruned."""

PROCESS = f"{socket.gethostname()}:{os.getpid()}"


class TrialLog(Protocol):
    """Where a trial's figures go."""

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Told what was drawn."""
        ...

    def log_epoch(self, prefix: str, step: int, metrics: Mapping[str, float]) -> None:
        """Told the figures of an epoch."""
        ...

    def log_result(self, metrics: Mapping[str, Any]) -> None:
        """Told what came out."""
        ...


class Unlogged:
    """A log that keeps nothing."""

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_epoch(self, prefix: str, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def log_result(self, metrics: Mapping[str, Any]) -> None:
        """Do nothing."""


OpenLog = Callable[[str, int], AbstractContextManager[TrialLog]]
"""Opens the log of a system's trial, by its number."""


def no_log(_system: str, _number: int) -> AbstractContextManager[TrialLog]:
    """Keep no log."""
    return nullcontext(Unlogged())


def open_storage(where: str | None, default: Path) -> BaseStorage:
    """Where studies are kept.

    Args:
        where: URL of a database that SQLAlchemy knows; None takes the journal file.
        default: the journal file.

    Raises:
        SettingsError: the database cannot be used.
    """
    if where is None:
        default.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(default)))
    try:
        return RDBStorage(where, engine_kwargs={"pool_pre_ping": True})
    except (SQLAlchemyError, ImportError) as error:
        first = str(error).strip().splitlines()[0]
        raise SettingsError(f"the storage of the study cannot be used: {first}") from error


class Trials:
    """Trials of every system on one data set.

    Args:
        prepared: rows.
        config: settings that tuning starts from.
        overrides: laid over them.
        storage: where trials are kept.
        identity: hash of the data and the settings: trials of another one are not taken up.
        seed: of the sampler.
        step: told what happens.
        open_log: opens the log of each trial.
    """

    def __init__(
        self,
        prepared: Prepared,
        config: Path | None,
        overrides: list[str],
        *,
        storage: BaseStorage,
        identity: str,
        seed: int,
        step: Step,
        open_log: OpenLog = no_log,
    ) -> None:
        self.prepared = prepared
        self.config = config
        self.overrides = overrides
        self.storage = storage
        self.identity = identity
        self.seed = seed
        self.step = step
        self.open_log = open_log
        start = load_settings(config, overrides)
        self.start = start
        self.with_clicks = {clicks_key(start): prepared}

    def run(self, name: str, space: Space, n_trials: int) -> optuna.Study:
        """Run what is missing of a system's trials.

        Args:
            name: of the system.
            space: where to look.
            n_trials: in all, those of an earlier run and of other processes included.
        """
        described = json.dumps({key: found.model_dump() for key, found in space.items()})
        digest = hashlib.sha256(f"{self.identity} {described}".encode()).hexdigest()[:12]
        study = optuna.create_study(
            storage=self.storage,
            study_name=f"{name}-{digest}-seed{self.seed}",
            load_if_exists=True,
            pruner=MedianPruner(n_startup_trials=N_STARTUP, n_warmup_steps=1),
        )
        take_up_dead(study)
        first = starting_values(self.start, space)
        while len(taken(study)) < n_trials:
            number = len(taken(study))
            study.sampler = sampler(number, self.seed)
            if number == 0 and not study.get_trials(states=(TrialState.WAITING,)):
                study.enqueue_trial(first, user_attrs={"start": True})
            trial = study.ask()
            trial.set_user_attr("process", PROCESS)
            with self.open_log(name, number) as log:
                value = self._run_one(name, space, trial, study, log)
            best = min((trial.value or 0.0 for trial in finished(study)), default=float("nan"))
            told = "pruned" if value is None else f"log-loss {value:.5f}"
            self.step(f"{name}: trial {number + 1} of {n_trials}, {told}, best {best:.5f}")
        if not finished(study):
            raise SettingsError(
                f"all {n_trials} trials of {name} are running in other processes, and none has "
                "ended: start this command again when they have, or with more --trials"
            )
        return study

    def _run_one(
        self,
        name: str,
        space: Space,
        trial: optuna.Trial,
        study: optuna.Study,
        log: TrialLog,
    ) -> float | None:
        """The trial's log-loss; None where it was not worth finishing."""
        began = time.perf_counter()
        values = suggest(trial, space)
        log.log_settings(values)

        def on_epoch(prefix: str, step: int, metrics: Mapping[str, float]) -> None:
            log.log_epoch(prefix, step, metrics)
            if name == prefix == FUSION:
                trial.report(metrics["log_loss"], step)
                if trial.should_prune():
                    raise optuna.TrialPruned

        try:
            loss = self.try_out(name, values, on_epoch)
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
            log.log_result({"pruned": 1, "seconds": time.perf_counter() - began})
            return None
        trial.set_user_attr("seconds", time.perf_counter() - began)
        study.tell(trial, loss)
        log.log_result({"stop": {"log_loss": loss}, "seconds": time.perf_counter() - began})
        return loss

    def try_out(
        self, name: str, values: Mapping[str, Value], on_epoch: Callable[..., None]
    ) -> float:
        """Log-loss on the STOP rows of a system with these settings."""
        settings = load_settings(self.config, [*self.overrides, *as_overrides(values)])
        prepared = self.clicks_for(settings) if name == FUSION else self.prepared
        system = make_system(name, settings, prepared, on_epoch=on_epoch)
        system.fit(prepared.data, seed=settings.seed, progress=self.step)
        stop = prepared.data.select(prepared.data.part == STOP)
        known = ~np.isnan(stop.converted)
        return log_loss(stop.converted[known] == 1, system.predict_proba(stop)[known])

    def clicks_for(self, settings: Settings) -> Prepared:
        """The rows with a click encoder of these settings' size."""
        key = clicks_key(settings)
        if key not in self.with_clicks:
            self.step("click encoder of another size")
            self.with_clicks[key] = with_clicks(self.prepared, settings, progress=self.step)
        return self.with_clicks[key]


def sampler(number: int, seed: int) -> TPESampler:
    """What draws trial `number`: one for each trial, whatever was drawn in this process before.

    So a run that was killed draws what it would have.
    """
    return TPESampler(seed=seed * 10_000 + number, n_startup_trials=N_STARTUP)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that have a value, in the order in which they were run."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))


def taken(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that count: with a value, pruned, or running now in another process."""
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
    return study.get_trials(deepcopy=False, states=states)


def take_up_dead(study: optuna.Study) -> None:
    """Run again what a process of this machine was running when it ended."""
    host = socket.gethostname()
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        owner, _, process = trial.user_attrs.get("process", "").partition(":")
        if owner == host and not _is_alive(int(process)):
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                kept = {"start": True} if "start" in trial.user_attrs else None
                study.enqueue_trial(trial.params, user_attrs=kept)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user, but there
        return True
    return process != os.getpid()  # a number that came again


def best_of(study: optuna.Study) -> FrozenTrial:
    """The trial of the lowest log-loss, the earliest of equals."""
    return min(finished(study), key=lambda trial: (trial.value, trial.number))


def describe(study: optuna.Study) -> dict[str, Any]:
    """A system's trials, as JSON holds them."""
    best = best_of(study)
    trials = finished(study)
    return {
        "best": best.params,
        "log_loss": best.value,
        "start_log_loss": next(
            (trial.value for trial in trials if "start" in trial.user_attrs), trials[0].value
        ),
        "n_trials": len(taken(study)),
        "n_pruned": len(study.get_trials(deepcopy=False, states=(TrialState.PRUNED,))),
        "seconds": sum(trial.user_attrs.get("seconds", 0.0) for trial in trials),
        "trials": [
            {
                "number": trial.number,
                "log_loss": trial.value,
                "seconds": trial.user_attrs.get("seconds"),
                "values": trial.params,
            }
            for trial in trials
        ],
        "importance": importance(study),
    }


def importance(study: optuna.Study) -> dict[str, float]:
    """How much of the variance of the log-loss each setting explains (fANOVA), largest first."""
    if len(finished(study)) < 2 or len({trial.value for trial in finished(study)}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)
