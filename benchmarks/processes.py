"""Training in several processes against training in one: the same metrics within seed noise?

    python -m benchmarks.processes --data data/sample --market KR --seeds 5 --work runs/processes \
        --output processes.json

Every seed is trained once in one process and once in several that share each batch, over gloo
where there are no GPUs. The difference of the test metrics, several less one, is held against how
much the seeds of one process move them: the mean difference over seeds with its t interval, beside
the standard deviation between seeds. The network alone is trained (`model.parts=network`), since
the readout is solved, by the first process, whatever their number. What is finished in the work
folder is not trained again.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

METRICS = ("auc", "log_loss")
CONFIDENCE = 0.95


def command(options: argparse.Namespace, n_processes: int, seed: int, folder: Path) -> list[str]:
    """The line that trains."""
    launcher = [sys.executable, "-m"]
    if n_processes > 1:
        launcher += ["torch.distributed.run", "--nproc-per-node", str(n_processes), "-m"]
    network = ["--set", "model.parts=network", "--set", "baselines.systems=[]"]
    given = [part for one in options.set for part in ("--set", one)]
    return [
        *launcher, "purchase_predictor.train", "--data", str(options.data),
        "--market", options.market, "--seed", str(seed), "--output", str(folder),
        "--set", "training.precision=float32", *network, *given,
    ]  # fmt: skip


def metrics_of(options: argparse.Namespace, n_processes: int, seed: int) -> dict[str, float]:
    """Test metrics of the transformer, averaged over markets."""
    line = command(options, n_processes, seed, Path())
    # runs of other data or settings in the same work folder are other runs
    key = hashlib.sha256(json.dumps(line[1:]).encode()).hexdigest()[:12]
    folder = options.work / f"{n_processes}-processes-seed-{seed}-{key}"
    if not (folder / "metrics.json").is_file():
        subprocess.run(command(options, n_processes, seed, folder), check=True)
    macro = json.loads((folder / "metrics.json").read_text("utf-8"))["systems"]["fusion"]["macro"]
    return {metric: float(macro[metric]["value"]) for metric in METRICS}


def judge(one: NDArray[np.float64], several: NDArray[np.float64]) -> dict[str, Any]:
    """The mean difference with its interval, and what seeds move.

    Args:
        one: float64 [n_seeds], a metric of each seed in one process.
        several: likewise in several.
    """
    difference = several - one
    error = difference.std(ddof=1) / len(difference) ** 0.5
    reach = t.isf((1 - CONFIDENCE) / 2, len(difference) - 1) * error
    return {
        "one": one.tolist(),
        "several": several.tolist(),
        "mean_difference": float(difference.mean()),
        "low": float(difference.mean() - reach),
        "high": float(difference.mean() + reach),
        "deviation_between_seeds": float(one.std(ddof=1)),
    }


def main(arguments: list[str] | None = None) -> int:
    """Train what is missing, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder with labels")
    parser.add_argument("--market", default="all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, required=True, help="where runs go")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    options = parser.parse_args(arguments)
    if options.seeds < 2 or options.processes < 2:
        parser.error("two seeds and two processes at least")
    try:
        found = [
            [metrics_of(options, n, seed) for seed in range(options.seeds)]
            for n in (1, options.processes)
        ]
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    judged = {
        metric: judge(*(np.array([run[metric] for run in runs]) for runs in found))
        for metric in METRICS
    }
    for metric, own in judged.items():
        print(
            f"{metric}: {options.processes} processes less one, {options.seeds} seeds: "
            f"{own['mean_difference']:+.5f} ({own['low']:+.5f} to {own['high']:+.5f}); "
            f"between seeds of one process {own['deviation_between_seeds']:.5f}"
        )
    document = {"data": options.data.name, "market": options.market, "metrics": judged}
    options.output.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
