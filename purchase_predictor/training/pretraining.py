"""Next-click pre-training: product and session encoders learn from every click before any label.

The score a history gives to a product is then an input of every system. Clicks may contain the
labels (a click-out is an event and a conversion), so the scores of training rows come from
encoders that never saw the row's unit (handbook: method, 3).
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
    SORTED_BATCHES,
    Batcher,
    Stretches,
    event_grid,
    product_batch,
    products_touched,
    session_batch,
)


@dataclass(frozen=True)
class ClickBatch(TensorRecord):
    """Stretches of events and the products they are to be told from.

    Attributes:
        products: distinct products: touched ones and negatives.
        sessions: the stretches.
        log_chance: float32 [P], log probability that a product is in the batch at all.
        sold: bool [P, n_markets], where each product was seen in training.
    """

    products: ProductBatch
    sessions: SessionBatch
    log_chance: Tensor
    sold: Tensor


def next_click_loss(
    states: ClickStates, sessions: SessionBatch, log_chance: Tensor | None, sold: Tensor | None
) -> Tensor:
    """Cross-entropy of the product touched next against the batch's others.

    Args:
        states: of the click encoder.
        sessions: the stretches; `learn` says which events are targets.
        log_chance: float [P], corrects for how products came into the batch (sampled softmax).
        sold: bool [P, n_markets]; products never seen in the market are no alternatives.

    Returns:
        The mean over targets; 0 where there are none.
    """
    queries = states.queries[:, :-1][sessions.learn]
    targets = sessions.product[sessions.learn]
    if not len(targets):
        # touches every weight: other processes of a distributed step may have targets
        return (states.queries.sum() + states.keys.sum()) * 0.0
    logits = (queries @ states.keys.T).float()
    if log_chance is not None:
        logits = logits - log_chance
    allowed = torch.ones_like(logits, dtype=torch.bool)
    if sold is not None:
        market = sessions.market[:, None].expand_as(sessions.product)[sessions.learn]
        allowed = sold.T[market]
    allowed[:, 0] = False  # the missing product
    allowed[torch.arange(len(targets), device=targets.device), targets] = True
    return F.cross_entropy(logits.masked_fill(~allowed, -torch.inf), targets)


class ClickTask:
    """Learns next clicks from some of the training events, stops on those before the STOP rows."""

    def __init__(
        self,
        name: str,
        model: ClickEncoder,
        data: EncodedMarket,
        *,
        learnable: NDArray[np.bool_],
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
        rows = data.part == TRAIN
        self.sold[data.product[rows], data.market[rows]] = True
        self.pool = np.flatnonzero(self.sold.any(axis=1))

    def plan(self, epoch: int) -> list[NDArray[np.int64]]:
        """Stretches that come together, in the order of this epoch; long ones keep company."""
        generator = np.random.default_rng([self.settings.seed, epoch])
        order = generator.permutation(len(self.learn))
        size = (self.learn.stop - self.learn.start)[order]
        chunk = np.cumsum(size) // (SORTED_BATCHES * self.settings.pretraining.batch_events)
        batches = self._split(order[np.lexsort((size, chunk))], self.learn)
        return [batches[place] for place in generator.permutation(len(batches))]

    def _split(self, order: NDArray[np.int64], stretches: Stretches) -> list[NDArray[np.int64]]:
        size = (stretches.stop - stretches.start)[order]
        number = np.cumsum(size) // self.settings.pretraining.batch_events
        return np.split(order, np.flatnonzero(np.diff(number)) + 1) if len(order) else []

    def n_batches(self, world: int) -> int:
        """Batches of the first epoch in each process; later epochs differ by one at most."""
        return max(1, len(self.plan(0)) // world)

    def batches(self, epoch: int, start: int, rank: int, world: int) -> Iterator[ClickBatch]:
        """Training batches, negatives drawn anew."""
        plan = self.plan(epoch)
        plan = plan[: len(plan) // world * world] or plan
        for number, members in enumerate(plan[rank::world]):
            if number >= start:
                place = [self.settings.seed, epoch, number * world + rank]
                generator = np.random.default_rng(place)
                yield self._build(
                    self.learn,
                    members,
                    generator,
                    self.learnable,
                    self.settings.model.modality_dropout,
                )

    def _build(
        self,
        stretches: Stretches,
        members: NDArray[np.int64],
        generator: np.random.Generator,
        learnable: NDArray[np.bool_],
        modality_dropout: float,
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
            products=product_batch(data.products, distinct, generator, modality_dropout),
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
        )

    def loss(self, model: nn.Module, batch: ClickBatch) -> Tensor:
        """Next-click cross-entropy of a batch."""
        states = model(batch.products, batch.sessions)
        return next_click_loss(states, batch.sessions, batch.log_chance, batch.sold)

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Next-click cross-entropy before the STOP rows; the same negatives at every epoch.

        NaN where no such event exists: then the last epoch is the best.
        """
        losses, weights = [], []
        # not those that training has learned from: knowing them by heart must not look like skill
        fresh = self.data.events.part != TRAIN
        for number, members in enumerate(self._split(np.arange(len(self.stop)), self.stop)):
            generator = np.random.default_rng([self.settings.seed, number])
            batch = self._build(self.stop, members, generator, fresh, 0.0).to(device)
            losses.append(self.loss(model, batch).item())
            weights.append(int(batch.sessions.learn.sum()))
        total = sum(weights)
        return {"log_loss": float(np.dot(losses, weights)) / total if total else math.nan}


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
