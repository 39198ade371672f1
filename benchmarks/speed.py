"""Speed of training and of scoring, and how much of the machine's matrix products they reach.

    python benchmarks/speed.py --data data/sample --output speed.json

Training is the fusion's own step over its own batches, beside the same model on the path in which
every impression carries its own copy of its history and of its products (`copied.py`); neither has
a next-click loss. Scoring goes from Parquet to Parquet, by fusion, LightGBM and stack.
Every figure is the median of rounds in which the arms take turns. The model is fitted for one
epoch first: speed does not depend on how good it is. Two threads, unless told otherwise; set
POLARS_MAX_THREADS to the same number.
"""

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import polars as pl
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.copied import CopyingBatcher
from features.encoding import FeatureEncoder
from purchase_predictor.baselines.lightgbm import LightGBMSystem
from purchase_predictor.baselines.stack import Stack
from purchase_predictor.encoders.content import ContentEncoders, silent
from purchase_predictor.errors import SettingsError
from purchase_predictor.given import read_given
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.panel import FUSION, LIGHTGBM, STACK
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import Settings, load_settings
from purchase_predictor.training.calibration import Calibrator
from purchase_predictor.training.conversion import FusionTask
from purchase_predictor.training.loop import Loop, LoopSettings, measure_precisions
from purchase_predictor.training.next_click import NextClick
from purchase_predictor.training.system import FusionSystem

WIDTH, LAYERS, HISTORY = 96, 2, 40
ONE_EPOCH = (
    f"model.d_model={WIDTH}", f"model.n_layers={LAYERS}", f"model.history={HISTORY}",
    "training.max_epochs=1", "pretraining.epochs=1",
)  # fmt: skip
MATRIX = 4096
CPU = torch.device("cpu")
SYSTEMS = (FUSION, LIGHTGBM, STACK)
STAGES: Mapping[str, tuple[Callable[..., Any], ...]] = {
    "read and check": (read_given,),
    "features": (FeatureEncoder.transform,),
    "pictures and titles": (ContentEncoders.encode,),
    "next click": (NextClick.score,),
    "model": (FusionSystem.predict_proba, LightGBMSystem.predict_proba),
    "calibrate and stack": (Calibrator.transform, Stack.predict_proba),
}
"""What the stages of scoring spend their time in; the rest is the table of results."""


def matrix_rate(dtype: torch.dtype, repeats: int = 5) -> float:
    """GFLOP/s of a large square product, the median of some."""
    a, b = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(2))
    torch.mm(a, b)
    seconds = [timed(lambda: torch.mm(a, b)) for _ in range(repeats)]
    return 2 * MATRIX**3 / median(seconds) / 1e9


def timed(run: Callable[[], Any]) -> float:
    """Seconds it takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


class Training:
    """Steps of the loop over one kind of batches, a few at a time.

    Args:
        task: the fusion's own.
        settings: of the run.
        precision: float32 or bfloat16.
    """

    def __init__(self, task: FusionTask, settings: Settings, precision: str) -> None:
        self.task = task
        self.loop = Loop(task, loop_settings(settings, precision), progress=silent)
        self.device = self.loop.accelerator.device
        self.loop.averaged_.to(self.device)
        self.loop.model_, self.loop.optimizer_ = self.loop.accelerator.prepare(
            task.model, self.loop.optimizer_
        )
        self.loop.model_.train()
        self.batches = self._endless()

    def _endless(self) -> Iterator[FusionBatch]:
        epoch = 0
        while True:
            yield from self.task.batches(epoch, 0, 0, 1)
            epoch += 1

    def step(self) -> int:
        """Make a batch and take a step down its gradient; impressions in it."""
        batch = next(self.batches)
        self.loop.train_step(batch.to(self.device))
        return len(batch)

    def rate(self, n_steps: int) -> float:
        """Impressions per second over some steps."""
        began = time.perf_counter()
        n = sum(self.step() for _ in range(n_steps))
        return n / (time.perf_counter() - began)

    def flops(self, n_batches: int = 4) -> float:
        """Floating-point operations of matrix products per impression, forward and backward."""
        total = n = 0
        for _ in range(n_batches):
            batch = next(self.batches).to(self.device)
            with FlopCounterMode(display=False) as counter:
                self.task.loss(self.task.model, batch).backward()
            total, n = total + counter.get_total_flops(), n + len(batch)
        self.task.model.zero_grad(set_to_none=True)
        return total / n


def loop_settings(settings: Settings, precision: str) -> LoopSettings:
    """The loop's, with an average of weights as training keeps it and no checkpoints."""
    training = settings.training
    return LoopSettings(
        max_epochs=100,
        patience=100,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        warm_up=training.warm_up,
        clip_norm=training.clip_norm,
        ema_decay=training.ema_decay,
        checkpoint_every=10**9,
        bfloat16=precision == "bfloat16",
        seed=settings.seed,
    )


def fusion_of(predictor: PurchasePredictor) -> FusionSystem:
    """The transformer of a fitted predictor."""
    system = predictor.panel_.systems_[FUSION]
    assert isinstance(system, FusionSystem)  # noqa: S101
    return system


def make_task(
    predictor: PurchasePredictor, auxiliary_weight: float, *, copied: bool
) -> FusionTask:
    """The fusion's task over the training rows, its batches shared or copied."""
    system = fusion_of(predictor)
    names = [column.name for column in predictor.data_.number_columns]
    kept = [names.index(column.name) for column in system.shape_.numbers]
    data = replace(
        predictor.data_,
        numbers=np.ascontiguousarray(predictor.data_.numbers[:, kept]),
        number_columns=system.shape_.numbers,
    )
    settings = predictor.settings
    task = FusionTask(
        system.model_, data, settings, auxiliary_weight=auxiliary_weight, seed=settings.seed
    )
    if copied:
        task.learn = CopyingBatcher(
            task.learn.data,
            batch_size=task.learn.batch_size,
            hidden=task.learn.hidden,
            seed=task.learn.seed,
        )
    return task


@torch.inference_mode()
def same_logits(shared: FusionTask, copied: FusionTask) -> float:
    """Largest difference of the two paths' logits in a batch; refuses one that matters.

    Raises:
        ValueError: if the paths disagree.
    """
    sequences = shared.learn.plan(0)[0]
    model = shared.model.eval()
    logits = [model(task.learn.build(sequences)).logits.float() for task in (shared, copied)]
    worst = float((logits[0] - logits[1]).abs().max())
    if not torch.allclose(*logits, atol=1e-3, rtol=1e-3):
        raise ValueError(f"shared and copied batches give logits that differ by {worst}")
    return worst


def measure_training(
    predictor: PurchasePredictor, rates: Mapping[str, float], rounds: int, steps: int
) -> dict[str, Any]:
    """Rates of the shared and the copied path, in turns."""
    settings = predictor.settings
    weight = settings.pretraining.auxiliary_weight
    # a click would be learned from in each of its copies
    if weight:
        raise SettingsError("the copied path has no next-click loss: its weight must be 0")
    tasks = {
        "shared": make_task(predictor, weight, copied=False),
        "copied": make_task(predictor, weight, copied=True),
    }
    difference = same_logits(tasks["shared"], tasks["copied"])
    precision = settings.training.precision
    if precision == "auto":
        seconds = measure_precisions(tasks["shared"], CPU)
        precision = min(seconds, key=seconds.__getitem__)
    arms = {name: Training(task, settings, precision) for name, task in tasks.items()}
    found: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():
        arm.step()  # the first step allocates
    for _ in range(rounds):
        for name, arm in arms.items():
            found[name].append(arm.rate(1 if name == "copied" else steps))
    rate = {name: median(values) for name, values in found.items()}
    flops = arms["shared"].flops()
    reached = flops * rate["shared"] / 1e9
    return {
        "precision": precision,
        "batch_size": tasks["shared"].learn.batch_size,
        "width": settings.model.d_model,
        "layers": settings.model.n_layers,
        "history": settings.model.history,
        "impressions_per_second": rate,
        "shared_to_copied": rate["shared"] / rate["copied"],
        "largest_difference_of_logits": difference,
        "mflop_per_impression": flops / 1e6,
        "gflop_per_second": reached,
        "share_of_matrix_rate": reached / rates[precision],
    }


def score(predictor: PurchasePredictor, folder: Path, system: str, output: Path) -> int:
    """Score a data folder into a Parquet file; rows written."""
    scored = predictor.predict_proba(folder, system)
    scored.write_parquet(output)
    return len(scored)


def measure_scoring(
    predictor: PurchasePredictor, folder: Path, rates: Mapping[str, float], rounds: int
) -> dict[str, Any]:
    """Rows per second from Parquet to Parquet by system, in turns, and where the time goes."""
    found: dict[str, list[float]] = {name: [] for name in SYSTEMS}
    shares, n = {}, 0
    with tempfile.TemporaryDirectory() as work:
        output = Path(work) / "scores.parquet"
        for name in SYSTEMS:
            profiler = cProfile.Profile()
            n = profiler.runcall(score, predictor, folder, name, output)
            shares[name] = stage_shares(profiler)
        # the counter hooks onto the gradients of what modules are given, and scoring has none
        fusion_of(predictor).model_.requires_grad_(False)
        with FlopCounterMode(display=False) as counter:
            score(predictor, folder, FUSION, output)
        for _ in range(rounds):
            for name in SYSTEMS:
                seconds = timed(lambda name=name: score(predictor, folder, name, output))
                found[name].append(n / seconds)
    rate = {name: median(values) for name, values in found.items()}
    reached = counter.get_total_flops() / n * rate[FUSION] / 1e9
    return {
        "rows": n,
        "rows_per_second": rate,
        "fusion_to_lightgbm": rate[FUSION] / rate[LIGHTGBM],
        "shares": shares,
        "gflop_per_second": reached,
        "share_of_matrix_rate": reached / rates["float32"],
    }


def stage_shares(profiler: cProfile.Profile) -> dict[str, float]:
    """Share of the time spent under the functions of each stage."""
    stats = pstats.Stats(profiler)
    cumulative = {place: row[3] for place, row in stats.stats.items()}  # type: ignore[attr-defined]
    total = cumulative[_place(score)]
    shares = {
        stage: sum(cumulative.get(_place(run), 0.0) for run in functions) / total
        for stage, functions in STAGES.items()
    }
    return {**shares, "table and write": 1 - sum(shares.values())}


def _place(function: Callable[..., Any]) -> tuple[str, int, str]:
    """How the profiler names a function, whatever decorates it."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = function.__code__
    return code.co_filename, code.co_firstlineno, code.co_name


def print_profile(predictor: PurchasePredictor, folder: Path, precision: str) -> None:
    """The operators that take most time, in a few training steps and in scoring."""
    weight = predictor.settings.pretraining.auxiliary_weight
    fusion_of(predictor).model_.requires_grad_(True)
    training = Training(make_task(predictor, weight, copied=False), predictor.settings, precision)
    training.step()
    with tempfile.TemporaryDirectory() as work:
        output = Path(work) / "scores.parquet"
        for title, run in (
            ("four training steps", lambda: [training.step() for _ in range(4)]),
            ("scoring", lambda: score(predictor, folder, FUSION, output)),
        ):
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                run()
            print(f"\n{title}")
            averages = profiler.key_averages()
            print(averages.table(sort_by="self_cpu_time_total", row_limit=15))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder with labels")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--config", type=Path, help="settings file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="training steps of a round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--profile", action="store_true", help="print operators by their time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    threads = f"baselines.lightgbm.threads={options.threads}"
    settings = load_settings(options.config, [*ONE_EPOCH, threads, *options.set])
    rates = {
        "float32": matrix_rate(torch.float32),
        "bfloat16": matrix_rate(torch.bfloat16),
    }
    predictor = PurchasePredictor(settings).fit(options.data, progress=print)
    training = measure_training(predictor, rates, options.rounds, options.steps)
    figures = {
        "data": str(options.data),
        "threads": options.threads,
        "polars_threads": pl.thread_pool_size(),
        "rounds": options.rounds,
        "matrix_gflop_per_second": rates,
        "training": training,
        "scoring": measure_scoring(predictor, options.data, rates, options.rounds),
    }
    print(json.dumps(figures, indent=2))
    options.output.write_text(json.dumps(figures, indent=2) + "\n")
    if options.profile:
        print_profile(predictor, options.data, training["precision"])


if __name__ == "__main__":
    main()
