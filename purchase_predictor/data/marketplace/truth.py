"""What is true, and how much of it can be known.

The best observable probability is exact: shoppers are of finitely many kinds, so the posterior of
the kind is a running sum of the log-likelihood of everything seen of the shopper before: products
looked at, what was done with them (the session's intent is summed out), how long sessions were,
and which earlier offers were taken.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.data.marketplace.catalogue import Catalogue
from purchase_predictor.data.marketplace.labels import (
    PRICE_ON_DISCOUNT,
    Logit,
    lever_columns,
    lever_effects,
)
from purchase_predictor.data.marketplace.offers import Offers
from purchase_predictor.data.marketplace.shoppers import (
    INTENT_SHARE,
    MAX_EVENTS,
    START_WITH_SEARCH,
    VIEW,
    Choice,
    Sessions,
    length_probabilities,
)
from purchase_predictor.data.marketplace.world import MARKETS, N_KINDS, Floats, World

UNITS_A_BLOCK = 1500
DISCOUNT_STEP = 0.1
"""The discount lever is ten points."""


@dataclass(frozen=True)
class Truth:
    """What can be known of each impression.

    Attributes:
        p_observable: [n], the probability given every table and picture before.
        affinity: [n], posterior mean of what taste adds to the logit.
        sensitivity: [n], posterior mean of the sensitivity to price.
        effects: market -> lever -> log-odds; see `write_effects`.
    """

    p_observable: Floats
    affinity: Floats
    sensitivity: Floats
    effects: dict[str, dict[str, float]]


@dataclass
class _Tables:
    """Log-likelihood tables of the events."""

    log_chain: NDArray[np.float32]
    log_start: NDArray[np.float32]
    log_length: NDArray[np.float32]
    log_survival: NDArray[np.float32]


def observe(
    world: World,
    catalogue: Catalogue,
    choice: Choice,
    sessions: Sessions,
    offers: Offers,
    logit: Logit,
    converted: NDArray[np.bool_],
    progress: Callable[[str], None],
) -> Truth:
    """Follow every shopper through time and say what could be known at each impression."""
    run = _Observer(world, catalogue, choice, sessions, offers, logit, converted)
    n_units = int(sessions.unit.max()) + 1
    order = np.argsort(sessions.unit, kind="stable")
    edges = np.arange(0, n_units + UNITS_A_BLOCK, UNITS_A_BLOCK)
    bounds = np.searchsorted(sessions.unit[order], edges)
    for block, (start, stop) in enumerate(zip(bounds, bounds[1:], strict=False)):
        run.follow(order[start:stop])
        done = min((block + 1) * UNITS_A_BLOCK, n_units)
        progress(f"best observable probability: {done:,} of {n_units:,} shoppers")
    market = sessions.market[offers.session]
    effects = {
        country.name: {
            name: float(column[market == number].mean())
            for name, column in run.differences.items()
        }
        for number, country in enumerate(MARKETS)
    }
    return Truth(run.p_observable, run.affinity, run.sensitivity, effects)


class _Observer:
    """The running posterior of a block of units."""

    def __init__(
        self,
        world: World,
        catalogue: Catalogue,
        choice: Choice,
        sessions: Sessions,
        offers: Offers,
        logit: Logit,
        converted: NDArray[np.bool_],
    ) -> None:
        self.world, self.choice, self.sessions = world, choice, sessions
        self.offers, self.logit, self.converted = offers, logit, converted
        self.tables = _tables(choice)
        self.columns = lever_columns(catalogue, offers)
        self.betas = lever_effects(world)
        n = len(offers)
        self.p_observable, self.affinity, self.sensitivity = np.zeros(n), np.zeros(n), np.zeros(n)
        self.differences = {name: np.zeros(n) for name in self.columns}
        # Impressions by session and cut, so that those of one moment lie together.
        self.by_moment = np.lexsort((offers.position, offers.cut, offers.session))
        self.moment = (offers.session * (MAX_EVENTS + 1) + offers.cut)[self.by_moment]

    def follow(self, block: NDArray[np.int64]) -> None:
        """Go through the sessions of some units in time (`block`: their session numbers)."""
        s = self.sessions
        units = np.unique(s.unit[block])
        belief = np.zeros((len(units), N_KINDS), dtype=np.float32)
        for rank in range(int(s.rank[block].max(initial=-1)) + 1):
            rows = block[s.rank[block] == rank]
            unit = np.searchsorted(units, s.unit[rows])
            belief[unit] = self._session(rows, belief[unit])
            belief[unit] -= belief[unit].max(axis=1, keepdims=True)

    def _session(
        self, rows: NDArray[np.int64], belief: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Take sessions from start to end; belief: log posterior of the kind, [n, K]."""
        s = self.sessions
        by_intent = np.zeros((len(rows), N_KINDS, len(INTENT_SHARE)), dtype=np.float32)
        by_intent += np.log(INTENT_SHARE).astype(np.float32)
        by_intent += self.tables.log_start[s.types[rows, 0]][:, None, :]
        length = s.length[rows]
        for step in range(int(length.max())):
            live = np.flatnonzero(length > step)
            now = rows[live]
            if step:
                by_intent[live] += self._step(now, step)
            looked = s.types[now, step] == VIEW
            belief[live[looked]] += self._look(now[looked], step)
            self._offers(now, step + 1, live, belief, by_intent)
        by_intent += self.tables.log_length[length][:, None, :]
        return belief + _log_sum(by_intent)

    def _step(self, rows: NDArray[np.int64], step: int) -> NDArray[np.float32]:
        """Log-likelihood of the next event's type given kind and intent, [n, K, I]."""
        s = self.sessions
        before, after = s.types[rows, step - 1], s.types[rows, step]
        level = self.choice.level[s.at_hand[rows, step - 1]]
        table = self.tables.log_chain[before, after]
        return np.take_along_axis(table, level.astype(np.intp)[:, :, None], axis=1)

    def _look(self, rows: NDArray[np.int64], step: int) -> NDArray[np.float32]:
        """Log-likelihood of the product looked at given the kind, [n, K]."""
        s, choice = self.sessions, self.choice
        weight = choice.log_weight[s.products[rows, step]]
        return weight - choice.log_total[s.market[rows], s.period[rows]]

    def _offers(
        self,
        rows: NDArray[np.int64],
        cut: int,
        live: NDArray[np.int64],
        belief: NDArray[np.float32],
        by_intent: NDArray[np.float32],
    ) -> None:
        """Judge what is shown after `cut` events, then learn from which of it was bought."""
        moment = rows * (MAX_EVENTS + 1) + cut
        first = np.searchsorted(self.moment, moment)
        count = np.searchsorted(self.moment, moment, side="right") - first
        some = count > 0
        if not some.any():
            return
        first, count, live = first[some], count[some], live[some]
        survived = by_intent[live] + self.tables.log_survival[cut]
        log_weight = belief[live] + _log_sum(survived)
        weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        starts = np.cumsum(count) - count
        within = np.arange(count.sum()) - np.repeat(starts, count)
        shown = self.by_moment[np.repeat(first, count) + within]
        learnt = self._judge(shown, np.repeat(weight, count, axis=0))
        belief[live] += np.add.reduceat(learnt, starts, axis=0)

    def _judge(self, shown: NDArray[np.int64], weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Fill in the truth of some impressions; log-likelihood of their labels, [n, K]."""
        logit = self.logit.of_kinds(self.world, shown)
        odds = np.exp(logit).astype(np.float32)
        known = _mean_probability(odds, weight)
        self.p_observable[shown] = known
        sensitivity = np.einsum("nk,k->n", weight, self.world.sensitivity)
        self.sensitivity[shown] = sensitivity
        latent = np.einsum("nk,nk->n", weight, logit)
        self.affinity[shown] = (
            latent - self.logit.fixed[shown] - self.logit.price[shown] * sensitivity
        )
        market = self.sessions.market[self.offers.session[shown]]
        for name, column in self.columns.items():
            beta = self.betas[name][market]
            if name == "discount_rate":
                kind = PRICE_ON_DISCOUNT * self.world.sensitivity[None, :]
                factor = np.exp(DISCOUNT_STEP * (beta[:, None] + kind)).astype(np.float32)
                sign = np.ones(len(shown))
            else:
                sign = 1.0 - 2.0 * column[shown]
                factor = np.exp(beta * sign).astype(np.float32)[:, None]
            other = _mean_probability(odds * factor, weight)
            self.differences[name][shown] = sign * (_logit(other) - _logit(known))
        taken = self.converted[shown]
        return np.where(taken[:, None], np.log(odds), np.float32(0.0)) - np.log1p(odds)


def _tables(choice: Choice) -> _Tables:
    with np.errstate(divide="ignore"):
        log_chain = np.log(choice.chain).transpose(2, 3, 1, 0)
        length = length_probabilities()
        log_length = np.log(length).T
        survival = np.cumsum(length[:, ::-1], axis=1)[:, ::-1]
        log_survival = np.log(survival).T
    start = np.stack([START_WITH_SEARCH, 1.0 - START_WITH_SEARCH])
    tables = (log_chain, np.log(start), log_length, log_survival)
    return _Tables(*(np.ascontiguousarray(t, dtype=np.float32) for t in tables))


def _log_sum(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log of the sum of exponentials over the last axis."""
    top = values.max(axis=-1)
    return top + np.log(np.exp(values - top[..., None]).sum(axis=-1))


def _mean_probability(odds: NDArray[np.float32], weight: NDArray[np.float32]) -> Floats:
    return np.einsum("nk,nk->n", weight, odds / (1.0 + odds)).astype(np.float64)


def _logit(p: Floats) -> Floats:
    return np.log(p) - np.log1p(-p)


def effects_json(effects: dict[str, dict[str, float]]) -> str:
    """`truth/effects.json`: market -> lever -> log-odds.

    Phrases and badges are nested: `{"KR": {"phrase": {"limited_quantity": 0.6, …},
    "image": {…}, "discount_rate": …, "free_shipping": …, "number_one_brand": …}}`. Each number is
    the mean, over the market's impressions, of the difference in the logit of the best observable
    probability with the lever and without; the discount's is for ten points.
    """
    nested: dict[str, dict[str, float | dict[str, float]]] = {}
    for market, levers in effects.items():
        groups: dict[str, dict[str, float]] = {"phrase": {}, "image": {}}
        terms: dict[str, float] = {}
        for name, value in levers.items():
            lever, _, phrase = name.partition(":")
            target = groups[lever] if phrase else terms
            target[phrase or lever] = round(value, 6)
        nested[market] = {**groups, **terms}
    return json.dumps(nested, indent=2, sort_keys=True) + "\n"
