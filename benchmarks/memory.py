"""Memory of a training by stage: what is anonymous (arrays) and what is mapped from files.

    python benchmarks/memory.py --data data/sample --storage memory disk --output memory.json

Each arm trains and evaluates in a process of its own (the settings of `configs/quick.yaml`,
unless told otherwise by `--set`), while a thread reads /proc/self/status ten times a second:
RssAnon is memory that the process cannot do without, RssFile are pages of mapped files, which the
kernel takes back where it is short of memory, and what lies in the nameless files of storage
`disk` is counted beside them. A stage's peak is the highest value while it runs, with all that is
held since earlier ones. `--until STAGE` ends an arm after that one: what was held by then is the
least that the whole takes. Linux only.
"""

import argparse
import functools
import importlib
import json
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

SAMPLED_EVERY = 0.1
"""Seconds between two looks."""

STARTED = "between stages"
HEADS = ("RssAnon MB", "RssFile MB", "nameless MB", "seconds")

SHARED_MEMORY = (" /dev/zero ", " /dev/shm/", " /memfd:", " /SYSV")
"""Mapped without a name, too, but not from a disk."""

STAGES = (
    ("read and check", "purchase_predictor.predictor", "read_given"),
    ("split and fingerprint", "purchase_predictor.predictor", "split_by"),
    ("split and fingerprint", "purchase_predictor.predictor", "select_market"),
    ("split and fingerprint", "purchase_predictor.predictor", "fingerprint"),
    ("pictures and titles", "purchase_predictor.predictor", "PurchasePredictor.fit_content"),
    ("pictures and titles", "purchase_predictor.encoders.content", "ContentEncoders.encode"),
    ("features", "features.encoding", "FeatureEncoder.fit"),
    ("features", "features.encoding", "FeatureEncoder.transform"),
    ("click encoder", "purchase_predictor.training.next_click", "NextClick.fit"),
    ("choice model", "purchase_predictor.training.next_click", "fit_choices"),
    ("next-click scores", "purchase_predictor.training.next_click", "NextClick._click_scores"),
    ("next-click scores", "purchase_predictor.training.next_click", "tastes"),
    ("network", "purchase_predictor.training.system", "FusionSystem.fit"),
    ("readout", "purchase_predictor.training.system", "solve_readout"),
    ("readout, once more", "purchase_predictor.training.system", "refit_readout"),
    ("errors of levers", "purchase_predictor.training.system", "measure_errors"),
    ("lightgbm", "purchase_predictor.baselines.lightgbm", "LightGBMSystem.fit"),
    ("lightgbm, once more", "purchase_predictor.baselines.lightgbm", "LightGBMSystem.refit"),
    ("calibrate and stack", "purchase_predictor.panel", "Panel.fit"),
    ("predict and evaluate", "purchase_predictor.predictor", "PurchasePredictor.predict_test"),
    ("predict and evaluate", "purchase_predictor.predictor", "PurchasePredictor.evaluate"),
)
"""What a stage is called, and the function that it lasts as long as: module, name in it."""


def status() -> dict[str, int]:
    """RssAnon, RssFile and the size of nameless mapped files of this process, in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    found = {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}
    return {**found, "nameless": nameless_files()}


def nameless_files() -> int:
    """Bytes of the files on disk without a name that this process maps, each file once."""
    ends: dict[str, int] = {}
    for line in Path("/proc/self/maps").read_text("utf-8", errors="replace").splitlines():
        if line.endswith(" (deleted)") and not any(place in line for place in SHARED_MEMORY):
            span, _, offset, device, inode = line.split()[:5]
            start, end = (int(address, 16) for address in span.split("-"))
            file = f"{device} {inode}"
            ends[file] = max(ends.get(file, 0), int(offset, 16) + end - start)
    return sum(ends.values())


class EnoughError(Exception):
    """The last stage that is wanted is over."""


class Watch:
    """Peaks of memory by stage, looked at in a thread.

    Args:
        until: stage after which `EnoughError` is raised; None lets all run.

    Attributes:
        peaks: by stage, in the order in which they first ran: RssAnon, RssFile, nameless, seconds.
    """

    def __init__(self, until: str | None = None) -> None:
        self.until = until
        self.peaks: dict[str, dict[str, float]] = {}
        self._stages = [STARTED]
        self._lock = threading.Lock()
        self._since = time.perf_counter()
        threading.Thread(target=self._run, daemon=True).start()

    def __call__(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, watched; a stage inside a stage is told apart from it."""

        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            self.look()
            self._stages.append(stage)
            try:
                found = function(*arguments, **named)
            finally:
                self.look()
                self._stages.pop()
            if stage == self.until:
                raise EnoughError
            return found

        return watched

    def look(self) -> None:
        """Count this moment to the stage that runs."""
        with self._lock:
            now, found = time.perf_counter(), status()
            peak = self.peaks.setdefault(
                self._stages[-1], {"RssAnon": 0, "RssFile": 0, "nameless": 0, "seconds": 0}
            )
            for name, value in found.items():
                peak[name] = max(peak[name], value)
            peak["seconds"] += now - self._since
            self._since = now

    def _run(self) -> None:
        while True:
            time.sleep(SAMPLED_EVERY)
            self.look()


def train(data: Path, overrides: list[str], until: str | None = None) -> dict[str, Any]:
    """Train and evaluate, and tell the peaks, and the figures to see that arms agree."""
    watch = Watch(until)
    for stage, module, name in STAGES:
        owner: Any = importlib.import_module(module)
        *parents, attribute = name.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        found = vars(owner)[attribute]
        if isinstance(found, classmethod):
            setattr(owner, attribute, classmethod(watch(stage, found.__func__)))
        else:
            setattr(owner, attribute, watch(stage, found))
    from purchase_predictor.predictor import PurchasePredictor
    from purchase_predictor.settings import load_settings

    quick = Path(__file__).parents[1] / "configs" / "quick.yaml"
    predictor = PurchasePredictor(load_settings(quick, overrides))
    try:
        result = predictor.fit(data).evaluate()
    except EnoughError:
        return {"stages": watch.peaks, "until": until}
    watch.look()
    rows = predictor.data_
    return {
        "stages": watch.peaks,
        "rows": len(rows),
        "events": len(rows.events),
        "numbers": rows.numbers.shape[1],
        "log_loss": {n: s["pooled"]["log_loss"]["value"] for n, s in result["systems"].items()},
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="data folders")
    parser.add_argument("--storage", nargs="+", default=["memory", "disk"])
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    functions = Counter(stage for stage, _, _ in STAGES)
    single = [stage for stage, n in functions.items() if n == 1]
    parser.add_argument("--until", choices=single, help="stage of one function, which is the last")
    options = parser.parse_args()
    found = []
    for data in options.data:
        for storage in options.storage:
            overrides = [f"training.storage={storage}", *options.set]
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                run = pool.submit(train, data, overrides, options.until).result()
            found.append({"data": data.name, "storage": storage, **run})
            options.output.write_text(json.dumps(found, indent=1) + "\n")
            told = "ended early"
            if options.until is None:
                told = f"{run['rows']:,} rows, log-loss {run['log_loss']}"
            print(f"{data.name}, {storage}: {told}")
            print("  {:24} {:>11} {:>11} {:>11} {:>8}".format("stage", *HEADS))
            for stage, peak in run["stages"].items():
                sizes = (peak[name] / 1e6 for name in ("RssAnon", "RssFile", "nameless"))
                told = "".join(f" {size:11,.0f}" for size in sizes)
                print(f"  {stage:24}{told} {peak['seconds']:8.1f}")


if __name__ == "__main__":
    main()
