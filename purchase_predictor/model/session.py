"""The session encoder and what it learns from every click: what is touched next, and how."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from purchase_predictor.model.inputs import FusionShape, ProductBatch, SessionBatch
from purchase_predictor.model.layers import (
    NEVER,
    POINTWISE_SCALE,
    Dropout,
    FeedForward,
    is_uniform,
    merge_heads,
    softmax,
    split_heads,
)
from purchase_predictor.model.product import ProductEncoder, ProductMemory
from purchase_predictor.settings import ModelSettings

N_DISTANCES = 32
"""Events further back than this share a bias."""

INTEREST_PRIOR = 3.0
"""Touched products that an empty interest counts for: few touches say little."""


class SessionLayer(nn.Module):
    """A causal pre-norm layer that reads events by softmax and pointwise.

    Every head has biases of its own for how many events lie between and for whether the event
    belongs to another session, so that a layer can add up what fades with every later event. The
    softmax says *which* events, and the sum over silu(score) *how much* in all: an average cannot
    count (HSTU, arXiv 2402.17152).

    **Shape**

    - Input: ``x`` ``(S, L, d_model)``, ``stretch`` ``(S, L, n_stretches)``, one-hot: which
      session of its sequence each event belongs to
    - Output: ``(S, L, d_model)``
    """

    def __init__(self, *, d_model: int, n_heads: int, dropout: float):
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.LayerNorm(d_model)
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(2 * d_model, d_model)
        # heads start with reaches of 1, 4, 16, … events (Press et al., arXiv 2108.12409)
        reach = 4.0 ** torch.arange(n_heads)
        slope = -0.5 * torch.arange(N_DISTANCES)[:, None] / reach
        self.distance = nn.Parameter(torch.cat([slope, slope], dim=1))
        self.other_session = nn.Parameter(torch.zeros(2 * n_heads))
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model=d_model, d_hidden=2 * d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, stretch: Tensor) -> Tensor:
        """Attend to what came before, then transform each position."""
        q, k, v = (split_heads(p, self.n_heads) for p in self.qkv(self.norm(x)).chunk(3, dim=-1))
        # a bias for other sessions is one less for the same: the product of two one-hot codes,
        # which a matrix product adds up on the way (as tensors of their own, biases and masks
        # were most of a training step)
        own = stretch[:, None].expand(-1, self.n_heads, -1, -1)
        keys = torch.cat([k, own], dim=-1).transpose(-1, -2)
        q = q * q.shape[-1] ** -0.5
        which, how_much = (
            (torch.cat([q, own * -other[:, None, None]], dim=-1) @ keys).add_(bias)
            for other, bias in zip(
                self.other_session.chunk(2), self._biases(x.shape[1]), strict=True
            )
        )
        if is_uniform():
            which = torch.zeros_like(which).masked_fill(which == -torch.inf, -torch.inf)
        read = [softmax(which) @ v, F.silu(how_much) @ v * POINTWISE_SCALE]
        x = x + self.dropout(self.out(merge_heads(torch.cat(read, dim=-1))))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))

    def _biases(self, length: int) -> Tensor:
        """Of softmax and pointwise part, what comes later masked, [2, n_heads, L, L]."""
        place = torch.arange(length, device=self.distance.device)
        between = place[:, None] - place
        bias = self.distance.index_select(0, between.clamp(0, N_DISTANCES - 1).flatten())
        bias = bias.view(length, length, 2, -1).permute(2, 3, 0, 1)
        bias = bias + self.other_session.view(2, -1, 1, 1)
        never = torch.tensor([-torch.inf, NEVER], device=place.device).view(2, 1, 1, 1)
        return torch.where(between < 0, never, bias)


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
        nn.init.normal_(self.event_type.weight, std=0.02)
        self.circumstances = nn.Linear(4, d_model)
        self.layers = nn.ModuleList(
            SessionLayer(d_model=d_model, n_heads=n_heads, dropout=dropout)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, sessions: SessionBatch, vectors: Tensor) -> Tensor:
        """Embed the events, then run the causal layers; padding on the right is never seen."""
        n_sequences, length = sessions.product.shape
        touched = self.product(vectors).index_select(0, sessions.product.reshape(-1))
        gap = sessions.log_gap / 10  # log seconds: a day is 11.4
        opens = sessions.session != F.pad(sessions.session[:, :-1], (1, 0), value=-2)
        again = (sessions.product > 0) & ~sessions.turns
        circumstances = torch.stack([gap, gap**2, opens.float(), again.float()], dim=-1)
        x = (
            touched.view(n_sequences, length, -1)
            + self.event_type(sessions.event_type)
            + self.circumstances(circumstances)
        )
        x = torch.cat([self.start.expand(n_sequences, 1, -1), x], dim=1)
        # the start token is a session of its own, and one that another interrupts counts as two
        number = F.pad(opens.long().cumsum(dim=1), (1, 0))
        stretch = F.one_hot(number).to(x.dtype)
        for layer in self.layers:
            x = layer(x, stretch)
        return self.norm(x)


def interest_so_far(vectors: Tensor, sessions: SessionBatch) -> Tensor:
    """Mean vector of the products turned to before each position, drawn towards zero.

    Args:
        vectors: float [P, d_model].
        sessions: S sequences of L events.

    Returns:
        float [S, L + 1, d_model].
    """
    product = sessions.product
    weight = sessions.turns.to(vectors.dtype)[..., None]
    touched = vectors.index_select(0, product.flatten()).view(*product.shape, -1) * weight
    total, count = touched.cumsum(dim=1), weight.cumsum(dim=1)
    return F.pad(total / (count + INTEREST_PRIOR), (0, 0, 1, 0))


class NextClickHead(nn.Module):
    """Scores how likely each history is to turn to each product next.

    The mean of the touched products is part of the query and projections start as identity: at
    first a product scores by its likeness to what was touched, which learning then refines. From
    random projections nothing of the kind was found in eight epochs.

    A softmax leaves two things undetermined: a constant for each history (it cancels) and one for
    each product (it is popularity). A score compared *between* histories, as an input of a
    conversion model is, carries both as noise, so `lift` takes the mean query and the mean key of
    the market off first: how far this history favours this product beyond the market's average.

    **Shape**

    - Input: hidden states and interest ``(S, L + 1, d_model)``, market codes ``(S,)``, vectors
      ``(P, d_model)``
    - Output: queries ``(S, L + 1, d_model + 1)`` and keys ``(P, d_model + 1)``; their inner
      product is the score, the last component being the product's own log-popularity
    """

    def __init__(self, *, n_markets: int, n_event_types: int, d_model: int):
        super().__init__()
        self.market = nn.Embedding(n_markets, d_model)
        nn.init.zeros_(self.market.weight)
        self.query = nn.Linear(d_model, d_model)
        nn.init.zeros_(self.query.weight)
        self.interest = nn.Linear(d_model, d_model, bias=False)
        nn.init.eye_(self.interest.weight)
        self.key = nn.Linear(d_model, d_model)
        nn.init.eye_(self.key.weight)
        self.popularity = nn.Linear(d_model, 1)
        self.event_type = nn.Linear(d_model, n_event_types)
        # measured after training, not learned (`training.next_click.centre`)
        self.register_buffer("mean_query", torch.zeros(n_markets, d_model))
        self.register_buffer("mean_key", torch.zeros(n_markets, d_model))
        self.mean_query: Tensor
        self.mean_key: Tensor

    def forward(
        self, hidden: Tensor, interest: Tensor, market: Tensor, vectors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Project both sides."""
        query = self.query(hidden + self.market(market)[:, None, :]) + self.interest(interest)
        query = query * hidden.shape[-1] ** -0.5
        ones = torch.ones_like(query[..., :1])
        keys = torch.cat([self.key(vectors), self.popularity(vectors)], dim=-1)
        return torch.cat([query, ones], dim=-1), keys

    def lift(self, queries: Tensor, keys: Tensor, market: Tensor) -> Tensor:
        """Score beyond the market's average, without popularity.

        Args:
            queries: float [N, d_model + 1], of each impression's history.
            keys: float [N, d_model + 1], of its product.
            market: int64 [N].

        Returns:
            float [N].
        """
        query = queries[:, :-1] - self.mean_query.index_select(0, market)
        key = keys[:, :-1] - self.mean_key.index_select(0, market)
        return (query * key).sum(dim=1)


@dataclass(frozen=True)
class EncodedClicks:
    """What the encoders of products and sessions say of a batch.

    Attributes:
        memory: of the products.
        hidden: float [S, L + 1, d_model].
    """

    memory: ProductMemory
    hidden: Tensor


@dataclass(frozen=True)
class ClickStates(EncodedClicks):
    """And what the next-click head makes of it.

    Attributes:
        queries: float [S, L + 1, d_model + 1].
        keys: float [P, d_model + 1].
        types: float [S, L, n_event_types], logits of the type of each event given those before.
    """

    queries: Tensor
    keys: Tensor
    types: Tensor


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
            dropout=dropout,
            view_dropout=settings.view_dropout,
        )
        self.session = SessionEncoder(
            n_event_types=shape.n_event_types,
            d_model=d_model,
            n_heads=n_heads,
            n_layers=settings.n_session_layers,
            dropout=dropout,
        )
        self.next_click = NextClickHead(
            n_markets=shape.n_markets, n_event_types=shape.n_event_types, d_model=d_model
        )

    def encode(self, products: ProductBatch, sessions: SessionBatch) -> EncodedClicks:
        """Products first, then the sessions made of them."""
        memory = self.product(products)
        return EncodedClicks(memory=memory, hidden=self.session(sessions, memory.vector))

    def forward(self, products: ProductBatch, sessions: SessionBatch) -> ClickStates:
        """Encode, then project for the next-click head."""
        encoded = self.encode(products, sessions)
        vectors, hidden = encoded.memory.vector, encoded.hidden
        interest = interest_so_far(vectors, sessions)
        queries, keys = self.next_click(hidden, interest, sessions.market, vectors)
        types = self.next_click.event_type(hidden[:, :-1])
        return ClickStates(encoded.memory, hidden, queries=queries, keys=keys, types=types)
