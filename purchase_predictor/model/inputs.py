"""What goes into the model: its data-dependent sizes and the tensors of a batch."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from features.arrays import Column

PRODUCT_GROUPS = ("text", "image", "identity")
"""Groups masked for a product; columns of `ProductBatch.masked`."""

ROW_GROUPS = ("terms", "culture", "clickstream", "context")
"""Groups masked for an impression; columns of `FusionBatch.masked`. Identity and context are one
modality: whoever masks one masks the other."""


@dataclass(frozen=True)
class FusionShape:
    """Sizes that come from the data.

    Attributes:
        n_identities: codes of product ids, reserved ones included; likewise the other `n_*`.
        n_categories: codes of product categories.
        n_brands: codes of brands.
        n_word_pieces: codes of word pieces; 0 where no product has a title.
        n_phrases: groups of phrases that titles are searched for; 0 where there are none.
        n_picture_phrases: groups of phrases that pictures tell.
        d_text: width of the title embedding; 0 where there is none.
        d_image: width of the picture embedding; 0 where there is none.
        n_event_types: codes of event types.
        n_markets: codes of markets.
        n_dimensions: cultural dimensions of a market.
        numbers: the number columns.
        categories: the category columns.
    """

    n_identities: int
    n_categories: int
    n_brands: int
    n_word_pieces: int
    n_phrases: int
    n_picture_phrases: int
    d_text: int
    d_image: int
    n_event_types: int
    n_markets: int
    n_dimensions: int
    numbers: tuple[Column, ...]
    categories: tuple[Column, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Undo `to_dict`."""
        columns = {
            name: tuple(Column(**column) for column in values[name])
            for name in ("numbers", "categories")
        }
        return cls(**{**values, **columns})


class TensorRecord:
    """A dataclass of tensors, records of tensors and plain values."""

    def to(self, device: torch.device) -> Self:
        """The same record with every tensor on `device`."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)  # type: ignore[arg-type]
            if isinstance(value := getattr(self, field.name), Tensor | TensorRecord)
        }
        return replace(self, **moved)  # type: ignore[type-var]


@dataclass(frozen=True)
class ProductBatch(TensorRecord):
    """The distinct products of a batch; row 0 is the missing product.

    Attributes:
        identity: int64 [P].
        category: int64 [P].
        brand: int64 [P].
        words: int64 [P, W], 0 on the right where the title is shorter.
        phrases: float32 [P, n_phrases], 1 where the title holds a phrase of the group.
        picture_phrases: float32 [P, n_picture_phrases], how much the picture says each.
        text: float32 [P, d_text].
        image: float32 [P, d_image].
        has_text: bool [P].
        has_image: bool [P].
        price_level: float32 [P], NaN where unknown.
        masked: bool [P, 3], one column for each of `PRODUCT_GROUPS`, or None.
    """

    identity: Tensor
    category: Tensor
    brand: Tensor
    words: Tensor
    phrases: Tensor
    picture_phrases: Tensor
    text: Tensor
    image: Tensor
    has_text: Tensor
    has_image: Tensor
    price_level: Tensor
    masked: Tensor | None = None


@dataclass(frozen=True)
class SessionBatch(TensorRecord):
    """The histories of a batch, padded on the right.

    Attributes:
        product: int64 [S, L], rows of the `ProductBatch`.
        event_type: int64 [S, L].
        turns: bool [S, L], events on another product than the event before.
        log_gap: float32 [S, L].
        time: float32 [S, L], seconds since the sequence's first event.
        session: int64 [S, L], session numbers, to tell this session's events from earlier ones.
        market: int64 [S], market of the sequence's impressions or events.
        length: int64 [S].
        learn: bool [S, L], events that the click encoder may learn from.
    """

    product: Tensor
    event_type: Tensor
    turns: Tensor
    log_gap: Tensor
    time: Tensor
    session: Tensor
    market: Tensor
    length: Tensor
    learn: Tensor


@dataclass(frozen=True)
class FusionBatch(TensorRecord):
    """Whole sequences with all their impressions.

    Impressions of one sequence lie side by side in a padded grid of S rows and `n_slots` columns,
    so that keys and values of a history are never copied for each impression; likewise lists.

    Attributes:
        products: distinct products.
        sessions: histories.
        slot: int64 [N], place in the flattened grid of sequences.
        n_slots: columns of that grid.
        cut: int64 [N], how many events of its sequence the impression sees.
        time: float32 [N], seconds since the sequence's first event.
        session: int64 [N].
        product: int64 [N], rows of the `ProductBatch`.
        market: int64 [N].
        profile: float32 [N, n_dimensions], NaN where unknown.
        numbers: float32 [N, n_numbers], NaN where missing.
        categories: int64 [N, n_categories].
        list_number: int64 [N], lists of the batch, numbered from 0.
        list_slot: int64 [N], place in the flattened grid of lists, short ones side by side.
        n_list_rows: rows of the grid of lists.
        list_width: columns of the grid of lists, the size of the largest.
        converted: float32 [N].
        masked: bool [N, 4], one column for each of `ROW_GROUPS`, or None.
    """

    products: ProductBatch
    sessions: SessionBatch
    slot: Tensor
    n_slots: int
    cut: Tensor
    time: Tensor
    session: Tensor
    product: Tensor
    market: Tensor
    profile: Tensor
    numbers: Tensor
    categories: Tensor
    list_number: Tensor
    list_slot: Tensor
    n_list_rows: int
    list_width: int
    converted: Tensor
    masked: Tensor | None = None

    def __len__(self) -> int:
        return len(self.slot)

    def events_seen(self) -> Tensor:
        """How many events of its sequence each impression sees, int64 [N]; none if masked."""
        if self.masked is None:
            return self.cut
        return self.cut.masked_fill(self.masked[:, ROW_GROUPS.index("clickstream")], 0)
