"""Batch scoring, step by step: find the model, score in shards, commit with a manifest."""

import json
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import polars as pl
import torch

from features.heap import keep_few_kernels
from features.reading import read_folder
from purchase_predictor import __version__
from purchase_predictor.absent import absent_inputs
from purchase_predictor.checkpoint import MANIFEST, no_manifest, write_file, write_json
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import SettingsError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.reference import Counts, Reference
from purchase_predictor.scored import (
    rows_by_reason,
    set_aside_sentences,
    unread_sentences,
    unseen_markets,
    unseen_sentences,
)
from purchase_predictor.scoring.drift import drift_report, table_rows
from purchase_predictor.scoring.engines import Engine, LocalEngine, RayEngine, WorkerTask
from purchase_predictor.scoring.scorer import CATALOGUE, UNREAD
from purchase_predictor.scoring.shards import ScoredShards, UnusableError, score_shards
from purchase_predictor.scoring.work import DataChangedError, InputFiles, WorkFolder, sha256
from purchase_predictor.settings import StoreSettings

EngineName = Literal["local", "ray"]
MODEL = "model"
FORMAT = 2
"""Counted up when what is kept for --resume, or a manifest, comes to mean something else."""


class ScoringJob:
    """Scores a data folder with a model.

    Args:
        model: a model folder, or `models:/NAME@ALIAS`.
        source: data folder.
        output: Parquet file.
        system: that answers; None takes the model's champion.
        shard_rows: impressions and events held in memory at once, about.
        profiles: file with the profiles of markets that are new to the model, if any.
        engine: `local`, or `ray`: the workers of a cluster, which all see the folders of model,
            input and output.
        n_workers: of a cluster; None takes as many as it has cores for.
        resume: goes on with the finished shards of a run that was stopped.
        store: where registered models are.
        reporter: tells what happens.
    """

    def __init__(
        self,
        model: str,
        source: Path,
        output: Path,
        *,
        system: str | None,
        shard_rows: int,
        profiles: Path | None,
        engine: EngineName = "local",
        n_workers: int | None = None,
        resume: bool,
        store: StoreSettings,
        reporter: Reporter,
    ) -> None:
        self.model = model
        self.source = source
        self.output = output
        self.system = system
        self.shard_rows = shard_rows
        self.profiles = profiles
        self.engine = engine
        self.n_workers = n_workers
        self.resume = resume
        self.store = store
        self.reporter = reporter

    @property
    def manifest(self) -> Path:
        """The file that commits the others."""
        return self.output.with_name(f"{self.output.stem}.manifest.json")

    @property
    def quarantine(self) -> Path:
        """Rows that could not be used."""
        return self.output.with_name(f"{self.output.stem}.quarantine.parquet")

    @property
    def drift(self) -> Path:
        """How far inputs and scores are from those of test rows."""
        return self.output.with_name(f"{self.output.stem}.drift.json")

    @property
    def work(self) -> Path:
        """Where finished shards are kept until the output is whole."""
        return self.output.with_name(f".{self.output.stem}.work")

    def run(self) -> dict[str, Any]:
        """Load the model, score, write the manifest last.

        Returns:
            What the manifest holds.
        """
        keep_few_kernels()
        self.warnings_: list[str] = []
        with tempfile.TemporaryDirectory() as folder:
            place, version = find_model(self.model, self.store, Path(folder))
            return self._run(place, version)

    def _run(self, place: Path, version: str) -> dict[str, Any]:
        predictor = PurchasePredictor.load(place)
        checksum = sha256(place / MANIFEST)
        if self.profiles is not None:
            predictor.preparation_.add_profiles(self.profiles)
        system = predictor.system_named(self.system)
        raw = read_folder(self.source)
        inputs = InputFiles(raw)
        made_from = self._made_from(checksum, version, system, inputs)
        unfinished = any(WorkFolder(self.work).records())
        if self.resume and not unfinished and self._is_finished(made_from):
            self.reporter.step(f"{self.output} is finished: nothing is left to do")
            return self._document()
        if predictor.reference_ is not None:
            context = predictor.preparation_.features_.context_
            for absent in absent_inputs(raw, predictor.reference_, context):
                self._warn(absent)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        if not self.resume and unfinished:
            self.reporter.warn(
                f"what an unfinished run left in {self.work} is thrown away: "
                "--resume goes on with it"
            )
        with WorkFolder.opened(self.work, made_from, resume=self.resume) as work:
            try:
                engine = self._engine(place, work, made_from["threads"])
                document = self._score(predictor, engine, work, inputs, made_from)
                work.remove()
            except (DataChangedError, UnusableError):
                work.empty()  # nothing in it is of use to a resumed run
                raise
            finally:
                if any(work.records()):
                    self.reporter.warn(f"what is finished is kept in {self.work} for --resume")
        return document

    def _made_from(
        self, checksum: str, version: str, system: str, inputs: InputFiles
    ) -> dict[str, Any]:
        """All that decides the bytes of the output."""
        versions = {name: metadata.version(name) for name in ("lightgbm", "polars", "torch")}
        return {
            "format": FORMAT,
            "model": checksum,
            "model_version": version,
            "system": system,
            "shard_rows": self.shard_rows,
            "threads": self._threads(),
            "profiles": None if self.profiles is None else sha256(self.profiles),
            "input": inputs.checksums,
            "version of": {"purchase_predictor": __version__, **versions},
        }

    def _threads(self) -> int:
        """Threads of torch, by whose number sums are rounded: a resumed run takes as many."""
        before = None
        if self.resume:
            before = WorkFolder(self.work).made_from() or self._document().get("made_from")
        if before is not None:
            torch.set_num_threads(int(before["threads"]))
        return torch.get_num_threads()

    def _engine(self, place: Path, work: WorkFolder, threads: int) -> Engine:
        """Where shards are scored; a registered model is put where workers can read it."""
        if self.engine == "local":
            return LocalEngine()
        work.clear(MODEL)
        model = work.folder / MODEL
        shutil.copytree(place, model)
        task = WorkerTask(model, self.profiles, self.source, work.folder, threads)
        return RayEngine(task, self.n_workers)

    def _document(self) -> dict[str, Any]:
        """The manifest that is there; empty where none can be read."""
        try:
            return json.loads(self.manifest.read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

    def _is_finished(self, made_from: dict[str, Any]) -> bool:
        """Whether the output is there, whole and made from the same."""
        document = self._document()
        files = [self.output.with_name(name) for name in document.get("files", ())]
        return document.get("made_from") == made_from and all(
            file.is_file() and sha256(file) == document["files"][file.name]["sha256"]
            for file in files
        )

    def _score(
        self,
        predictor: PurchasePredictor,
        engine: Engine,
        work: WorkFolder,
        inputs: InputFiles,
        made_from: dict[str, Any],
    ) -> dict[str, Any]:
        # an old manifest must not vouch for new files, nor for half of them
        self.manifest.unlink(missing_ok=True)
        self.drift.unlink(missing_ok=True)
        plain = work.folder / "plain.parquet"
        scored = score_shards(
            predictor,
            self.source,
            plain,
            system=made_from["system"],
            shard_rows=self.shard_rows,
            work=work,
            engine=engine,
            progress=self.reporter.step,
        )
        inputs.refuse_changed()
        self._commit(plain, made_from["system"], made_from["model_version"])
        self._tell_drift(predictor.reference_, scored.counts, made_from["system"])
        document = self._describe(scored, made_from)
        unread = (work.facts(CATALOGUE) or {}).get(UNREAD, [])
        for told in unread_sentences(unread):
            self._warn(told)
        known = predictor.preparation_.markets
        for told in unseen_sentences(document["unseen_markets"], predictor.facts_, known):
            self._warn(told)
        for told in set_aside_sentences(document["set_aside_because"]):
            self._warn(told)
        write_json(self.manifest, {**document, "warnings": self.warnings_})
        return document

    def _warn(self, sentence: str) -> None:
        """Of the data: the manifest keeps it for who does not read the terminal."""
        self.reporter.warn(sentence)
        self.warnings_.append(sentence)

    def _commit(self, plain: Path, system: str, version: str) -> None:
        """Name system and version in every row, then put the files where they belong."""
        whole = plain.with_name("whole.parquet")
        pl.scan_parquet(plain).select(
            "impression_id", "market", "probability", pl.lit(system).alias("system"),
            pl.lit(version).alias("model_version"), "flags",
        ).sink_parquet(whole)  # fmt: skip
        set_aside = plain.with_name(f"{plain.stem}.quarantine.parquet")
        self.quarantine.unlink(missing_ok=True)
        if set_aside.is_file():
            write_file(self.quarantine, lambda path: shutil.move(set_aside, path))
        write_file(self.output, lambda path: shutil.move(whole, path))

    def _flags(self) -> dict[str, int]:
        """Rows with each flag."""
        flags = pl.scan_parquet(self.output).select(
            pl.col("flags").explode(empty_as_null=False, keep_nulls=False)
        )
        counted = flags.group_by("flags").len().sort("flags").collect(engine="streaming")
        return dict(counted.iter_rows())

    def _tell_drift(self, reference: Reference | None, counts: Counts | None, system: str) -> None:
        """Write the drift report and warn, where the model knows what its test rows were like."""
        if reference is None or counts is None:
            self.reporter.step(
                "no drift report: the model folder has no reference.json, as models trained now do"
            )
            return
        if not counts.n:
            self.reporter.step(
                "no drift report: no row is newer than what the model learned from and of a "
                "market that it knows"
            )
            return
        report = drift_report(reference, counts, system)
        write_json(self.drift, report)
        self.reporter.table(
            "Moved most since the model was tested",
            ["input", "PSI", "missing (before)", "unseen (before)"],
            table_rows(report),
        )
        for sentence in report["warnings"]:
            self._warn(sentence)

    def _describe(self, scored: ScoredShards, made_from: dict[str, Any]) -> dict[str, Any]:
        """The manifest.

        Raises:
            RuntimeError: rows were lost or invented, which is a fault of ours.
        """
        n_set_aside, reasons = 0, []
        files = [self.output, *(file for file in (self.drift,) if file.is_file())]
        if self.quarantine.is_file():
            files.append(self.quarantine)
            aside = pl.scan_parquet(self.quarantine).filter(pl.col("table") == "impressions")
            n_set_aside = int(aside.select("row").unique().select(pl.len()).collect().item())
            reasons = rows_by_reason(pl.scan_parquet(self.quarantine))
        if scored.n_read != scored.n_scored + n_set_aside:
            raise RuntimeError(
                f"{scored.n_read} rows were read, but {scored.n_scored} scored and {n_set_aside} "
                "set aside"
            )
        return {
            "model": self.model,
            "model_version": made_from["model_version"],
            "system": made_from["system"],
            "rows": {
                "read": scored.n_read,
                "scored": scored.n_scored,
                "set_aside": n_set_aside,
            },
            "set_aside_of_all_tables": scored.n_set_aside,
            "set_aside_because": reasons,
            "flags": self._flags(),
            "unseen_markets": unseen_markets(pl.scan_parquet(self.output)),
            "files": {file.name: {"sha256": sha256(file)} for file in files},
            "made_from": made_from,
        }


def find_model(model: str, store: StoreSettings, folder: Path) -> tuple[Path, str]:
    """The folder of a model and its version: the registry's, or a hash of the folder.

    Args:
        model: a model folder, or `models:/NAME@ALIAS`.
        store: where registered models are.
        folder: where a registered one is put.

    Raises:
        SettingsError: there is no such model.
    """
    if model.startswith("models:/"):
        # only here: a model folder is used without MLflow
        from purchase_predictor.tracked import registered_model

        return registered_model(store, model, folder)
    place = Path(model)
    if not place.is_dir():
        raise SettingsError(f"there is no model folder {place}")
    return place, folder_version(place)


def load_model(model: str, store: StoreSettings) -> tuple[PurchasePredictor, str]:
    """A model and its version; arguments and errors are those of `find_model`."""
    with tempfile.TemporaryDirectory() as place:
        found, version = find_model(model, store, Path(place))
        return PurchasePredictor.load(found), version


def folder_version(folder: Path) -> str:
    """A model folder's version where no registry gave one: a hash of its manifest."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise SettingsError(no_manifest(folder))
    return sha256(manifest)[:12]
