"""What the benchmarks share: rows without a modality, and memory looked at while a block runs."""

import threading
from dataclasses import replace
from types import TracebackType
from typing import Self

import numpy as np
import psutil

from features.arrays import EncodedMarket
from purchase_predictor.baselines.system import Progress
from purchase_predictor.settings import Settings
from purchase_predictor.tuning.prepared import (
    Prepared,
    only_numbers,
    with_clicks,
    without_score_columns,
)

DROPPED_COLUMNS = {
    "text": (),
    "image": (),
    "clickstream": ("clickstream",),
    "terms": ("terms", "culture"),
}
"""Modalities that a fusion can be trained without, and the groups of columns that go with each."""

SAMPLED_EVERY = 0.05
"""Seconds between two looks at the memory."""


def without_modality(
    prepared: Prepared, dropped: str, settings: Settings, *, progress: Progress
) -> Prepared:
    """The same rows without one modality, its columns and content removed.

    Pre-training is repeated, since its scores would carry over what was removed; without the
    clickstream there is none.

    Args:
        prepared: rows.
        dropped: of `DROPPED_COLUMNS`; terms are the offer's terms, the market and its culture.
        settings: of the pre-training.
        progress: told a line at each epoch.
    """
    data = _without_columns(without_score_columns(prepared.data), DROPPED_COLUMNS[dropped])
    if dropped in ("text", "image"):
        data = _without_content(data, dropped)
    elif dropped == "terms":
        data = data.without_market()  # who is not told the culture is not told the country either
        data = _without_prices(data)
    else:
        return replace(prepared, data=_without_events(data), clicks=None, click_auc={})
    return with_clicks(replace(prepared, data=data), settings, progress=progress)


def _without_columns(data: EncodedMarket, groups: tuple[str, ...]) -> EncodedMarket:
    data = only_numbers(data, [column.group not in groups for column in data.number_columns])
    kept = [column.group not in groups for column in data.category_columns]
    columns = tuple(c for c, keep in zip(data.category_columns, kept, strict=True) if keep)
    categories = np.ascontiguousarray(data.categories[:, np.array(kept, bool)])
    return replace(data, categories=categories, category_columns=columns)


def _without_prices(data: EncodedMarket) -> EncodedMarket:
    """Nor is taste told by prices, which are terms."""
    unknown = np.full_like(data.products.price_level, np.nan)
    data = replace(data, products=replace(data.products, price_level=unknown))
    return only_numbers(data, [column.block != "price taste" for column in data.number_columns])


def _without_content(data: EncodedMarket, kind: str) -> EncodedMarket:
    # what pictures say is learned from titles: it goes with either
    products = replace(
        data.products,
        picture_phrases=data.products.picture_phrases[:, :0],
        picture_phrase_names=(),
    )
    none = np.zeros(len(products), bool)
    if kind == "image":
        products = replace(products, image=products.image[:, :0], has_image=none)
    else:
        products = replace(
            products,
            words=products.words[:, :0],
            text=products.text[:, :0],
            phrases=np.zeros_like(products.phrases),
            has_text=none,
        )
    return replace(data, products=products)


def _without_events(data: EncodedMarket) -> EncodedMarket:
    names = ("product", "event_type", "time", "log_gap", "session", "unit", "part", "market")
    events = replace(data.events, **{name: getattr(data.events, name)[:0] for name in names})
    return replace(
        data,
        events=events,
        sequence_start=np.zeros_like(data.sequence_start),
        sequence_stop=np.zeros_like(data.sequence_stop),
        cut=np.zeros_like(data.cut),
    )


class PeakMemory:
    """Peak resident memory of this process while a block runs, in GB, looked at in a thread.

    Attributes:
        gb: the largest value seen.
    """

    def __enter__(self) -> Self:
        self._process = psutil.Process()
        self._done = threading.Event()
        self.gb = self._now()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()
        self.gb = max(self.gb, self._now())

    def _watch(self) -> None:
        while not self._done.wait(SAMPLED_EVERY):
            self.gb = max(self.gb, self._now())

    def _now(self) -> float:
        return self._process.memory_info().rss / 1e9
