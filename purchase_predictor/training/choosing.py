"""Fitting choice models on clicks."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from features.arrays import MISSING, STOP, TRAIN, EncodedMarket, EventArrays
from purchase_predictor.model.choice import ChoiceBatch, ChoiceModel
from purchase_predictor.model.inputs import FusionShape
from purchase_predictor.settings import Settings
from purchase_predictor.training.batches import Batcher, product_batch, ranges
from purchase_predictor.training.loop import Loop, LoopSettings, OnEpoch, Progress
from purchase_predictor.training.processes import n_shares, own_share

LEARNING_RATE = 0.05
PENALTY = 2e-4
"""Weight of the squared weights that make vectors, beside the mean loss."""

TARGETS_IN_BATCH = 4096
MOST_ALTERNATIVES = 4096
"""A market that sells more is told from a sample of its products."""


@dataclass(frozen=True)
class Histories:
    """Events on products, sorted by market, shopper, and time.

    Attributes:
        place: int64 [E], events of the `EncodedMarket`.
        market: int32 [E].
        turns: bool [E], whether the shopper's event before was on another product.
        first: int64 [E], where the shopper's events in this market begin.
        stop: int64 [E], one past the last of them.
    """

    place: NDArray[np.int64]
    market: NDArray[np.int32]
    turns: NDArray[np.bool_]
    first: NDArray[np.int64]
    stop: NDArray[np.int64]

    @classmethod
    def of(cls, events: EventArrays, kept: NDArray[np.bool_]) -> "Histories":
        """Sort some events; those without a product say nothing here."""
        place = np.flatnonzero(kept & (events.product > 0))
        market = event_markets(events)[place]
        order = np.argsort(market, kind="stable")  # events are sorted by unit, then time
        place, market = place[order], market[order]
        unit, product = events.unit[place], events.product[place]
        opens = (np.diff(market, prepend=-1) != 0) | (np.diff(unit, prepend=-1) != 0)
        starts = np.flatnonzero(opens)
        stops = np.append(starts[1:], len(place))[: len(starts)]
        first, stop = (np.repeat(edges, stops - starts) for edges in (starts, stops))
        turns = opens | (np.diff(product, prepend=-1) != 0)
        return cls(place=place, market=market, turns=turns, first=first, stop=stop)


def event_markets(events: EventArrays) -> NDArray[np.int32]:
    """Market of each event; where its session showed nothing, that of the unit's others."""
    if not len(events):
        return np.zeros(0, np.int32)
    of_unit = np.zeros(int(events.unit.max()) + 1, np.int32)
    np.maximum.at(of_unit, events.unit, events.market)
    return np.where(events.market > MISSING, events.market, of_unit[events.unit])


class ChoiceTask:
    """Learns what is turned to from some of the training events.

    Args:
        name: of its checkpoints and figures.
        model: what is learned.
        data: whose events are learned from.
        learnable: bool [n_events].
        known: bool [n], impressions whose products count as sold.
        seed: of the order of shoppers and of what is sampled.
    """

    def __init__(
        self,
        name: str,
        model: ChoiceModel,
        data: EncodedMarket,
        *,
        learnable: NDArray[np.bool_],
        known: NDArray[np.bool_],
        seed: int,
    ) -> None:
        self.name = name
        self.model = model
        self.data = data
        self.seed = seed
        events = data.events
        kept = learnable & (events.part == TRAIN)
        self.learn = Histories.of(events, kept)
        self.alternatives = self._alternatives(kept, known & (data.part == TRAIN))
        self.stop = self._stopping_events()
        model.measure(product_batch(data.products, self.products()))

    def products(self) -> NDArray[np.int64]:
        """Rows of the catalogue that training has seen."""
        sold = [rows for rows, _ in self.alternatives.values()]
        return np.unique(np.concatenate([*sold, np.zeros(0, np.int64)]))

    def _alternatives(
        self, kept: NDArray[np.bool_], rows: NDArray[np.bool_]
    ) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Products of each market and when they were first seen, in that order."""
        data, events = self.data, self.data.events
        market = np.concatenate([event_markets(events)[kept], data.market[rows]])
        product = np.concatenate([events.product[kept], data.product[rows]])
        time = np.concatenate([events.time[kept], data.time[rows]])
        found = {}
        for code in np.unique(market[product > 0]):
            first_seen = np.full(len(data.products), np.inf)
            mine = (market == code) & (product > 0)
            np.minimum.at(first_seen, product[mine], time[mine])
            sold = np.flatnonzero(np.isfinite(first_seen))
            sold = sold[np.argsort(first_seen[sold], kind="stable")]
            found[int(code)] = sold, first_seen[sold]
        return found

    def _stopping_events(self) -> tuple[Histories, NDArray[np.bool_]]:
        """Histories of the STOP rows, and which of their events are told.

        Not events that training has learned from, nor products that it has never seen.
        """
        data = self.data
        seen = Batcher(data.select(data.part == STOP), batch_size=1).stretches
        kept = np.zeros(len(data.events), bool)
        kept[ranges(seen.start, seen.stop - seen.start)] = True
        histories = Histories.of(data.events, kept)
        told = histories.turns & (data.events.part[histories.place] != TRAIN)
        product = data.events.product[histories.place]
        for code in np.unique(histories.market):
            mine = histories.market == code
            sold, _ = self.alternatives.get(int(code), (np.zeros(0, np.int64), None))
            told[mine] &= np.isin(product[mine], sold)
        return histories, told

    def _plan(
        self,
        histories: Histories,
        told: NDArray[np.bool_],
        generator: np.random.Generator | None,
        world: int = 1,
    ) -> list[NDArray[np.int64]]:
        """Shoppers that come together, as the places of their first events."""
        targets_in_batch = TARGETS_IN_BATCH // world
        shoppers, number = np.unique(histories.first[told], return_inverse=True)
        targets = np.bincount(number, minlength=len(shoppers))
        market = histories.market[shoppers]
        batches = []
        for code in np.unique(market):
            order = np.flatnonzero(market == code)
            if generator is not None:
                order = generator.permutation(order)
            split = np.cumsum(targets[order]) // targets_in_batch
            edges = np.flatnonzero(np.diff(split)) + 1
            batches += [shoppers[part] for part in np.split(order, edges)]
        if generator is None:
            return batches
        return [batches[place] for place in generator.permutation(len(batches))]

    def plan(self, epoch: int, world: int = 1) -> list[NDArray[np.int64]]:
        """Shoppers that come together in the batches of an epoch, `world` of them in a step."""
        generator = np.random.default_rng([self.seed, epoch])
        return self._plan(self.learn, self.learn.turns, generator, world)

    def n_batches(self, world: int) -> int:
        """Batches of the first epoch in each process; later epochs differ by one or two."""
        return n_shares(self.plan(0, world), world)

    def batches(self, epoch: int, start: int, rank: int, world: int) -> Iterator[ChoiceBatch]:
        """Training batches."""
        plan = self.plan(epoch, world)
        for number, shoppers in enumerate(own_share(plan, rank, world)):
            if number >= start:
                generator = np.random.default_rng([self.seed, epoch, number * world + rank])
                yield self.build(self.learn, self.learn.turns, shoppers, generator)

    def build(
        self,
        histories: Histories,
        told: NDArray[np.bool_],
        shoppers: NDArray[np.int64],
        generator: np.random.Generator,
    ) -> ChoiceBatch:
        """The batch of these shoppers, all of one market."""
        data, shoppers = self.data, np.sort(shoppers)
        rows = ranges(shoppers, histories.stop[shoppers] - shoppers)
        place = histories.place[rows]
        sold, first_seen = self.alternatives[int(histories.market[shoppers[0]])]
        touched = data.events.product[place]
        chosen, chance = self._sample(sold, touched, generator)
        sold, first_seen = sold[chosen], first_seen[chosen]
        # a product that this market never saw in training has no place among its alternatives
        order = np.argsort(sold)
        found = order[np.minimum(np.searchsorted(sold[order], touched), len(order) - 1)]
        here = sold[found] == touched
        rows, place, found = rows[here], place[here], found[here]
        target = np.flatnonzero(told[rows])
        first = histories.first[rows]
        return ChoiceBatch(
            products=product_batch(data.products, sold),
            row=torch.from_numpy(sold),
            log_chance=torch.from_numpy(np.log(chance).astype(np.float32)),
            event=torch.from_numpy(found),
            event_type=torch.from_numpy(data.events.event_type[place].astype(np.int64)),
            turns=torch.from_numpy(histories.turns[rows].astype(np.float32)),
            target=torch.from_numpy(target),
            opens=torch.from_numpy(np.searchsorted(first, first[target])),
            n_sold=torch.from_numpy(
                np.searchsorted(first_seen, data.events.time[place], side="right")
            ),
        )

    @staticmethod
    def _sample(
        sold: NDArray[np.int64], touched: NDArray[np.int32], generator: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which alternatives are told from, ascending, and the chance that each had to be."""
        if len(sold) <= MOST_ALTERNATIVES:
            return np.arange(len(sold)), np.ones(len(sold))
        needed = np.isin(sold, touched)
        drawn = generator.random(len(sold)) < MOST_ALTERNATIVES / len(sold)
        chosen = np.flatnonzero(needed | drawn)
        chance = np.where(needed[chosen], 1.0, MOST_ALTERNATIVES / len(sold))
        return chosen, chance

    def loss(self, model: nn.Module, batch: ChoiceBatch) -> Tensor:
        """Cross-entropy of what was turned to; in training with the penalty beside it."""
        loss = -model(batch).mean()
        return loss + PENALTY * self.model.penalty() if model.training else loss

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Cross-entropy before the STOP rows; NaN where nothing can be told there."""
        histories, told = self.stop
        total = n = 0.0
        for number, shoppers in enumerate(self._plan(histories, told, None)):
            generator = np.random.default_rng([self.seed, number])
            batch = self.build(histories, told, shoppers, generator).to(device)
            total += self.loss(model, batch).item() * len(batch.target)
            n += len(batch.target)
        return {"log_loss": total / n if n else math.nan}

    @torch.inference_mode()
    def settle(self, model: ChoiceModel) -> None:
        """Keep the totals of each market, which scoring needs; a new market gets their mean."""
        known = list(self.alternatives)
        for code, (sold, _) in self.alternatives.items():
            utility = model.vectors(product_batch(self.data.products, sold)) @ model.tastes.T
            popularity = model.popularity[torch.from_numpy(sold)]
            model.log_total[code], model.centre[code] = model.totals(utility, popularity)
        unknown = np.setdiff1d(np.arange(len(model.centre)), known)
        if known:
            for values in (model.log_total, model.centre):
                values[unknown] = values[known].mean(dim=0)
        model.popularity = nn.Parameter(torch.zeros(0))  # new products have none


def fit_choices(
    name: str,
    data: EncodedMarket,
    shape: FusionShape,
    settings: Settings,
    *,
    learnable: NDArray[np.bool_],
    known: NDArray[np.bool_],
    progress: Progress,
    on_epoch: OnEpoch,
) -> list[ChoiceModel]:
    """Choice models of some training events, alike but for where they start.

    The likelihood of classes has many maxima, and which is found is an accident: the mean of what
    several say is nearer to the truth than any of them. One takes a minute or two where the click
    encoder takes many, so there are no checkpoints.

    Args:
        name: of their figures.
        data: n impressions and their events.
        shape: data-dependent sizes.
        settings: all settings.
        learnable: bool [n_events], what they may learn from.
        known: bool [n], impressions whose products count as sold.
        progress: told a line at the end of each fit.
        on_epoch: told the figures of each epoch.
    """
    pretraining = settings.pretraining
    models = []
    for number in range(pretraining.taste_models):
        # another seed of the settings has other starts, all of them
        seed = settings.seed * pretraining.taste_models + number
        torch.manual_seed(seed)
        model = ChoiceModel(
            shape=shape,
            rank=pretraining.taste_rank,
            n_classes=pretraining.taste_classes,
            n_products=len(data.products),
        )
        own = name if pretraining.taste_models == 1 else f"{name}-{number}"
        task = ChoiceTask(own, model, data, learnable=learnable, known=known, seed=seed)
        lines: list[str] = []
        loop = _loop(settings, seed)
        Loop(task, loop, progress=lines.append, on_epoch=on_epoch).fit()
        # a line for each epoch of a dozen fits would hide all others; one process alone has any
        for line in lines[-1:]:
            progress(line)
        task.settle(model)
        models.append(model)
    return models


def _loop(settings: Settings, seed: int) -> LoopSettings:
    training, epochs = settings.training, settings.pretraining.taste_epochs
    return LoopSettings(
        max_epochs=epochs,
        patience=epochs,
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        warm_up=training.warm_up,
        clip_norm=training.clip_norm,
        ema_decay=training.ema_decay,
        checkpoint_every=10**9,
        bfloat16=False,
        seed=seed,
    )
