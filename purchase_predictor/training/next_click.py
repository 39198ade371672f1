"""What clicks say of a product, as inputs of every system: trained encoders, cross-fitted scores.

The click encoder scores what a history turns to next; the choice model, where products have
pictures or titles, says how far the product suits the shopper's taste.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from features.arrays import STOP, TRAIN, UNSEEN, Column, EncodedMarket
from purchase_predictor.checkpoint import read_folder, write_folder
from purchase_predictor.model.choice import ChoiceModel
from purchase_predictor.model.inputs import FusionBatch, FusionShape
from purchase_predictor.model.session import ClickEncoder
from purchase_predictor.settings import ModelSettings, Settings
from purchase_predictor.training.batches import SCORING_ROWS, Batcher, scoring_rows
from purchase_predictor.training.choosing import fit_choice, tastes
from purchase_predictor.training.loop import (
    Loop,
    LoopSettings,
    OnEpoch,
    Progress,
    default_device,
    from_numpy,
    no_epoch,
    to_numpy,
)
from purchase_predictor.training.pretraining import ClickTask

SCORE_COLUMNS = tuple(
    Column(name=name, group="clickstream", block="next click")
    for name in (
        "next_click_lift",
        "next_click_score",
        "next_click_cosine",
        "next_click_above_list_mean",
        "next_click_rank_in_list",
        "taste_for_product",
        "taste_above_list_mean",
    )
)

N_CLICK_SCORES = 5
"""Of these columns the first are the click encoder's, the others the choice model's."""

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
        float32 [n, 5], one column for each of the first of `SCORE_COLUMNS`.
    """
    model = model.to(device).eval()
    scores = np.full((len(data), 3), np.nan, np.float32)
    for rows, batch in Batcher(data, batch_size=batch_size).scoring_batches():
        moved = batch.to(device)
        scores[rows] = _scores_of(model, moved).float().cpu().numpy()
    known = data.product > 0
    scores[~known] = np.nan
    return np.column_stack([scores, _within_lists(scores[:, 1], data.list_number)])


def _scores_of(model: ClickEncoder, batch: FusionBatch) -> Tensor:
    queries, keys = _of_impressions(model, batch)
    lift = model.next_click.lift(queries, keys, batch.market)
    cosine = F.cosine_similarity(queries[:, :-1], keys[:, :-1], dim=1)
    return torch.stack([lift, lift + keys[:, -1], cosine], dim=1)


def _within_lists(score: NDArray[np.float32], lists: NDArray[np.int32]) -> NDArray[np.float32]:
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


def _auc(converted: NDArray[np.float32], score: NDArray[np.float32]) -> float | None:
    known = ~np.isnan(score) & ~np.isnan(converted)
    if len(np.unique(converted[known])) < 2:
        return None
    return float(roc_auc_score(converted[known], score[known]))


def _auc_sentence(auc: Mapping[str, float | None]) -> str:
    return "AUC " + ", ".join(
        f"{'unknown' if value is None else format(value, '.3f')} on {name} rows"
        for name, value in auc.items()
    )


class NextClick:
    """The pre-trained click encoder and the cross-fitted scores it gives.

    Args:
        shape: data-dependent sizes.
        settings: all settings.
    """

    def __init__(self, shape: FusionShape, settings: Settings) -> None:
        self.shape = shape
        self.settings = settings

    def fit(
        self,
        data: EncodedMarket,
        *,
        folder: Path | None = None,
        resume: bool = False,
        progress: Progress,
        on_epoch: OnEpoch = no_epoch,
    ) -> "NextClick":
        """Train one encoder on all training events, and one for each fold on what it may know.

        Folds of units: the other units' events. Blocks of time: the events before the block; the
        first block has none and its rows no score.

        Args:
            data: its training events are learned from; events before the STOP rows stop it.
            folder: of checkpoints.
            resume: goes on from them.
            progress: told a line at each epoch.
            on_epoch: told the figures of each epoch.

        Returns:
            itself, with `model_`, `choice_`, `scores_` float32 [n, 7] cross-fitted on training
            rows, and `auc_` of the lift on training and on validation rows.
        """
        train = partial(
            self._train, data, folder=folder, resume=resume, progress=progress, on_epoch=on_epoch
        )
        everything = np.ones(len(data.events), bool), np.ones(len(data), bool)
        self.model_, self.choice_ = train("", *everything)
        self.scores_ = self.score(data)
        training = data.part == TRAIN
        for number, (learnable, known, scored) in enumerate(self._folds(data)):
            rows = training & scored
            if not learnable.any():
                self.scores_[rows] = np.nan
                continue
            models = train(f"-fold-{number}", learnable, known)
            self.scores_[rows] = self._scores(*models, data.select(rows))
        # they should agree: a score that flatters training rows misleads every system
        self.auc_, of_taste = (
            {
                name: _auc(data.converted[rows], self.scores_[rows, column])
                for name, rows in (("training", training), ("validation", data.part == STOP))
            }
            for column in (0, N_CLICK_SCORES)
        )
        progress(f"next-click lift alone: {_auc_sentence(self.auc_)}")
        if self.choice_ is not None:
            progress(f"taste for the product alone: {_auc_sentence(of_taste)}")
        return self

    def _train(
        self,
        data: EncodedMarket,
        suffix: str,
        learnable: NDArray[np.bool_],
        known: NDArray[np.bool_],
        *,
        folder: Path | None,
        resume: bool,
        progress: Progress,
        on_epoch: OnEpoch,
    ) -> tuple[ClickEncoder, ChoiceModel | None]:
        """Models of some events [n_events], with the products of some impressions [n]."""
        torch.manual_seed(self.settings.seed)
        model = ClickEncoder(shape=self.shape, settings=self.settings.model)
        task = ClickTask(
            f"clicks{suffix}",
            model,
            data,
            learnable=learnable,
            known=known,
            settings=self.settings,
        )
        loop = Loop(task, self._loop(), folder=folder, progress=progress, on_epoch=on_epoch)
        loop.fit(resume=resume)
        centre(model, data, known, seed=self.settings.seed, device=default_device())
        if not self._has_choice():
            return model, None
        choice = fit_choice(
            f"choice{suffix}",
            data,
            self.shape,
            self.settings,
            learnable=learnable,
            known=known,
            progress=progress,
            on_epoch=on_epoch,
        )
        return model, choice

    def _has_choice(self) -> bool:
        """Whether products can be told apart by what can be seen of them."""
        seen = self.shape.d_image or self.shape.d_text
        return bool(seen and self.settings.pretraining.taste_rank)

    def _folds(
        self, data: EncodedMarket
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Events [n_events] and rows [n] that a fold knows, and rows [n] it scores, all bool."""
        n_folds = self.settings.pretraining.n_folds
        if self.settings.pretraining.cross_fit == "units":
            n_units = 1 + int(max(data.events.unit.max(), data.unit.max()))
            fold = np.random.default_rng(self.settings.seed).integers(n_folds, size=n_units)
            for number in range(n_folds):
                scored = fold[data.unit] == number
                yield fold[data.events.unit] != number, ~scored, scored
            return
        times = data.time[data.part == TRAIN]
        edges = np.quantile(times, np.arange(1, n_folds) / n_folds)
        block = np.searchsorted(edges, data.time, side="right")
        nothing = np.zeros(len(data.events), bool), np.zeros(len(data), bool)
        yield *nothing, block == 0
        for number, edge in enumerate(edges, start=1):
            yield data.events.time < edge, data.time < edge, block == number

    def score(self, data: EncodedMarket) -> NDArray[np.float32]:
        """Scores of rows that pre-training has not seen, float32 [n, 7]."""
        return self._scores(self.model_, self.choice_, data)

    def save(self, folder: Path) -> None:
        """Write the models' weights as safetensors, their shape as JSON."""
        document = {
            "shape": self.shape.to_dict(),
            "model": self.settings.model.model_dump(),
            "taste_rank": 0 if self.choice_ is None else self.choice_.rank,
            "auc": self.auc_,
        }
        tensors = {"weights": to_numpy(self.model_.state_dict())}
        if self.choice_ is not None:
            tensors["choice"] = to_numpy(self.choice_.state_dict())
        write_folder(folder, tensors=tensors, documents={"clicks": document})

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> "NextClick":
        """Undo `save`.

        Raises:
            ModelFolderError: if the folder is not whole.
        """
        saved = read_folder(folder)
        document = saved.document("clicks")
        model = ModelSettings.model_validate(document["model"])
        clicks = cls(
            FusionShape.from_dict(document["shape"]), settings.model_copy(update={"model": model})
        )
        clicks.auc_ = document["auc"]
        clicks.model_ = ClickEncoder(shape=clicks.shape, settings=model)
        clicks.model_.load_state_dict(from_numpy(saved.tensors("weights")))
        clicks.model_.eval()
        clicks.choice_ = None
        if document["taste_rank"]:
            clicks.choice_ = ChoiceModel(shape=clicks.shape, rank=document["taste_rank"])
            clicks.choice_.load_state_dict(from_numpy(saved.tensors("choice")))
            clicks.choice_.eval()
        return clicks

    def _scores(
        self, model: ClickEncoder, choice: ChoiceModel | None, data: EncodedMarket
    ) -> NDArray[np.float32]:
        device = default_device()
        scores = score_clicks(model, data, batch_size=scoring_rows(device), device=device)
        model.cpu()
        taste = np.full(len(data), np.nan, np.float32)
        if choice is not None:
            taste = tastes(choice, data)
        above = _within_lists(taste, data.list_number)[:, 0]
        return np.column_stack([scores, taste, above])

    def _loop(self) -> LoopSettings:
        training, pretraining = self.settings.training, self.settings.pretraining
        return LoopSettings(
            max_epochs=pretraining.epochs,
            patience=training.patience,
            learning_rate=pretraining.learning_rate,
            weight_decay=pretraining.weight_decay,
            warm_up=training.warm_up,
            clip_norm=training.clip_norm,
            ema_decay=training.ema_decay,
            checkpoint_every=training.checkpoint_every,
            bfloat16=False,
            seed=self.settings.seed,
        )


def with_scores(data: EncodedMarket, scores: NDArray[np.float32]) -> EncodedMarket:
    """The same rows with the next-click scores as further columns, for every system."""
    return data.with_numbers(scores, SCORE_COLUMNS)


def without_scores(shape: FusionShape) -> FusionShape:
    """A shape for the click encoder, which has no columns."""
    return replace(shape, numbers=(), categories=())
