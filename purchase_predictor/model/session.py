"""The session encoder and what it learns from every click: which product comes next."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from purchase_predictor.model.inputs import FusionShape, ProductBatch, SessionBatch
from purchase_predictor.model.layers import EncoderLayer
from purchase_predictor.model.product import ProductEncoder, ProductMemory
from purchase_predictor.settings import ModelSettings


class SessionEncoder(nn.Module):
    """Encodes each sequence of events once, whatever hangs on it.

    Position 0 is a learned start token: it is what an empty history looks like, and it keeps
    every softmax finite. Position i has seen the first i events.

    **Shape**

    - Input: a `SessionBatch` of S sequences of L events, product vectors ``(P, d_model)``
    - Output: ``(S, L + 1, d_model)``
    """

    def __init__(
        self, *, n_event_types: int, d_model: int, n_heads: int, n_layers: int, dropout: float
    ):
        super().__init__()
        self.start = nn.Parameter(torch.randn(d_model) * 0.02)
        self.product = nn.Linear(d_model, d_model)
        self.event_type = nn.Embedding(n_event_types, d_model)
        self.gap = nn.Linear(2, d_model)
        nn.init.normal_(self.event_type.weight, std=0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model=d_model, n_heads=n_heads, dropout=dropout, causal=True)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, sessions: SessionBatch, vectors: Tensor) -> Tensor:
        """Embed the events, then run the causal layers; padding on the right is never seen."""
        n_sequences, length = sessions.product.shape
        touched = self.product(vectors).index_select(0, sessions.product.reshape(-1))
        gap = sessions.log_gap / 10  # log seconds: a day is 11.4
        x = (
            touched.view(n_sequences, length, -1)
            + self.event_type(sessions.event_type)
            + self.gap(torch.stack([gap, gap**2], dim=-1))
        )
        x = torch.cat([self.start.expand(n_sequences, 1, -1), x], dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class NextClickHead(nn.Module):
    """Scores how likely each history is to touch each product next.

    **Shape**

    - Input: hidden states ``(S, L + 1, d_model)``, market codes ``(S,)``, vectors ``(P, d_model)``
    - Output: queries ``(S, L + 1, d_model + 1)`` and keys ``(P, d_model + 1)``; their inner
      product is the score, the last component being the product's own log-popularity
    """

    def __init__(self, *, n_markets: int, d_model: int):
        super().__init__()
        self.market = nn.Embedding(n_markets, d_model)
        nn.init.zeros_(self.market.weight)
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.popularity = nn.Linear(d_model, 1)

    def forward(self, hidden: Tensor, market: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Project both sides."""
        query = self.query(hidden + self.market(market)[:, None, :]) * hidden.shape[-1] ** -0.5
        ones = torch.ones_like(query[..., :1])
        keys = torch.cat([self.key(vectors), self.popularity(vectors)], dim=-1)
        return torch.cat([query, ones], dim=-1), keys


@dataclass(frozen=True)
class ClickStates:
    """What the encoders of products and sessions say of a batch.

    Attributes:
        memory: of the products.
        hidden: float [S, L + 1, d_model].
        queries: float [S, L + 1, d_model + 1].
        keys: float [P, d_model + 1].
    """

    memory: ProductMemory
    hidden: Tensor
    queries: Tensor
    keys: Tensor


class ClickEncoder(nn.Module):
    """Product and session encoders under the next-click head: what pre-training trains.

    **Shape**

    - Input: a `ProductBatch`, a `SessionBatch`
    - Output: `ClickStates`
    """

    def __init__(self, *, shape: FusionShape, settings: ModelSettings):
        super().__init__()
        d_model, n_heads, dropout = settings.d_model, settings.n_heads, settings.dropout
        self.product = ProductEncoder(
            shape=shape,
            d_model=d_model,
            n_heads=n_heads,
            n_layers=settings.n_product_layers,
            dropout=dropout,
        )
        self.session = SessionEncoder(
            n_event_types=shape.n_event_types,
            d_model=d_model,
            n_heads=n_heads,
            n_layers=settings.n_session_layers,
            dropout=dropout,
        )
        self.next_click = NextClickHead(n_markets=shape.n_markets, d_model=d_model)

    def forward(self, products: ProductBatch, sessions: SessionBatch) -> ClickStates:
        """Products first, then the sessions made of them."""
        memory = self.product(products)
        hidden = self.session(sessions, memory.vector)
        queries, keys = self.next_click(hidden, sessions.market, memory.vector)
        return ClickStates(memory=memory, hidden=hidden, queries=queries, keys=keys)
