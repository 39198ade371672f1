"""The fusion transformer: an impression's two readers over products and history encoded once."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from features.arrays import N_RESERVED
from purchase_predictor.model.candidate import CandidateEncoder
from purchase_predictor.model.inputs import FusionBatch, FusionShape
from purchase_predictor.model.layers import (
    Dropout,
    EnsembleHead,
    FeedForward,
    MarketNorm,
    SelfAttention,
    attention_weights,
    merge_heads,
    split_heads,
    which_and_how_much,
)
from purchase_predictor.model.readout import Readout
from purchase_predictor.model.session import ClickEncoder, ClickStates
from purchase_predictor.model.tokens import ColumnTokens, MarketToken
from purchase_predictor.settings import ModelSettings

N_READERS = 2
"""[CLS] and the candidate: the ones that read history, columns and list."""


@dataclass(frozen=True)
class FusionOutput:
    """What the model says of a batch.

    Attributes:
        logits: float [N, n_members]; their mean is the model's logit.
        clicks: states of the click encoder, for the next-click loss.
        attention: name to weights, where they were asked for.
    """

    logits: Tensor
    clicks: ClickStates
    attention: dict[str, Tensor]


@dataclass(frozen=True)
class HistoryView:
    """Which events each impression sees and how they relate to it; made once for all layers.

    Attributes:
        visible: bool [S, M, L + 1].
        relation: float [S, M, L + 1, n_relations].
    """

    visible: Tensor
    relation: Tensor


N_RELATIONS = 7


def view_history(batch: FusionBatch) -> HistoryView:
    """Relate each impression to each event of its sequence.

    **Shape**

    - Input: a `FusionBatch` of S sequences of L events and grids of M slots
    - Output: a `HistoryView`; position 0 is the start token, always visible and unrelated
    """
    sessions, products = batch.sessions, batch.products
    n_sequences, length = sessions.product.shape
    grid = (n_sequences, batch.n_slots)

    def place(values: Tensor) -> Tensor:
        flat = values.new_zeros(n_sequences * batch.n_slots)
        return flat.index_copy(0, batch.slot, values).view(grid)[:, :, None]

    cut = place(batch.events_seen())
    position = torch.arange(length, device=cut.device)
    seen = position < cut
    age = (place(batch.time) - sessions.time[:, None, :]).clamp_min(0.0).log1p() / 10
    steps = (cut - position).clamp_min(1).float().log() / 4
    candidate = place(batch.product)
    # the missing product (row 0) and reserved codes are the same as nothing
    same_product = ((sessions.product[:, None, :] == candidate) & (candidate > 0)).float()
    category, wanted = products.category[sessions.product], products.category[batch.product]
    same_category = (category[:, None, :] == place(wanted)) & (place(wanted) >= N_RESERVED)
    same_session = sessions.session[:, None, :] == place(batch.session)
    relation = torch.stack(
        [
            age,
            steps,
            steps**2,
            same_product,
            same_product * steps,
            same_category.float(),
            same_session.float(),
        ],
        dim=-1,
    )
    relation = F.pad(relation * seen[..., None], (0, 0, 1, 0))
    return HistoryView(visible=F.pad(seen, (1, 0), value=True), relation=relation)


class HistoryAttention(nn.Module):
    """Attention to the history, by softmax and pointwise.

    Keys and values come once for each event, and the impressions of a sequence sit beside one
    another in a grid, so nothing is copied for an impression.

    **Shape**

    - Input: readers ``(N, n_readers, d_model)``, history ``(S, L + 1, d_model)``
    - Output: ``(N, n_readers, 2 * d_model)``, softmax and pointwise parts, and, if asked for, the
      softmax weights ``(N, n_heads, n_readers, L + 1)``
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.relation = nn.Linear(N_RELATIONS, 2 * n_heads)

    def forward(
        self,
        readers: Tensor,
        history: Tensor,
        batch: FusionBatch,
        view: HistoryView,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Scatter the readers into the grid, attend, gather them back."""
        n, n_readers, d_model = readers.shape
        n_sequences, n_slots, length = view.visible.shape
        # 1. readers into the grid (every slot is written at most once)
        query = self.query(readers).flatten(1)
        grid = query.new_zeros(n_sequences * n_slots, n_readers * d_model)
        grid = grid.index_copy(0, batch.slot, query)
        q = split_heads(grid.view(n_sequences, n_slots * n_readers, d_model), self.n_heads)
        k, v = (split_heads(x, self.n_heads) for x in self.key_value(history).chunk(2, dim=-1))
        # 2. scores, with biases for age, order and sameness that each head learns
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        scores = scores.view(n_sequences, self.n_heads, n_slots, n_readers, length)
        bias = self.relation(view.relation).permute(0, 3, 1, 2).unsqueeze(3)
        weights, amounts = which_and_how_much(scores, bias, view.visible[:, None, :, None, :])
        weights = weights.flatten(2, 3)
        # the start token is there so that a softmax is finite; it counts nothing
        amounts = amounts.flatten(2, 3)[..., 1:] @ v[..., 1:, :]
        mixed = torch.cat([weights @ v, amounts], dim=-1)
        # 3. back to one row for each impression
        rows = mixed.view(n_sequences, self.n_heads, n_slots, n_readers, -1)
        rows = rows.permute(0, 2, 3, 1, 4).reshape(n_sequences * n_slots, -1)
        found = rows.index_select(0, batch.slot).view(n, n_readers, -1)
        if not need_weights:
            return found, None
        taken = weights.view(n_sequences, self.n_heads, n_slots, n_readers, length)
        taken = taken.transpose(1, 2).reshape(n_sequences * n_slots, -1)
        taken = taken.index_select(0, batch.slot)
        return found, taken.view(n, self.n_heads, n_readers, length)


class ListAttention(nn.Module):
    """Impressions shown together attend to one another: a price is cheap beside its neighbours.

    **Shape**

    - Input: one vector for each impression ``(N, d_model)``
    - Output: ``(N, d_model)``
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.attention = SelfAttention(d_model=d_model, n_heads=n_heads)

    def forward(self, x: Tensor, batch: FusionBatch) -> Tensor:
        """A list is defined by the data; what else is in the batch does not matter."""
        n_slots = batch.n_lists * batch.list_width
        grid = x.new_zeros(n_slots, x.shape[-1]).index_copy(0, batch.list_slot, x)
        taken = torch.zeros(n_slots, dtype=torch.bool, device=x.device)
        taken = taken.index_fill(0, batch.list_slot, True)
        shape = (batch.n_lists, batch.list_width)
        mixed = self.attention(grid.view(*shape, -1), taken.view(*shape)[:, None, None, :])
        return mixed.reshape(n_slots, -1).index_select(0, batch.list_slot)


class ColumnAttention(nn.Module):
    """Attention of the readers to the impression's columns, block by block.

    **Shape**

    - Input: readers ``(N, n_readers, d_model)``, keys and values ``(N, n_blocks, 2 * d_model)``
    - Output: ``(N, n_readers, d_model)`` and the weights ``(N, n_heads, n_readers, n_blocks)``
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)

    def forward(self, readers: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Softmax only: each column reaches the head as it is, too."""
        q = split_heads(self.query(readers), self.n_heads)
        k, v = (split_heads(part, self.n_heads) for part in columns.chunk(2, dim=-1))
        weights = attention_weights((q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5, None)
        return merge_heads(weights @ v), weights


class FusionLayer(nn.Module):
    """History, columns, list and each other for the readers; then feed-forward.

    **Shape**

    - Input: ``x`` ``(N, n_readers, d_model)``, market ``(N, d_model)``
    - Output: ``(N, n_readers, d_model)`` and attention weights by name, if asked for
    """

    def __init__(self, *, d_model: int, n_heads: int, dropout: float, market_layers: bool):
        super().__init__()
        self.norm = MarketNorm(d_model=d_model, adapted=market_layers)
        self.history = HistoryAttention(d_model=d_model, n_heads=n_heads)
        self.columns = ColumnAttention(d_model=d_model, n_heads=n_heads)
        self.list_attention = ListAttention(d_model=d_model, n_heads=n_heads)
        # what was found in history (twice), in the columns, by the other reader, and itself
        self.out = nn.Linear(5 * d_model, d_model)
        self.feed_forward_norm = MarketNorm(d_model=d_model, adapted=market_layers)
        self.feed_forward = FeedForward(d_model=d_model, d_hidden=2 * d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        market: Tensor,
        clicks: ClickStates,
        columns: Tensor,
        batch: FusionBatch,
        view: HistoryView,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One round of looking at everything."""
        readers = self.norm(x, market)
        past, to_events = self.history(
            readers, clicks.hidden, batch, view, need_weights=need_weights
        )
        around, to_columns = self.columns(readers, columns)
        found = self.out(torch.cat([past, around, readers.flip(1), readers], dim=-1))
        beside = self.list_attention(readers[:, 0], batch)
        x = x + self.dropout(found + F.pad(beside[:, None], (0, 0, 0, N_READERS - 1)))
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x, market)))
        return x, {} if to_events is None else {"events": to_events, "columns": to_columns}


class FusionTransformer(nn.Module):
    """Predicts conversion from product, history, terms and market (DESIGN, section 5).

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: a `FusionOutput`, logits ``(N, n_members)``
    """

    def __init__(self, *, shape: FusionShape, bins: list[Tensor], settings: ModelSettings):
        super().__init__()
        d_model, n_heads, dropout = settings.d_model, settings.n_heads, settings.dropout
        layers = settings.market == "layers"
        self.clicks = ClickEncoder(shape=shape, settings=settings)
        self.columns = ColumnTokens(
            shape=shape,
            bins=bins,
            d_number=settings.d_number,
            d_model=d_model,
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
            n_members=settings.n_members,
            dropout=dropout,
        )

    def forward(
        self, batch: FusionBatch, *, need_weights: bool = False, network_only: bool = False
    ) -> FusionOutput:
        """Encode once, query for each impression; then weigh network and readout.

        Args:
            batch: N impressions.
            need_weights: whether attention weights are wanted.
            network_only: whether the logits are the network's own, as in training.
        """
        # 1. products and histories, once each
        clicks = self.clicks(batch.products, batch.sessions)
        view = view_history(batch)
        # 2. the readers: what the events so far amount to, and the candidate as its market sees it
        market = self.market(batch)
        columns, flat = self.columns(batch)
        candidate, to_product = self.candidate(
            clicks.memory, market, batch, need_weights=need_weights
        )
        state = self._state(clicks, batch)
        cls = self.cls + market + self.state(state) + self.circumstances(flat)
        x = torch.stack([cls, candidate], dim=1)
        # 3. layers
        attention = {} if to_product is None else {"product": to_product}
        for number, layer in enumerate(self.layers):
            x, weights = layer(x, market, clicks, columns, batch, view, need_weights=need_weights)
            attention.update({f"{name}.{number}": w for name, w in weights.items()})
        # 4. the head also sees every column as it is
        readers = self.norm(x).flatten(1)
        inputs = torch.cat([readers, market, state, self.flat_dropout(flat)], dim=1)
        logits = self.head(inputs)
        if not network_only:
            of_readout, of_network, intercept = self.weights.unbind()
            logits = of_readout * self.readout(batch) + of_network * logits + intercept
        return FusionOutput(logits=logits, clicks=clicks, attention=attention)

    @staticmethod
    def _state(clicks: ClickStates, batch: FusionBatch) -> Tensor:
        """What the events before each impression amount to, [N, d_model].

        How well the product fits them is not worked out here: on training rows this encoder has
        seen what was clicked next. The columns hold it, from encoders that have not.
        """
        place = batch.slot // batch.n_slots * clicks.hidden.shape[1] + batch.events_seen()
        return clicks.hidden.flatten(0, 1).index_select(0, place)
