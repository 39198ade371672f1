"""Batch scoring, step by step: find the model, score in shards, commit with a manifest."""

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import polars as pl

from purchase_predictor.checkpoint import write_file
from purchase_predictor.cli import Reporter
from purchase_predictor.errors import SettingsError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scored import unseen_markets, unseen_sentences
from purchase_predictor.scoring_shards import ScoredShards, score_shards
from purchase_predictor.settings import StoreSettings


class ScoringJob:
    """Scores a data folder with a model.

    Args:
        model: a model folder, or `models:/NAME@ALIAS`.
        source: data folder.
        output: Parquet file.
        system: that answers; None takes the model's champion.
        shard_rows: impressions and events held in memory at once, about.
        profiles: file with the profiles of markets that are new to the model, if any.
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
        store: StoreSettings,
        reporter: Reporter,
    ) -> None:
        self.model = model
        self.source = source
        self.output = output
        self.system = system
        self.shard_rows = shard_rows
        self.profiles = profiles
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

    def run(self) -> dict[str, Any]:
        """Load the model, score, write the manifest last.

        Returns:
            What the manifest holds.
        """
        with tempfile.TemporaryDirectory() as folder:
            place, version = find_model(self.model, self.store, Path(folder))
            predictor = PurchasePredictor.load(place)
        if self.profiles is not None:
            predictor.preparation_.add_profiles(self.profiles)
        system = predictor.system_named(self.system)
        self.output.parent.mkdir(parents=True, exist_ok=True)
        # an old manifest must not vouch for new files, nor for half of them
        self.manifest.unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=self.output.parent, prefix=".scores-") as folder:
            plain = Path(folder) / self.output.name
            scored = score_shards(
                predictor,
                self.source,
                plain,
                system=system,
                shard_rows=self.shard_rows,
                work=Path(folder),
                progress=self.reporter.step,
            )
            self._commit(plain, system, version)
        document = self._describe(scored, system, version)
        facts = predictor.facts_
        for told in unseen_sentences(document["unseen_markets"], facts.market, facts.scope):
            self.reporter.warn(told)
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_file(self.manifest, lambda path: path.write_text(text, "utf-8"))
        return document

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

    def _describe(self, scored: ScoredShards, system: str, version: str) -> dict[str, Any]:
        n_set_aside = 0
        files = [self.output]
        if self.quarantine.is_file():
            files.append(self.quarantine)
            aside = pl.scan_parquet(self.quarantine).filter(pl.col("table") == "impressions")
            n_set_aside = int(aside.select("row").unique().select(pl.len()).collect().item())
        return {
            "model": self.model,
            "model_version": version,
            "system": system,
            "rows": {
                "read": scored.n_scored + n_set_aside,
                "scored": scored.n_scored,
                "set_aside": n_set_aside,
            },
            "set_aside_of_all_tables": scored.n_set_aside,
            "flags": self._flags(),
            "unseen_markets": unseen_markets(pl.scan_parquet(self.output)),
            "files": {file.name: {"sha256": _sha256(file)} for file in files},
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


def folder_version(folder: Path) -> str:
    """A model folder's version where no registry gave one: a hash of its manifest."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise SettingsError(f"{folder} is not a model folder: it has no manifest.json")
    return _sha256(manifest)[:12]


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
