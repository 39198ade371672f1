"""From the columns of an impression to what the readers look at."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from features.arrays import UNSEEN, Column
from purchase_predictor.model.inputs import ROW_GROUPS, FusionBatch, FusionShape
from purchase_predictor.model.layers import NumberEmbeddings


class ColumnTokens(nn.Module):
    """Embeds every column; the columns of one block become one key and one value.

    A token for each of a hundred aggregates would be the whole cost of the model, so related
    columns share one that is only read, and each column reaches the head on its own too.

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: keys and values of the blocks, each ``(N, n_blocks, d_read)``, and flat embeddings
      ``(N, d_flat)``
    """

    def __init__(
        self,
        *,
        shape: FusionShape,
        bins: list[Tensor],
        d_number: int,
        d_read: int,
    ) -> None:
        super().__init__()
        self.d_read = d_read
        if len(bins) != len(shape.numbers):
            raise ValueError(f"expected {len(shape.numbers)} lists of bins, got {len(bins)}")
        self.numbers = NumberEmbeddings(bins=bins, d_number=d_number) if bins else None
        self.categories = nn.ModuleList(
            nn.Embedding(column.n_codes, d_number) for column in shape.categories
        )
        self.masked_category = nn.Parameter(torch.randn(len(shape.categories), d_number) * 0.1)
        columns = (*shape.numbers, *shape.categories)
        self.blocks = tuple(dict.fromkeys(column.block for column in columns))
        members = [
            [place for place, column in enumerate(columns) if column.block == block]
            for block in self.blocks
        ]
        self.sizes = [len(places) * d_number for places in members]
        self.project = nn.ModuleList(nn.Linear(size, 2 * d_read) for size in self.sizes)
        # columns of a block side by side: taking each block out by itself costs a gradient as
        # large as all columns
        order = [place for places in members for place in places]
        self.register_buffer("order", torch.tensor(order, dtype=torch.long), persistent=False)
        self.order: Tensor
        self.register_buffer("number_group", _groups(shape.numbers), persistent=False)
        self.register_buffer("category_group", _groups(shape.categories), persistent=False)
        self.number_group: Tensor
        self.category_group: Tensor
        self.d_flat = len(columns) * d_number

    def forward(self, batch: FusionBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the columns, mask whole groups, project each block."""
        return self.read(self.embed(batch))

    def embed(self, batch: FusionBatch) -> Tensor:
        """A vector for each column, numbers first, [N, n_columns, d_number]."""
        parts = []
        if self.numbers is not None:
            masked = None if batch.masked is None else batch.masked[:, self.number_group]
            parts.append(self.numbers(batch.numbers, masked))
        if len(self.categories):
            codes = batch.categories.unbind(dim=1)
            embedded = [t(c) for t, c in zip(self.categories, codes, strict=True)]
            x = torch.stack(embedded, dim=1)
            if batch.masked is not None:
                masked = batch.masked[:, self.category_group]
                x = torch.where(masked[..., None], self.masked_category, x)
            parts.append(x)
        return torch.cat(parts, dim=1)

    def read(self, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project each block of embedded columns; and the columns side by side."""
        blocks = columns.index_select(1, self.order).flatten(1).split(self.sizes, dim=1)
        tokens = [project(block) for project, block in zip(self.project, blocks, strict=True)]
        read = torch.cat(tokens, dim=1).view(len(columns), len(tokens), -1)
        keys, values = read.split(self.d_read, dim=-1)
        return keys, values, columns.flatten(1)


class MarketToken(nn.Module):
    """The market as a vector: its own embedding and its cultural profile.

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: ``(N, d_model)``
    """

    def __init__(self, *, n_markets: int, n_dimensions: int, d_model: int):
        super().__init__()
        self.market = nn.Embedding(n_markets, d_model)
        nn.init.normal_(self.market.weight, std=0.02)
        with torch.no_grad():  # never trained: an unseen market is its profile alone
            self.market.weight[UNSEEN] = 0.0
        self.profile = nn.Linear(n_dimensions, d_model) if n_dimensions else None
        self.unknown_profile = nn.Parameter(torch.zeros(d_model))
        self.masked = nn.Parameter(torch.randn(d_model) * 0.02)

    def forward(self, batch: FusionBatch) -> Tensor:
        """A market not in training has the code UNSEEN and still its profile."""
        x = self.market(batch.market)
        if self.profile is not None:
            unknown = batch.profile.isnan().any(dim=1, keepdim=True)
            known = self.profile(batch.profile.nan_to_num(0.0))
            x = x + torch.where(unknown, self.unknown_profile, known)
        if batch.masked is not None:
            culture = batch.masked[:, ROW_GROUPS.index("culture"), None]
            x = torch.where(culture, self.masked, x)
        return x


def _groups(columns: Sequence[Column]) -> Tensor:
    return torch.tensor([ROW_GROUPS.index(column.group) for column in columns], dtype=torch.long)
