"""MLflow: runs, their figures and files, and the registry of models.

The default store is an SQLite file with its artifacts beside it, made on first use under a lock;
`MLFLOW_TRACKING_URI` wins over the settings. A store that cannot be used is told before the work
starts; one that goes away in training is told at the end, and costs figures, never the model.
"""

import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from copy import deepcopy
from importlib import import_module
from pathlib import Path
from typing import Any

# before mlflow is imported, which reads them once
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# the default of seven retries keeps a user waiting for four minutes on a server that is down
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")

import mlflow
import pandas as pd
import sqlalchemy
import yaml
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.exc import SQLAlchemyError

from features.context import Kind
from purchase_predictor import scoring_rows
from purchase_predictor.errors import TrackingError
from purchase_predictor.requirements import pinned, without_bytecode
from purchase_predictor.settings import StoreSettings
from purchase_predictor.tracked_values import flat_keys, metric_key, shortened, without_passwords

URI_VARIABLE = "MLFLOW_TRACKING_URI"
SQLITE = "sqlite:///"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
MAX_PARAMS, MAX_METRICS = 100, 1000
SECONDS_BEFORE_RETRY = 60.0

NOTE = "mlflow.note.content"
"""Tag that the pages of MLflow show as the description of a run or an experiment."""
KIND = "mlflow.experimentKind"
"""Tag of an experiment by which its page opens with runs and models, not with chats and traces."""

ABOUT = (
    "Runs on the data set **{name}**. Tags tell what a run is: `scope` (global, local, adapted, "
    "comparison, tuning, …), `market`, `system`, `data.fingerprint`. To see which model serves a "
    "market best, show the columns `market`, `scope` and `fusion.MARKET.auc`."
)
"""Description of an experiment."""

CODE = ("purchase_predictor", "features", "configs")
"""Packages that travel with a registered model, which then needs nothing but `REQUIREMENTS`."""

for _library in ("mlflow", "alembic"):
    logging.getLogger(_library).setLevel(logging.WARNING)


class Run:
    """A run that is open; made by `start_run`.

    Attributes:
        run_id: as MLflow knows it.
        uri: of the store.
    """

    def __init__(self, run_id: str, uri: str) -> None:
        self.run_id = run_id
        self.uri = uri
        self._client = MlflowClient(uri)
        self._unsent: list[Metric] = []
        self._silent_until = 0.0

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Log nested settings as dotted parameters and whole, as `settings.yaml`.

        Args:
            settings: keys and values; a value longer than 500 characters is cut in the parameter.
        """
        flat = flat_keys(settings)
        params = [Param(metric_key(name), shortened(value)) for name, value in flat.items()]
        with _asking(self.uri):
            for start in range(0, len(params), MAX_PARAMS):
                self._client.log_batch(self.run_id, params=params[start : start + MAX_PARAMS])
            text = yaml.safe_dump(dict(settings), allow_unicode=True, sort_keys=False)
            self._client.log_text(self.run_id, text, "settings.yaml")

    def describe(self, text: str, tags: Mapping[str, str] | None = None) -> None:
        """Say on the run's page what it is, and set what is known only now.

        Args:
            text: Markdown.
            tags: further tags.
        """
        with _asking(self.uri):
            for key, value in {**(tags or {}), NOTE: text}.items():
                self._client.set_tag(self.run_id, key, value)

    def log_epoch(self, prefix: str, step: int, metrics: Mapping[str, float]) -> None:
        """Log the figures of an epoch; where the store is away they wait for the next call.

        Args:
            prefix: what is trained.
            step: number of the epoch.
            metrics: figures by name.
        """
        now = int(time.time() * 1000)
        self._unsent += [
            Metric(metric_key(f"{prefix}.{name}"), float(value), now, step)
            for name, value in metrics.items()
        ]
        if time.monotonic() >= self._silent_until:
            try:
                self._send()
            except TrackingError:  # raised again by log_result, when the model is safe
                self._silent_until = time.monotonic() + SECONDS_BEFORE_RETRY

    def log_result(self, metrics: Mapping[str, Any]) -> None:
        """Log the figures of an evaluation, and epochs that could not be logged before.

        `{"fusion": {"macro": {"auc": {"value": 0.7, "low": 0.6, "high": 0.8}}}}` becomes
        `fusion.macro.auc`, `fusion.macro.auc.low` and `fusion.macro.auc.high`.

        Args:
            metrics: nested; what is no number (text, lists, None) is left out.

        Raises:
            TrackingError: the store cannot be reached.
        """
        now = int(time.time() * 1000)
        flat = {
            metric_key(re.sub(r"\.value$", "", name)): value
            for name, value in flat_keys(metrics).items()
        }
        self._unsent += [
            Metric(name, float(value), now, 0)
            for name, value in flat.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        self._send()

    def _send(self) -> None:
        with _asking(self.uri):
            while self._unsent:
                self._client.log_batch(self.run_id, metrics=self._unsent[:MAX_METRICS])
                del self._unsent[:MAX_METRICS]

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Log a file as an artifact, in `folder` of the run's artifacts."""
        with _asking(self.uri):
            self._client.log_artifact(self.run_id, str(path), folder)

    def log_folder(self, path: Path, folder: str | None = None) -> None:
        """Log the files of a folder as artifacts, in `folder` of the run's artifacts."""
        with _asking(self.uri):
            self._client.log_artifacts(self.run_id, str(path), folder)

    def log_data(self, fingerprint: str, name: str, rows: Mapping[str, Any]) -> None:
        """Log what the run read.

        Args:
            fingerprint: hash of the rows.
            name: of the data folder.
            rows: counts (read, used, set aside), in any nesting.
        """
        counts = json.dumps(dict(rows), ensure_ascii=False)
        tags = {"data.name": name, "data.fingerprint": fingerprint, "data.rows": counts}
        data = Dataset(
            name=name, digest=fingerprint[:36], source_type="local", source=name, profile=counts
        )
        with _asking(self.uri):
            for key, value in tags.items():
                self._client.set_tag(self.run_id, key, value)
            self._client.log_inputs(self.run_id, [DatasetInput(data)])

    def log_model(
        self,
        model_folder: Path,
        *,
        input_example: Sequence[Mapping[str, Any]],
        registered_name: str | None,
        aliases: Sequence[str] = (),
        context: Mapping[str, Kind] | None = None,
    ) -> str | None:
        """Log a model folder as a pyfunc that scores lists, and register it.

        The code travels with the model, which loads without a pickle where `REQUIREMENTS` are
        installed. Loading a model of MLflow runs its author's code.

        Args:
            model_folder: as `PurchasePredictor.save` writes it.
            input_example: lists as `scoring_rows` describes them.
            registered_name: of the registered model; None registers nothing.
            aliases: of the version, such as `champion`.
            context: kinds of the model's context columns.

        Returns:
            The version, None where nothing is registered.

        Raises:
            TrackingError: the store cannot be reached.
        """
        kinds = dict(context or {})
        example = pd.DataFrame(deepcopy(list(input_example)))  # MLflow changes what is inside
        requirements = pinned()
        with _asking(self.uri), without_bytecode():
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(Path(__file__).with_name("scoring_model.py")),
                artifacts={"model": model_folder.resolve().as_uri()},
                code_paths=[str(_package(name)) for name in CODE],
                pip_requirements=requirements,
                signature=ModelSignature.from_dict(scoring_rows.signature(kinds)),
                input_example=example,
                model_config={"context": kinds},
            )
            if registered_name is None:
                return None
            with redirect_stderr(io.StringIO()):  # MLflow prints that it worked, errors are raised
                version = mlflow.register_model(
                    f"models:/{info.model_id}", registered_name
                ).version
            for alias in aliases:
                self._client.set_registered_model_alias(registered_name, alias, str(version))
        return str(version)


@contextmanager
def opened_store(settings: StoreSettings) -> Iterator[MlflowClient]:
    """A client of the store, to read from it.

    Args:
        settings: the store.

    Raises:
        TrackingError: the store cannot be reached or used, also by what is done inside.
    """
    uri = os.environ.get(URI_VARIABLE) or settings.uri
    with _environment(uri), _asking(uri):
        _make_database(uri)
        _try_database(uri)
        yield MlflowClient(uri)


@contextmanager
def start_run(
    settings: StoreSettings,
    *,
    experiment: str,
    run_name: str,
    tags: Mapping[str, str],
    parent: Run | None = None,
) -> Iterator[Run]:
    """Open a run, and close it as finished, failed or killed.

    Args:
        settings: the store, and the experiment's name where the user gave one.
        experiment: its name where the settings have none.
        run_name: of the run.
        tags: of the run.
        parent: the open run that this one is a part of.

    Yields:
        The run; MLflow's own functions log to it, too.

    Raises:
        TrackingError: the store cannot be used; before any work is done.
    """
    uri = os.environ.get(URI_VARIABLE) or settings.uri
    with _environment(uri):
        with _asking(uri):
            _make_database(uri)
            _try_database(uri)
            number = _experiment_id(uri, settings.experiment or experiment)
            active = mlflow.start_run(
                experiment_id=number, run_name=run_name, tags=dict(tags),
                nested=parent is not None, parent_run_id=parent.run_id if parent else None,
            )  # fmt: skip
        status = "FAILED"
        try:
            yield Run(active.info.run_id, uri)
            status = "FINISHED"
        except KeyboardInterrupt:
            status = "KILLED"
            raise
        finally:
            # what went wrong in the run is told, not that the store is away as well
            with nullcontext() if status == "FINISHED" else suppress(TrackingError), _asking(uri):
                mlflow.end_run(status)


@contextmanager
def _environment(uri: str) -> Iterator[None]:
    """MLflow's own functions look the store up in the environment, and so do child processes."""
    before = os.environ.get(URI_VARIABLE)
    os.environ[URI_VARIABLE] = uri
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(URI_VARIABLE, None)
        else:
            os.environ[URI_VARIABLE] = before


@contextmanager
def _asking(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one sentence for the user."""
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        first = str(error).strip().splitlines()[0]
        told = without_passwords(f"the MLflow store {uri} cannot be used: {first}")
        raise TrackingError(told) from error
    except OSError as error:
        if error.errno is not None:  # of the disk, which has its own sentence
            raise
        told = without_passwords(f"the MLflow store {uri} cannot be reached: {error}")
        raise TrackingError(told) from error


def _make_database(uri: str) -> None:
    """Make the SQLite file of a first use, whole or not at all, once for all processes."""
    database = _database(uri)
    if database is None or _is_made(database):
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        if _is_made(database):
            return
        partial = database.with_name(f".{database.name}.partial")
        partial.unlink(missing_ok=True)  # of a run that was killed
        store = SqlAlchemyStore(f"{SQLITE}{partial}", str(database.with_name("artifacts")))
        store.engine.dispose()
        partial.replace(database)


def _is_made(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _try_database(uri: str) -> None:
    """Ask a database once: MLflow asks again for an hour where none answers."""
    if uri.partition("://")[0].partition("+")[0] not in DATABASES:
        return
    try:
        engine = sqlalchemy.create_engine(uri)
    except ModuleNotFoundError as error:
        sentence = f"the MLflow store {without_passwords(uri)} needs its driver: {error}"
        raise TrackingError(sentence) from error
    try:
        with engine.connect() as connection:
            sqlalchemy.inspect(connection).get_table_names()
    finally:
        engine.dispose()


def _database(uri: str) -> Path | None:
    path = uri.removeprefix(SQLITE).partition("?")[0]
    return Path(path).absolute() if uri.startswith(SQLITE) and path else None


def _experiment_id(uri: str, name: str) -> str:
    client, database = MlflowClient(uri), _database(uri)
    found = client.get_experiment_by_name(name)
    if found is None:
        place = None if database is None else str(database.with_name("artifacts"))
        try:
            tags = {NOTE: ABOUT.format(name=name), KIND: "custom_model_development"}
            return client.create_experiment(name, artifact_location=place, tags=tags)
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
            found = client.get_experiment_by_name(name)  # another process was first
    if found is None or found.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment '{name}' is deleted: restore it, or name another with "
            "--set tracking.experiment=NAME"
        )
    return found.experiment_id


def _package(name: str) -> Path:
    return Path(str(import_module(name).__file__)).parent
