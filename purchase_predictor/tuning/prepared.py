"""Rows prepared once for many fits, and systems to be fitted on them."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from torch import Tensor

from features.arrays import EncodedMarket
from features.schema import Tables
from features.splits import training_products
from purchase_predictor.baselines.registry import make_baseline
from purchase_predictor.baselines.system import Progress, System
from purchase_predictor.checkpoint import write_file
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.panel import FUSION
from purchase_predictor.settings import Settings
from purchase_predictor.training.loop import OnEpoch, no_epoch
from purchase_predictor.training.next_click import (
    SCORE_COLUMNS,
    NextClick,
    with_scores,
    without_scores,
)
from purchase_predictor.training.preparation import Preparation
from purchase_predictor.training.selection import ALL_MARKETS, check_rows, select_market, split_by
from purchase_predictor.training.shapes import ContentSizes, shape_of
from purchase_predictor.training.system import FusionSystem

LOCK = "lock"


@contextmanager
def one_at_a_time(store: Path, progress: Progress) -> Iterator[None]:
    """Let one process prepare in a folder: checkpoints that two write at once are neither's.

    Args:
        store: folder of finished pre-trainings, which whoever waited then takes up.
        progress: told that another process is waited for.
    """
    store.mkdir(parents=True, exist_ok=True)
    lock = FileLock(store / LOCK)  # the system lets go of it when its process dies
    try:
        lock.acquire(timeout=0)
    except Timeout:
        progress("another process prepares these rows: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Prepared:
    """Rows that every system is fitted on and judged on.

    Attributes:
        data: encoded rows, next-click scores among the columns.
        sizes: vocabulary sizes.
        clicks: weights of the pre-trained click encoder; None where there is none.
        click_auc: AUC of the next-click score alone, on training and on validation rows.
        seconds: that encoders, features and pre-training took.
    """

    data: EncodedMarket
    sizes: ContentSizes
    clicks: Mapping[str, Tensor] | None
    click_auc: Mapping[str, float | None]
    seconds: float


def prepare(
    tables: Tables,
    settings: Settings,
    *,
    market: str = ALL_MARKETS,
    store: Path | None = None,
    progress: Progress,
) -> Prepared:
    """Split, encode and pre-train as `PurchasePredictor.fit` does.

    Args:
        tables: checked, with labels.
        settings: all settings.
        market: whose rows are taken; cut times come from all markets.
        store: folder of finished pre-trainings, which are taken up; None keeps none.
        progress: told what happens.

    Raises:
        DataError: the rows cannot be learned from or judged on.
    """
    began = time.perf_counter()
    key = clicks_key(settings, market)
    split = split_by(tables, settings)
    selection = select_market(tables, split, market)
    check_rows(selection, market, settings.data.min_conversions)
    content = ContentEncoders.fit(
        tables.products,
        tables.folder,
        settings.encoders,
        settings.data,
        training=training_products(tables, split),
        seed=settings.seed,
        progress=progress,
    )
    preparation = Preparation(settings)
    data = preparation.fit(
        selection,
        content=content,
        folder=None if store is None else store / f"clicks-{key}",
        resume=store is not None,
        progress=progress,
    )
    clicks = preparation.clicks_
    seconds = time.perf_counter() - began
    if store is not None:
        seconds = _first_time(store / f"seconds-{key}.json", seconds)
    return Prepared(
        data=data,
        sizes=preparation.sizes(),
        clicks=None if clicks is None else clicks.model_.state_dict(),
        click_auc={} if clicks is None else clicks.auc_,
        seconds=seconds,
    )


def _first_time(file: Path, seconds: float) -> float:
    """What it took when nothing had been there to take up."""
    if file.is_file():
        return float(json.loads(file.read_text())["seconds"])
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, lambda path: path.write_text(json.dumps({"seconds": seconds})))
    return seconds


NOT_OF_CLICKS = {"n_layers", "n_members", "n_bins", "d_number", "parts", "market"}
"""Settings of the model that a click encoder does not depend on."""


def clicks_key(settings: Settings, market: str = ALL_MARKETS) -> str:
    """Hash of what decides whether two fits can share a click encoder, the data excepted."""
    values = settings.model_dump(include={"seed", "data", "encoders", "model", "pretraining"})
    values["encoders"].pop("cache")
    kept = {name: v for name, v in values["model"].items() if name not in NOT_OF_CLICKS}
    loop = settings.training.model_dump(include={"patience", "warm_up", "clip_norm", "ema_decay"})
    if settings.model.market == "none":  # hidden from the click encoder too
        kept["market"] = "none"
    text = json.dumps([{**values, "model": kept, "training": loop}, market], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def with_clicks(prepared: Prepared, settings: Settings, *, progress: Progress) -> Prepared:
    """The same rows with a click encoder trained by other settings, and its scores.

    Args:
        prepared: rows; whatever scores they have are replaced.
        settings: whose `model` and `pretraining` count.
        progress: told a line at each epoch.
    """
    if prepared.clicks is None or not settings.pretraining.epochs:
        data = without_score_columns(prepared.data)
        return replace(prepared, data=data, clicks=None, click_auc={})
    data = without_score_columns(prepared.data)
    shape = without_scores(shape_of(data, prepared.sizes))
    clicks = NextClick(shape, settings).fit(data, progress=progress)
    return replace(
        prepared,
        data=with_scores(data, clicks.scores_),
        clicks=clicks.model_.state_dict(),
        click_auc=clicks.auc_,
    )


def without_score_columns(data: EncodedMarket) -> EncodedMarket:
    """The rows as they are before pre-training adds its scores."""
    scores = {column.name for column in SCORE_COLUMNS}
    return only_numbers(data, [column.name not in scores for column in data.number_columns])


def only_numbers(data: EncodedMarket, kept: list[bool]) -> EncodedMarket:
    """The same rows with some of the number columns."""
    columns = tuple(c for c, keep in zip(data.number_columns, kept, strict=True) if keep)
    numbers = np.ascontiguousarray(data.numbers[:, np.array(kept, bool)])
    return replace(data, numbers=numbers, number_columns=columns)


def make_system(
    name: str, settings: Settings, prepared: Prepared, *, on_epoch: OnEpoch = no_epoch
) -> System:
    """The fusion or a baseline, not yet fitted.

    Args:
        name: of the system.
        settings: all settings.
        prepared: rows it will be fitted on.
        on_epoch: told the figures of each epoch of a fusion.

    Raises:
        SettingsError: if there is no such baseline; names the nearest.
    """
    if name == FUSION:
        return FusionSystem(settings, prepared.sizes, clicks=prepared.clicks, on_epoch=on_epoch)
    return make_baseline(name, settings.baselines)
