"""Pre-training on events: product and session encoders learn from every click before any label.

Two things are predicted: the product that a history turns to next, out of those its market sold at
that time, and the type of every event.

The score a history gives to a product is then an input of every system. Clicks may contain the
labels (a click-out is an event and a conversion), so the scores of training rows come from
encoders that saw neither the row nor what came after it.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from features.arrays import STOP, TRAIN, EncodedMarket
from purchase_predictor.model.inputs import (
    ProductBatch,
    SessionBatch,
    TensorRecord,
)
from purchase_predictor.model.session import ClickEncoder, ClickStates
from purchase_predictor.settings import Settings
from purchase_predictor.training.batches import (
    NOTHING_HIDDEN,
    SORTED_BATCHES,
    Batcher,
    Hidden,
    Stretches,
    event_grid,
    product_batch,
    products_touched,
    session_batch,
)
from purchase_predictor.training.processes import n_shares, own_share


@dataclass(frozen=True)
class ClickBatch(TensorRecord):
    """Stretches of events and the products they are to be told from.

    Attributes:
        products: distinct products: touched ones and negatives.
        sessions: the stretches.
        log_chance: float32 [P], log probability that a product is in the batch at all.
        sold: bool [P, n_markets], where each product was seen in training.
        first_seen: float64 [P], when each product was first seen, seconds since 1970.
        time: float64 [S, L], when each event was.
    """

    products: ProductBatch
    sessions: SessionBatch
    log_chance: Tensor
    sold: Tensor
    first_seen: Tensor
    time: Tensor


def next_click_loss(
    states: ClickStates, sessions: SessionBatch, alternatives: ClickBatch | None = None
) -> Tensor:
    """Cross-entropy of the product turned to next against the batch's others.

    An event on the product at hand (a review after a view) is no target: that it stays the same
    drowned what there is to learn of taste.

    Args:
        states: of the click encoder.
        sessions: the stretches; `learn` says which events are targets.
        alternatives: corrects for how products came into the batch (sampled softmax), and leaves
            out those that the market did not sell, or not yet: a history of new products would
            otherwise tell what time it is. None: all products of the batch alike.

    Returns:
        The mean over targets; 0 where there are none.
    """
    learn = sessions.learn & sessions.turns
    targets = sessions.product[learn]
    if not len(targets):
        # other processes of a distributed step may have targets
        return (states.queries.sum() + states.keys.sum()) * 0.0
    logits = (states.queries[:, :-1][learn] @ states.keys.T).float()
    allowed = torch.ones_like(logits, dtype=torch.bool)
    if alternatives is not None:
        logits = logits - alternatives.log_chance
        market = sessions.market[:, None].expand_as(sessions.product)[learn]
        allowed = alternatives.sold.T[market]
        allowed = allowed & (alternatives.first_seen <= alternatives.time[learn][:, None])
    allowed[:, 0] = False  # the missing product
    allowed[torch.arange(len(targets), device=targets.device), targets] = True
    return F.cross_entropy(logits.masked_fill(~allowed, -torch.inf), targets)


def event_type_loss(states: ClickStates, sessions: SessionBatch) -> Tensor:
    """Cross-entropy of the type of each event given those before; 0 where there are none."""
    if not sessions.learn.any():
        return states.types.sum() * 0.0
    logits = states.types[sessions.learn].float()
    return F.cross_entropy(logits, sessions.event_type[sessions.learn])


class ClickTask:
    """Learns next clicks from some of the training events, stops on those before the STOP rows."""

    def __init__(
        self,
        name: str,
        model: ClickEncoder,
        data: EncodedMarket,
        *,
        learnable: NDArray[np.bool_],
        known: NDArray[np.bool_],
        settings: Settings,
    ) -> None:
        self.name = name
        self.model = model
        self.data = data
        self.settings = settings
        history = settings.model.history
        events = data.events
        self.learnable = learnable & (events.part == TRAIN)
        self.learn = event_stretches(data, self.learnable, history)
        stop = data.select(data.part == STOP)
        self.stop = Batcher(stop, batch_size=1).stretches
        trained = self.learnable & (events.product > 0)
        counts = np.bincount(events.product[trained], minlength=len(data.products)) + 1.0
        self.frequency = counts / counts.sum()
        self.sold = np.zeros((len(data.products), len(data.market_names)), bool)
        self.sold[events.product[trained], events.market[trained]] = True
        self.first_seen = np.full(len(data.products), np.inf)
        np.minimum.at(self.first_seen, events.product, events.time)
        np.minimum.at(self.first_seen, data.product, data.time)
        rows = known & (data.part == TRAIN)
        self.sold[data.product[rows], data.market[rows]] = True
        self.pool = np.flatnonzero(self.sold.any(axis=1))

    def plan(self, epoch: int, world: int = 1) -> list[NDArray[np.int64]]:
        """Stretches that come together, in the order of this epoch; long ones keep company.

        Args:
            epoch: its number.
            world: processes, each of which takes its share of a batch.
        """
        size_of_batch = max(1, self.settings.pretraining.batch_events // world)
        generator = np.random.default_rng([self.settings.seed, epoch])
        order = generator.permutation(len(self.learn))
        size = (self.learn.stop - self.learn.start)[order]
        chunk = np.cumsum(size) // (SORTED_BATCHES * size_of_batch)
        order = order[np.lexsort((size, chunk))]
        batches = self._split(order, self.learn, size_of_batch)
        return [batches[place] for place in generator.permutation(len(batches))]

    def _split(
        self, order: NDArray[np.int64], stretches: Stretches, size_of_batch: int
    ) -> list[NDArray[np.int64]]:
        size = (stretches.stop - stretches.start)[order]
        number = np.cumsum(size) // size_of_batch
        return np.split(order, np.flatnonzero(np.diff(number)) + 1) if len(order) else []

    def n_batches(self, world: int) -> int:
        """Batches of the first epoch in each process; later epochs differ by one at most."""
        return n_shares(self.plan(0, world), world)

    def batches(self, epoch: int, start: int, rank: int, world: int) -> Iterator[ClickBatch]:
        """Training batches, negatives drawn anew."""
        plan = self.plan(epoch, world)
        for number, members in enumerate(own_share(plan, rank, world)):
            if number >= start:
                place = [self.settings.seed, epoch, number * world + rank]
                generator = np.random.default_rng(place)
                yield self._build(
                    self.learn,
                    members,
                    generator,
                    self.learnable,
                    hidden_in_training(self.settings),
                )

    def _build(
        self,
        stretches: Stretches,
        members: NDArray[np.int64],
        generator: np.random.Generator,
        learnable: NDArray[np.bool_],
        hidden: Hidden,
    ) -> ClickBatch:
        data, start = self.data, stretches.start[members]
        grid = event_grid(start, stretches.stop[members])
        touched = products_touched(data, grid)
        n_negatives = min(self.settings.pretraining.n_negatives, len(self.pool))
        negatives = generator.choice(self.pool, n_negatives, replace=False)
        distinct, places = np.unique(
            np.concatenate([[0], touched, negatives]), return_inverse=True
        )
        # chance that a product is touched in the batch, or else drawn as a negative
        untouched = (1 - self.frequency[distinct]) ** int(grid.valid.sum())
        chance = 1 - untouched * (1 - n_negatives / len(self.pool))
        # a session that showed nothing has no market of its own: the stretch's other sessions tell
        market = np.where(grid.valid, data.events.market[grid.index], 0).max(axis=1)
        return ClickBatch(
            products=product_batch(data.products, distinct, generator, hidden),
            sessions=session_batch(
                data,
                grid,
                places[1 : 1 + len(touched)],
                data.events.time[start],
                market,
                stretches.learn_from[members],
                learnable,
            ),
            log_chance=torch.from_numpy(np.log(chance).astype(np.float32)),
            sold=torch.from_numpy(self.sold[distinct]),
            first_seen=torch.from_numpy(self.first_seen[distinct]),
            time=torch.from_numpy(np.where(grid.valid, data.events.time[grid.index], 0.0)),
        )

    def loss(self, model: nn.Module, batch: ClickBatch) -> Tensor:
        """Next-click cross-entropy of a batch, and in training that of event types beside it."""
        states = model(batch.products, batch.sessions)
        clicks = next_click_loss(states, batch.sessions, batch)
        if not model.training:
            return clicks
        types = event_type_loss(states, batch.sessions)
        return clicks + self.settings.pretraining.event_type_weight * types

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Next-click cross-entropy before the STOP rows; the same negatives at every epoch.

        NaN where no such event exists: then the last epoch is the best.
        """
        losses, weights = [], []
        # not events that training has learned from (knowing them by heart must not look like
        # skill), nor products that training has never seen (nothing can be known of them)
        known = np.isin(self.data.events.product, self.pool)
        fresh = (self.data.events.part != TRAIN) & known
        every = np.arange(len(self.stop))
        whole = self._split(every, self.stop, self.settings.pretraining.batch_events)
        for number, members in enumerate(whole):
            generator = np.random.default_rng([self.settings.seed, number])
            batch = self._build(self.stop, members, generator, fresh, NOTHING_HIDDEN).to(device)
            losses.append(self.loss(model, batch).item())
            targets = batch.sessions.learn & batch.sessions.turns
            weights.append(int(targets.sum()))
        total = sum(weights)
        return {"log_loss": float(np.dot(losses, weights)) / total if total else math.nan}


def hidden_in_training(settings: Settings) -> Hidden:
    """What is hidden from the model in training steps."""
    return Hidden(settings.model.modality_dropout, settings.model.identity_dropout)


def event_stretches(data: EncodedMarket, learnable: NDArray[np.bool_], history: int) -> Stretches:
    """Stretches that cover some events, each of them learned from once.

    They are cut as sequences are (chunks c-1 and c, learning in c), so that encoders are trained
    on what they will be given.

    Args:
        data: its events are sorted by unit.
        learnable: bool [n_events].
        history: events in a chunk.
    """
    events = data.events
    kept = np.flatnonzero(learnable)
    if not len(kept):
        empty = np.zeros(0, np.int64)
        return Stretches(start=empty, stop=empty, learn_from=empty)
    opens = np.flatnonzero(np.diff(events.unit, prepend=-1))
    first = np.repeat(opens, np.diff(np.append(opens, len(events))))[kept]
    chunk = (kept - first) // history
    boundary = np.flatnonzero(
        (np.diff(first, prepend=-1) != 0) | (np.diff(chunk, prepend=-1) != 0)
    )
    last = np.append(boundary[1:], len(kept)) - 1
    return Stretches(
        start=np.maximum(first[boundary], first[boundary] + (chunk[boundary] - 1) * history),
        stop=kept[last] + 1,
        learn_from=kept[boundary],
    )
