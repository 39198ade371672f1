"""What the readout says of each token: coefficient times value, less value where it is masked."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from features.arrays import UNSEEN
from purchase_predictor.attribution.shapley import masked_batch
from purchase_predictor.attribution.tokens import (
    MARKET_ALONE,
    TOKEN_OF_PART,
    TokenGrid,
    column_token,
    phrase_token,
)
from purchase_predictor.model.inputs import FusionBatch, FusionShape
from purchase_predictor.model.readout import Readout
from purchase_predictor.model.recency import FADING, MIDDLE, RecencyMemory

_EVENTS, _MARKET = "(events)", "(market)"
"""Owners of columns that no single token has: recency is of events, the market stays as it is."""


@dataclass(frozen=True)
class Additive:
    """The readout's logit, less that of the market alone, as a sum over tokens.

    Attributes:
        alone: float32 [N, n_tokens], of each token.
        pairs: float32 [N, L, L], of each earlier event (rows) with each later one.
    """

    alone: Tensor
    pairs: Tensor

    def contributions(self) -> Tensor:
        """What each token has, [N, n_tokens]; two events halve what they have together."""
        halves = (self.pairs.sum(dim=1) + self.pairs.sum(dim=2)) / 2
        return self.alone + F.pad(halves, (self.alone.shape[1] - halves.shape[1], 0))

    def logit(self, gates: Tensor) -> Tensor:
        """The sum over the tokens that are there, [N].

        Args:
            gates: [N, n_tokens], 1 for a token that is there, 0 for one that is not.
        """
        events = gates[:, gates.shape[1] - self.pairs.shape[1] :, None]
        together = events.transpose(1, 2) @ self.pairs @ events
        return (self.alone * gates).sum(dim=1) + together.flatten()


class ReadoutTokens:
    """Takes the readout apart; exact, for it is linear in its columns.

    Args:
        readout: in evaluation mode.
        shape: of its model.
        phrase_names: groups of phrases that the model knows.
    """

    def __init__(
        self, readout: Readout, shape: FusionShape, phrase_names: tuple[str, ...]
    ) -> None:
        self.readout = readout
        self.owners = column_owners(readout, shape, phrase_names)
        self.of_events = torch.tensor([owner == _EVENTS for owner in self.owners])

    @torch.inference_mode()
    def __call__(self, batch: FusionBatch, grid: TokenGrid) -> Additive:
        """Take apart the readout's logits of a batch, nothing masked."""
        masked = masked_batch(batch, MARKET_ALONE)
        change = self.readout.design(batch) - self.readout.design(masked)
        columns = change * self.readout.linear.weight[0]
        names = [token.name for token in grid.fixed]
        owned = [place for place, owner in enumerate(self.owners) if owner in names]
        fixed = torch.zeros(len(batch), len(names)).index_add_(
            1, torch.tensor([names.index(self.owners[place]) for place in owned]),
            columns[:, owned],
        )  # fmt: skip
        events, pairs = event_contributions(
            self.readout.recency, batch, columns[:, self.of_events]
        )
        words = torch.zeros(len(batch), grid.n_words)
        return Additive(alone=torch.cat([words, fixed, events], dim=1), pairs=pairs)


def column_owners(
    readout: Readout, shape: FusionShape, phrase_names: tuple[str, ...]
) -> list[str]:
    """The token that each column of the readout belongs to, in the order of `Readout.design`.

    Args:
        readout: of the model.
        shape: of the model.
        phrase_names: groups of phrases.
    """
    numbers = [column_token(column.name) for column in shape.numbers]
    phrases = [phrase_token(name) for name in phrase_names[: readout.n_phrases]]
    owners = list(numbers)
    owners += [TOKEN_OF_PART[name] for name, width in readout.views.items() for _ in range(width)]
    owners += [_EVENTS for _, width in readout.recency.blocks for _ in range(width)]
    owners += [numbers[place] for place in readout.pieces.column] + numbers
    owners += [TOKEN_OF_PART[name] for name in readout.views]
    codes = [(column_token(column.name), column.n_codes) for _, column in readout.codes]
    owners += [name for name, size in codes for _ in range(size)]
    owners += [
        TOKEN_OF_PART[name] for name, size in readout.product_codes.items() for _ in range(size)
    ]
    says = [TOKEN_OF_PART["image"]] * readout.n_picture_phrases
    owners += phrases + says + [_MARKET] * readout.n_markets
    if readout.by_market:
        pulled = [numbers[place] for place in readout.terms] + phrases + says
        owners += [name for name in pulled for _ in range(readout.n_markets)]
    if len(owners) != len(readout.blocks):
        raise ValueError(f"expected {len(readout.blocks)} columns, named {len(owners)}")
    return owners


def event_contributions(
    recency: RecencyMemory, batch: FusionBatch, columns: Tensor
) -> tuple[Tensor, Tensor]:
    """Hand what the columns of recency contribute to the events they are sums of.

    Args:
        recency: whose columns they are.
        batch: N impressions.
        columns: float32 [N, recency width], contributions of the columns.

    Returns:
        Of each event [N, L], and of each earlier (rows) with each later event [N, L, L].
    """
    n_types, sessions = recency.n_types, batch.sessions
    sequence = batch.slot // batch.n_slots
    types = sessions.event_type.where(sessions.event_type < n_types, UNSEEN)
    kind = F.one_hot(types, n_types).float().index_select(0, sequence)
    length = kind.shape[1]
    age = batch.events_seen()[:, None] - 1 - torch.arange(length)
    own = sessions.session.index_select(0, sequence) == batch.session[:, None]
    own = own & (age >= 0)
    product = sessions.product.index_select(0, sequence)
    same = own & (product == batch.product[:, None]) & (product > 0)
    # a column that counts nothing contributes nothing
    amounts = recency(batch)
    per_unit = torch.where(amounts > 0, columns / amounts.clamp_min(1e-12), 0.0)
    widths = [width for _, width in recency.blocks]
    blocks = per_unit.split(widths, dim=1)
    fading = torch.tensor(FADING)
    share = fading ** age.clamp_min(0)[..., None]
    events = torch.zeros(len(batch), length)
    for block, counted in zip(blocks[:2], (own, same), strict=True):
        each = kind @ block.view(len(batch), len(FADING), n_types).transpose(1, 2)
        events = events + (each * share).sum(dim=2) * counted
    if not recency.has_pairs:
        return events, events.new_zeros(len(batch), length, length)
    # an event counts by how fresh the earlier one is when it comes, and both fade since then
    fresh = fading[MIDDLE] ** (age - 1).clamp_min(0) * own
    order = torch.ones(length, length).triu(1)
    together = kind @ blocks[2].view(len(batch), n_types, n_types) @ kind.transpose(1, 2)
    return events, together * fresh[:, :, None] * own[:, None, :] * order
