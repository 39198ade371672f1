"""The product encoder: identity, picture, title, phrases, category and brand of each product."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.arrays import MISSING, PAD
from purchase_predictor.model.inputs import FusionShape, ProductBatch
from purchase_predictor.model.layers import Dropout, FeedForward


@dataclass(frozen=True)
class ProductMemory:
    """What sessions and impressions read of the products.

    Attributes:
        parts: float [P, n_parts, d_model], a product's parts but for its words.
        words: int64 [P, W], word pieces of the title, PAD on the right.
        vector: float [P, d_model].
    """

    parts: Tensor
    words: Tensor
    vector: Tensor


class ProductEncoder(nn.Module):
    """Encodes each distinct product of a batch once, as the sum of its parts.

    A sum and one feed-forward, not self-attention among the parts: a batch touches thousands of
    products, mostly as events of histories, and attention among their words was most of a step.
    The words are read later, and only those of candidates (`CandidateEncoder`).

    A view that no product of the data set has (no titles at all, say) has no part and no
    weights. A view that *this* product lacks is a learned vector.

    **Shape**

    - Input: a `ProductBatch` of P products
    - Output: a `ProductMemory`
    """

    def __init__(self, *, shape: FusionShape, d_model: int, dropout: float, view_dropout: float):
        super().__init__()
        sizes = {
            "identity": shape.n_identities,
            "category": shape.n_categories,
            "brand": shape.n_brands,
        }
        self.tables = nn.ModuleDict()
        for name, size in sizes.items():
            table = nn.Embedding(size, d_model)
            nn.init.normal_(table.weight, std=0.02)
            self.tables[name] = table
        widths = {"image": shape.d_image, "text": shape.d_text, "phrases": shape.n_phrases}
        self.views = nn.ModuleDict(
            {name: nn.Linear(width, d_model) for name, width in widths.items() if width}
        )
        # some thousand products share a million events: what two hundred numbers tell of each of
        # them is learned by heart, and new products are then misread
        self.view_dropout = Dropout(view_dropout)
        self.missing = nn.ParameterDict(
            {name: nn.Parameter(torch.randn(d_model) * 0.02) for name in self.views}
        )
        n_parts = len(self.tables) + len(self.views)
        self.kind = nn.Parameter(torch.randn(n_parts, d_model) * 0.02)
        self.norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model=d_model, d_hidden=2 * d_model)
        self.dropout = Dropout(dropout)
        self.vector_norm = nn.LayerNorm(d_model)

    def forward(self, products: ProductBatch) -> ProductMemory:
        """Lay out the parts and add them up."""
        no_text, _, _ = self._absent(products)
        parts = self.parts(products)
        words = self._words(products, no_text)
        return ProductMemory(parts=parts, words=words, vector=self.vector(parts))

    @property
    def part_names(self) -> list[str]:
        """Names of the parts, in their order."""
        return [*self.tables, *self.views]

    def parts(self, products: ProductBatch) -> Tensor:
        """One vector for each part of each product, [P, n_parts, d_model]."""
        no_text, no_image, no_identity = self._absent(products)
        parts = [
            table(getattr(products, name).masked_fill(no_identity, MISSING))
            for name, table in self.tables.items()
        ]
        absent = {"image": no_image, "text": no_text, "phrases": no_text}
        for name, view in self.views.items():
            x = getattr(products, name)
            if name != "phrases":
                # embeddings come with length 1: at unit variance, what can be seen of a product
                # outweighs its identity from the start, so identity learns what is left to know
                x = self.view_dropout(x * x.shape[1] ** 0.5)
            parts.append(torch.where(absent[name][:, None], self.missing[name], view(x)))
        return torch.stack(parts, dim=1) + self.kind

    def vector(self, parts: Tensor) -> Tensor:
        """The sum of its parts is the product: [P, n_parts, d_model] to [P, d_model]."""
        total = self.norm(parts.sum(dim=1))
        return self.vector_norm(total + self.dropout(self.feed_forward(total)))

    @staticmethod
    def _words(products: ProductBatch, no_text: Tensor) -> Tensor:
        words = products.words.masked_fill(no_text[:, None], PAD)
        if words.shape[1]:
            words[:, 0] = words[:, 0].masked_fill(no_text, MISSING)
        return words

    @staticmethod
    def _absent(products: ProductBatch) -> tuple[Tensor, Tensor, Tensor]:
        no_text, no_image = ~products.has_text, ~products.has_image
        if products.masked is None:
            return no_text, no_image, torch.zeros_like(no_text)
        masked_text, masked_image, masked_identity = products.masked.unbind(dim=1)
        return no_text | masked_text, no_image | masked_image, masked_identity
