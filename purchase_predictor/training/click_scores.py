"""How well an impression's product follows from its history: the click encoder's scores."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from features.arrays import TRAIN, UNSEEN, EncodedMarket
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.model.session import ClickEncoder
from purchase_predictor.training.batches import SCORING_ROWS, Batcher

CENTRED_ON = 40_000
"""Impressions, about, that the mean query and the mean key of the markets come from."""

CENTRE_PRIOR = 20
"""Impressions of all markets that a market's own means start from."""


@torch.inference_mode()
def centre(
    model: ClickEncoder,
    data: EncodedMarket,
    known: NDArray[np.bool_],
    *,
    seed: int,
    device: torch.device,
) -> None:
    """Set the mean query and the mean key of each market, which `NextClickHead.lift` takes off.

    Args:
        model: trained click encoder.
        data: n impressions.
        known: bool [n], those whose training rows are averaged.
        seed: of which impressions are taken.
        device: where it runs.
    """
    head = model.next_click
    n_markets, d_model = head.mean_query.shape
    query, key, n = (
        torch.zeros(n_markets, width, device=device) for width in (d_model, d_model, 1)
    )
    training = known & (data.part == TRAIN)
    share = CENTRED_ON / max(1, int(training.sum()))
    taken = np.random.default_rng(seed).random(len(data)) < share
    model.to(device).eval()
    # of a sample each impression brings a history of its own: many at once take gigabytes
    sample = data.select(training & taken)
    for _, batch in Batcher(sample, batch_size=SCORING_ROWS).scoring_batches():
        moved = batch.to(device)
        queries, keys = _of_impressions(model, moved)
        shown = (moved.product > 0).float()[:, None]
        query.index_add_(0, moved.market, queries[:, :-1] * shown)
        key.index_add_(0, moved.market, keys[:, :-1] * shown)
        n.index_add_(0, moved.market, shown)
    for mean, total in ((head.mean_query, query), (head.mean_key, key)):
        average = total.sum(dim=0) / n.sum().clamp_min(1)
        mean.copy_((total + CENTRE_PRIOR * average) / (n + CENTRE_PRIOR))
    model.cpu()


def _of_impressions(model: ClickEncoder, batch: FusionBatch) -> tuple[Tensor, Tensor]:
    """The query of each impression's history and the key of its product, [N, d_model + 1].

    Where products have titles or pictures, taste is read off these and not off identities: what
    an identity adds to them is mostly noise, and new products have none. Popularity is its own.
    """
    products = batch.products
    has_content = products.has_text | products.has_image
    nameless = products.identity.clamp_max(UNSEEN)
    products = replace(products, identity=torch.where(has_content, nameless, products.identity))
    states = model(products, batch.sessions)
    place = batch.slot // batch.n_slots * states.queries.shape[1] + batch.cut
    queries = states.queries.flatten(0, 1).index_select(0, place)
    keys = states.keys.index_select(0, batch.product)
    named = model.product(batch.products).vector
    popularity = model.next_click.popularity(named).index_select(0, batch.product)
    return queries, torch.cat([keys[:, :-1], popularity], dim=1)


@torch.inference_mode()
def score_clicks(
    model: ClickEncoder, data: EncodedMarket, *, batch_size: int, device: torch.device
) -> NDArray[np.float32]:
    """How well each impression's product follows from its history.

    Args:
        model: trained click encoder.
        data: n impressions.
        batch_size: impressions at a time.
        device: where it runs.

    Returns:
        float32 [n, 5], one column for each of the first of
        `purchase_predictor.training.next_click.SCORE_COLUMNS`.
    """
    model = model.to(device).eval()
    scores = np.full((len(data), 3), np.nan, np.float32)
    for rows, batch in Batcher(data, batch_size=batch_size).scoring_batches():
        moved = batch.to(device)
        scores[rows] = _scores_of(model, moved).float().cpu().numpy()
    known = data.product > 0
    scores[~known] = np.nan
    return np.column_stack([scores, within_lists(scores[:, 1], data.list_number)])


def _scores_of(model: ClickEncoder, batch: FusionBatch) -> Tensor:
    queries, keys = _of_impressions(model, batch)
    lift = model.next_click.lift(queries, keys, batch.market)
    cosine = F.cosine_similarity(queries[:, :-1], keys[:, :-1], dim=1)
    return torch.stack([lift, lift + keys[:, -1], cosine], dim=1)


def within_lists(score: NDArray[np.float32], lists: NDArray[np.int32]) -> NDArray[np.float32]:
    """How far a score lies above its list's mean, and its rank there from 0 on, float32 [n, 2].

    Args:
        score: float32 [n], NaN where unknown.
        lists: int32 [n], number of the list.
    """
    _, number = np.unique(lists, return_inverse=True)
    known = ~np.isnan(score)
    size = np.maximum(1, np.bincount(number, known))
    mean = np.bincount(number, np.where(known, score, 0)) / size
    order = np.lexsort((-score, number))
    start = np.flatnonzero(np.diff(number[order], prepend=-1))
    rank = np.empty(len(score), np.float32)
    rank[order] = np.arange(len(score)) - np.repeat(start, np.diff(np.append(start, len(score))))
    above = score - mean[number].astype(np.float32)
    return np.column_stack([above, np.where(known, rank, np.nan)]).astype(np.float32)
