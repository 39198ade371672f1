"""Galleries laid side by side with their views: what strategies are tuned and judged on."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from purchase_predictor.matching.blending import Blender
from purchase_predictor.matching.gallery import Gallery
from purchase_predictor.matching.neighbours import K, Neighbours, nearest, product_distance
from purchase_predictor.matching.views import COMB, View

TFIDF = "tfidf"


@dataclass(frozen=True)
class Views:
    """The views of the same listings, as one generation of encoders gives them.

    Attributes:
        image: of pictures or of picture hashes; None where no listing has any.
        title: of the title encoders; None where no listing has a title or none is embedded.
        further: other views by name, among them `raw` (embeddings side by side before they are
            normalised) and `tfidf`.
        comb: image and title side by side, each normalised; the one there is where one is absent.
        failures: product, path and reason of each picture that could not be read.
    """

    image: View | None
    title: View | None
    comb: View
    further: Mapping[str, View]
    failures: Sequence[tuple[str, str, str]] = ()

    def of(self, name: str) -> View:
        """One view by name.

        Raises:
            KeyError: if there is none of this name.
        """
        named = {"image": self.image, "title": self.title, COMB: self.comb, **self.further}
        view = named[name]
        if view is None:
            raise KeyError(name)
        return view

    def has(self, name: str) -> bool:
        """Whether there is a view of this name."""
        named = {"image": self.image, "title": self.title}
        return named[name] is not None if name in named else name in (COMB, *self.further)

    @property
    def sides(self) -> list[str]:
        """Which of the views of pictures and titles there are."""
        return [name for name in ("image", "title") if self.has(name)]

    def select(self, rows: NDArray[np.int64]) -> "Views":
        """The views of some listings, in the order given."""
        return Views(
            image=None if self.image is None else self.image.select(rows),
            title=None if self.title is None else self.title.select(rows),
            comb=self.comb.select(rows),
            further={name: view.select(rows) for name, view in self.further.items()},
        )


class Bench:
    """Galleries side by side: a listing is matched within its own gallery only.

    Neighbours are searched once for each view and kept.

    Attributes:
        views: of the listings, gallery after gallery.
        titles: of the listings.
        truth: int64 [n], equal where listings are the same product.
        unit: int64 [n], number of each listing's joined group, by which intervals resample.
        scored: bool [n], listings whose F1 counts; the others are distractors.
        starts: the first listing of each gallery.
        k: neighbours of a listing, itself included.
        tuned: thresholds that strategies share, so that each is searched once.
    """

    def __init__(
        self, galleries: Sequence[Gallery], views: Views, titles: pl.Series, *, k: int = K
    ) -> None:
        """Lay galleries side by side.

        Args:
            galleries: their rows point into `views` and `titles`; no listing is in two.
            views: of all listings of the catalogue.
            titles: of all listings of the catalogue.
            k: neighbours of a listing, itself included.
        """
        rows = np.concatenate([gallery.rows for gallery in galleries])
        self.views, self.titles = views.select(rows), titles.gather(rows)
        self.truth = np.concatenate([gallery.truth for gallery in galleries])
        self.scored = np.concatenate([gallery.scored for gallery in galleries])
        keys = np.concatenate([gallery.key for gallery in galleries])
        self.unit = np.unique(keys.astype(str), return_inverse=True)[1].astype(np.int64)
        sizes = [len(gallery) for gallery in galleries]
        self.starts = np.cumsum([0, *sizes[:-1]])
        self.size, self.k = max(sizes), k
        self._found: dict[str, Neighbours] = {}
        self.tuned: dict[Hashable, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.truth)

    def neighbours(self, name: str) -> Neighbours:
        """Neighbours in a view, searched at the first call."""
        if name not in self._found:
            view = self.views.of(name)
            self._found[name] = nearest(
                view.vectors, k=self.k, present=view.present, starts=self.starts
            )
        return self._found[name]

    def product(self) -> Neighbours:
        """Neighbours by the distances of picture and title taken together."""
        image, title = self.views.of("image"), self.views.of("title")
        return product_distance(
            image, title, found=(self.neighbours("image"), self.neighbours("title")), k=self.k
        )

    def blender(self, further: Sequence[str]) -> Blender:
        """Iterative blending of these galleries, which takes over the neighbours found so far.

        Args:
            further: names of the views of stage 1 beside picture and title.
        """
        blender = Blender(
            self.views.image,
            self.views.title,
            further=[self.views.of(name) for name in further],
            k=self.k,
            starts=self.starts,
        )
        blender.take_over({name: self.neighbours(name) for name in blender.views})
        return blender


def renamed(view: View, name: str) -> View:
    """The same view under another name."""
    return replace(view, name=name)
