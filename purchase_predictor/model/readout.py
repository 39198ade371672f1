"""The readout: what is additive in an impression, as one linear map of its inputs."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from features.arrays import N_RESERVED
from purchase_predictor.model.inputs import PRODUCT_GROUPS, ROW_GROUPS, FusionBatch, FusionShape

MAX_CODES = 256
"""A category with more codes has no columns here: its embedding learns what there is."""

CLIP = 6.0
"""Standard deviations beyond which a number says no more."""

INTERACTION_SCALE = 0.5
"""Interactions with the market are this small a column: under a ridge, a market's own effect of a
term or phrase starts from the effect that all markets share."""


class Readout(nn.Module):
    """A linear model of numbers, codes, phrases, and of terms and phrases in each market.

    Gradient descent with few conversions learns such effects badly: after two epochs, when the
    network begins to overfit, a ridge logistic regression on the same inputs was still ahead of
    it. So this part is solved (`training.readout`) before the network learns what is left.

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: logits ``(N, 1)``
    """

    def __init__(self, *, shape: FusionShape):
        super().__init__()
        n_numbers = len(shape.numbers)
        self.n_markets = shape.n_markets
        self.codes = [
            (place, column.n_codes)
            for place, column in enumerate(shape.categories)
            if column.n_codes <= MAX_CODES
        ]
        self.n_brands = shape.n_brands if shape.n_brands <= MAX_CODES else 0
        self.n_categories = shape.n_categories if shape.n_categories <= MAX_CODES else 0
        self.has_phrases = shape.n_phrases > 0
        self.terms = [i for i, column in enumerate(shape.numbers) if column.group == "terms"]
        of_numbers = [ROW_GROUPS.index(column.group) for column in shape.numbers]
        of_codes = [ROW_GROUPS.index(shape.categories[place].group) for place, _ in self.codes]
        self.register_buffer("number_group", torch.tensor(of_numbers, dtype=torch.long), False)
        self.register_buffer("code_group", torch.tensor(of_codes, dtype=torch.long), False)
        self.register_buffer("mean", torch.zeros(n_numbers))
        self.register_buffer("scale", torch.ones(n_numbers))
        self.number_group: Tensor
        self.code_group: Tensor
        self.mean: Tensor
        self.scale: Tensor
        n_columns = 2 * n_numbers + sum(n for _, n in self.codes) + self.n_markets
        n_columns += self.n_brands + self.n_categories + shape.n_phrases
        n_columns += self.n_markets * (len(self.terms) + shape.n_phrases)
        self.linear = nn.Linear(n_columns, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, batch: FusionBatch) -> Tensor:
        """The logits of a linear model, in float32: bfloat16 would round what was solved."""
        with torch.autocast(batch.numbers.device.type, enabled=False):
            return self.linear(self.design(batch))

    def design(self, batch: FusionBatch) -> Tensor:
        """The columns of the linear model, float32 [N, n_columns]; masked is missing."""
        numbers, missing = self._numbers(batch)
        parts = [numbers, missing.float(), *self._codes(batch)]
        market = F.one_hot(batch.market, self.n_markets).float()
        # a market not in training has no effects of its own
        market[:, :N_RESERVED] = 0.0
        if batch.masked is not None:
            masked = batch.masked[:, ROW_GROUPS.index("culture"), None]
            market = market.masked_fill(masked, 0.0)
        levers = [numbers[:, self.terms]]
        if self.has_phrases:
            levers.append(self._of_product(batch, batch.products.phrases, "text"))
            parts.append(levers[-1])
        for name, size in (("brand", self.n_brands), ("category", self.n_categories)):
            if size:
                codes = F.one_hot(getattr(batch.products, name), size).float()
                parts.append(self._of_product(batch, codes, "identity"))
        pulled = torch.cat(levers, dim=1)
        by_market = (market[:, :, None] * pulled[:, None, :]).flatten(1) * INTERACTION_SCALE
        return torch.cat([*parts, market, by_market], dim=1)

    def _numbers(self, batch: FusionBatch) -> tuple[Tensor, Tensor]:
        missing = batch.numbers.isnan()
        if batch.masked is not None:
            missing = missing | batch.masked[:, self.number_group]
        x = ((batch.numbers - self.mean) / self.scale).clamp(-CLIP, CLIP)
        return x.masked_fill(missing, 0.0), missing

    def _codes(self, batch: FusionBatch) -> list[Tensor]:
        parts = []
        for number, (place, n_codes) in enumerate(self.codes):
            x = F.one_hot(batch.categories[:, place], n_codes).float()
            if batch.masked is not None:
                x = x.masked_fill(batch.masked[:, self.code_group[number], None], 0.0)
            parts.append(x)
        return parts

    @staticmethod
    def _of_product(batch: FusionBatch, values: Tensor, group: str) -> Tensor:
        if batch.products.masked is not None:
            masked = batch.products.masked[:, PRODUCT_GROUPS.index(group), None]
            values = values.masked_fill(masked, 0.0)
        return values.index_select(0, batch.product)
