"""The candidate encoder: each product as a market sees it, its parts and words weighed."""

import torch
from torch import Tensor, nn

from features.arrays import N_RESERVED, PAD
from purchase_predictor.model.inputs import ROW_GROUPS, FusionBatch, FusionShape
from purchase_predictor.model.layers import (
    Dropout,
    FeedForward,
    MarketNorm,
    merge_heads,
    split_heads,
    which_and_how_much,
)
from purchase_predictor.model.product import ProductMemory


class CandidateEncoder(nn.Module):
    """Reads the parts and the title words of a candidate with the eyes of its market.

    What a word is worth depends on the product and on the market, not on the impression, so it is
    worked out once for each pair of product and market in the batch. The pointwise part adds up
    what words are worth; an average would divide it by the length of the title.

    **Shape**

    - Input: a `ProductMemory`, market vectors ``(N, d_model)``, a `FusionBatch` of N impressions
    - Output: ``(N, d_model)`` and, if asked for, softmax weights ``(N, n_heads, 1, n_parts + W)``
    """

    def __init__(
        self,
        *,
        shape: FusionShape,
        d_model: int,
        n_heads: int,
        dropout: float,
        market_layers: bool,
    ):
        super().__init__()
        self.n_heads = n_heads
        self.words = None
        if shape.n_word_pieces:
            self.words = nn.Embedding(shape.n_word_pieces, d_model, padding_idx=PAD)
            nn.init.normal_(self.words.weight, std=0.02)
        self.norm = nn.LayerNorm(d_model)
        self.vector = nn.Linear(d_model, d_model)
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.amount_bias = nn.Parameter(torch.zeros(1, n_heads, 1, 1))
        self.out = nn.Linear(2 * d_model, d_model)
        self.feed_forward_norm = MarketNorm(d_model=d_model, adapted=market_layers)
        self.feed_forward = FeedForward(d_model=d_model, d_hidden=2 * d_model)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        memory: ProductMemory,
        market: Tensor,
        batch: FusionBatch,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Encode each pair once, then hand each impression its own."""
        row, pair = self._pairs(batch)
        seen, weights = self._encode(
            memory, batch.product.index_select(0, row), market.index_select(0, row)
        )
        return seen.index_select(0, pair), weights.index_select(0, pair) if need_weights else None

    @staticmethod
    def _pairs(batch: FusionBatch) -> tuple[Tensor, Tensor]:
        """An impression of each pair of product and market, and the pair of each impression."""
        places = torch.arange(len(batch), device=batch.market.device)
        n_markets = int(batch.market.max()) + 1
        # markets that training never saw share a code but not a profile: each row for itself
        market = torch.where(batch.market < N_RESERVED, n_markets + 1 + places, batch.market)
        if batch.masked is not None:
            # where culture is masked all markets are the same one
            masked = batch.masked[:, ROW_GROUPS.index("culture")]
            market = market.masked_fill(masked, n_markets)
        key = batch.product * (n_markets + 1 + len(batch)) + market
        pairs, pair = torch.unique(key, return_inverse=True)
        row = torch.full_like(pairs, len(pair)).scatter_reduce_(0, pair, places, "amin")
        return row, pair

    def _encode(
        self, memory: ProductMemory, product: Tensor, market: Tensor
    ) -> tuple[Tensor, Tensor]:
        tokens = memory.parts.index_select(0, product)
        visible = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.words is not None:
            words = memory.words.index_select(0, product)
            tokens = torch.cat([tokens, self.words(words)], dim=1)
            visible = torch.cat([visible, words != PAD], dim=1)
        return self.read(tokens, visible, memory.vector.index_select(0, product), market)

    def read(
        self, tokens: Tensor, visible: Tensor, vector: Tensor, market: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Weigh the parts and words of products.

        Args:
            tokens: float [n, n_tokens, d_model], parts and then words.
            visible: bool, or float in [0, 1], [n, n_tokens].
            vector: float [n, d_model], of the products.
            market: float [n, d_model], vectors of the markets that look at them.

        Returns:
            float [n, d_model] and the softmax weights [n, n_heads, 1, n_tokens].
        """
        vector = self.vector(vector)
        q = split_heads(self.query(market + vector)[:, None], self.n_heads)
        key_value = self.key_value(self.norm(tokens))
        k, v = (split_heads(x, self.n_heads) for x in key_value.chunk(2, dim=-1))
        scores = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
        # a constant means nothing to a softmax
        bias = torch.cat([torch.zeros_like(self.amount_bias), self.amount_bias], dim=1)
        weights, amounts = which_and_how_much(scores, bias, visible[:, None, None, :])
        read = merge_heads(torch.cat([weights @ v, amounts @ v], dim=-1)).squeeze(1)
        x = vector + self.dropout(self.out(read))
        inner = self.feed_forward_norm(x[:, None], market).squeeze(1)
        return x + self.dropout(self.feed_forward(inner)), weights
