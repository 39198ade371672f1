"""Batches of whole sequences: numpy arrays in, tensors out."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.arrays import N_RESERVED, PAD, TRAIN, UNSEEN, EncodedMarket, ProductArrays
from features.heap import return_memory
from purchase_predictor.model.inputs import (
    PRODUCT_GROUPS,
    ROW_GROUPS,
    FusionBatch,
    ProductBatch,
    SessionBatch,
)
from purchase_predictor.training.processes import own_share

SORTED_BATCHES = 64
"""Sequences are sorted by size within this many batches, so that padding stays small."""

SCORING_ROWS = 512
"""Impressions scored at once: what 4,096 of them take does not stay in a processor's cache, and a
row took half as long again. Of 1,024 a batch was the peak of scoring, and no faster."""

CELLS_A_ROW = 512
"""Pairs of events, or of events and impressions, a row of a scoring batch, at most: 1,024 rows of
long histories were hundreds of grids of 80 x 80 events, twenty times the median, and the peak."""

SCORING_ROWS_OF_A_GPU = 16_384
"""A GPU waits for its kernels to be started, which takes as long for many rows as for few."""


def scoring_rows(device: torch.device) -> int:
    """Impressions to score at once on a device."""
    return SCORING_ROWS if device.type == "cpu" else SCORING_ROWS_OF_A_GPU


@dataclass(frozen=True)
class Stretches:
    """Stretches of events to encode.

    Attributes:
        start: int64 [S], first event.
        stop: int64 [S], one past the last.
        learn_from: int64 [S], first event that is learned from.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    learn_from: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.start)


def ranges(start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """`start[i], start[i] + 1, …, start[i] + length[i] - 1` for every i, one after the other."""
    offsets = np.cumsum(length) - length
    return np.repeat(start - offsets, length) + np.arange(int(length.sum()))


def side_by_side(size: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Lay stretches into rows as wide as the longest, as many in a row as fit.

    A row for each list was nine tenths padding: most lists are of one, the longest of dozens.

    Args:
        size: int64 [n], 1 at least.

    Returns:
        int64 [n], where each begins in the flattened rows; and how many rows there are.
    """
    width = int(size.max())
    start = np.empty(len(size), np.int64)
    place = 0
    for number, length in enumerate(size.tolist()):
        if place % width + length > width:  # the next row
            place += width - place % width
        start[number] = place
        place += length
    return start, -(-place // width)


@dataclass(frozen=True)
class Hidden:
    """How much is hidden from the model in a training step.

    Attributes:
        modality: probability that a whole modality of a row is masked.
        identity: probability that a product known by its id counts as one never seen before.
    """

    modality: float = 0.0
    identity: float = 0.0


NOTHING_HIDDEN = Hidden()

BATCHES_BEFORE_RETURN = 4
"""No two batches are alike in size, so each leaves freed memory that the next has no use for. To
give it back takes about 10 ms; after every second batch instead the peak of a shard was 10 MB
lower and scoring up to a fifth slower."""


def modality_mask(
    shape: tuple[int, int], probability: float, generator: np.random.Generator | None
) -> Tensor | None:
    """Which modalities of which rows are masked in this step.

    Args:
        shape: rows and modalities.
        probability: of each.
        generator: None where nothing is masked.

    Returns:
        bool of that shape, or None.
    """
    if generator is None or probability == 0:
        return None
    return torch.from_numpy(generator.random(shape) < probability)


class Batcher:
    """Makes batches out of the impressions of an `EncodedMarket`.

    A batch is a set of whole sequences with all their impressions, so lists stay whole too.

    Args:
        data: the rows that batches are made of.
        batch_size: impressions in a batch, about.
        hidden: what is hidden in training batches.
        seed: of the order of the sequences and of what is masked.
    """

    def __init__(
        self,
        data: EncodedMarket,
        *,
        batch_size: int,
        hidden: Hidden = NOTHING_HIDDEN,
        seed: int = 0,
    ) -> None:
        self.data = data
        self.batch_size = batch_size
        self.hidden = hidden
        self.seed = seed
        sequence, self.first, self.count = np.unique(
            data.sequence, return_index=True, return_counts=True
        )
        start = data.sequence_start[sequence]
        # rows of a sequence are sorted by cut, so the last one sees furthest
        stop = data.cut[self.first + self.count - 1] if len(data) else start
        self.stretches = Stretches(start=start, stop=stop, learn_from=start)

    def plan(self, epoch: int | None, world: int = 1) -> list[NDArray[np.int64]]:
        """Which sequences come together, in which order.

        Args:
            epoch: shuffles differently in each; None keeps long sequences together, for scoring.
            world: processes, each of which takes its share of a batch.
        """
        size = max(1, self.batch_size // world)
        # a batch is a grid of sequences x events, and one of sequences x impressions: sequences of
        # about one length come together (attention grows with its square), and among them those
        # of about as many impressions; sorted by count alone, padding was two thirds of a batch
        bucket = np.round(np.log2(1 + self.stretches.stop - self.stretches.start))
        if epoch is None:
            # every other bucket downwards: a batch across two buckets would else hold the largest
            # counts of one beside the smallest of the next, and its grid be nine tenths padding
            count = np.where(bucket % 2 == 0, self.count, -self.count)
            batches = self._split(np.lexsort((count, bucket)), size)
            return [part for batch in batches for part in self._apart(batch, CELLS_A_ROW * size)]
        generator = np.random.default_rng([self.seed, epoch])
        order = generator.permutation(len(self.count))
        chunk = np.cumsum(self.count[order]) // (SORTED_BATCHES * size)
        order = order[np.lexsort((self.count[order], bucket[order], chunk))]
        batches = self._split(order, size)
        return [batches[place] for place in generator.permutation(len(batches))]

    def _split(self, order: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
        number = (np.cumsum(self.count[order]) - 1) // size
        return np.split(order, np.flatnonzero(np.diff(number)) + 1) if len(order) else []

    def _apart(self, sequences: NDArray[np.int64], most: int) -> list[NDArray[np.int64]]:
        """The sequences in parts whose grids have so many cells at most, one sequence at least."""
        events = int((self.stretches.stop - self.stretches.start)[sequences].max()) + 1
        cells = events * max(events, int(self.count[sequences].max()))
        return np.array_split(sequences, -(-len(sequences) // max(1, most // cells)))

    def training_batches(
        self, epoch: int, *, start: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[FusionBatch]:
        """The batches of an epoch, modalities masked.

        Args:
            epoch: number of the epoch.
            start: batches to skip, when resuming.
            rank: of this process.
            world: processes; each takes every `world`-th of smaller batches, all equally many.
        """
        plan = self.plan(epoch, world)
        for number, sequences in enumerate(own_share(plan, rank, world)):
            if number >= start:
                generator = np.random.default_rng([self.seed, epoch, number * world + rank])
                yield self.build(sequences, generator)

    def scoring_batches(self) -> Iterator[tuple[NDArray[np.int64], FusionBatch]]:
        """Every row once, nothing masked: the rows and their batch; freed memory is given back."""
        for number, sequences in enumerate(self.plan(None)):
            if number % BATCHES_BEFORE_RETURN == BATCHES_BEFORE_RETURN - 1:
                return_memory()
            yield ranges(self.first[sequences], self.count[sequences]), self.build(sequences)

    def build(
        self, sequences: NDArray[np.int64], generator: np.random.Generator | None = None
    ) -> FusionBatch:
        """The batch of these sequences."""
        data = self.data
        count = self.count[sequences]
        rows = ranges(self.first[sequences], count)
        owner = np.repeat(np.arange(len(sequences)), count)
        start = self.stretches.start[sequences]
        grid = event_grid(start, self.stretches.stop[sequences])
        touched = products_touched(data, grid)
        distinct, places = np.unique(
            np.concatenate([[0], touched, data.product[rows]]), return_inverse=True
        )
        n_cells = len(touched)
        origin = _origin(data, start)
        slot = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        n_slots = int(count.max())
        lists = data.list_number[rows]
        opens = np.diff(lists, prepend=lists[0] - 1) != 0
        list_of = np.cumsum(opens) - 1
        first = np.flatnonzero(opens)
        size = np.diff(first, append=len(rows))
        list_start, n_list_rows = side_by_side(size)
        return FusionBatch(
            products=product_batch(data.products, distinct, generator, self.hidden),
            sessions=session_batch(
                data, grid, places[1 : 1 + n_cells], origin, data.market[rows][slot == 0], start
            ),
            slot=_long(owner * n_slots + slot),
            n_slots=n_slots,
            cut=_long(data.cut[rows] - start[owner]),
            time=_float(data.time[rows] - origin[owner]),
            session=_long(data.session[rows]),
            product=_long(places[1 + n_cells :]),
            market=_long(data.market[rows]),
            profile=_float(data.row_profile[rows]),
            numbers=_float(data.numbers[rows]),
            categories=_long(data.categories[rows]),
            list_number=_long(list_of),
            list_slot=_long((list_start - first)[list_of] + np.arange(len(rows))),
            n_list_rows=n_list_rows,
            list_width=int(size.max()),
            converted=_float(data.converted[rows]),
            masked=modality_mask((len(rows), len(ROW_GROUPS)), self.hidden.modality, generator),
        )


@dataclass(frozen=True)
class EventGrid:
    """Events of stretches laid out in rows, padded on the right.

    Attributes:
        index: int64 [S, L], places in the flat events (0 where padded).
        valid: bool [S, L].
    """

    index: NDArray[np.int64]
    valid: NDArray[np.bool_]


def event_grid(start: NDArray[np.int64], stop: NDArray[np.int64]) -> EventGrid:
    """Lay out the events of stretches; at least one column wide."""
    length = max(1, int((stop - start).max(initial=0)))
    index = start[:, None] + np.arange(length)
    valid = index < stop[:, None]
    return EventGrid(index=np.where(valid, index, 0), valid=valid)


def products_touched(data: EncodedMarket, grid: EventGrid) -> NDArray[np.int32]:
    """Product rows of the events of a grid, int32 [S * L]; 0 where padded."""
    if not len(data.events):
        return np.zeros(grid.index.size, np.int32)
    return np.where(grid.valid, data.events.product[grid.index], 0).ravel()


def product_batch(
    products: ProductArrays,
    rows: NDArray[np.int64],
    generator: np.random.Generator | None = None,
    hidden: Hidden = NOTHING_HIDDEN,
) -> ProductBatch:
    """These rows of the catalogue; words are cut at the longest title among them."""
    identity = products.identity[rows]
    if generator is not None and hidden.identity:
        # the future brings products without a history: what stands for them must be learned, and
        # what a picture or a title can tell must not be left to the identity
        known = identity >= N_RESERVED
        forgotten = known & (generator.random(len(rows)) < hidden.identity)
        identity = np.where(forgotten, UNSEEN, identity)
    words = products.words[rows]
    longest = int((words != PAD).sum(axis=1).max(initial=0))
    # one column stays where the data set has titles: it holds the "no title" word
    words = words[:, : max(longest, min(1, words.shape[1]))]
    return ProductBatch(
        identity=_long(identity),
        category=_long(products.category[rows]),
        brand=_long(products.brand[rows]),
        words=_long(words),
        phrases=_float(products.phrases[rows]),
        picture_phrases=_float(products.picture_phrases[rows]),
        text=_float(products.text[rows]),
        image=_float(products.image[rows]),
        has_text=torch.from_numpy(products.has_text[rows]),
        has_image=torch.from_numpy(products.has_image[rows]),
        price_level=_float(products.price_level[rows]),
        masked=modality_mask((len(rows), len(PRODUCT_GROUPS)), hidden.modality, generator),
    )


def session_batch(
    data: EncodedMarket,
    grid: EventGrid,
    places: NDArray[np.int64],
    origin: NDArray[np.float64],
    market: NDArray[np.int32],
    learn_from: NDArray[np.int64],
    learnable: NDArray[np.bool_] | None = None,
) -> SessionBatch:
    """The histories of a grid.

    Args:
        data: where events are taken from.
        grid: which events.
        places: int64 [S * L], rows of the batch's products.
        origin: float64 [S], time that counts as zero.
        market: int32 [S].
        learn_from: int64 [S], first event that is learned from.
        learnable: bool [n_events], events it may learn from; None: those of the training part.
    """
    events = data.events
    if not len(events):
        return _no_events(len(origin), market)
    index, valid = grid.index, grid.valid
    allowed = events.part == TRAIN if learnable is None else learnable
    learn = valid & allowed[index] & (index >= learn_from[:, None])
    touched = np.where(valid, events.product[index], 0)
    before = np.pad(touched, ((0, 0), (1, 0)))[:, :-1]
    return SessionBatch(
        product=_long(places.reshape(index.shape)),
        turns=torch.from_numpy((touched > 0) & (touched != before)),
        event_type=_long(np.where(valid, events.event_type[index], PAD)),
        log_gap=_float(np.where(valid, events.log_gap[index], 0)),
        time=_float(np.where(valid, events.time[index] - origin[:, None], 0)),
        session=_long(np.where(valid, events.session[index], -1)),
        market=_long(market),
        length=_long(valid.sum(axis=1)),
        learn=torch.from_numpy(learn),
    )


def _no_events(n_sequences: int, market: NDArray[np.int32]) -> SessionBatch:
    shape = (n_sequences, 1)
    return SessionBatch(
        product=torch.zeros(shape, dtype=torch.long),
        turns=torch.zeros(shape, dtype=torch.bool),
        event_type=torch.zeros(shape, dtype=torch.long),
        log_gap=torch.zeros(shape),
        time=torch.zeros(shape),
        session=torch.full(shape, -1),
        market=_long(market),
        length=torch.zeros(n_sequences, dtype=torch.long),
        learn=torch.zeros(shape, dtype=torch.bool),
    )


def _origin(data: EncodedMarket, start: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(data.events):
        return np.zeros(len(start))
    # a unit without events starts past the last event of all; any time serves as its zero
    return data.events.time[np.minimum(start, len(data.events) - 1)]


def _long(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values.astype(np.int64))


def _float(values: NDArray[np.generic]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
