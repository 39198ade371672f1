"""What a model sees: one columnar, contiguous `EncodedMarket` of numpy arrays, no tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from features.storage import BLOCK_ROWS, IN_MEMORY, ArrayStore

Group = Literal["terms", "culture", "clickstream", "context"]
"""What a column tells of; whole groups are masked together in training and in attribution."""

PAD, MISSING, UNSEEN = 0, 1, 2
"""Reserved codes of every vocabulary; the first real value has code 3."""

N_RESERVED = 3

TRAIN, STOP, CALIBRATE, TEST, LEFT_OUT = 0, 1, 2, 3, -1
"""Parts of the rows: STOP (V1) ends training, CALIBRATE (V2) fits calibration and the stack."""


@dataclass(frozen=True)
class Column:
    """One input column.

    Attributes:
        name: as it is printed and explained.
        group: the modality it belongs to.
        block: columns of one block become one token of the transformer.
        n_codes: size of the vocabulary, reserved codes included; 0 for a number.
    """

    name: str
    group: Group
    block: str
    n_codes: int = 0


@dataclass(frozen=True)
class ProductArrays:
    """The catalogue; row 0 is the missing product (no id, or an id absent from `products`).

    Attributes:
        product_id: object [n_products], row 0 is None.
        identity: int32 [n_products], codes of ids seen often enough in training, else UNSEEN.
        category: int32 [n_products].
        brand: int32 [n_products].
        phrases: float32 [n_products, n_phrases], 1 where the title holds a phrase of the group.
        phrase_names: the groups of `configs/phrases.yaml`.
        picture_phrases: float32 [n_products, n_picture_phrases], how much the picture says a
            phrase (`training.picture_phrases`), zero where there is none.
        picture_phrase_names: the groups that pictures tell.
        words: int32 [n_products, max_words], word pieces of the title, PAD on the right;
            max_words is 0 where no product has a title.
        text: float32 [n_products, d_text], zero where there is none; d_text may be 0.
        image: float32 [n_products, d_image], zero where there is none; d_image may be 0.
        has_text: bool [n_products].
        has_image: bool [n_products].
        price_level: float32 [n_products], usual distance of its price from its category's mean
            (`features.prices`), NaN where training rows did not show it.
    """

    product_id: NDArray[np.object_]
    identity: NDArray[np.int32]
    category: NDArray[np.int32]
    brand: NDArray[np.int32]
    phrases: NDArray[np.float32]
    phrase_names: tuple[str, ...]
    picture_phrases: NDArray[np.float32]
    picture_phrase_names: tuple[str, ...]
    words: NDArray[np.int32]
    text: NDArray[np.float32]
    image: NDArray[np.float32]
    has_text: NDArray[np.bool_]
    has_image: NDArray[np.bool_]
    price_level: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.identity)

    def take(self, rows: NDArray[np.int64]) -> "ProductArrays":
        """Some of them.

        Args:
            rows: int64 [n], the first of which is 0, the missing product.
        """
        names = [one.name for one in fields(self) if not one.name.endswith("_names")]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@dataclass(frozen=True)
class EventArrays:
    """All events, sorted by unit, then time, then row order.

    Attributes:
        product: int32 [n_events], row of `ProductArrays`, 0 for none.
        event_type: int32 [n_events], codes.
        time: float64 [n_events], seconds since 1970.
        log_gap: float32 [n_events], log1p seconds since the unit's event before; 0 for its first.
        session: int32 [n_events], the numbers that `EncodedMarket.session` uses.
        unit: int32 [n_events], the numbers that `EncodedMarket.unit` uses; non-decreasing.
        part: int8 [n_events], TRAIN where the event lies before the first cut in time, in a
            session that does not straddle it; LEFT_OUT elsewhere. Pre-training sees TRAIN only.
        market: int32 [n_events], market code of the session's impressions, MISSING if it has none.
        n_types: size of the event-type vocabulary, reserved codes included.
    """

    product: NDArray[np.int32]
    event_type: NDArray[np.int32]
    time: NDArray[np.float64]
    log_gap: NDArray[np.float32]
    session: NDArray[np.int32]
    unit: NDArray[np.int32]
    part: NDArray[np.int8]
    market: NDArray[np.int32]
    n_types: int

    def __len__(self) -> int:
        return len(self.product)


ROW_FIELDS = (
    "sequence", "cut", "time", "session", "unit", "list_number", "product", "market",
    "converted", "part", "market_label", "impression_id", "row",
)  # fmt: skip
"""What an `EncodedMarket` has one value of for each row; flags besides."""


@dataclass(frozen=True)
class EncodedMarket:
    """Everything the systems see, rows sorted by (sequence, cut, list, row).

    A *sequence* is a stretch of one unit's events that is encoded once: the events of chunk
    c-1 and c, chunks being `history` events long counted from the unit's first event. An
    impression whose cut falls in chunk c looks at its sequence's events before the cut: at least
    the last `history` of them where so many exist, at most twice as many. The stretch depends on
    the impression's own cut alone, so scoring one list alone gives what the batch gives.

    Attributes:
        products: the catalogue.
        events: flat events.
        sequence_start: int64 [n_sequences], first event.
        sequence_stop: int64 [n_sequences], one past the last event any of its impressions sees.
        sequence: int32 [n], the sequence of each impression, non-decreasing.
        cut: int64 [n], one past the last event strictly before the impression (flat index).
        time: float64 [n], seconds since 1970.
        session: int32 [n].
        unit: int64 [n], user where known, else session; what is resampled.
        unit_fold: int32 [n_sequences], the number of the unit, for folds of units.
        list_number: int32 [n], impressions shown together share it; non-decreasing.
        product: int32 [n], row of `ProductArrays`.
        market: int32 [n], codes (UNSEEN for a market not in training).
        profile: float32 [n_market_codes, n_dimensions], standardised cultural dimensions of each
            market code, NaN where unknown; rows PAD..UNSEEN are NaN.
        row_profile: float32 [n, n_dimensions], the same for each row's own market, which also
            serves markets not in training.
        numbers: float32 [n, n_numbers], NaN where missing, unscaled (logs where stated by name).
        number_columns: one for each column of `numbers`.
        categories: int32 [n, n_categories], codes.
        category_columns: one for each column of `categories` (the market is not among them).
        converted: float32 [n], NaN where unknown.
        part: int8 [n].
        market_names: name of each market code, reserved ones included.
        market_label: object [n], the market as written in the data.
        impression_id: object [n].
        row: int64 [n], row of the table as given, to restore the input's order.
        flags: bool [n] each, what was missing or unknown.
        store: where the arrays of these rows lie, and those of rows selected from them.
    """

    products: ProductArrays
    events: EventArrays
    sequence_start: NDArray[np.int64]
    sequence_stop: NDArray[np.int64]
    sequence: NDArray[np.int32]
    cut: NDArray[np.int64]
    time: NDArray[np.float64]
    session: NDArray[np.int32]
    unit: NDArray[np.int64]
    unit_fold: NDArray[np.int32]
    list_number: NDArray[np.int32]
    product: NDArray[np.int32]
    market: NDArray[np.int32]
    profile: NDArray[np.float32]
    row_profile: NDArray[np.float32]
    numbers: NDArray[np.float32]
    number_columns: tuple[Column, ...]
    categories: NDArray[np.int32]
    category_columns: tuple[Column, ...]
    converted: NDArray[np.float32]
    part: NDArray[np.int8]
    market_names: tuple[str, ...]
    market_label: NDArray[np.object_]
    impression_id: NDArray[np.object_]
    row: NDArray[np.int64]
    flags: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    store: ArrayStore = IN_MEMORY

    def __len__(self) -> int:
        return len(self.cut)

    def stored(self) -> "EncodedMarket":
        """The same rows, their arrays of one value a row or an event where `store` says.

        Raises:
            UserError: the store's disk has no room.
        """
        keep = self.store.keep
        names = [one.name for one in fields(EventArrays) if one.name != "n_types"]
        events = keep({name: getattr(self.events, name) for name in names})
        rows = keep({name: getattr(self, name) for name in ROW_FIELDS})
        return replace(self, events=replace(self.events, **events), flags=keep(self.flags), **rows)

    def select(self, rows: NDArray[np.bool_]) -> "EncodedMarket":
        """The impressions where `rows` (bool [n]) holds; events and products stay whole."""
        keep = self.store.keep
        flags = keep({name: values[rows] for name, values in self.flags.items()})
        taken = keep({name: getattr(self, name)[rows] for name in ROW_FIELDS})
        for name in ("row_profile", "numbers", "categories"):
            taken[name] = self.store.take(getattr(self, name), rows)
        return replace(self, flags=flags, **taken)

    def before_test(self) -> NDArray[np.bool_]:
        """The labelled rows of TRAIN, STOP and CALIBRATE, bool [n]."""
        return np.isin(self.part, (TRAIN, STOP, CALIBRATE)) & ~np.isnan(self.converted)

    def without_market(self) -> "EncodedMarket":
        """One market for all rows, its culture unknown, as if nobody knew the country."""
        return replace(
            self,
            events=replace(self.events, market=np.full_like(self.events.market, N_RESERVED)),
            market=np.full_like(self.market, N_RESERVED),
            profile=np.full_like(self.profile, np.nan),
            row_profile=np.full_like(self.row_profile, np.nan),
        )

    def with_numbers(
        self, values: NDArray[np.float32], columns: Sequence[Column]
    ) -> "EncodedMarket":
        """The same rows with further number columns (`values`: float32 [n, len(columns)])."""
        width = self.numbers.shape[1]
        numbers = self.store.zeros((len(self), width + len(columns)), np.float32)
        for start in range(0, len(self), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            numbers[rows, :width], numbers[rows, width:] = self.numbers[rows], values[rows]
        return replace(self, numbers=numbers, number_columns=(*self.number_columns, *columns))
