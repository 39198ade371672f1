"""The product encoder: identity, picture, title, words, category and brand of each product."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from features.arrays import MISSING, PAD
from purchase_predictor.model.inputs import FusionShape, ProductBatch
from purchase_predictor.model.layers import EncoderLayer


@dataclass(frozen=True)
class ProductMemory:
    """What the fusion reads of the products.

    Attributes:
        tokens: float [P, T, d_model].
        visible: bool [P, T], False where a title is shorter.
        vector: float [P, d_model].
    """

    tokens: Tensor
    visible: Tensor
    vector: Tensor


class ProductEncoder(nn.Module):
    """Encodes each distinct product of a batch once.

    A view that no product of the data set has (no titles at all, say) has no token and no
    weights. A view that *this* product lacks is a learned token.

    **Shape**

    - Input: a `ProductBatch` of P products
    - Output: a `ProductMemory` of T tokens each, T = 3 + views + words
    """

    def __init__(
        self, *, shape: FusionShape, d_model: int, n_heads: int, n_layers: int, dropout: float
    ):
        super().__init__()
        self.identity = nn.Embedding(shape.n_identities, d_model)
        self.category = nn.Embedding(shape.n_categories, d_model)
        self.brand = nn.Embedding(shape.n_brands, d_model)
        self.words = (
            nn.Embedding(shape.n_word_pieces, d_model, padding_idx=PAD)
            if shape.n_word_pieces
            else None
        )
        self.text = nn.Linear(shape.d_text, d_model) if shape.d_text else None
        self.image = nn.Linear(shape.d_image, d_model) if shape.d_image else None
        self.missing_text = nn.Parameter(torch.randn(d_model) * 0.02)
        self.missing_image = nn.Parameter(torch.randn(d_model) * 0.02)
        self.kind = nn.Parameter(torch.randn(6, d_model) * 0.02)
        for table in (self.identity, self.category, self.brand, self.words):
            if table is not None:
                nn.init.normal_(table.weight, std=0.02)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model=d_model, n_heads=n_heads, dropout=dropout)
            for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(self, products: ProductBatch) -> ProductMemory:
        """Lay out the tokens, let them attend to one another, read the vector off the first."""
        no_text, no_image, no_identity = self._absent(products)
        # 1. one token for each part of the product
        identity = products.identity.masked_fill(no_identity, MISSING)
        category = products.category.masked_fill(no_identity, MISSING)
        brand = products.brand.masked_fill(no_identity, MISSING)
        parts = [self.identity(identity), self.category(category), self.brand(brand)]
        tokens = [part + kind for part, kind in zip(parts, self.kind, strict=False)]
        if self.image is not None:
            image = torch.where(no_image[:, None], self.missing_image, self.image(products.image))
            tokens.append(image + self.kind[3])
        if self.text is not None:
            text = torch.where(no_text[:, None], self.missing_text, self.text(products.text))
            tokens.append(text + self.kind[4])
        x = torch.stack(tokens, dim=1)
        visible = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        # 2. the title's word pieces
        if self.words is not None:
            words = products.words.masked_fill(no_text[:, None], PAD)
            words[:, 0] = words[:, 0].masked_fill(no_text, MISSING)
            x = torch.cat([x, self.words(words) + self.kind[5]], dim=1)
            visible = torch.cat([visible, words != PAD], dim=1)
        # 3. attention among them
        for layer in self.layers:
            x = layer(x, visible[:, None, None, :])
        x = self.norm(x)
        return ProductMemory(tokens=x, visible=visible, vector=x[:, 0])

    @staticmethod
    def _absent(products: ProductBatch) -> tuple[Tensor, Tensor, Tensor]:
        no_text, no_image = ~products.has_text, ~products.has_image
        if products.masked is None:
            return no_text, no_image, torch.zeros_like(no_text)
        masked_text, masked_image, masked_identity = products.masked.unbind(dim=1)
        return no_text | masked_text, no_image | masked_image, masked_identity
