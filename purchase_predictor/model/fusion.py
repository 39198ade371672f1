"""The fusion transformer: an impression's few queries over products and history encoded once."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from features.arrays import N_RESERVED
from purchase_predictor.model.inputs import ROW_GROUPS, FusionBatch, FusionShape
from purchase_predictor.model.layers import (
    EnsembleHead,
    FeedForward,
    MarketNorm,
    SelfAttention,
    attention_weights,
    split_heads,
)
from purchase_predictor.model.session import ClickEncoder, ClickStates
from purchase_predictor.model.tokens import ColumnTokens, MarketToken
from purchase_predictor.settings import ModelSettings

N_READERS = 2
"""The first tokens, [CLS] and the candidate: the ones that read products, history and list."""


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

    cut = batch.cut
    if batch.masked is not None:
        cut = cut.masked_fill(batch.masked[:, ROW_GROUPS.index("clickstream")], 0)
    position = torch.arange(length, device=cut.device)
    seen = position < place(cut)
    age = (place(batch.time) - sessions.time[:, None, :]).clamp_min(0.0).log1p() / 10
    candidate = place(batch.product)
    # the missing product (row 0) and reserved codes are the same as nothing
    same_product = ((sessions.product[:, None, :] == candidate) & (candidate > 0)).float()
    category, wanted = products.category[sessions.product], products.category[batch.product]
    same_category = (category[:, None, :] == place(wanted)) & (place(wanted) >= N_RESERVED)
    same_category = same_category.float()
    same_session = (sessions.session[:, None, :] == place(batch.session)).float()
    steps = (place(cut) - position).clamp_min(1).float().log() / 4
    relation = torch.stack(
        [age, age**2, steps, same_product, same_product * age, same_category, same_session],
        dim=-1,
    )
    relation = F.pad(relation * seen[..., None], (0, 0, 1, 0))
    return HistoryView(visible=F.pad(seen, (1, 0), value=True), relation=relation)


class HistoryAttention(nn.Module):
    """Attention to the history, by softmax and pointwise.

    Softmax answers *which*, the sum over silu(score) answers *how much* (HSTU, arXiv 2402.17152):
    an average cannot count. Keys and values come once for each event, and the impressions of a
    sequence sit beside one another, so nothing is copied for an impression.

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
        softmax_bias, pointwise_bias = bias.chunk(2, dim=1)
        visible = view.visible[:, None, :, None, :]
        weights = attention_weights(scores + softmax_bias, visible)
        # 3. the pointwise part leaves the start token out: an empty history sums to zero
        counted = visible & (torch.arange(length, device=visible.device) > 0)
        amounts = (F.silu(scores + pointwise_bias) * counted).flatten(2, 3)
        mixed = torch.cat([weights.flatten(2, 3) @ v, amounts @ v / 8.0], dim=-1)
        # 4. back to one row for each impression
        mixed = mixed.view(n_sequences, self.n_heads, n_slots, n_readers, -1)
        rows = mixed.permute(0, 2, 3, 1, 4).reshape(n_sequences * n_slots, -1)
        rows = rows.index_select(0, batch.slot).view(n, n_readers, self.n_heads, 2, -1)
        found = torch.cat([part.flatten(2) for part in rows.unbind(dim=3)], dim=-1)
        if not need_weights:
            return found, None
        taken = weights.permute(0, 2, 1, 3, 4).reshape(n_sequences * n_slots, -1)
        taken = taken.index_select(0, batch.slot)
        return found, taken.view(n, self.n_heads, n_readers, length)


class ProductAttention(nn.Module):
    """Attention to the tokens of the candidate; keys and values come once for each product.

    **Shape**

    - Input: readers ``(N, n_readers, d_model)``, product tokens ``(P, T, d_model)``
    - Output: ``(N, n_readers, d_model)`` and weights ``(N, n_heads, n_readers, T)``
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)

    def forward(
        self, readers: Tensor, tokens: Tensor, visible: Tensor, product: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Project each product, then hand each impression its candidate's keys and values."""
        n_tokens = tokens.shape[1]
        key_value = self.key_value(tokens).flatten(1).index_select(0, product)
        key_value = key_value.view(len(product), n_tokens, -1)
        k, v = (split_heads(x, self.n_heads) for x in key_value.chunk(2, dim=-1))
        q = split_heads(self.query(readers), self.n_heads)
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        weights = attention_weights(scores, visible.index_select(0, product)[:, None, None, :])
        return (weights @ v).transpose(1, 2).flatten(2), weights


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
        mixed, _ = self.attention(grid.view(*shape, -1), taken.view(*shape)[:, None, None, :])
        return mixed.reshape(n_slots, -1).index_select(0, batch.list_slot)


class FusionLayer(nn.Module):
    """Self-attention among the queries; products, history and list for the readers; feed-forward.

    The last layer leaves the readers alone: nobody looks at the other queries after it.

    **Shape**

    - Input: ``(N, Q, d_model)``
    - Output: the same, or ``(N, n_readers, d_model)`` from the last layer
    """

    def __init__(self, *, d_model: int, n_heads: int, dropout: float, last: bool):
        super().__init__()
        self.n_kept = N_READERS if last else None
        self.self_norm = MarketNorm(d_model=d_model)
        self.self_attention = SelfAttention(d_model=d_model, n_heads=n_heads)
        self.cross_norm = MarketNorm(d_model=d_model)
        self.history = HistoryAttention(d_model=d_model, n_heads=n_heads)
        self.product = ProductAttention(d_model=d_model, n_heads=n_heads)
        self.cross_out = nn.Linear(3 * d_model, d_model)
        self.list_norm = MarketNorm(d_model=d_model)
        self.list_attention = ListAttention(d_model=d_model, n_heads=n_heads)
        self.feed_forward_norm = MarketNorm(d_model=d_model)
        self.feed_forward = FeedForward(d_model=d_model, d_hidden=2 * d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        market: Tensor,
        clicks: ClickStates,
        batch: FusionBatch,
        view: HistoryView,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One round of looking at everything."""
        # 1. the queries among themselves
        mixed, among = self.self_attention(
            self.self_norm(x, market), n_queries=self.n_kept, need_weights=need_weights
        )
        x = x[:, : self.n_kept] + mixed
        # 2. the readers look at the history and at the candidate
        readers = self.cross_norm(x[:, :N_READERS], market)
        past, to_events = self.history(
            readers, clicks.hidden, batch, view, need_weights=need_weights
        )
        memory = clicks.memory
        about, to_product = self.product(readers, memory.tokens, memory.visible, batch.product)
        found = self.cross_out(torch.cat([past, about], dim=-1))
        # 3. [CLS] looks at what is shown beside it
        beside = self.list_attention(self.list_norm(x[:, :1], market).squeeze(1), batch)
        update = F.pad(found, (0, 0, 0, x.shape[1] - N_READERS))
        update = update + F.pad(beside[:, None], (0, 0, 0, x.shape[1] - 1))
        x = x + self.dropout(update)
        # 4. each query on its own
        x = x + self.dropout(self.feed_forward(self.feed_forward_norm(x, market)))
        if among is None or to_events is None:
            return x, {}
        return x, {"queries": among, "events": to_events, "product": to_product}


class FusionTransformer(nn.Module):
    """Predicts conversion from product, history, terms and market (DESIGN, section 5).

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: a `FusionOutput`, logits ``(N, n_members)``
    """

    def __init__(self, *, shape: FusionShape, bins: list[Tensor], settings: ModelSettings):
        super().__init__()
        d_model = settings.d_model
        self.clicks = ClickEncoder(shape=shape, settings=settings)
        self.columns = ColumnTokens(
            shape=shape, bins=bins, d_number=settings.d_number, d_model=d_model
        )
        self.market = MarketToken(
            n_markets=shape.n_markets, n_dimensions=shape.n_dimensions, d_model=d_model
        )
        self.cls = nn.Parameter(torch.randn(d_model) * 0.02)
        self.candidate = nn.Linear(d_model, d_model)
        n_queries = N_READERS + 1 + len(self.columns.blocks)
        self.kind = nn.Parameter(torch.randn(n_queries, d_model) * 0.02)
        self.layers = nn.ModuleList(
            FusionLayer(
                d_model=d_model,
                n_heads=settings.n_heads,
                dropout=settings.dropout,
                last=number == settings.n_layers - 1,
            )
            for number in range(settings.n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = EnsembleHead(
            d_in=(N_READERS + 1) * d_model + self.columns.d_flat,
            d_hidden=2 * d_model,
            n_members=settings.n_members,
            dropout=settings.dropout,
        )

    def forward(self, batch: FusionBatch, *, need_weights: bool = False) -> FusionOutput:
        """Encode once, query for each impression."""
        # 1. products and histories, once each
        clicks = self.clicks(batch.products, batch.sessions)
        view = view_history(batch)
        # 2. the queries of an impression
        market = self.market(batch)
        columns, flat = self.columns(batch)
        vectors = self.candidate(clicks.memory.vector).index_select(0, batch.product)
        cls = self.cls.expand(len(market), -1)
        x = torch.cat([torch.stack([cls, vectors, market], dim=1), columns], dim=1) + self.kind
        # 3. layers
        attention = {}
        for number, layer in enumerate(self.layers):
            x, weights = layer(x, market, clicks, batch, view, need_weights=need_weights)
            attention.update({f"{name}.{number}": w for name, w in weights.items()})
        # 4. the head also sees every column as it is
        readers = self.norm(x).flatten(1)
        logits = self.head(torch.cat([readers, market, flat], dim=1))
        return FusionOutput(logits=logits, clicks=clicks, attention=attention)
