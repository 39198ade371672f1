"""Layers that the product encoder, the session encoder and the fusion share."""

import math
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from tabm import LinearBatchEnsemble, LinearEnsemble
from torch import Tensor, nn

POINTWISE_SCALE = 1 / 8
"""Keeps sums over a history of usual length near the size of averages."""


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Lay heads beside the batch.

    **Shape**

    - Input: ``(batch, length, d)``
    - Output: ``(batch, n_heads, length, d / n_heads)``
    """
    batch, length, d = x.shape
    return x.view(batch, length, n_heads, d // n_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo `split_heads`.

    **Shape**

    - Input: ``(batch, n_heads, length, d_head)``
    - Output: ``(batch, length, n_heads * d_head)``
    """
    batch, n_heads, length, d_head = x.shape
    return x.transpose(1, 2).reshape(batch, length, n_heads * d_head)


def attention_weights(scores: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax over the visible keys; every query must see at least one key.

    Visibility in between 0 and 1 multiplies what a key weighs before the weights are brought to
    sum 1: a key goes smoothly from absent to present, as attribution by gradients needs it.

    **Shape**

    - Input: ``scores`` ``(batch, n_heads, n_queries, n_keys)``, ``visible`` bool or float in
      [0, 1], broadcastable
    - Output: like ``scores``
    """
    if visible is None:
        return scores.softmax(dim=-1)
    if visible.dtype == torch.bool:
        return scores.masked_fill(~visible, -torch.inf).softmax(dim=-1)
    present = attention_weights(scores, visible > 0) * visible
    return present / present.sum(dim=-1, keepdim=True)


def which_and_how_much(scores: Tensor, bias: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax weights, which say *which* keys, and pointwise ones, which say *how much* in all.

    An average cannot count; the sum over silu(score) can (HSTU, arXiv 2402.17152).

    **Shape**

    - Input: ``scores`` ``(batch, n_heads, …, n_keys)``, ``bias`` likewise with twice the heads,
      those of the softmax first, ``visible`` bool or float in [0, 1]; both broadcastable
    - Output: two tensors like ``scores``
    """
    softmax_bias, pointwise_bias = bias.chunk(2, dim=1)
    weights = attention_weights(scores + softmax_bias, visible)
    amounts = F.silu(scores + pointwise_bias)
    if visible.dtype == torch.bool:
        return weights, amounts.masked_fill(~visible, 0.0) * POINTWISE_SCALE
    return weights, amounts * visible * POINTWISE_SCALE


class Dropout(nn.Module):
    """Dropout whose masks are cut out of one long mask, at a place drawn anew each time.

    Drawing a fresh number for every value took a quarter of a training step on a CPU. On a GPU
    this is plain dropout.

    **Shape**

    - Input and output: any
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share `p` of the values in training."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.p)
        pool = _dropout_pool(self.p, 1 << max(20, x.numel().bit_length()))
        start = int(torch.randint(len(pool) - x.numel(), ()))
        return x * pool[start : start + x.numel()].view_as(x).to(x.dtype)


@cache
def _dropout_pool(p: float, size: int) -> Tensor:
    """0 with probability `p`, else 1 / (1 - p), float32 [size]; the same in every process."""
    kept = torch.rand(size, generator=torch.Generator().manual_seed(0)) >= p
    return kept / (1 - p)


class SelfAttention(nn.Module):
    """Multi-head self-attention with one merged projection.

    **Shape**

    - Input: ``x`` ``(batch, length, d_model)``, ``visible`` bool ``(batch, 1, 1, length)``,
      ``others`` like ``x``: what each position takes the other positions for, instead of ``x``
    - Output: ``(batch, length, d_model)``
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, visible: Tensor, others: Tensor | None = None) -> Tensor:
        """Attend; every row must see at least one position."""
        q, k, v = (split_heads(part, self.n_heads) for part in self.qkv(x).chunk(3, dim=-1))
        scale = q.shape[-1] ** -0.5
        if others is None:
            # lists are short: the fused kernel spends its time on setting up
            weights = attention_weights((q @ k.transpose(-1, -2)) * scale, visible)
            return self.out(merge_heads(weights @ v))
        _, keys, values = (
            split_heads(part, self.n_heads) for part in self.qkv(others).chunk(3, dim=-1)
        )
        own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
        scores = torch.where(own, q @ k.transpose(-1, -2), q @ keys.transpose(-1, -2))
        weights = attention_weights(scores * scale, visible)
        of_itself = weights.diagonal(dim1=-2, dim2=-1)[..., None]
        return self.out(merge_heads(weights @ values + of_itself * (v - values)))


class FeedForward(nn.Module):
    """Two linear maps with a GELU between.

    **Shape**

    - Input and output: ``(*, d_model)``
    """

    def __init__(self, *, d_model: int, d_hidden: int):
        super().__init__()
        self.hidden = nn.Linear(d_model, d_hidden)
        self.out = nn.Linear(d_hidden, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each position on its own."""
        return self.out(F.gelu(self.hidden(x)))


class MarketNorm(nn.Module):
    """Layer norm whose scale and shift depend on the market: the market conditions every layer.

    The conditioning starts at zero, so that a market with few rows stays near the common model
    (adaptive layer norm of Peebles and Xie, arXiv 2212.09748). Not `adapted`, it is a layer norm.

    **Shape**

    - Input: ``x`` ``(batch, length, d_model)``, ``market`` ``(batch, d_model)``
    - Output: ``(batch, length, d_model)``
    """

    def __init__(self, *, d_model: int, adapted: bool = True):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.condition = None
        if adapted:
            self.condition = nn.Linear(d_model, 2 * d_model)
            nn.init.zeros_(self.condition.weight)
            nn.init.zeros_(self.condition.bias)

    def forward(self, x: Tensor, market: Tensor) -> Tensor:
        """Normalise, then scale and shift by market."""
        if self.condition is None:
            return self.norm(x)
        scale, shift = self.condition(market).unsqueeze(1).chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class NumberEmbeddings(nn.Module):
    """Piecewise-linear embeddings of numbers with a learned embedding of "missing".

    Version B of `rtdl_num_embeddings` (Gorishniy et al., arXiv 2203.05556 and 2410.24210).

    **Shape**

    - Input: ``x`` ``(batch, n_numbers)`` with NaN where missing,
      ``masked`` bool of the same shape or None
    - Output: ``(batch, n_numbers, d_number)``
    """

    def __init__(self, *, bins: list[Tensor], d_number: int):
        super().__init__()
        # scaled to [0, 1], because version B also has a plain linear part
        scaled = [((edges - edges[0]) / (edges[-1] - edges[0])).unique() for edges in bins]
        # a flag has one bin: two equal ones mean the same and spare the library's warning
        scaled = [torch.tensor([0.0, 0.5, 1.0]) if len(e) == 2 else e for e in scaled]
        self.embed = PiecewiseLinearEmbeddings(scaled, d_number, activation=False, version="B")
        self.missing = nn.Parameter(torch.randn(len(bins), d_number) * 0.1)
        self.register_buffer("low", torch.stack([edges[0] for edges in bins]))
        self.register_buffer("width", torch.stack([edges[-1] - edges[0] for edges in bins]))
        self.low: Tensor
        self.width: Tensor

    def forward(self, x: Tensor, masked: Tensor | None = None) -> Tensor:
        """Embed; a value outside the range seen in training counts as the range's end."""
        missing = x.isnan() if masked is None else x.isnan() | masked
        # clamped because trees cannot extrapolate either, and a network does it badly
        known = ((x - self.low) / self.width).nan_to_num(0.0).clamp(0.0, 1.0)
        return torch.where(missing.unsqueeze(-1), self.missing, self.embed(known))


class EnsembleHead(nn.Module):
    """Several cheap heads over a shared trunk (TabM, arXiv 2410.24210).

    **Shape**

    - Input: ``(batch, d_in)``
    - Output: ``(batch, n_members)`` logits
    """

    def __init__(self, *, d_in: int, d_hidden: int, n_members: int, dropout: float):
        super().__init__()
        self.n_members = n_members
        self.trunk = nn.Sequential(nn.Linear(d_in, d_hidden), nn.ReLU(), Dropout(dropout))
        self.members = LinearBatchEnsemble(
            d_hidden, d_hidden, k=n_members, scaling_init=("random-signs", "ones")
        )
        self.dropout = Dropout(dropout)
        self.out = LinearEnsemble(d_hidden, 1, k=n_members)

    def start_from_rate(self, rate: float) -> None:
        """Begin at the share of conversions: the first steps need not learn that they are rare."""
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.fill_(math.log(rate / (1 - rate)))

    def forward(self, x: Tensor) -> Tensor:
        """One logit of each member."""
        shared = self.trunk(x).unsqueeze(1).expand(-1, self.n_members, -1)
        return self.out(self.dropout(F.relu(self.members(shared)))).squeeze(-1)
