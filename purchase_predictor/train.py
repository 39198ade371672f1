"""`python -m purchase_predictor.train --market KR`: the main job."""

import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from purchase_predictor.cli import (
    Config,
    Data,
    Output,
    Overrides,
    Quiet,
    Reporter,
    Seed,
    run,
    settings_from,
)
from purchase_predictor.errors import SettingsError

if TYPE_CHECKING:
    from features.schema import Tables
    from purchase_predictor.predictor import PurchasePredictor
    from purchase_predictor.settings import Settings

SAMPLE = Path("data/sample")
SCOPES = ("local", "global", "adapted")

Market = Annotated[str, typer.Option(help="A market, or all.")]
Scope = Annotated[
    str | None,
    typer.Option(
        help="local: this market's rows alone; global: all markets; adapted: global, fine-tuned. "
        "By default local, and global for --market all."
    ),
]
Baselines = Annotated[
    str | None, typer.Option(help="Comma-separated: lightgbm, tabnet.", show_default="lightgbm")
]
TextEncoder = Annotated[
    str | None, typer.Option(metavar="NAME_OR_FOLDER", help="A transformers model for titles.")
]
ImageEncoder = Annotated[
    str | None, typer.Option(metavar="NAME[:FILE]", help="A timm model for pictures.")
]
Encoders = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Encoders trained before, with their weights.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]


def train(
    market: Market = "all",
    scope: Scope = None,
    data: Data = None,
    baselines: Baselines = None,
    text_encoder: TextEncoder = None,
    image_encoder: ImageEncoder = None,
    encoders: Encoders = None,
    resume: Resume = False,
    config: Config = None,
    overrides: Overrides = None,
    output: Output = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Train a market's model and its baselines, evaluate on the held-out future, log, register.

    Writes model/, metrics.json, predictions.parquet (test rows), quarantine.parquet and
    report.html to the output folder (runs/MARKET-SCOPE by default), and logs all of it in MLflow.
    """
    if scope is not None and scope not in SCOPES:
        raise SettingsError(f"--scope is one of {', '.join(SCOPES)}, got '{scope}'")
    changes = list(overrides or [])
    if baselines is not None:
        changes.append(f"baselines.systems=[{baselines}]")
    if text_encoder is not None:
        changes.append(f"encoders.text_encoder={text_encoder}")
    if image_encoder is not None:
        changes.append(f"encoders.image_encoder={image_encoder}")
    settings = settings_from(config, changes, seed)
    chosen = scope or ("global" if market == "all" else "local")
    folder = output or Path("runs") / f"{market}-{chosen}"
    Job(
        settings=settings,
        market=market,
        scope=chosen,
        data=data,
        encoders=encoders,
        folder=folder,
        resume=resume,
        reporter=Reporter(quiet=quiet),
    ).run()


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
        settings: "Settings",
        market: str,
        scope: str,
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
        from purchase_predictor import tracking
        from purchase_predictor.predictor import PurchasePredictor

        began = time.perf_counter()
        source = self._data_folder()
        tables = self._read(source)
        predictor = PurchasePredictor(
            self.settings,
            market=self.market,
            scope=self.scope,  # type: ignore[arg-type]
        )
        experiment = self.settings.tracking.experiment or source.resolve().name
        tags = {"market": self.market, "scope": self.scope}
        with tracking.start_run(
            self.settings.tracking,
            experiment=experiment,
            run_name=f"{self.market}-{self.scope}",
            tags=tags,
        ) as logged:
            logged.log_settings(self.settings.model_dump())
            predictor.fit(
                tables,
                checkpoints=self._checkpoints(tables),
                content=self._content(),
                resume=self.resume,
                progress=self.reporter.step,
                on_epoch=logged.log_epoch,
            )
            result = self._write(predictor, tables, source)
            seconds = time.perf_counter() - began
            self._log(logged, predictor, tables, result, seconds)
        self._print(predictor, result, tables, seconds)

    # ---- read

    def _data_folder(self) -> Path:
        if self.data is not None:
            return self.data
        if not SAMPLE.exists():
            from purchase_predictor.data.marketplace import write_sample

            self.reporter.step(f"no --data: making the sample marketplace in {SAMPLE}")
            write_sample(SAMPLE, progress=self.reporter.step)
        return SAMPLE

    def _read(self, source: Path) -> "Tables":
        from features.schema import load_tables

        tables = load_tables(source, max_title_chars=self.settings.data.max_title_chars)
        self.folder.mkdir(parents=True, exist_ok=True)
        tables.quarantine.write_parquet(self.folder / "quarantine.parquet")
        rows = [
            [name, f"{count.read:,}", f"{count.used:,}", f"{count.set_aside:,}"]
            for name, count in tables.rows.items()
        ]
        self.reporter.table("Rows", ["table", "read", "used", "set aside"], rows)
        reasons = tables.quarantine.group_by("table", "reason").len().sort("len", descending=True)
        for table, reason, n in reasons.iter_rows():
            self.reporter.warn(f"{table}: {n:,} rows set aside: {reason}")
        for note in tables.notes:
            self.reporter.warn(note)
        context = ", ".join(f"{name} ({kind})" for name, kind in tables.context.items())
        self.reporter.line(f"context columns: {context or 'none'}")
        return tables

    def _content(self) -> Any:
        if self.encoders is None:
            return None
        from purchase_predictor.encoders.content import ContentEncoders

        return ContentEncoders.load(self.encoders)

    def _checkpoints(self, tables: "Tables") -> Path:
        """The folder of checkpoints, of this very run: other settings or data are refused."""
        from purchase_predictor.checkpoint import read_folder, write_folder
        from purchase_predictor.training.preparation import fingerprint

        folder = self.folder / "checkpoints"
        run = {
            "settings": self.settings.model_dump(),
            "market": self.market,
            "scope": self.scope,
            "fingerprint": fingerprint(tables),
        }
        if self.resume:
            if not (folder / "run").exists():
                raise SettingsError(f"there is nothing to resume in {self.folder}")
            changed = [
                name
                for name, value in read_folder(folder / "run").document("run").items()
                if run[name] != value
            ]
            if changed:
                raise SettingsError(
                    f"cannot resume in {self.folder}: {', '.join(changed)} changed since"
                )
        else:
            shutil.rmtree(folder, ignore_errors=True)
            write_folder(folder / "run", tensors={}, documents={"run": run})
        return folder

    # ---- write

    def _write(
        self, predictor: "PurchasePredictor", tables: "Tables", source: Path
    ) -> dict[str, Any]:
        """The model first: whatever fails later, it is not lost."""
        self.reporter.step("writing the model folder")
        predictor.save(self.folder / "model")
        predictions = predictor.predict_test()
        columns = ["impression_id", "market", "converted", *predictor.system_names]
        write_whole(
            self.folder / "predictions.parquet", predictions.select(columns).write_parquet
        )
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
        write_whole(
            self.folder / "metrics.json", lambda path: Path(path).write_text(text, "utf-8")
        )
        self._write_report(result, predictions, predictor)
        shutil.rmtree(self.folder / "checkpoints", ignore_errors=True)
        return result

    def _describe(
        self, predictor: "PurchasePredictor", tables: "Tables", source: Path
    ) -> dict[str, Any]:
        from dataclasses import asdict

        return {
            "name": source.resolve().name,
            **asdict(predictor.facts_),
            "tables": {name: asdict(count) for name, count in tables.rows.items()},
            "counters": tables.counters,
            "pictures_not_read": len(predictor.preparation_.failures_),
        }
