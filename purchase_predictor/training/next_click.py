"""What clicks say of a product, as inputs of every system: trained encoders, cross-fitted scores.

The click encoder scores what a history turns to next; choice models, where products have pictures
or titles, say how far the product suits the shopper's taste.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from features.arrays import STOP, TRAIN, Column, EncodedMarket
from purchase_predictor.checkpoint import read_folder, write_folder
from purchase_predictor.model.choice import ChoiceModel
from purchase_predictor.model.inputs import FusionShape
from purchase_predictor.model.session import ClickEncoder
from purchase_predictor.settings import ModelSettings, Settings
from purchase_predictor.training.batches import scoring_rows
from purchase_predictor.training.choosing import fit_choices
from purchase_predictor.training.click_scores import centre, score_clicks, within_lists
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
from purchase_predictor.training.tastes import tastes

SCORE_COLUMNS = tuple(
    Column(name=name, group="clickstream", block=block)
    for block, names in (
        (
            "next click",
            (
                "next_click_lift",
                "next_click_score",
                "next_click_cosine",
                "next_click_above_list_mean",
                "next_click_rank_in_list",
                "taste_for_product",
                "taste_above_list_mean",
            ),
        ),
        (
            "price taste",
            (
                "taste_for_price",
                "taste_for_price_times_price_level",
                "taste_for_price_times_discount",
            ),
        ),
    )
    for name in names
)

N_CLICK_SCORES = 5
"""Of these columns the first are the click encoder's, the others the choice models'."""

Model = TypeVar("Model")


def _choice_scores(models: Sequence[ChoiceModel], data: EncodedMarket) -> NDArray[np.float32]:
    """The last of `SCORE_COLUMNS`, float32 [n, 5]."""
    of_product, of_price = tastes(models, data).T
    above = within_lists(of_product, data.list_number)[:, 0]
    # a linear model cannot multiply, and whether a price deters depends on whose it is
    terms = [of_price * _number(data, name) for name in ("price_level", "discount_rate")]
    return np.column_stack([of_product, above, of_price, *terms])


def _number(data: EncodedMarket, name: str) -> NDArray[np.float32]:
    """A column of numbers, NaN where the data has none of that name."""
    for place, column in enumerate(data.number_columns):
        if column.name == name:
            return data.numbers[:, place]
    return np.full(len(data), np.nan, np.float32)


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
    """The pre-trained click encoder, the choice models, and the cross-fitted scores they give.

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
        """Train on all training events, and for each fold on what it may know.

        Folds of units: the other units' events. Blocks of time: the events before the block; the
        first block has none and its rows no score. Choice models always have folds of units: of
        products they know only what can be seen, so later events tell them nothing of this row's.

        Args:
            data: its training events are learned from; events before the STOP rows stop it.
            folder: of checkpoints.
            resume: goes on from them.
            progress: told a line at each epoch.
            on_epoch: told the figures of each epoch.

        Returns:
            itself, with `model_`, `choices_`, `scores_` float32 [n, 10] cross-fitted on training
            rows, and `auc_` of the lift on training and on validation rows.
        """
        clicks = partial(
            self._clicks, data=data, folder=folder, resume=resume,
            progress=progress, on_epoch=on_epoch,
        )  # fmt: skip
        choice = partial(
            fit_choices, data=data, shape=self.shape, settings=self.settings,
            progress=progress, on_epoch=on_epoch,
        )  # fmt: skip
        learnable, known = np.ones(len(data.events), bool), np.ones(len(data), bool)
        self.model_ = clicks("clicks", learnable=learnable, known=known)
        self.choices_ = []
        if self._has_choice():
            self.choices_ = choice("choice", learnable=learnable, known=known)
        data.store.settle()
        self.scores_ = self.score(data)
        of_clicks, of_choice = self.scores_[:, :N_CLICK_SCORES], self.scores_[:, N_CLICK_SCORES:]
        cross_fit = self.settings.pretraining.cross_fit
        self._cross_fit(data, cross_fit, "clicks", clicks, self._click_scores, of_clicks)
        if self.choices_:
            self._cross_fit(data, "units", "choice", choice, _choice_scores, of_choice)
        # they should agree: a score that flatters training rows misleads every system
        parts = {"training": data.part == TRAIN, "validation": data.part == STOP}
        self.auc_, of_taste = (
            {name: _auc(data.converted[rows], score[rows]) for name, rows in parts.items()}
            for score in (of_clicks[:, 0], of_choice[:, 0])
        )
        progress(f"next-click lift alone: {_auc_sentence(self.auc_)}")
        if self.choices_:
            progress(f"taste for the product alone: {_auc_sentence(of_taste)}")
        return self

    def _cross_fit(
        self,
        data: EncodedMarket,
        how: str,
        name: str,
        train: Callable[..., Model],
        score: Callable[[Model, EncodedMarket], NDArray[np.float32]],
        scores: NDArray[np.float32],
    ) -> None:
        """Replace the scores of training rows by those of models that did not know them."""
        training, events = data.part == TRAIN, data.events
        tells = (events.part == TRAIN) & (events.product > 0)
        for number, (learnable, known, scored) in enumerate(self._folds(data, how)):
            rows = training & scored
            if not (learnable & tells).any():
                scores[rows] = np.nan
            else:
                model = train(f"{name}-fold-{number}", learnable=learnable, known=known)
                scores[rows] = score(model, data.select(rows))
            data.store.settle()

    def _clicks(
        self,
        name: str,
        data: EncodedMarket,
        *,
        learnable: NDArray[np.bool_],
        known: NDArray[np.bool_],
        folder: Path | None,
        resume: bool,
        progress: Progress,
        on_epoch: OnEpoch,
    ) -> ClickEncoder:
        """A click encoder of some events [n_events], with the products of some impressions [n]."""
        torch.manual_seed(self.settings.seed)
        model = ClickEncoder(shape=self.shape, settings=self.settings.model)
        task = ClickTask(
            name,
            model,
            data,
            learnable=learnable,
            known=known,
            settings=self.settings,
        )
        loop = Loop(task, self._loop(), folder=folder, progress=progress, on_epoch=on_epoch)
        loop.fit(resume=resume)
        centre(model, data, known, seed=self.settings.seed, device=default_device())
        return model

    def _has_choice(self) -> bool:
        """Whether products can be told apart by what can be seen of them."""
        seen = self.shape.d_image or self.shape.d_text
        return bool(seen and self.settings.pretraining.taste_rank)

    def _folds(
        self, data: EncodedMarket, how: str
    ) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
        """Events [n_events] and rows [n] that a fold knows, and rows [n] it scores, all bool."""
        n_folds = self.settings.pretraining.n_folds
        if how == "units":
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
        """Scores of rows that pre-training has not seen, float32 [n, 10]."""
        clicks = self._click_scores(self.model_, data)
        if not self.choices_:
            width = len(SCORE_COLUMNS) - N_CLICK_SCORES
            choice = np.full((len(data), width), np.nan, np.float32)
        else:
            choice = _choice_scores(self.choices_, data)
        return np.column_stack([clicks, choice])

    def save(self, folder: Path) -> None:
        """Write the models' weights as safetensors, their shape as JSON."""
        document = {
            "shape": self.shape.to_dict(),
            "model": self.settings.model.model_dump(),
            "tastes": [list(choice.tastes.shape) for choice in self.choices_],
            "auc": self.auc_,
        }
        tensors = {"weights": to_numpy(self.model_.state_dict())}
        for number, choice in enumerate(self.choices_):
            tensors[f"choice-{number}"] = to_numpy(choice.state_dict())
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
        clicks.choices_ = []
        for number, (n_classes, rank) in enumerate(document["tastes"]):
            choice = ChoiceModel(shape=clicks.shape, rank=rank, n_classes=n_classes)
            choice.load_state_dict(from_numpy(saved.tensors(f"choice-{number}")))
            clicks.choices_.append(choice.eval())
        return clicks

    def _click_scores(self, model: ClickEncoder, data: EncodedMarket) -> NDArray[np.float32]:
        device = default_device()
        scores = score_clicks(model, data, batch_size=scoring_rows(device), device=device)
        model.cpu()
        return scores

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
