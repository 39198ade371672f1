"""How much of the level of conversion in one stretch of time to expect of the next.

The rows that calibrate are of one stretch: a month, of which a tenth more than usual may buy for
reasons that no column tells and that the next month does not share. A calibrator that takes over
the whole of it carries one month's chance into the future. So only a share of it is kept, as of
any effect that varies: the share is what lasts (what the model itself may be off by, or what no
chance explains) over that and what stretches differ by and the noise of the conversions at hand.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from features.arrays import CALIBRATE, TRAIN, EncodedMarket
from purchase_predictor.training.calibration import spread

MODEL_SD = 0.05
"""Log-odds that a model may be off by for later rows, whatever the month: its columns age. On the
sample marketplace of seed 100, where the months' own levels are known, it was off by 0.04."""

FEWEST_STRETCHES = 3
"""Of training time; with fewer nothing is known of how they differ."""

WIDEST = 20.0


def stretch_variance(data: EncodedMarket) -> float:
    """How much stretches of time differ in their log-odds of conversion, beyond chance.

    Args:
        data: whose training time is cut, from its end back, into stretches as long as that of the
            CALIBRATE rows. Each market is held against its own rate.

    Returns:
        The variance, after DerSimonian and Laird; 0 where training time is too short to tell.
    """
    calibrating, training = (data.time[data.part == part] for part in (CALIBRATE, TRAIN))
    if not len(calibrating) or not len(training):
        return 0.0
    length = calibrating.max() - calibrating.min()
    n_stretches = int((training.max() - training.min()) / length) if length > 0 else 0
    if n_stretches < FEWEST_STRETCHES:
        return 0.0
    rows = data.part == TRAIN
    back = ((training.max() - training) / length).astype(np.int64)
    index = np.minimum(back, n_stretches - 1)
    y = data.converted[rows].astype(np.float64)
    _, market = np.unique(data.market[rows], return_inverse=True)
    n = np.bincount(market)
    rate = (np.bincount(market, y) + 0.5) / (n + 1.0)
    return spread(logit(rate)[market], y, index, np.ones_like(y))


def level_change(calibrated: NDArray[np.float64], raw: NDArray[np.float64]) -> float:
    """How far calibration moved the level, in log-odds.

    Args:
        calibrated: float64 [n], logits after it.
        raw: float64 [n], probabilities before.
    """
    mean = float(np.clip(raw.mean(), 1e-9, 1.0 - 1e-9))
    return float(brentq(lambda change: expit(calibrated - change).mean() - mean, -WIDEST, WIDEST))


def kept_share(change: float, y: NDArray[np.floating], variance: float) -> float:
    """Share of a change of level that is kept, in [0, 1].

    What lies beyond the chance of one stretch is no chance and is kept: the variance of what lasts
    is the moment estimate of this one change, as of a James-Stein estimator, `MODEL_SD` at least.

    Args:
        change: of `level_change`.
        y: [n], 1 where converted, of the rows it was found on.
        variance: of `stretch_variance`.
    """
    rate = float(np.asarray(y, np.float64).mean())
    information = len(y) * rate * (1.0 - rate)
    if information == 0:
        return 0.0
    chance = variance + 1.0 / information
    lasting = max(MODEL_SD**2, change**2 - chance)
    return lasting / (lasting + chance)
