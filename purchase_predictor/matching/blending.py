"""Iterative neighbourhood blending: an embedding becomes the mean of those it matches.

Source: "From Embeddings to Matches", first place of Shopee's price-match competition.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from purchase_predictor.errors import SettingsError
from purchase_predictor.errors import nearest as nearest_name
from purchase_predictor.matching.matches import CAP, Matches, capped, keep, union
from purchase_predictor.matching.neighbours import K, Neighbours, nearest
from purchase_predictor.matching.views import COMB, Vectors, View, comb_view, unit_rows

STAGES = 3


@dataclass(frozen=True)
class Thresholds:
    """Greatest distances, 1 − cosine, that make a match.

    `…_second` is the looser one of the nearest other listing (min2).

    Attributes:
        image, image_second: of the picture's view at stage 1.
        title, title_second: of the title's view at stage 1.
        comb, comb_second: of both side by side at stage 1.
        stage2, stage2_second: in the embedding blended once.
        stage3, stage3_second: in the embedding blended twice.
        further: both distances of each further view, by its name.
    """

    image: float
    image_second: float
    title: float
    title_second: float
    comb: float
    comb_second: float
    stage2: float
    stage2_second: float
    stage3: float
    stage3_second: float
    further: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return values | {"further": {name: list(pair) for name, pair in self.further.items()}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `to_dict` made.

        Raises:
            SettingsError: if a threshold is missing, unknown or not a number.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise SettingsError(f"There is no threshold {name!r}{nearest_name(name, names)}.")
        missing = [name for name in names[:-1] if name not in values]
        if missing:
            raise SettingsError(f"Thresholds lack {', '.join(missing)}.")
        further = values.get("further", {})
        if not isinstance(further, Mapping):
            raise SettingsError(f"Thresholds 'further' must map views to pairs, got {further!r}.")
        plain = {name: _number(name, values[name]) for name in names[:-1]}
        return cls(**plain, further={name: _pair(name, pair) for name, pair in further.items()})

    def of(self, name: str) -> tuple[float, float]:
        """Both distances of "image", "title", "comb", "stage2", "stage3" or a further view.

        Raises:
            ValueError: if a further view has none.
        """
        if name in _NAMED:
            return getattr(self, name), getattr(self, f"{name}_second")
        if name not in self.further:
            raise ValueError(f"There are no thresholds of the view {name!r}.")
        return self.further[name]


_NAMED = ("image", "title", COMB, "stage2", "stage3")


def blend(vectors: Vectors, matches: Matches) -> Vectors:
    """Each embedding becomes the mean of those it matches, e'_i = norm(Σ_j cos_ij · e_j).

    Args:
        vectors: float32 [n, d], dense or sparse.
        matches: what each listing matches, itself included, with the cosines.

    Returns:
        Of the same kind and shape; a row that sums to zero stays zero.
    """
    return unit_rows(matches @ vectors)


class Blender:
    """Matches of a gallery by iterative neighbourhood blending.

    Stage 1 neighbours do not depend on the thresholds and are searched once; those of the later
    stages are kept for the last thresholds, so a search over stage 3 alone is cheap.

    Attributes:
        views: of stage 1, the comb view first, in the order of trust in their cosines.
    """

    def __init__(
        self,
        image: View | None = None,
        title: View | None = None,
        *,
        further: Sequence[View] = (),
        k: int = K,
        starts: NDArray[np.int64] | None = None,
    ) -> None:
        """Take the views of one gallery, or of several side by side.

        Args:
            image: of pictures, or of their hashes.
            title: of titles.
            further: views of stage 1 that stay out of the comb embedding, such as TF-IDF.
            k: neighbours of a listing, itself included.
            starts: where each gallery begins, if there are several, see `nearest`.

        Raises:
            ValueError: if there is neither image nor title, lengths differ, two further views
                share a name, or one of two views to go side by side is sparse.
        """
        single = {"image": image, "title": title}
        blended = {name: view for name, view in single.items() if view is not None}
        names = [view.name for view in further]
        if not blended:
            raise ValueError("Blending takes a view of images, of titles, or both.")
        if len({*names, *_NAMED}) < len(names) + len(_NAMED):
            raise ValueError(f"Further views need names of their own, got {', '.join(names)}.")
        # A view alone is its own comb, a sparse one too.
        parts = list(blended.values())
        comb = comb_view(parts) if len(parts) > 1 else parts[0]
        self.views = {COMB: comb, **blended, **dict(zip(names, further, strict=True))}
        if len({len(view) for view in self.views.values()}) > 1:
            lengths = ", ".join(f"{name}: {len(view)}" for name, view in self.views.items())
            raise ValueError(f"Views must be of the same listings, got {lengths}.")
        self.k, self.starts = k, starts
        self._single: dict[int, Neighbours] = {}
        self._later: list[tuple[tuple[Any, ...], Vectors, Neighbours]] = []

    def match(self, thresholds: Thresholds, *, stages: int = STAGES, cap: int = CAP) -> Matches:
        """Matches under some thresholds.

        Args:
            thresholds: of stage 1, of its further views, and of the later stages.
            stages: 1 unites the views without blending, 2 blends once, 3 twice.
            cap: listings that a listing may match, itself included.

        Returns:
            Matches of the last stage, united with those of each single view at stage 1.

        Raises:
            ValueError: if `stages` is none of these, or a further view has no thresholds.
        """
        if stages not in range(1, STAGES + 1):
            raise ValueError(f"stages must be 1, 2 or 3, got {stages}.")
        singles = [self._kept(name, thresholds, cap) for name in self.views if name != COMB]
        matches = union(self._kept(COMB, thresholds, cap), *singles)
        vectors = self.views[COMB].vectors
        key: tuple[Any, ...] = (cap, *(thresholds.of(name) for name in self.views))
        for stage in range(2, stages + 1):
            vectors, neighbours = self._blended(stage, key, vectors, matches)
            pair = thresholds.of(f"stage{stage}")
            matches = keep(neighbours, pair[0], second=pair[1], cap=cap)
            key = (*key, pair)
        if stages > 1:
            matches = union(matches, *singles)
        return capped(matches, cap)

    def neighbours(self, name: str) -> Neighbours:
        """Neighbours at stage 1 in a view, searched at the first call."""
        view = self.views[name]
        if id(view) not in self._single:
            self._single[id(view)] = self._nearest(view.vectors, view.present)
        return self._single[id(view)]

    def take_over(self, found: Mapping[str, Neighbours]) -> None:
        """Neighbours that were searched before, by the name of their view."""
        self._single |= {id(self.views[name]): neighbours for name, neighbours in found.items()}

    def _nearest(self, vectors: Vectors, present: NDArray[np.bool_]) -> Neighbours:
        return nearest(vectors, k=self.k, present=present, starts=self.starts)

    def _kept(self, name: str, thresholds: Thresholds, cap: int) -> Matches:
        threshold, second = thresholds.of(name)
        return keep(self.neighbours(name), threshold, second=second, cap=cap)

    def _blended(
        self, stage: int, key: tuple[Any, ...], vectors: Vectors, matches: Matches
    ) -> tuple[Vectors, Neighbours]:
        """The embedding of a stage and its neighbours, of the last call where nothing changed."""
        at = stage - 2
        if len(self._later) <= at or self._later[at][0] != key:
            del self._later[at:]
            blended = blend(vectors, matches)
            # A listing without image and title may have got an embedding from a further view.
            found = self._nearest(blended, _is_there(blended))
            self._later.append((key, blended, found))
        return self._later[at][1:]


def _is_there(vectors: Vectors) -> NDArray[np.bool_]:
    if isinstance(vectors, np.ndarray):
        return np.asarray(vectors.any(axis=1))
    return np.diff(vectors.indptr) > 0


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SettingsError(f"The threshold {name!r} must be a number, got {value!r}.")
    return float(value)


def _pair(name: str, values: object) -> tuple[float, float]:
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise SettingsError(f"The view {name!r} must have two thresholds, got {values!r}.")
    first, second = (_number(name, value) for value in values)
    return first, second
