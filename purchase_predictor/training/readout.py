"""Solving the readout: a ridge logistic regression whose penalty the STOP rows choose."""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from purchase_predictor.model.readout import Readout
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.loop import Progress

ROWS_AT_ONCE = 4096
MAX_ROWS = 400_000
"""Rows that are solved on: more would not fit in memory, nor change what so few numbers say."""

INVERSE_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""scikit-learn's C; from strong to weak."""


def solve_readout(
    readout: Readout, learn: Batcher, stop: Batcher, *, seed: int, progress: Progress
) -> None:
    """Fit the readout's scales on training rows and its weights by logistic regression.

    Args:
        readout: set in place.
        learn: training rows.
        stop: rows that choose the penalty.
        seed: of the rows taken where there are many.
        progress: told what was chosen.
    """
    numbers = learn.data.numbers
    known = ~np.isnan(numbers)
    count = np.maximum(1, known.sum(axis=0))
    mean = np.where(known, numbers, 0).sum(axis=0, dtype=np.float64) / count
    spread = np.where(known, numbers - mean, 0)
    scale = np.sqrt((spread**2).sum(axis=0, dtype=np.float64) / count)
    readout.mean.copy_(torch.from_numpy(mean))
    readout.scale.copy_(torch.from_numpy(np.maximum(scale, 1e-6)))
    x, y = _design(readout, learn, np.random.default_rng(seed))
    x_stop, y_stop = _design(readout, stop, None)
    losses: dict[float, float] = {}
    for c in INVERSE_PENALTIES:
        model = LogisticRegression(C=c, solver="newton-cholesky", max_iter=50).fit(x, y)
        losses[c] = float(log_loss(y_stop, model.predict_proba(x_stop)[:, 1], labels=[0, 1]))
        if losses[c] > min(losses.values()):
            break
        with torch.no_grad():
            readout.linear.weight.copy_(torch.from_numpy(model.coef_))
            readout.linear.bias.copy_(torch.from_numpy(model.intercept_))
    progress(
        f"readout: {x.shape[1]} columns solved on {len(x):,} rows, validation log-loss "
        + ", ".join(f"{loss:.5f} (C {c})" for c, loss in losses.items())
    )


@torch.inference_mode()
def _design(
    readout: Readout, rows: Batcher, generator: np.random.Generator | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    n = len(rows.data)
    taken = np.ones(n, bool)
    if generator is not None and n > MAX_ROWS:
        taken = generator.random(n) < MAX_ROWS / n
    x = np.empty((n, readout.linear.in_features), np.float32)
    kept = np.zeros(n, bool)
    for places, batch in rows.scoring_batches():
        x[places] = readout.design(batch).numpy()
        kept[places] = taken[places]
    kept &= ~np.isnan(rows.data.converted)
    return x[kept], rows.data.converted[kept]
