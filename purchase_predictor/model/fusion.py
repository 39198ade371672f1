"""The fusion transformer: an impression's two readers over products and history encoded once."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from purchase_predictor.model.candidate import CandidateEncoder
from purchase_predictor.model.history import (
    HistoryAttention,
    HistoryMemory,
    HistoryView,
    of_impressions,
    view_history,
)
from purchase_predictor.model.inputs import FusionBatch, FusionShape
from purchase_predictor.model.layers import (
    Dropout,
    EnsembleHead,
    FeedForward,
    MarketNorm,
    SelfAttention,
    attention_weights,
)
from purchase_predictor.model.readout import Readout
from purchase_predictor.model.session import ClickEncoder, EncodedClicks
from purchase_predictor.model.tokens import ColumnTokens, MarketToken
from purchase_predictor.settings import ModelSettings

LAYOUT = 3
"""Counted up when weights, or their errors beside them, are laid out anew: what another layout
learned is of no use."""

N_READERS = 2
"""[CLS] and the candidate: the ones that read history, columns and list."""


@dataclass(frozen=True)
class FusionOutput:
    """What the model says of a batch.

    Attributes:
        logits: float [N, n_members]; their mean is the model's logit.
        clicks: encoded products and sessions.
        attention: name to weights, where they were asked for.
    """

    logits: Tensor
    clicks: EncodedClicks
    attention: dict[str, Tensor]


@dataclass(frozen=True)
class ReaderInputs:
    """What the readers of N impressions start from.

    Attributes:
        market: float [N, d_model].
        column_keys: float [N, n_blocks, d_read].
        column_values: likewise.
        flat: float [N, d_flat], the columns as they are.
        candidate: float [N, d_model].
        state: float [N, d_model], what the events before each impression amount to.
        hidden: float [S, L + 1, d_model], the events' own states.
        view: which of them each impression sees.
    """

    market: Tensor
    column_keys: Tensor
    column_values: Tensor
    flat: Tensor
    candidate: Tensor
    state: Tensor
    hidden: Tensor
    view: HistoryView


class ListAttention(nn.Module):
    """Impressions shown together attend to one another: a price is cheap beside its neighbours.

    **Shape**

    - Input: one vector for each impression ``(N, d_model)``, and ``beside``, likewise: what the
      others of the list are taken for, instead of ``x``
    - Output: ``(N, d_model)``
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.attention = SelfAttention(d_model=d_model, n_heads=n_heads)

    def forward(self, x: Tensor, batch: FusionBatch, beside: Tensor | None = None) -> Tensor:
        """A list is defined by the data; what else is in the batch does not matter."""
        grid = batch.n_list_rows, batch.list_width
        return self.attention(x, batch.list_slot, grid, batch.list_number, beside)


class ColumnAttention(nn.Module):
    """Attention of the readers to the impression's columns, block by block.

    Each head's query is zero outside its own part of the keys: laying out keys and values head by
    head, as attention usually does, took longer than to multiply the zeros.

    **Shape**

    - Input: readers ``(N, n_readers, d_model)``, keys and values, each ``(N, n_blocks, d_read)``
    - Output: ``(N, n_readers, d_read)`` and the weights ``(N, n_heads, n_readers, n_blocks)``
    """

    def __init__(self, *, d_model: int, d_read: int, n_heads: int):
        super().__init__()
        self.query = nn.Linear(d_model, d_read)
        own = torch.eye(n_heads).repeat_interleave(d_read // n_heads, dim=1)
        self.register_buffer("own", own, persistent=False)
        self.own: Tensor

    def forward(self, readers: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax only: each column reaches the head as it is, too."""
        n, n_readers, _ = readers.shape
        n_heads, d_read = self.own.shape
        query = self.query(readers) * (d_read // n_heads) ** -0.5
        query = (query[:, :, None] * self.own).flatten(1, 2)
        scores = (query @ keys.transpose(1, 2)).view(n, n_readers, n_heads, -1)
        weights = attention_weights(scores.transpose(1, 2), None)
        found = weights.transpose(1, 2).flatten(1, 2) @ values
        found = found.view(n, n_readers, n_heads, d_read)
        return (found * self.own).sum(dim=2), weights


class FusionLayer(nn.Module):
    """History, columns, list and each other for the readers; then feed-forward.

    **Shape**

    - Input: ``x`` ``(N, n_readers, d_model)``, market ``(N, d_model)``
    - Output: ``(N, n_readers, d_model)`` and attention weights by name, if asked for
    """

    def __init__(
        self, *, d_model: int, d_read: int, n_heads: int, dropout: float, market_layers: bool
    ):
        super().__init__()
        self.norm = MarketNorm(d_model=d_model, adapted=market_layers)
        self.history = HistoryAttention(d_model=d_model, n_heads=n_heads)
        self.columns = ColumnAttention(d_model=d_model, d_read=d_read, n_heads=n_heads)
        self.list_attention = ListAttention(d_model=d_model, n_heads=n_heads)
        # what was found in history (twice), in the columns, by the other reader, and itself
        self.out = nn.Linear(4 * d_model + d_read, d_model)
        self.feed_forward_norm = MarketNorm(d_model=d_model, adapted=market_layers)
        self.feed_forward = FeedForward(d_model=d_model, d_hidden=2 * d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        market: Tensor,
        hidden: Tensor,
        columns: tuple[Tensor, Tensor],
        batch: FusionBatch,
        view: HistoryView,
        *,
        need_weights: bool = False,
        beside: Tensor | None = None,
        memory: HistoryMemory | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One round of looking at everything; `beside` as in `ListAttention`.

        `memory` is what this layer reads of `hidden`, where it is known already.
        """
        memory = memory or self.history.memory(hidden, view)
        readers = self.norm(x, market)
        past, to_events = self.history(readers, memory, batch, view, need_weights=need_weights)
        around, to_columns = self.columns(readers, *columns)
        found = self.out(torch.cat([past, around, readers.flip(1), readers], dim=-1))
        listed = self.list_attention(readers[:, 0], batch, beside)
        x = x + self.dropout(found + F.pad(listed[:, None], (0, 0, 0, N_READERS - 1)))
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x, market)))
        return x, {} if to_events is None else {"events": to_events, "columns": to_columns}


class FusionTransformer(nn.Module):
    """Predicts conversion from product, history, terms and market.

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: a `FusionOutput`, logits ``(N, n_members)``
    """

    def __init__(self, *, shape: FusionShape, bins: list[Tensor], settings: ModelSettings):
        super().__init__()
        d_model, n_heads, dropout = settings.d_model, settings.n_heads, settings.dropout
        # a head looks at a column's few numbers through as few
        d_read = n_heads * settings.d_number
        layers = settings.market == "layers"
        self.clicks = ClickEncoder(shape=shape, settings=settings)
        self.columns = ColumnTokens(
            shape=shape,
            bins=bins,
            d_number=settings.d_number,
            d_read=d_read,
        )
        self.market = MarketToken(
            n_markets=shape.n_markets, n_dimensions=shape.n_dimensions, d_model=d_model
        )
        self.candidate = CandidateEncoder(
            shape=shape,
            d_model=d_model,
            n_heads=n_heads,
            dropout=dropout,
            market_layers=layers,
        )
        self.cls = nn.Parameter(torch.randn(d_model) * 0.02)
        self.state = nn.Linear(d_model, d_model)
        self.circumstances = nn.Linear(self.columns.d_flat, d_model)
        self.layers = nn.ModuleList(
            FusionLayer(
                d_model=d_model,
                d_read=d_read,
                n_heads=n_heads,
                dropout=dropout,
                market_layers=layers,
            )
            for _ in range(settings.n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.flat_dropout = Dropout(dropout)
        self.readout = Readout(shape=shape, bins=bins, by_market=layers)
        # of the readout's logit, of the network's, and a constant: `training.weighing`
        self.register_buffer("weights", torch.tensor([0.5, 0.5, 0.0]))
        self.weights: Tensor
        self.head = EnsembleHead(
            d_in=(N_READERS + 2) * d_model + self.columns.d_flat,
            d_hidden=2 * d_model,
            d_member=d_model,
            n_members=settings.n_members,
            dropout=dropout,
        )

    def forward(
        self,
        batch: FusionBatch,
        *,
        need_weights: bool = False,
        network_only: bool = False,
        next_click: bool = False,
        clicks: EncodedClicks | None = None,
    ) -> FusionOutput:
        """Encode once, query for each impression; then weigh network and readout.

        Args:
            batch: N impressions.
            need_weights: whether attention weights are wanted.
            network_only: whether the logits are the network's own, as in training.
            next_click: whether `clicks` of the output are to be `ClickStates`, for the next-click
                loss.
            clicks: of the batch's products and sessions, where they are known already.
        """
        # 1. products and histories, once each
        if clicks is None:
            encode = self.clicks if next_click else self.clicks.encode
            clicks = encode(batch.products, batch.sessions)
        # 2. the readers: what the events so far amount to, and the candidate as its market sees it
        market = self.market(batch)
        keys, values, flat = self.columns(batch)
        candidate, to_product = self.candidate(
            clicks.memory, market, batch, need_weights=need_weights
        )
        inputs = ReaderInputs(
            market=market,
            column_keys=keys,
            column_values=values,
            flat=flat,
            candidate=candidate,
            state=self.state_before(clicks, batch),
            hidden=clicks.hidden,
            view=view_history(batch),
        )
        logits, attention = self.read(inputs, batch, need_weights=need_weights)
        if to_product is not None:
            rows = {
                name: of_impressions(weights, batch) if name.startswith("events.") else weights
                for name, weights in attention.items()
            }
            attention = {"product": to_product, **rows}
        if not network_only:
            of_readout, of_network, intercept = self.weights.unbind()
            logits = of_readout * self.readout(batch) + of_network * logits + intercept
        return FusionOutput(logits=logits, clicks=clicks, attention=attention)

    def read(
        self,
        inputs: ReaderInputs,
        batch: FusionBatch,
        *,
        need_weights: bool = False,
        beside: Sequence[Tensor] | None = None,
        memories: Sequence[HistoryMemory] = (),
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The network's own logits: layers over the readers, then the head.

        Args:
            inputs: what the readers start from.
            batch: N impressions.
            need_weights: whether attention weights are wanted.
            beside: float [N, d_model] for each layer, what the others of a list are taken for.
            memories: of each layer, where they are known already.

        Returns:
            float [N, n_members], and attention weights by name, as the layers use them: those of
            events in the grid of sequences.
        """
        market, flat = inputs.market, inputs.flat
        columns = inputs.column_keys, inputs.column_values
        cls = self.cls + market + self.state(inputs.state) + self.circumstances(flat)
        x = torch.stack([cls, inputs.candidate], dim=1)
        attention = {}
        for number, layer in enumerate(self.layers):
            x, weights = layer(
                x, market, inputs.hidden, columns, batch, inputs.view,
                need_weights=need_weights, beside=None if beside is None else beside[number],
                memory=memories[number] if memories else None,
            )  # fmt: skip
            attention.update({f"{name}.{number}": w for name, w in weights.items()})
        # the head also sees every column as it is
        readers = self.norm(x).flatten(1)
        head = torch.cat([readers, market, inputs.state, self.flat_dropout(flat)], dim=1)
        return self.head(head), attention

    @staticmethod
    def state_before(clicks: EncodedClicks, batch: FusionBatch) -> Tensor:
        """What the events before each impression amount to, [N, d_model].

        How well the product fits them is not worked out here: on training rows this encoder has
        seen what was clicked next. The columns hold it, from encoders that have not.
        """
        place = batch.slot // batch.n_slots * clicks.hidden.shape[1] + batch.events_seen()
        return clicks.hidden.flatten(0, 1).index_select(0, place)
