"""Exact Shapley values of six modalities: the model asked under every subset of them.

A modality that is not in a subset is masked as in training: learned missing tokens, an empty
history, never zeros. Masks hold for every product and every row of a
batch, so a title is hidden in the history and beside the offer, too.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from math import factorial

import numpy as np
import torch
from numpy.typing import NDArray

from purchase_predictor.model.fusion import FusionTransformer
from purchase_predictor.model.inputs import PRODUCT_GROUPS, ROW_GROUPS, FusionBatch

Floats = NDArray[np.float64]

IDENTITY = "identity-and-context"
MODALITIES = ("text", "image", "clickstream", "terms", "culture", IDENTITY)
"""The players; bit k of a subset's number says whether player k is there."""

N_SUBSETS = 1 << len(MODALITIES)

_PLAYER_OF = {"identity": IDENTITY, "context": IDENTITY}
_OF_PRODUCTS = [MODALITIES.index(_PLAYER_OF.get(name, name)) for name in PRODUCT_GROUPS]
_OF_ROWS = [MODALITIES.index(_PLAYER_OF.get(name, name)) for name in ROW_GROUPS]


def shapley_weights(n_players: int) -> Floats:
    """What each subset's value counts in each player's Shapley value.

    Args:
        n_players: number of players.

    Returns:
        float64 [n_players, 2 ** n_players]; its product with the values of the subsets, in the
        order of their numbers, is the Shapley values.
    """
    weights = np.zeros((n_players, 1 << n_players))
    for player in range(n_players):
        others = [other for other in range(n_players) if other != player]
        for size in range(n_players):
            share = factorial(size) * factorial(n_players - size - 1) / factorial(n_players)
            for subset in combinations(others, size):
                number = sum(1 << member for member in subset)
                weights[player, number] -= share
                weights[player, number | 1 << player] += share
    return weights


def masked_batch(batch: FusionBatch, present: Sequence[bool]) -> FusionBatch:
    """The batch with the absent players masked.

    Args:
        batch: nothing masked.
        present: for each of `MODALITIES`.
    """
    absent = ~torch.tensor(present)
    of_products, of_rows = absent[_OF_PRODUCTS], absent[_OF_ROWS]
    products = replace(batch.products, masked=of_products.expand(len(batch.products.identity), -1))
    return replace(batch, products=products, masked=of_rows.expand(len(batch), -1))


@torch.inference_mode()
def subset_logits(model: FusionTransformer, batch: FusionBatch) -> Floats:
    """The model's logit of every row under every subset of the players.

    Products and histories are encoded once for each subset of what is masked in products.

    Args:
        model: in evaluation mode.
        batch: N impressions, nothing masked.

    Returns:
        float64 [N, N_SUBSETS].
    """
    logits = np.empty((len(batch), N_SUBSETS))
    of_products = sorted(set(_OF_PRODUCTS))
    rest = [player for player in range(len(MODALITIES)) if player not in of_products]
    for seen in product((False, True), repeat=len(of_products)):
        clicks = None
        for also in product((False, True), repeat=len(rest)):
            present = np.zeros(len(MODALITIES), bool)
            present[of_products], present[rest] = seen, also
            output = model(masked_batch(batch, present.tolist()), clicks=clicks)
            clicks = output.clicks
            number = int(present @ (1 << np.arange(len(MODALITIES))))
            logits[:, number] = output.logits.double().mean(dim=1).numpy()
    return logits
