"""Where the network looks: attention rolled out and weighed by gradients, in the tokens it has.

People ask for it, so it is told, beside its measured agreement with what can be trusted. Attention
has no sign, says nothing of what a token is worth where it is looked at, and is of the network
alone: the readout attends to nothing (arXiv 1902.10186, 2201.12114).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from purchase_predictor.attribution.gradients import GatedNetwork
from purchase_predictor.attribution.shapley import IDENTITY
from purchase_predictor.attribution.tokens import (
    MODALITY_OF_GROUP,
    TOKEN_OF_PART,
    Token,
    TokenGrid,
    column_token,
    phrase_token,
)
from purchase_predictor.model.fusion import N_READERS
from purchase_predictor.model.history import of_impressions
from purchase_predictor.model.inputs import FusionShape

Floats = NDArray[np.float64]

ROLLOUT, GRADIENT_WEIGHTED = "attention_rollout", "attention_gradient"
METHODS = (ROLLOUT, GRADIENT_WEIGHTED)

PHRASES = "(phrases)"
"""Token of the phrases of a product: attention has one of them all."""

SOURCES = 4
"""What a reader mixes in each layer: history, columns, the other reader, itself."""


@dataclass(frozen=True)
class AttentionGrid:
    """Tokens of attention: word pieces, parts of the product, blocks of columns, events.

    Attributes:
        grid: their names; the fixed ones are parts and blocks.
        n_parts: how many of the fixed ones are parts.
        members: for each fixed token, the places of its tokens in the grid of contributions, less
            the word pieces before them.
    """

    grid: TokenGrid
    n_parts: int
    members: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, network: GatedNetwork, shape: FusionShape) -> "AttentionGrid":
        """The tokens of a network's attention.

        Args:
            network: on a batch.
            shape: of its model.
        """
        grid, columns = network.grid, (*shape.numbers, *shape.categories)
        names = [token.name for token in grid.fixed]
        tokens, members = [], []
        for part in network.part_names:
            own = [n for n in names if n.startswith(phrase_token(""))]
            if part != "phrases":
                own = [TOKEN_OF_PART[part]]
            modality = {"image": "image", "text": "text", "phrases": "text"}.get(part, IDENTITY)
            tokens.append(Token(PHRASES if part == "phrases" else own[0], modality))
            members.append(tuple(names.index(name) for name in own))
        for block in network.model.columns.blocks:
            of_block = [column for column in columns if column.block == block]
            tokens.append(Token(f"{block} (columns)", MODALITY_OF_GROUP[of_block[0].group]))
            members.append(tuple(names.index(column_token(c.name)) for c in of_block))
        fixed = TokenGrid(grid.n_words, tuple(tokens), grid.n_events)
        return cls(fixed, len(network.part_names), tuple(members))

    def sizes_of(self, values: Floats) -> Floats:
        """Contributions in these tokens, in size.

        Args:
            values: float64 [N, n_tokens], in the tokens of gradients.

        Returns:
            float64 [N, len(self.grid)].
        """
        first, last = self.grid.n_words, values.shape[1] - self.grid.n_events
        fixed = [
            values[:, [first + place for place in own]].sum(axis=1, keepdims=True)
            for own in self.members
        ]
        return np.abs(np.concatenate([values[:, :first], *fixed, values[:, last:]], axis=1))


@dataclass(frozen=True)
class Attention:
    """Attention of a batch of N impressions.

    Attributes:
        tokens: what is attended to.
        values: method to float64 [N, len(tokens.grid)], neither of them with a sign.
        heads: float64 [N, 1 + n_layers, n_heads, len(tokens.grid)], weights as they are, mean over
            the readers; the first is the reading of the product, which has no events or columns,
            the others have no product.
    """

    tokens: AttentionGrid
    values: dict[str, Floats]
    heads: Floats


def attention_of(network: GatedNetwork, shape: FusionShape) -> Attention:
    """Look where a network looks.

    Args:
        network: on a batch of N impressions.
        shape: of its model.
    """
    tokens = AttentionGrid.of(network, shape)
    weights, gradients = network.attention()
    plain = _by_head(network, tokens, weights)
    # what lowers the logit is left out, as in Chefer et al. (arXiv 2103.15679)
    moved = {name: (weights[name] * gradients[name]).clamp_min(0.0) for name in weights}
    weighed = _by_head(network, tokens, moved)
    values = {
        ROLLOUT: rollout(plain.mean(dim=2), tokens),
        GRADIENT_WEIGHTED: weighed.sum(dim=(1, 2, 3)),
    }
    heads = plain.mean(dim=3)
    heads[:, 0] = plain[:, 0, :, 1]  # one reader alone reads the product
    return Attention(
        tokens, {name: v.double().numpy() for name, v in values.items()}, heads.double().numpy()
    )


def rollout(weights: Tensor, tokens: AttentionGrid) -> Tensor:
    """Attention followed through the layers down to the tokens (arXiv 2005.00928).

    What goes past a layer counts half; the other half is shared by what the layer mixes: history,
    columns, the other reader and itself. The candidate begins as half the product's parts, alike,
    and half what was read of the product; [CLS] begins as nothing that is a token.

    Args:
        weights: float [N, 1 + n_layers, N_READERS, n_tokens], mean over heads; first that of the
            product, then each layer's.
        tokens: what the last axis is.

    Returns:
        float [N, n_tokens], mean over the readers.
    """
    parts = torch.zeros(weights.shape[-1])
    parts[tokens.grid.n_words : tokens.grid.n_words + tokens.n_parts] = 1 / tokens.n_parts
    read = torch.zeros_like(weights[:, 0])
    read[:, 1] = (weights[:, 0, 1] + parts) / 2
    for layer in weights[:, 1:].unbind(dim=1):
        read = read / 2 + (layer + read.flip(1) + read) / SOURCES / 2
    return read.mean(dim=1)


def _by_head(network: GatedNetwork, tokens: AttentionGrid, found: dict[str, Tensor]) -> Tensor:
    """Laid out over all tokens, float [N, 1 + n_layers, n_heads, N_READERS, n_tokens]."""
    grid, product = tokens.grid, found["product"]
    n, n_heads = product.shape[:2]
    n_layers = len(network.model.layers)
    laid = torch.zeros(n, 1 + n_layers, n_heads, N_READERS, len(grid))
    first, after = grid.n_words, grid.n_words + tokens.n_parts
    last = grid.n_words + len(grid.fixed)
    # the candidate alone reads the product; "no title" between parts and words is no token
    laid[:, 0, :, 1, first:after] = product[:, :, 0, : tokens.n_parts]
    if grid.n_words:
        laid[:, 0, :, 1, :first] = product[:, :, 0, tokens.n_parts + 1 :] * network.words[:, None]
    for layer in range(n_layers):
        events = of_impressions(found[f"events.{layer}"], network.batch)
        laid[:, 1 + layer, ..., last:] = events[..., 1:]  # the start is no event
        laid[:, 1 + layer, ..., after:last] = found[f"columns.{layer}"]
    return laid
