"""The readout: what is additive in an impression, as one linear map of its inputs."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from features.arrays import N_RESERVED
from purchase_predictor.model.inputs import PRODUCT_GROUPS, ROW_GROUPS, FusionBatch, FusionShape
from purchase_predictor.model.recency import RecencyMemory

MAX_CODES = 256
"""A category with more codes has no columns here: its embedding learns what there is."""

CLIP = 6.0
"""Standard deviations beyond which a number says no more."""


class Readout(nn.Module):
    """A linear model of what can be read off an impression without learning features first.

    Columns: numbers, straight and in pieces, and which of them are missing; codes; picture and
    title embeddings; what the session amounts to; phrases of title and picture; the market; terms
    and phrases in each market, if asked for.

    Gradient descent with few conversions learns such effects badly: after two epochs, when the
    network begins to overfit, a ridge logistic regression on the same inputs was still ahead of
    it. So this part is solved (`training.readout`), apart from the network, and weighed with it.

    **Shape**

    - Input: a `FusionBatch` of N impressions
    - Output: logits ``(N, 1)``

    Attributes:
        blocks: name of the block of each column, whose weights are alike in size.
        lever_blocks: names of the blocks that a term or a phrase of the offer moves.
    """

    def __init__(self, *, shape: FusionShape, bins: list[Tensor], by_market: bool = True):
        super().__init__()
        if len(bins) != len(shape.numbers):
            raise ValueError(f"expected {len(shape.numbers)} lists of bins, got {len(bins)}")
        self.by_market = by_market
        self.n_markets = shape.n_markets
        self.codes = [
            (place, column)
            for place, column in enumerate(shape.categories)
            if column.n_codes <= MAX_CODES
        ]
        sizes = {"brand": shape.n_brands, "category": shape.n_categories}
        self.product_codes = {name: size for name, size in sizes.items() if size <= MAX_CODES}
        widths = {"image": shape.d_image, "text": shape.d_text}
        self.views = {name: width for name, width in widths.items() if width}
        self.n_phrases = shape.n_phrases
        self.n_picture_phrases = shape.n_picture_phrases
        self.terms = [i for i, column in enumerate(shape.numbers) if column.group == "terms"]
        self.recency = RecencyMemory(n_event_types=shape.n_event_types)
        self.pieces = Pieces(bins)
        of_numbers = [ROW_GROUPS.index(column.group) for column in shape.numbers]
        of_codes = [ROW_GROUPS.index(column.group) for _, column in self.codes]
        self.register_buffer("number_group", torch.tensor(of_numbers, dtype=torch.long), False)
        self.register_buffer("code_group", torch.tensor(of_codes, dtype=torch.long), False)
        self.number_group: Tensor
        self.code_group: Tensor
        measured = [column.block for column in shape.numbers]
        measured += [name for name, width in self.views.items() for _ in range(width)]
        measured += [name for name, width in self.recency.blocks for _ in range(width)]
        self.register_buffer("mean", torch.zeros(len(measured)))
        self.register_buffer("scale", torch.ones(len(measured)))
        self.mean: Tensor
        self.scale: Tensor
        self.blocks = measured + self._names_of_the_rest(shape)
        terms = [column for column in shape.numbers if column.group == "terms"]
        terms += [column for column in shape.numbers if column.block == "price taste"]
        self.lever_blocks = [column.block for column in terms]
        self.lever_blocks += [f"{column.name} in pieces" for column in terms]
        self.lever_blocks += [f"{column.name} by market" for column in terms]
        self.lever_blocks.append("phrases")
        self.lever_blocks += [f"phrase {number} by market" for number in range(self.n_phrases)]
        self.linear = nn.Linear(len(self.blocks), 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        # solved under penalties of its own: steps down a gradient would forget them
        self.linear.requires_grad_(False)

    def _names_of_the_rest(self, shape: FusionShape) -> list[str]:
        numbers = shape.numbers
        names = [f"{numbers[place].name} in pieces" for place in self.pieces.column]
        names += ["missing"] * (len(numbers) + len(self.views))
        names += [column.name for _, column in self.codes for _ in range(column.n_codes)]
        names += [name for name, size in self.product_codes.items() for _ in range(size)]
        names += ["phrases"] * self.n_phrases + ["picture phrases"] * self.n_picture_phrases
        names += ["market"] * self.n_markets
        if not self.by_market:
            return names
        levers = [numbers[place].name for place in self.terms]
        levers += [f"phrase {number}" for number in range(self.n_phrases)]
        levers += [f"picture phrase {number}" for number in range(self.n_picture_phrases)]
        return names + [f"{lever} by market" for lever in levers for _ in range(self.n_markets)]

    def forward(self, batch: FusionBatch) -> Tensor:
        """The logits of a linear model, in float32: bfloat16 would round what was solved.

        Part by part: two thousand columns side by side took longer to write than to weigh.
        """
        with torch.autocast(batch.numbers.device.type, enabled=False):
            parts, levers = self._parts(batch)
            sizes = [part.shape[1] for part in parts]
            sizes.append(self.linear.in_features - sum(sizes))
            *weights, by_market = self.linear.weight[0].split(sizes)
            logits = torch.stack([part @ w for part, w in zip(parts, weights, strict=True)]).sum(0)
            if self.by_market:
                pull = levers @ by_market.view(-1, self.n_markets)
                logits = logits + (pull * parts[-1]).sum(dim=1)
            return (logits + self.linear.bias)[:, None]

    def measured(self, batch: FusionBatch) -> Tensor:
        """Numbers, embeddings and recency as they are, float32 [N, n_measured]; NaN if missing."""
        numbers = batch.numbers
        if batch.masked is not None:
            numbers = numbers.masked_fill(batch.masked[:, self.number_group], torch.nan)
        parts = [numbers]
        for name in self.views:
            view = getattr(batch.products, name).masked_fill(self._absent(batch, name), torch.nan)
            parts.append(view.index_select(0, batch.product))
        return torch.cat([*parts, self.recency(batch)], dim=1)

    def design(self, batch: FusionBatch) -> Tensor:
        """The columns of the linear model, float32 [N, n_columns]; masked is missing."""
        parts, levers = self._parts(batch)
        if self.by_market:
            parts.append((levers[:, :, None] * parts[-1][:, None, :]).flatten(1))
        return torch.cat(parts, dim=1)

    def _parts(self, batch: FusionBatch) -> tuple[list[Tensor], Tensor]:
        """The columns but those by market, side by side, the market last; and the levers."""
        measured = self.measured(batch)
        numbers = measured[:, : len(self.number_group)]
        standard = ((measured - self.mean) / self.scale).clamp(-CLIP, CLIP).nan_to_num(0.0)
        parts = [standard, self.pieces(numbers), numbers.isnan().float()]
        for name in self.views:
            absent = self._absent(batch, name).float()
            parts.append(absent.index_select(0, batch.product))
        parts += self._codes(batch)
        for name, size in self.product_codes.items():
            codes = F.one_hot(getattr(batch.products, name), size).float()
            parts.append(self._of_product(batch, codes, "identity"))
        market = F.one_hot(batch.market, self.n_markets).float()
        # a market not in training has no effects of its own
        market[:, :N_RESERVED] = 0.0
        if batch.masked is not None:
            masked = batch.masked[:, ROW_GROUPS.index("culture"), None]
            market = market.masked_fill(masked, 0.0)
        levers = [standard[:, self.terms]]
        if self.n_phrases:
            levers.append(self._of_product(batch, batch.products.phrases, "text"))
            parts.append(levers[-1])
        if self.n_picture_phrases:
            says = batch.products.picture_phrases.clamp(-CLIP, CLIP)
            says = says.masked_fill(self._absent(batch, "image"), 0.0)
            levers.append(says.index_select(0, batch.product))
            parts.append(levers[-1])
        return [*parts, market], torch.cat(levers, dim=1)

    @staticmethod
    def _absent(batch: FusionBatch, view: str) -> Tensor:
        """Products that lack a view, or in this step are made to, bool [P, 1]."""
        absent = ~getattr(batch.products, f"has_{view}")
        if batch.products.masked is not None:
            absent = absent | batch.products.masked[:, PRODUCT_GROUPS.index(view)]
        return absent[:, None]

    def _codes(self, batch: FusionBatch) -> Iterable[Tensor]:
        for number, (place, column) in enumerate(self.codes):
            x = F.one_hot(batch.categories[:, place], column.n_codes).float()
            if batch.masked is not None:
                x = x.masked_fill(batch.masked[:, self.code_group[number], None], 0.0)
            yield x

    @staticmethod
    def _of_product(batch: FusionBatch, values: Tensor, group: str) -> Tensor:
        if batch.products.masked is not None:
            masked = batch.products.masked[:, PRODUCT_GROUPS.index(group), None]
            values = values.masked_fill(masked, 0.0)
        return values.index_select(0, batch.product)


class Pieces(nn.Module):
    """How much of each bin of each number lies below its value: bends a straight line.

    The piecewise-linear encoding of Gorishniy et al. (arXiv 2203.05556), of numbers with more than
    one bin; what is straight in it is left to the straight number by the penalties.

    **Shape**

    - Input: ``(N, n_numbers)``, NaN where missing
    - Output: ``(N, n_pieces)``, in [0, 1]; a missing number is as far as 0.5 into every bin

    Attributes:
        column: which number each piece is of.
    """

    def __init__(self, bins: list[Tensor]):
        super().__init__()
        bent = [(place, edges) for place, edges in enumerate(bins) if len(edges) > 2]
        self.column = [place for place, edges in bent for _ in edges[1:]]
        low = torch.cat([edges[:-1] for _, edges in bent]) if bent else torch.zeros(0)
        high = torch.cat([edges[1:] for _, edges in bent]) if bent else torch.zeros(0)
        self.register_buffer("low", low)
        self.register_buffer("width", high - low)
        self.register_buffer("place", torch.tensor(self.column, dtype=torch.long), False)
        self.place: Tensor
        self.low: Tensor
        self.width: Tensor

    def forward(self, numbers: Tensor) -> Tensor:
        """Clamp each number into each of its bins."""
        x = (numbers.index_select(1, self.place) - self.low) / self.width
        return x.clamp(0.0, 1.0).nan_to_num(0.5)
