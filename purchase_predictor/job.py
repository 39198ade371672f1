"""The main job, step by step: read, fit, evaluate, write, log, print."""

import hashlib
import json
import os
import resource
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from features.encoding import FORMAT
from features.schema import Tables, load_tables
from purchase_predictor import tracking
from purchase_predictor.checkpoint import has_folder, read_folder, write_file, write_folder
from purchase_predictor.cli import Reporter, make_output
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.errors import SettingsError
from purchase_predictor.model.fusion import LAYOUT
from purchase_predictor.panel import FUSION
from purchase_predictor.predictor import PurchasePredictor, Scope
from purchase_predictor.report import charts, pages
from purchase_predictor.report.calibrated import calibration_sentences
from purchase_predictor.report.console import gap_sentences, rich_table
from purchase_predictor.report.run_page import logged_figures, run_note
from purchase_predictor.runs import KEY_TAG, held_rows, judged_key, run_key, write_held
from purchase_predictor.scored import unread_sentences, unseen_sentences
from purchase_predictor.scoring_rows import example_rows
from purchase_predictor.settings import STORAGE, Settings
from purchase_predictor.told_tables import QUARANTINE, read_told
from purchase_predictor.tracked import appoint
from purchase_predictor.training.processes import refuse_lonely_launch
from purchase_predictor.training.selection import check_market, fingerprint

SAMPLE = Path("data/sample")


class Job:
    """One run of the main job, step by step.

    Args:
        settings: all settings.
        market: a market, or `all`.
        scope: local, global or adapted.
        data: data folder; None is the sample marketplace.
        encoders: folder of trained encoders, or None.
        folder: where the files go.
        resume: whether to go on from its checkpoints.
        reporter: tells what is going on.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        market: str,
        scope: Scope,
        data: Path | None,
        encoders: Path | None,
        folder: Path,
        resume: bool,
        reporter: Reporter,
    ) -> None:
        self.settings = settings
        self.market = market
        self.scope = scope
        self.data = data
        self.encoders = encoders
        self.folder = folder
        self.resume = resume
        self.reporter = reporter

    def run(self) -> None:
        """Read, fit, evaluate, write, log, print."""
        began = time.perf_counter()
        refuse_lonely_launch(os.environ)
        predictor = PurchasePredictor(self.settings, market=self.market, scope=self.scope)
        if os.environ.get("RANK", "0") != "0":
            self._follow(predictor)
            return
        make_output(self.folder)
        source = sample_folder(self.reporter) if self.data is None else self.data
        tables = read_told(source, self.settings, self.folder, self.reporter)
        # before a run is logged and checkpoints of another are replaced
        check_market(tables, self.market)
        of_data = fingerprint(tables)
        if not self.resume:
            self._tell_replaced(of_data, source)
        experiment = self.settings.tracking.experiment or source.resolve().name
        encoders = None if self.encoders is None else folder_hash(self.encoders)
        key = run_key(of_data, self.settings, self.market, self.scope, encoders)
        tags = {"command": "train", "market": self.market, "scope": self.scope, KEY_TAG: key}
        with tracking.start_run(
            self.settings.tracking,
            experiment=experiment,
            run_name=f"{self.market}-{self.scope}",
            tags=tags,
        ) as logged:
            logged.log_settings(self.settings.model_dump())
            predictor.fit(
                tables,
                checkpoints=self._checkpoints(of_data),
                content=self._content(tables),
                resume=self.resume,
                progress=self.reporter.step,
                on_epoch=logged.log_epoch,
            )
            result = self._write(predictor, tables, source)
            seconds = time.perf_counter() - began
            self._log(logged, predictor, tables, result, seconds)
        self._print(predictor, result, tables, seconds)

    def _follow(self, predictor: PurchasePredictor) -> None:
        """The part of a further process of `accelerate launch`: to train, and write nothing."""
        if self.data is None:
            raise SettingsError("name the data with --data where several processes train")
        limit = self.settings.data.max_title_chars
        predictor.fit(
            load_tables(self.data, max_title_chars=limit).stored(
                self.settings.training.array_store
            ),
            checkpoints=self.folder / "checkpoints" if self.resume else None,
            content=self._content(),
            resume=self.resume,
        )

    # ---- read

    def _content(self, tables: Tables | None = None) -> Any:
        if self.encoders is None:
            return None
        content = ContentEncoders.load(self.encoders)
        if tables is not None and len(content.trained_on):
            known = tables.products["product_id"].is_in(content.trained_on.implode())
            if not known.any():
                self.reporter.warn(
                    f"the encoders in {self.encoders} learned from another catalogue: none of its "
                    "products is among these"
                )
        return content

    def _tell_replaced(self, of_data: str, source: Path) -> None:
        """Warn of a run on other data that this one is going to replace."""
        file = self.folder / "metrics.json"
        if file.is_file():
            there = json.loads(file.read_text("utf-8")).get("data", {})
            if there.get("fingerprint", "") not in ("", of_data):
                self.reporter.warn(
                    f"{self.folder} holds a run on other data ('{there['name']}'), which this one "
                    f"on '{source.resolve().name}' will replace: name another folder with --output"
                )

    def _checkpoints(self, of_data: str) -> Path:
        """The folder of checkpoints, of this very run: other settings or data are refused."""
        folder = self.folder / "checkpoints"
        run = {
            "version": [FORMAT, LAYOUT],
            "settings": self.settings.model_dump(exclude=STORAGE),
            "market": self.market,
            "scope": self.scope,
            "fingerprint": of_data,
            "encoders": None if self.encoders is None else folder_hash(self.encoders),
        }
        if self.resume:
            if not has_folder(folder / "run"):
                raise SettingsError(f"there is nothing to resume in {self.folder}")
            begun = read_folder(folder / "run").document("run")
            changed = [name for name, value in run.items() if begun.get(name) != value]
            if changed:
                raise SettingsError(
                    f"cannot resume in {self.folder}: {', '.join(changed)} changed since"
                )
        else:
            shutil.rmtree(folder, ignore_errors=True)
            write_folder(folder / "run", tensors={}, documents={"run": run})
        return folder

    # ---- write

    def _write(self, predictor: PurchasePredictor, tables: Tables, source: Path) -> dict[str, Any]:
        """The model first: whatever fails later, it is not lost."""
        self.reporter.step("writing the model folder")
        predictor.save(self.folder / "model")
        predictions = predictor.predict_test()
        columns = ["impression_id", "market", "converted", *predictor.system_names]
        write_file(self.folder / "predictions.parquet", predictions.select(columns).write_parquet)
        self.reporter.step(
            f"evaluating {len(predictions):,} test rows, "
            f"{self.settings.evaluation.resamples:,} resamples of users"
        )
        result = {
            "data": self._describe(predictor, tables, source),
            **predictor.evaluate(truth=read_truth(source)),
            "rows": {
                name: sum(getattr(count, name) for count in tables.rows.values())
                for name in ("read", "used", "set_aside")
            },
        }
        text = json.dumps(result, indent=1, ensure_ascii=False)
        write_file(self.folder / "metrics.json", lambda path: Path(path).write_text(text, "utf-8"))
        self._write_report(result, predictions, predictor)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        return result

    def _describe(
        self, predictor: PurchasePredictor, tables: Tables, source: Path
    ) -> dict[str, Any]:
        return {
            "name": source.resolve().name,
            **asdict(predictor.facts_),
            "tables": {name: asdict(count) for name, count in tables.rows.items()},
            "counters": tables.counters,
            "pictures_not_read": len(predictor.preparation_.failures_),
        }

    def _write_report(
        self, result: dict[str, Any], predictions: pl.DataFrame, predictor: PurchasePredictor
    ) -> None:
        fusion = predictor.panel_.systems_[FUSION]
        drawn = [
            charts.comparison_chart(result),
            charts.gap_chart(result),
            charts.roc_chart(predictions, result),
            charts.calibration_chart(predictions, result),
            charts.lift_chart(predictions, result),
        ]
        history = fusion.state_.history  # type: ignore[attr-defined]
        if history:  # a readout alone has no epochs
            drawn.append(charts.training_chart(history))
        title = f"purchase_predictor: {self.market}, {self.scope} model"
        facts, known = predictor.facts_, predictor.preparation_.markets
        notes = unseen_sentences(facts.unseen_markets, facts, known)
        pages.write_html(drawn, self.folder / "report.html", title, notes=notes)

    # ---- log

    def _log(
        self,
        logged: tracking.Run,
        predictor: PurchasePredictor,
        tables: Tables,
        result: dict[str, Any],
        seconds: float,
    ) -> None:
        self.reporter.step("logging to MLflow")
        facts = predictor.facts_
        logged.log_data(facts.fingerprint, result["data"]["name"], result["rows"])
        logged.log_result(
            {
                **logged_figures(result["systems"]),
                "validation_log_loss": facts.validation_log_loss,
                "seconds": seconds,
                "peak_memory_gb": peak_memory_gb(),
            }
        )
        note = run_note(
            result,
            market=self.market,
            scope=self.scope,
            champion=facts.champion,
            n_train=facts.n_train,
        )
        logged.describe(note, {"system": facts.champion})
        for name in ("metrics.json", "predictions.parquet", QUARANTINE, "report.html"):
            logged.log_file(self.folder / name)
        with TemporaryDirectory() as folder:
            for file in write_held(predictor, held_rows(predictor), Path(folder)):
                logged.log_file(file)
        name = registered_name(self.market, self.scope)
        version = logged.log_model(
            self.folder / "model",
            input_example=example_rows(tables),
            registered_name=name if self.settings.tracking.register_model else None,
            context=tables.context,
        )
        if version is not None:
            alias = appoint(
                self.settings.tracking,
                name,
                version,
                log_loss=facts.validation_log_loss[facts.champion],
                judged_on=judged_key(facts.fingerprint, self.settings, self.market),
                description=note,
            )
            self.reporter.step(f"registered as {name}, version {version}, alias {alias}")

    # ---- print

    def _print(
        self, predictor: PurchasePredictor, result: dict[str, Any], tables: Tables, seconds: float
    ) -> None:
        facts, reporter = predictor.facts_, self.reporter
        for column, auc in facts.leaks.items():
            reporter.warn(
                f"context column '{column}' alone reaches AUC {auc:.3f} in training: "
                "is it known before the impression?"
            )
        for sentence in unread_sentences(predictor.preparation_.failures_):
            reporter.warn(sentence)
        known = predictor.preparation_.markets
        for sentence in unseen_sentences(facts.unseen_markets, facts, known):
            reporter.warn(sentence)
        for name, n in tables.counters.items():
            if n:
                reporter.line(f"{name.replace('_', ' ')}: {n:,}")
        if facts.n_straddling:
            reporter.line(
                f"{facts.n_straddling:,} sessions lie on both sides of a cut and are left out"
            )
        reporter.show(rich_table(result))
        for sentence in [*gap_sentences(result), *calibration_sentences(result)]:
            reporter.line(sentence)
        reporter.line(
            f"champion by validation log-loss: {facts.champion} "
            f"({', '.join(f'{n} {v:.5f}' for n, v in facts.validation_log_loss.items())})"
        )
        reporter.line(f"{seconds:.0f} s, peak memory {peak_memory_gb():.1f} GB")
        reporter.line(
            f"written to {self.folder}: model/, metrics.json, predictions.parquet, "
            "report.html, quarantine.parquet"
        )


def sample_folder(reporter: Reporter) -> Path:
    """The folder of the sample marketplace, which is made on first use."""
    if not SAMPLE.exists():
        from purchase_predictor.data.marketplace import write_sample

        reporter.step(f"no --data: making the sample marketplace in {SAMPLE}")
        write_sample(SAMPLE, progress=reporter.step)
    return SAMPLE


def folder_hash(folder: Path) -> str:
    """Hash of every file of a folder, names included."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def read_truth(source: Path) -> pl.DataFrame | None:
    """Known probabilities of the impressions, where the data folder has them."""
    file = source / "truth" / "impressions.parquet"
    return pl.read_parquet(file) if file.is_file() else None


def registered_name(market: str, scope: Scope) -> str:
    """Name of the registered model: of its market, `global`, or of its market `-adapted`."""
    if scope == "global":
        return "purchase-predictor-global"
    return f"purchase-predictor-{market}" + ("-adapted" if scope == "adapted" else "")


def peak_memory_gb() -> float:
    """Peak memory of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
