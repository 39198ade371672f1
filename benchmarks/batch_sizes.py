"""Rates of training and of scoring by the rows taken at once, on the GPU where there is one.

    python benchmarks/batch_sizes.py --data data/sample --train 512 2048 8192 --score 1024 16384

Of the network alone, fitted for one epoch first: training makes a batch and takes a step, scoring
goes over the encoded training rows. Every figure is the median of rounds.
"""

import argparse
from pathlib import Path
from statistics import median

import torch

from benchmarks.speed import Training, fusion_of, make_task, timed
from benchmarks.table import markdown
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.settings import load_settings
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.conversion import mean_logits
from purchase_predictor.training.loop import default_device


def training_rate(
    predictor: PurchasePredictor, batch_size: int, precision: str, rounds: int, steps: int
) -> float:
    """Impressions per second of steps over batches of about so many rows."""
    task = make_task(predictor, 0.0, copied=False)
    task.learn.batch_size = batch_size
    training = Training(task, predictor.settings, precision)
    training.rate(3)  # the first steps allocate
    return median(training.rate(steps) for _ in range(rounds))


def scoring_rate(predictor: PurchasePredictor, batch_size: int, rounds: int) -> float:
    """Impressions per second that the network scores, so many at once."""
    device = default_device()
    data = make_task(predictor, 0.0, copied=False).learn.data
    model = fusion_of(predictor).model_.to(device).eval()
    batcher = Batcher(data, batch_size=batch_size)

    def score() -> None:
        mean_logits(model, batcher, device, network_only=True)

    score()
    return len(data) / median(timed(score) for _ in range(rounds))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data folder with labels")
    parser.add_argument("--train", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--score", type=int, nargs="+", default=[1024, 4096, 16384])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8, help="training steps of a round")
    options = parser.parse_args()
    quick = ["training.max_epochs=1", "pretraining.epochs=1", "baselines.systems=[]"]
    settings = load_settings(overrides=[*quick, *options.set])
    predictor = PurchasePredictor(settings).fit(options.data, progress=print)
    device = default_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, {torch.get_num_threads()} threads, width {settings.model.d_model}")
    rows = []
    for precision in ("float32", "bfloat16"):
        for size in options.train:
            rate = training_rate(predictor, size, precision, options.rounds, options.steps)
            rows.append([f"training, {precision}", f"{size:,}", f"{rate:,.0f}"])
    for size in options.score:
        rows.append(
            ["scoring", f"{size:,}", f"{scoring_rate(predictor, size, options.rounds):,.0f}"]
        )
    print(markdown(["", "rows at once", "impressions/s"], rows))


if __name__ == "__main__":
    main()
