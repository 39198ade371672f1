"""Solving the readout: logistic regression whose penalties the training rows choose."""

from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from features.storage import column_by_column
from purchase_predictor.model.readout import Readout
from purchase_predictor.training.batches import SCORING_ROWS, Batcher
from purchase_predictor.training.evidence import EvidenceFit, fit_by_evidence, refit
from purchase_predictor.training.loop import Progress

SCALE_ROWS = 50_000
PENALTY_OF_CHANGE = 30.0
"""At least, where weights are kept: a market differs from what is common by 0.2 or so."""

MAX_CELLS = 1_000_000_000
"""Rows times columns solved on, at most 2 GB: more would hardly change so few weights."""


def solve_readout(
    readout: Readout,
    learn: EncodedMarket,
    *,
    keep: bool = False,
    seed: int,
    progress: Progress,
) -> EvidenceFit:
    """Fit the readout's scales on training rows and its weights by logistic regression.

    Args:
        readout: set in place.
        learn: training rows, labels known.
        keep: whether the weights it has are what the new ones are drawn to, under the scales it
            has: what a market of its own is to differ in from all markets.
        seed: of the rows taken where there are many.
        progress: told what came out.

    Returns:
        What `refit_readout` goes on from.
    """
    generator = np.random.default_rng(seed)
    if not keep:
        _fit_scales(readout, learn, generator)
    # 1. the columns
    x, y = _columns(readout, learn, generator)
    progress(f"readout: solving {x.shape[1] - 1:,} columns on {len(y):,} rows")
    before = torch.cat([readout.linear.weight[0], readout.linear.bias]).double().numpy()
    # 2. their weights
    if keep:
        fit = fit_by_evidence(
            x, y, block_numbers(readout), centre=before, smallest=PENALTY_OF_CHANGE
        )
    else:
        fit = fit_by_evidence(x, y, block_numbers(readout))
    _set(readout, fit.weights)
    progress(f"readout: solved; the rows determine {fit.effective.sum():.0f} of the columns")
    return fit


def refit_readout(
    readout: Readout, learn: EncodedMarket, fit: EvidenceFit, *, seed: int, progress: Progress
) -> None:
    """Solve for the weights once more, from more rows, under the penalties found before.

    Args:
        readout: set in place; its scales stay.
        learn: the rows it was solved on and others, labels known.
        fit: of `solve_readout`.
        seed: of the rows taken where there are many.
        progress: told a line.
    """
    x, y = _columns(readout, learn, np.random.default_rng(seed))
    _set(readout, refit(x, y, block_numbers(readout), fit))
    progress(f"readout: refitted on {len(y):,} rows")


def block_numbers(readout: Readout) -> NDArray[np.int64]:
    """Number of the block of each column, int64 [n_columns + 1]; -1 for the constant."""
    return np.append(np.unique(readout.blocks, return_inverse=True)[1], -1)


def _set(readout: Readout, weights: NDArray[np.float64]) -> None:
    with torch.no_grad():
        readout.linear.weight[0] = torch.from_numpy(weights[:-1])
        readout.linear.bias[0] = weights[-1]


def _columns(
    readout: Readout, data: EncodedMarket, generator: np.random.Generator
) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    rows = _some_rows(data, MAX_CELLS // readout.linear.in_features, generator)
    # a copy of all rows would be one too many
    x = _design(readout, data if rows.all() else data.select(rows))
    data.store.settle()
    return x, data.converted[rows]


@torch.inference_mode()
def read_out(readout: Readout, data: EncodedMarket) -> NDArray[np.float32]:
    """The readout's logit of every row, float32 [n]."""
    logits = np.empty(len(data), np.float32)
    for places, batch in Batcher(data, batch_size=SCORING_ROWS).scoring_batches():
        logits[places] = readout(batch)[:, 0].numpy()
    return logits


def _some_rows(
    data: EncodedMarket, n_rows: int, generator: np.random.Generator
) -> NDArray[np.bool_]:
    return generator.random(len(data)) < n_rows / max(1, len(data))


def _fit_scales(readout: Readout, learn: EncodedMarket, generator: np.random.Generator) -> None:
    n_numbers = len(learn.number_columns)
    parts = [
        readout.measured(batch)[:, n_numbers:].numpy()
        for _, batch in Batcher(
            learn.select(_some_rows(learn, SCALE_ROWS, generator)), batch_size=SCORING_ROWS
        ).scoring_batches()
    ]
    # numbers on all rows: among some of them a rare one may not be known at all
    columns = chain(column_by_column(learn.numbers), np.concatenate(parts).T)
    for place, column in enumerate(columns):
        known = column[~np.isnan(column)].astype(np.float64)
        if len(known) and known.std() > 0:
            readout.mean[place], readout.scale[place] = known.mean(), known.std()


@torch.inference_mode()
def _design(readout: Readout, data: EncodedMarket) -> NDArray[np.float16]:
    """The columns of the linear model and one of ones, float16 [n, n_columns + 1].

    Columns are standard, flags or shares: what half precision rounds off is far below what is
    measured, and it halves what is the largest array of a training.
    """
    x = data.store.zeros((len(data), readout.linear.in_features + 1), np.float16)
    x[:, -1] = 1
    for places, batch in Batcher(data, batch_size=SCORING_ROWS).scoring_batches():
        x[places, :-1] = readout.design(batch).half().numpy()
    return x


def mean_log_loss(logits: NDArray[np.floating], converted: NDArray[np.float32]) -> float:
    """Mean cross-entropy of logits."""
    z = logits.astype(np.float64)
    return float((np.logaddexp(0.0, z) - converted * z).mean())
