"""Whether explanations are true to the model: curves, randomised weights, sums, signs, effects.

Nothing here says that the model is true to the world.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr

from features.arrays import EncodedMarket
from purchase_predictor.attribution import shapley
from purchase_predictor.attribution.additive import ReadoutTokens
from purchase_predictor.attribution.aggregates import (
    MIN_UNITS,
    clustered_ratio,
    rank_correlations,
    rank_or_none,
)
from purchase_predictor.attribution.contributions import (
    GRADIENTS,
    ROWS_AT_ONCE,
    SHAPLEY,
    TREES,
    Contributions,
    GatedFusion,
)
from purchase_predictor.attribution.tokens import phrase_token
from purchase_predictor.attribution.trees import TreeTokens
from purchase_predictor.evaluation.intervals import percentile_interval, resample
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.model.layers import uniform_attention
from purchase_predictor.training.batches import Batcher

NETWORK = "network"

Floats = NDArray[np.float64]

SHARES = (0.1, 0.2, 0.3, 0.5, 0.7)
"""Shares of a row's tokens that are deleted, or brought in."""

MAX_ERROR = 0.01
MAX_SHAPLEY_ERROR = 1e-4
CHANCE = 0.5
MAX_LIKENESS = 0.3
"""Rank correlation, in size, with the explanation of random weights from which the explanation
would be one of the data, not of the model; an opposite one is as alike as an equal one."""

OTHERS = 16
"""Rows whose values stand for a token that is taken away from trees."""

FEWEST_PRESENT = 5

N_RESAMPLES = 2000
"""For an interval that no formula tells."""


@dataclass(frozen=True)
class Check:
    """One test of one method.

    Attributes:
        test: its name.
        method: tested.
        value: what was measured.
        low: of its interval; None where it has none.
        high: likewise.
        bound: what it is held against; None where it is only reported.
        passed: None where it is only reported.
        n: impressions, or pairs of lever and market.
    """

    test: str
    method: str
    value: float | None
    low: float | None
    high: float | None
    bound: float | None
    passed: bool | None
    n: int


def sums(error: Floats, subsets: Floats, players: Floats, logit: Floats) -> list[Check]:
    """Completeness of integrated gradients, and of Shapley values.

    Shapley values add up to the difference of the first and the last subset by their weights; so
    they are held against what the model says when it is asked without masks, which also fails
    where masks hide too much.

    Args:
        error: float64 [n], relative errors of the former.
        subsets: float64 [n, N_SUBSETS].
        players: float64 [n, 6], the latter.
        logit: float64 [n], the model's own, nothing masked.
    """
    late = float(np.quantile(error, 0.95))
    away = float(np.abs(players.sum(axis=1) - (logit - subsets[:, 0])).max())
    n = len(error)
    return [
        Check("completeness", GRADIENTS, late, None, None, MAX_ERROR, late < MAX_ERROR, n),
        Check(
            "completeness", SHAPLEY, away, None, None, MAX_SHAPLEY_ERROR,
            away < MAX_SHAPLEY_ERROR, n,
        ),
    ]  # fmt: skip


def tests_of_gradients(
    asked: Contributions, *, confidence: float, seed: int, advance: Callable[[int], None]
) -> list[Check]:
    """Curves, randomised weights and violations of integrated gradients.

    Args:
        asked: on the rows to test.
        confidence: level of the intervals.
        seed: of random orders and random weights.
        advance: told how many rows are done.
    """
    generator = np.random.default_rng(seed)
    other = randomised(asked, seed)
    curves, likeness, violated, unit = [], [], [], []
    for places, batch in Batcher(asked.data, batch_size=ROWS_AT_ONCE).scoring_batches():
        gated = asked.gated(batch)
        values = gated.contributions()
        curves.append(curve_gains(gated, values, generator))
        violated.append(_violations(gated, values))
        likeness.append(np.abs(rank_correlations(values, other.gated(batch).contributions())))
        unit.append(asked.sample.unit[places])
        advance(len(places))
    units = np.concatenate(unit)

    def mean(parts: list[Floats]) -> tuple[tuple[float, float, float], int]:
        whole = np.concatenate(parts)
        known = np.isfinite(whole)
        ones = np.ones(int(known.sum()))
        return clustered_ratio(whole[known], ones, units[known], confidence), len(ones)

    (like, n_like), (wrong, n) = mean(likeness), mean(violated)
    checks = []
    for name in curves[0]:
        gain, _ = mean([own[name] for own in curves])
        passed = gain[2] < 0 if name == "sufficiency" else gain[1] > 0
        checks.append(_judged(name, GRADIENTS, gain, 0.0, passed, n))
    return [
        *checks,
        _judged(
            "randomised_weights", GRADIENTS, like, MAX_LIKENESS, like[2] < MAX_LIKENESS, n_like
        ),
        _judged("violation", GRADIENTS, wrong, CHANCE, wrong[2] < CHANCE, n),
    ]


def same_without_attention(asked: Contributions, *, confidence: float, seed: int) -> list[Check]:
    """How far the network ranks a market's impressions as it does with uniform attention.

    Near 1 it hardly needs to choose where to look, and then where it looks explains nothing
    (Wiegreffe and Pinter, arXiv 1908.04626, who train such a model anew; here the weights stay,
    and so do sums that are no softmax). The mean over the markets that have rows enough; its
    interval is over units, drawn market by market.

    Args:
        asked: on the rows to test.
        confidence: level of the interval.
        seed: of its resamples.

    Returns:
        One check; none of a model whose network has no weight.
    """
    if not asked.model.weights[1]:
        return []
    logits = np.empty((2, len(asked.data)))
    for places, batch in Batcher(asked.data, batch_size=ROWS_AT_ONCE).scoring_batches():
        logits[0, places] = _network_logits(asked, batch)
        with uniform_attention():
            logits[1, places] = _network_logits(asked, batch)
    label, unit = asked.data.market_label.astype(str), asked.sample.unit
    ranks, draws = [], []
    for number, market in enumerate(np.unique(label)):
        rows = label == market
        rank = rank_or_none(*logits[:, rows])
        if rank is not None:
            ranks.append(rank)
            draws.append(_resampled_ranks(logits[:, rows], unit[rows], seed + number))
    mean = float(np.mean(ranks)) if ranks else np.nan
    drawn = np.ma.masked_invalid(draws).mean(axis=0).filled(np.nan) if ranks else np.empty(0)
    found = percentile_interval(mean, drawn, confidence)
    if len(np.unique(unit)) < MIN_UNITS:
        found = {**found, "low": None, "high": None}
    return [Check("uniform_attention", NETWORK, **found, bound=None, passed=None, n=len(label))]


def _resampled_ranks(values: Floats, unit: NDArray[np.int64], seed: int) -> Floats:
    """Rank correlation of a pair of values ([2, n]) as units are drawn, [N_RESAMPLES]."""
    names, code = np.unique(unit, return_inverse=True)
    ((_, counts),) = resample(len(names), N_RESAMPLES, N_RESAMPLES, seed)
    draws = np.full(N_RESAMPLES, np.nan)
    for number, times in enumerate(counts.astype(int).T):
        rank = rank_or_none(*np.repeat(values, times[code], axis=1))
        draws[number] = np.nan if rank is None else rank
    return draws


@torch.no_grad()
def _network_logits(asked: Contributions, batch: FusionBatch) -> Floats:
    """The network's logit of each row, all tokens there, float64 [N]."""
    gated = asked.gated(batch)
    return gated.network(torch.ones(len(gated.batch), len(gated.grid))).double().numpy()


def curve_gains(
    gated: GatedFusion, values: Floats, generator: np.random.Generator
) -> dict[str, Floats]:
    """How much better contributions order tokens than chance does, in log-odds.

    Comprehensiveness and sufficiency are those of DeYoung et al. (arXiv 1911.03429): how far the
    logit moves without the tokens of largest size, and with them alone.

    Args:
        gated: the fusion on N rows.
        values: float64 [N, n_tokens].
        generator: of the random orders.

    Returns:
        float64 [N] each, means over `SHARES`: `deletion`, how much further the logit falls by
        deleting the largest first; `insertion`, how much further it rises by bringing them in
        first; `comprehensiveness`, how much further it moves without the largest in size;
        `sufficiency`, how much further it stays away with them alone (below zero is good).
    """
    there = values != 0
    n_there = there.sum(axis=1)[:, None]
    keys = {"largest": -values, "size": -np.abs(values), "random": generator.random(values.shape)}
    first = {
        name: np.where(there, key, np.inf).argsort(axis=1).argsort(axis=1)
        for name, key in keys.items()
    }

    def logits(name: str, *, kept: bool) -> Floats:
        """Of the first of an order alone, or of all but them, [n_shares, N]."""
        masks = [(first[name] < np.ceil(share * n_there)) == kept for share in SHARES]
        return np.stack([gated.logit(torch.from_numpy(mask).float()) for mask in masks])

    whole = gated.logit(torch.ones(values.shape))
    without, alone = logits("random", kept=False), logits("random", kept=True)
    gains = {
        "deletion": without - logits("largest", kept=False),
        "insertion": logits("largest", kept=True) - alone,
        "comprehensiveness": np.abs(whole - logits("size", kept=False)) - np.abs(whole - without),
        "sufficiency": np.abs(whole - logits("size", kept=True)) - np.abs(whole - alone),
    }
    return {name: gain.mean(axis=0) for name, gain in gains.items()}


def randomised(asked: Contributions, seed: int) -> Contributions:
    """The same questions to a model whose weights are shuffled, each tensor in itself."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.copy(asked)
    other.model = copy.deepcopy(asked.model)
    for weight in other.model.parameters():
        order = torch.randperm(weight.numel(), generator=generator)
        weight.copy_(weight.flatten()[order].view_as(weight))
    other.readout = ReadoutTokens(other.model.readout, asked.shape, asked.phrase_names)
    return other


def violations_of_modalities(
    subsets: Floats, players: Floats, unit: NDArray[np.int64], confidence: float
) -> Check:
    """How often the sign of the strongest modality is not that of taking it away.

    Args:
        subsets: float64 [n, N_SUBSETS].
        players: float64 [n, 6], Shapley values.
        unit: int64 [n].
        confidence: level of the interval.
    """
    top = np.abs(players).argmax(axis=1)
    rows = np.arange(len(top))
    removed = subsets[:, -1] - subsets[rows, (shapley.N_SUBSETS - 1) ^ (1 << top)]
    return _violation(SHAPLEY, players[rows, top], removed, unit, confidence)


def violations_of_trees(
    trees: TreeTokens, sample: EncodedMarket, confidence: float, seed: int
) -> Check:
    """How often the sign of the strongest token is not that of other rows' values in its place.

    Missing is no neutral value: trees read it as zero in a column that always had one, and more
    than half of the strongest tokens could then be taken away without any change.

    Args:
        trees: LightGBM and its tokens.
        sample: n rows.
        confidence: level of the interval.
        seed: of the other rows.
    """
    values = trees(sample, np.arange(len(sample)))
    top = np.abs(values).argmax(axis=1)
    x = trees.trees.table_.transform(sample)
    predict = partial(
        trees.trees.booster_.predict, num_iteration=trees.trees.n_rounds_, raw_score=True
    )
    generator = np.random.default_rng(seed)
    without = np.zeros(len(x))
    for _ in range(OTHERS):
        other = x[generator.permutation(len(x))]
        without += np.asarray(predict(np.where(trees.place == top[:, None], other, x))) / OTHERS
    removed = np.asarray(predict(x)) - without
    strongest = values[np.arange(len(top)), top]
    return _violation(TREES, strongest, removed, sample.unit, confidence)


def agreement(
    contributions: pl.LazyFrame, effects: pl.DataFrame, sample: EncodedMarket, method: str
) -> list[Check]:
    """Whether contributions of phrases and of free shipping go with their effects.

    A lever's contribution in a market is its mean where the lever is there less that where it is
    not; a lever that fewer than `FEWEST_PRESENT` impressions have, or lack, is left out.

    Args:
        contributions: as `contributions.parquet`.
        effects: as `effects.parquet`.
        sample: the rows of the former.
        method: whose contributions.
    """
    there = _levers(sample)
    own = contributions.filter(
        (pl.col("method") == method) & pl.col("token").is_in(list(there))
    ).collect()
    place = {name: row for row, name in enumerate(sample.impression_id.tolist())}
    market = sample.market_label.astype(str)
    means: dict[tuple[str, str], float] = {}
    for token, has in there.items():
        part, values = own.filter(pl.col("token") == token), np.zeros(len(sample))
        rows = [place[name] for name in part["impression_id"]]
        values[rows] = part["value"].to_numpy()
        for name in np.unique(market):
            with_it, without = (market == name) & has, (market == name) & ~has
            if min(with_it.sum(), without.sum()) >= FEWEST_PRESENT:
                means[str(name), token] = values[with_it].mean() - values[without].mean()
    pairs = []
    for row in effects.iter_rows(named=True):
        token = phrase_token(row["phrase"]) if row["lever"] == "phrase" else row["lever"]
        if (row["market"], token) in means:
            pairs.append((means[row["market"], token], row["logit"]))
    n = len(pairs)
    rank = sign = None
    if n >= FEWEST_PRESENT:
        found, asked = np.array(pairs).T
        correlation = float(spearmanr(found, asked)[0])
        rank = correlation if np.isfinite(correlation) else None
        sign = float((np.sign(found) == np.sign(asked)).mean())
    measured = {"effects_rank": rank, "effects_sign": sign}
    return [Check(k, method, value, None, None, None, None, n) for k, value in measured.items()]


def _levers(sample: EncodedMarket) -> dict[str, NDArray[np.bool_]]:
    phrases = sample.products.phrases[sample.product] > 0
    there = {phrase_token(n): phrases[:, k] for k, n in enumerate(sample.products.phrase_names)}
    for place, column in enumerate(sample.number_columns):
        if column.name == "free_shipping":
            there[column.name] = sample.numbers[:, place] > 0
    return there


def _violations(gated: GatedFusion, values: Floats) -> Floats:
    """1 where the strongest token has another sign than its removal, float64 [N]."""
    top = np.abs(values).argmax(axis=1)
    rows = np.arange(len(top))
    gates = torch.ones(values.shape)
    whole = gated.logit(gates)
    gates[rows, top] = 0.0
    return _differ(values[rows, top], whole - gated.logit(gates))


def _violation(
    method: str, value: Floats, removed: Floats, unit: NDArray[np.int64], confidence: float
) -> Check:
    wrong = _differ(value, removed)
    found = clustered_ratio(wrong, np.ones(len(wrong)), unit, confidence)
    return _judged("violation", method, found, CHANCE, found[2] < CHANCE, len(wrong))


def _differ(value: Floats, removed: Floats) -> Floats:
    return (np.sign(value) != np.sign(removed)).astype(np.float64)


def _judged(
    test: str, method: str, found: tuple[float, float, float], bound: float, passed: bool, n: int
) -> Check:
    """A check with an interval; without one (too few users) it is neither passed nor failed."""
    value, low, high = (float(x) if np.isfinite(x) else None for x in found)
    return Check(test, method, value, low, high, bound, None if low is None else passed, n)
