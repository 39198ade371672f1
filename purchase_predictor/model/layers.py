"""Layers that the product encoder, the session encoder and the fusion share."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from tabm import LinearBatchEnsemble, LinearEnsemble
from torch import Tensor, nn

POINTWISE_SCALE = 1 / 8
"""Keeps sums over a history of usual length near the size of averages."""

NEVER = -1e4
"""A score whose silu is zero, and its gradient too."""

VECTORISED_KEYS = {"AVX512": 16, "AVX2": 8}.get(torch.backends.cpu.get_cpu_capability(), 1)
"""Keys from which on PyTorch's softmax over the last axis is vectorised on this processor: as
many float32 numbers as one of its registers holds."""

_uniform = ContextVar("uniform attention", default=False)


@contextmanager
def uniform_attention() -> Iterator[None]:
    """Let every visible key weigh the same in a softmax; pointwise weights stay as they are.

    What a network does without choosing where to look shows what its attention is for.
    """
    token = _uniform.set(True)
    try:
        yield
    finally:
        _uniform.reset(token)


def is_uniform() -> bool:
    """Whether softmax weights are to be uniform now."""
    return _uniform.get()


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


def softmax(scores: Tensor) -> Tensor:
    """Softmax over the last axis, faster over few keys.

    PyTorch's own leaves its vectorised path below `VECTORISED_KEYS`: with AVX-512 ten keys took
    fourteen times as long as sixteen. So few keys, but not one, are padded with some that weigh
    nothing.

    **Shape**

    - Input and output: ``(*, n_keys)``
    """
    n_keys = scores.shape[-1]
    if not 1 < n_keys < VECTORISED_KEYS or scores.device.type != "cpu":
        return scores.softmax(dim=-1)
    padded = F.pad(scores, (0, VECTORISED_KEYS - n_keys), value=-torch.inf)
    return padded.softmax(dim=-1)[..., :n_keys]


def attention_weights(scores: Tensor, visible: Tensor | None) -> Tensor:
    """Softmax over the visible keys; every query must see at least one key.

    Visibility in between 0 and 1 multiplies what a key weighs before the weights are brought to
    sum 1: a key goes smoothly from absent to present, as attribution by gradients needs it.

    **Shape**

    - Input: ``scores`` ``(batch, n_heads, n_queries, n_keys)``, ``visible`` bool or float in
      [0, 1], broadcastable
    - Output: like ``scores``
    """
    if is_uniform():
        scores = torch.zeros_like(scores)
    if visible is None:
        return softmax(scores)
    if visible.dtype == torch.bool:
        return softmax(scores.masked_fill(~visible, -torch.inf))
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
    if visible.dtype == torch.bool and not is_uniform():
        # hidden in the biases, which the readers of an impression share, not in the scores
        hidden = ~visible
        weights = softmax(scores + softmax_bias.masked_fill(hidden, -torch.inf))
        amounts = F.silu(scores + pointwise_bias.masked_fill(hidden, NEVER))
        return weights, amounts * POINTWISE_SCALE
    weights = attention_weights(scores + softmax_bias, visible)
    amounts = F.silu(scores + pointwise_bias)
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
    """Multi-head self-attention with one merged projection, among rows that lie in groups.

    **Shape**

    - Input: ``x`` ``(N, d_model)``; ``slot`` int64 ``(N,)``, the place of each in the flattened
      ``grid`` of (rows, columns), in a row of which groups lie side by side; ``group`` int64
      ``(N,)``, its number, from 0; ``others`` like ``x``: what each takes the others of its group
      for, instead of ``x``
    - Output: ``(N, d_model)``
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self,
        x: Tensor,
        slot: Tensor,
        grid: tuple[int, int],
        group: Tensor,
        others: Tensor | None = None,
    ) -> Tensor:
        """Attend within each group."""
        n_rows, width = grid

        def project(values: Tensor) -> tuple[Tensor, ...]:
            # into the grid after projecting: a part of the grid is padding
            values = self.qkv(values)
            flat = values.new_zeros(n_rows * width, values.shape[1]).index_copy(0, slot, values)
            flat = flat.view(n_rows, width, 3, self.n_heads, -1)
            return flat.permute(2, 0, 3, 1, 4).unbind()

        q, k, v = project(x)
        scale = q.shape[-1] ** -0.5
        # padding is a group of its own: a softmax over nothing would not be finite
        number = group.new_full((n_rows * width,), -1).index_copy(0, slot, group)
        number = number.view(n_rows, 1, width)
        together = number[..., None] == number[:, :, None]
        if others is None:
            # rows are short: the fused kernel spends its time on setting up
            weights = attention_weights((q @ k.transpose(-1, -2)) * scale, together)
            mixed = weights @ v
        else:
            _, keys, values = project(others)
            own = torch.eye(width, dtype=torch.bool, device=x.device)
            scores = torch.where(own, q @ k.transpose(-1, -2), q @ keys.transpose(-1, -2))
            weights = attention_weights(scores * scale, together)
            of_itself = weights.diagonal(dim1=-2, dim2=-1)[..., None]
            mixed = weights @ values + of_itself * (v - values)
        return self.out(merge_heads(mixed).flatten(0, 1).index_select(0, slot))


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

    Version B of `rtdl_num_embeddings` (Gorishniy et al., arXiv 2203.05556 and 2410.24210), whose
    parameters and start these are. Its pieces, its straight part, its constant and "missing" are
    rows of one matrix here, so that a batch is one product of matrices for each column.

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
        # lines of the pieces, of the straight part, of "known" and of "missing" (`_coded`)
        pieces, rest = self.embed.impl, torch.ones(len(bins), 1)
        slope = torch.cat([pieces.weight, rest, rest, -rest], dim=1)
        start = torch.cat([pieces.bias, 0 * rest, rest, 0 * rest], dim=1)
        self.register_buffer("slope", slope[:, None], persistent=False)
        self.register_buffer("start", start[:, None], persistent=False)
        self.slope: Tensor
        self.start: Tensor

    def forward(self, x: Tensor, masked: Tensor | None = None) -> Tensor:
        """Embed; a value outside the range seen in training counts as the range's end."""
        straight = self.embed.linear0
        rows = [self.embed.linear.weight, straight.weight[:, None], straight.bias[:, None]]
        weight = torch.cat([*rows, self.missing[:, None]], dim=1)
        return (self._coded(x, masked) @ weight).transpose(0, 1)

    @torch.no_grad()
    def _coded(self, x: Tensor, masked: Tensor | None) -> Tensor:
        """What the rows of the matrix are multiplied with, [n_numbers, batch, n_pieces + 3].

        Every one is a line cut off at 0 and 1, at −1 where the number is missing: there pieces and
        straight part are below 0, "known" is x + 1 and "missing" −x.
        """
        # clamped because trees cannot extrapolate either, and a network does it badly
        scaled = ((x - self.low) / self.width).clamp_(0.0, 1.0).nan_to_num_(-1.0)
        if masked is not None:
            scaled = scaled.masked_fill_(masked, -1.0)
        x = scaled.T.contiguous()[..., None]
        # in [0, 1] the library's clamps, one for each kind of piece, come to this one
        return torch.addcmul(self.start, self.slope, x).clamp_(0.0, 1.0)


class EnsembleHead(nn.Module):
    """Several cheap heads over a shared trunk (TabM, arXiv 2410.24210).

    The trunk is `d_hidden` wide, the hidden layer of each member `d_member`.

    **Shape**

    - Input: ``(batch, d_in)``
    - Output: ``(batch, n_members)`` logits
    """

    def __init__(self, *, d_in: int, d_hidden: int, d_member: int, n_members: int, dropout: float):
        super().__init__()
        self.n_members = n_members
        self.trunk = nn.Sequential(nn.Linear(d_in, d_hidden), nn.ReLU(), Dropout(dropout))
        self.members = LinearBatchEnsemble(
            d_hidden, d_member, k=n_members, scaling_init=("random-signs", "ones")
        )
        self.dropout = Dropout(dropout)
        self.out = LinearEnsemble(d_member, 1, k=n_members)

    def start_from_rate(self, rate: float) -> None:
        """Begin at the share of conversions: the first steps need not learn that they are rare."""
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias.fill_(math.log(rate / (1 - rate)))

    def forward(self, x: Tensor) -> Tensor:
        """One logit of each member."""
        shared = self.trunk(x).unsqueeze(1).expand(-1, self.n_members, -1)
        hidden = self.dropout(F.relu(self.members(shared)))
        # one output of each member: a sum of products spares the copies around a matrix product
        return (hidden * self.out.weight[..., 0]).sum(dim=-1) + self.out.bias[:, 0]
