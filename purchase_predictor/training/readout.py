"""Solving the readout: a ridge logistic regression whose penalty the STOP rows choose."""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from features.arrays import EncodedMarket
from purchase_predictor.model.readout import Readout
from purchase_predictor.training.batches import Batcher
from purchase_predictor.training.loop import Progress

ROWS_AT_ONCE = 4096
MAX_ROWS = 400_000
"""Rows solved on, at most: more would fill the memory and hardly change so few numbers."""

INVERSE_PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""scikit-learn's C; from strong to weak."""


def solve_readout(
    readout: Readout, learn: EncodedMarket, stop: EncodedMarket, *, seed: int, progress: Progress
) -> None:
    """Fit the readout's scales on training rows and its weights by logistic regression.

    Args:
        readout: set in place.
        learn: training rows.
        stop: rows that choose the penalty.
        seed: of the rows taken where there are many.
        progress: told what was chosen.
    """
    generator = np.random.default_rng(seed)
    # on all rows: among some of them a rare number may not be known at all
    _fit_scales(readout, learn.numbers)
    learn, stop = _some_rows(learn, generator), _some_rows(stop, generator)
    x, x_stop = _design(readout, learn), _design(readout, stop)
    losses: dict[float, float] = {}
    for c in INVERSE_PENALTIES:
        model = _logistic(c, x, learn.converted)
        p = model.predict_proba(x_stop)[:, 1]
        losses[c] = float(log_loss(stop.converted, p, labels=[0, 1]))
        if losses[c] > min(losses.values()):
            break
        with torch.no_grad():
            readout.linear.weight.copy_(torch.from_numpy(model.coef_))
            readout.linear.bias.copy_(torch.from_numpy(model.intercept_))
    progress(
        f"readout: {x.shape[1]} columns solved on {len(x):,} rows, validation log-loss "
        + ", ".join(f"{loss:.5f} (C {c})" for c, loss in losses.items())
    )


def _some_rows(data: EncodedMarket, generator: np.random.Generator) -> EncodedMarket:
    kept = ~np.isnan(data.converted)
    if kept.sum() > MAX_ROWS:
        kept &= generator.random(len(data)) < MAX_ROWS / kept.sum()
    return data if kept.all() else data.select(kept)


def _fit_scales(readout: Readout, numbers: NDArray[np.float32]) -> None:
    for place, column in enumerate(numbers.T):
        known = column[~np.isnan(column)].astype(np.float64)
        readout.mean[place] = known.mean()
        readout.scale[place] = max(known.std(), 1e-6)


@torch.inference_mode()
def _design(readout: Readout, data: EncodedMarket) -> NDArray[np.float32]:
    x = np.empty((len(data), readout.linear.in_features), np.float32)
    for places, batch in Batcher(data, batch_size=ROWS_AT_ONCE).scoring_batches():
        x[places] = readout.design(batch).numpy()
    return x


def _logistic(
    c: float, x: NDArray[np.float32], converted: NDArray[np.float32]
) -> LogisticRegression:
    model = LogisticRegression(C=c, solver="newton-cholesky", max_iter=50)
    with warnings.catch_warnings():
        # where Newton's steps fail scikit-learn goes on with another solver, and the STOP rows
        # judge what comes out
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", LinAlgWarning)
        return model.fit(x, converted)
