"""How impressions look at the events before them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from features.arrays import N_RESERVED
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.model.layers import split_heads, which_and_how_much

N_RELATIONS = 7


@dataclass(frozen=True)
class HistoryView:
    """Which events each impression sees and how they relate to it; made once for all layers.

    Attributes:
        visible: bool [S, M, L + 1].
        relation: float [n_relations, S, M, L + 1].
    """

    visible: Tensor
    relation: Tensor


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
            steps.expand_as(age),
            (steps**2).expand_as(age),
            same_product,
            same_product * steps,
            same_category.float(),
            same_session.float(),
        ]
    )
    relation = F.pad(relation * seen, (1, 0))
    return HistoryView(visible=F.pad(seen, (1, 0), value=True), relation=relation)


@dataclass(frozen=True)
class HistoryMemory:
    """What one layer reads of the events, whoever reads it.

    Attributes:
        keys: float [S, n_heads, L + 1, d_head].
        values: likewise.
        bias: float [S, 2 * n_heads, M, 1, L + 1], of softmax and pointwise part.
    """

    keys: Tensor
    values: Tensor
    bias: Tensor


class HistoryAttention(nn.Module):
    """Attention to the history, by softmax and pointwise.

    Keys and values come once for each event, and the impressions of a sequence sit beside one
    another in a grid, so nothing is copied for an impression.

    **Shape**

    - Input: readers ``(N, n_readers, d_model)``, a `HistoryMemory` of S sequences
    - Output: ``(N, n_readers, 2 * d_model)``, softmax and pointwise parts, and, if asked for, the
      softmax weights in the grid ``(S, n_heads, M, n_readers, L + 1)`` (`of_impressions`)
    """

    def __init__(self, *, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)
        self.relation = nn.Linear(N_RELATIONS, 2 * n_heads)

    def memory(self, history: Tensor, view: HistoryView) -> HistoryMemory:
        """Keys and values of events, and biases for age, order and sameness.

        Args:
            history: float [S, L + 1, d_model].
            view: of the impressions that read it.
        """
        k, v = (split_heads(x, self.n_heads) for x in self.key_value(history).chunk(2, dim=-1))
        # relations lie one after the other, so that biases lie as scores do
        bias = self.relation.weight @ view.relation.flatten(1) + self.relation.bias[:, None]
        n_sequences, n_slots, length = view.visible.shape
        bias = bias.view(-1, n_sequences, n_slots, 1, length).transpose(0, 1)
        return HistoryMemory(k, v, bias)

    def forward(
        self,
        readers: Tensor,
        memory: HistoryMemory,
        batch: FusionBatch,
        view: HistoryView,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Scatter the readers into the grid, attend, gather them back."""
        n, n_readers, d_model = readers.shape
        n_sequences, n_slots, length = view.visible.shape
        # 1. readers into the grid (every slot is written at most once)
        query = self.query(readers).flatten(1) * (d_model // self.n_heads) ** -0.5
        grid = query.new_zeros(n_sequences * n_slots, n_readers * d_model)
        grid = grid.index_copy(0, batch.slot, query)
        q = split_heads(grid.view(n_sequences, n_slots * n_readers, d_model), self.n_heads)
        k, v = memory.keys, memory.values
        # 2. scores, with biases that each head learns
        scores = (q @ k.transpose(-1, -2)).view(
            n_sequences, self.n_heads, n_slots, n_readers, length
        )
        weights, amounts = which_and_how_much(
            scores, memory.bias, view.visible[:, None, :, None, :]
        )
        # the start token is there so that a softmax is finite; it counts nothing
        amounts = amounts.flatten(2, 3)[..., 1:] @ v[..., 1:, :]
        mixed = torch.cat([weights.flatten(2, 3) @ v, amounts], dim=-1)
        # 3. back to one row for each impression
        rows = mixed.view(n_sequences, self.n_heads, n_slots, n_readers, -1)
        rows = rows.permute(0, 2, 3, 1, 4).reshape(n_sequences * n_slots, -1)
        found = rows.index_select(0, batch.slot).view(n, n_readers, -1)
        return found, weights if need_weights else None


def of_impressions(weights: Tensor, batch: FusionBatch) -> Tensor:
    """What each impression has of the weights of a grid.

    **Shape**

    - Input: ``(S, n_heads, M, n_readers, L + 1)``, a `FusionBatch` of N impressions
    - Output: ``(N, n_heads, n_readers, L + 1)``
    """
    return weights.transpose(1, 2).flatten(0, 1).index_select(0, batch.slot)
