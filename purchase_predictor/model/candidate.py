"""The candidate encoder: each product as a market sees it, its parts and words weighed."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from features.arrays import N_RESERVED, PAD
from purchase_predictor.model.inputs import ROW_GROUPS, FusionBatch, FusionShape
from purchase_predictor.model.layers import (
    Dropout,
    FeedForward,
    MarketNorm,
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
        tokens = self.norm(memory.parts).index_select(0, product)
        visible = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        if self.words is not None:
            words = memory.words.index_select(0, product)
            # normalised once for each word piece, not for each word of each title
            pieces = F.embedding(words, self.norm(self.words.weight))
            tokens = torch.cat([tokens, pieces], dim=1)
            visible = torch.cat([visible, words != PAD], dim=1)
        return self._weigh(tokens, visible, memory.vector.index_select(0, product), market)

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
        return self._weigh(self.norm(tokens), visible, vector, market)

    def _weigh(
        self, tokens: Tensor, visible: Tensor, vector: Tensor, market: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`read` of tokens that are normalised.

        One query reads thirty tokens, so it is cheaper to bring the query to where the tokens are,
        and to project what was read, than to project every token to a key and a value: the same
        products of the same matrices in another order, a ninth of the work.
        """
        vector = self.vector(vector)
        n, d_model = vector.shape
        q = self.query(market + vector) * (d_model // self.n_heads) ** -0.5
        to_key, to_value = self.key_value.weight.view(2, self.n_heads, -1, d_model)
        key_bias, value_bias = self.key_value.bias.view(2, self.n_heads, 1, -1)
        # 1. scores, [n, n_heads, n_tokens]
        of_heads = q.view(n, self.n_heads, -1).transpose(0, 1)
        asked = (of_heads @ to_key).transpose(0, 1)
        scores = asked @ tokens.transpose(1, 2) + (of_heads * key_bias).sum(-1).T[..., None]
        # a constant means nothing to a softmax
        bias = torch.cat([torch.zeros_like(self.amount_bias), self.amount_bias], dim=1)
        weights, amounts = which_and_how_much(scores[:, :, None], bias, visible[:, None, None, :])
        # 2. tokens as each head weighs them, once by softmax and once pointwise
        taken = torch.cat([weights, amounts], dim=2)
        mixed = taken.flatten(1, 2) @ tokens
        # 3. their values, [n, 2 * d_model], head by head
        mixed = mixed.view(n, self.n_heads, 2, d_model).permute(1, 2, 0, 3)
        values = mixed.flatten(1, 2) @ to_value.transpose(1, 2)
        total = taken.sum(dim=-1).permute(1, 2, 0).flatten(1)[..., None]
        read = (values + total * value_bias).view(self.n_heads, 2, n, -1)
        read = read.permute(2, 0, 1, 3).reshape(n, 2 * d_model)
        x = vector + self.dropout(self.out(read))
        inner = self.feed_forward_norm(x[:, None], market).squeeze(1)
        return x + self.dropout(self.feed_forward(inner)), weights
