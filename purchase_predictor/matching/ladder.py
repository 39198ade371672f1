"""The ladder of "From Embeddings to Matches": one strategy after another on the same galleries.

Thresholds come from validation galleries of the size of the test galleries, matched by encoders
that saw neither. The rung "all data" changes the encoders alone: they learned from the validation
groups too, so those can tune nothing any more and the thresholds before it stay.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import polars as pl
from numpy.typing import NDArray

from purchase_predictor.evaluation.intervals import percentile_interval, resample
from purchase_predictor.matching.bench import Bench, Views
from purchase_predictor.matching.gallery import Split, draw_galleries, halve_galleries
from purchase_predictor.matching.matches import f1_by_listing
from purchase_predictor.matching.strategies import (
    Alone,
    Blended,
    Found,
    Search,
    Strategy,
    Union,
    Vetoed,
    mean_f1,
)
from purchase_predictor.matching.views import COMB
from purchase_predictor.settings import LadderSettings

UNTRAINED, BASE, ALL = "untrained", "base", "all"
"""Generations of encoders: before training, of the training groups, of validation groups too."""

MIN2, ALL_DATA = "min2", "all data"
JOINT = "blending: image, title, comb at stage 1, joint thresholds"
VETO = "quantity veto"

Resampled: TypeAlias = tuple[float, NDArray[np.float64]]
"""A mean as it is, and under resampling."""

NO_GAIN: Mapping[str, float | None] = {"value": None, "low": None, "high": None}
"""Of the first rung, which follows none."""

_CHUNK = 64


@dataclass(frozen=True)
class Rung:
    """A step of the ladder.

    Attributes:
        name: as it is printed.
        strategy: how it matches.
        generation: whose encoders match the test galleries.
        keeps: the rung whose thresholds it takes over; None tunes its own.
        note: what is worth saying beside it.
    """

    name: str
    strategy: Strategy
    generation: str = BASE
    keeps: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Step:
    """What a rung reached in galleries of one size.

    Attributes:
        rung: the rung.
        f1: mean over the scored listings of the test galleries; `value`, `low`, `high`.
        validation_f1: of the validation galleries, on which the thresholds were found.
        gallery: listings of the largest test gallery.
        n_galleries: test galleries of this size.
        n_listings: scored listings in all of them.
        seconds: of searching neighbours and matching, without encoders and tuning.
        thresholds: what tuning found.
        resampled: F1 and, float64 [n_resamples], F1 under resampling; all rungs in galleries of
            one size have the same resamples, so their differences are paired.
        gain: F1 minus that of `gain_over`; `value`, `low`, `high`.
        gain_over: the rung whose thresholds it keeps, else the one before it in galleries of this
            size; None of the first.
    """

    rung: Rung
    f1: Mapping[str, float | None]
    validation_f1: float
    gallery: int
    n_galleries: int
    n_listings: int
    seconds: float
    thresholds: Found
    resampled: Resampled = field(default=(np.nan, np.empty(0)), repr=False, compare=False)
    gain: Mapping[str, float | None] = field(default_factory=lambda: NO_GAIN)
    gain_over: str | None = None

    def row(self) -> dict[str, Any]:
        """As `ladder.json` holds it."""
        return {
            "rung": self.rung.name,
            "f1": self.f1["value"],
            "low": self.f1["low"],
            "high": self.f1["high"],
            "gain": self.gain["value"],
            "gain_low": self.gain["low"],
            "gain_high": self.gain["high"],
            "gain_over": self.gain_over,
            "gallery": self.gallery,
            "seconds": round(self.seconds, 3),
            "note": self.rung.note,
            "validation_f1": self.validation_f1,
            "galleries": self.n_galleries,
            "listings": self.n_listings,
            "encoders": self.rung.generation,
            "thresholds": self.thresholds,
        }


def make_rungs(
    views: Mapping[str, Views], *, tfidf: bool, veto: bool, image_name: str
) -> list[Rung]:
    """The rungs that the views allow, in the order of the reference.

    Args:
        views: of each generation; `BASE` must be there.
        tfidf: whether TF-IDF joins unions and blending.
        veto: whether the last rung drops pairs of different quantities.
        image_name: what the image view shows: pictures or their hashes.

    Returns:
        At least one rung.
    """
    base = views[BASE]
    sides = base.sides
    called = {"image": image_name, "title": "title"}
    rungs = []
    if UNTRAINED in views:
        for side in sides:
            if views[UNTRAINED].has(side) and not (side == "image" and image_name != "image"):
                name = f"{called[side]}, untrained"
                note = "encoders as they were before training"
                rungs.append(Rung(name, Alone(side, second=True), UNTRAINED, note=note))
    if base.has("tfidf"):
        rungs.append(
            Rung("TF-IDF", Alone("tfidf", second=True), note="words of titles, untrained")
        )
    rungs += [Rung(called[side], Alone(side)) for side in sides]
    single = sides[-1]
    if len(sides) == 1:
        rungs.append(Rung(MIN2, Alone(single, second=True)))
        last = rungs[-1]
    else:
        rungs += [
            Rung("title, min2", Alone("title", second=True)),
            Rung("concat → normalise", Alone("raw")),
            Rung(MIN2, Alone("raw", second=True)),
            Rung("normalise → concat", Alone(COMB, second=True)),
        ]
        last = rungs[-1]
        product = "D1 + D2 − D1·D2"
        rungs.append(Rung(product, Alone("product", second=True), note="beside the reference"))
    final = ALL if ALL in views else BASE
    if ALL in views:
        for rung in [rung for rung in rungs if rung.name == "title, min2"] + [last]:
            name = ALL_DATA if rung is last else f"{rung.name}, {ALL_DATA}"
            note = f"thresholds of “{rung.name}” kept"
            rungs.append(Rung(name, rung.strategy, ALL, keeps=rung.name, note=note))
    return rungs + _upper_rungs(base, sides, final, tfidf=tfidf, veto=veto)


def _upper_rungs(
    base: Views, sides: Sequence[str], final: str, *, tfidf: bool, veto: bool
) -> list[Rung]:
    """Unions and blending, matched by the last generation of encoders."""
    pair = (COMB, *sides) if len(sides) > 1 else tuple(sides)
    union, rungs = Union(pair), []
    if len(pair) > 1:
        rungs.append(Rung("union, tuned thresholds", union, final))
    if tfidf and base.has("tfidf"):
        union = Union((*pair, "tfidf"))
        rungs.append(Rung("union with TF-IDF", union, final))
    blended = Blended(union if len(pair) > 1 else Union((COMB, *union.views)), joint=True)
    note = "comb alone names neighbours; united with the single views' matches"
    rungs.append(Rung("blending", Blended(blended.union, joint=False), final, note=note))
    rungs.append(Rung(JOINT, blended, final))
    if veto:
        note = "thresholds of the rung before kept"
        rungs.append(Rung(VETO, Vetoed(blended), final, keeps=JOINT, note=note))
    return rungs


@dataclass
class Ladder:
    """Climbs rungs on galleries of several sizes.

    Args:
        rungs: in order; a rung that keeps thresholds comes after the one that found them.
        views: of all listings, by generation of encoders.
        split: parts of the listings.
        titles: of all listings.
        settings: sizes, neighbours, intervals.
        search: how thresholds are searched.
        seed: of the resampling.
        progress: takes a line for each rung.

    Attributes:
        steps_: what each rung reached, size by size.
    """

    rungs: Sequence[Rung]
    views: Mapping[str, Views]
    split: Split
    titles: pl.Series
    settings: LadderSettings
    search: Search
    seed: int
    progress: Callable[[str], None]
    steps_: list[Step] = field(default_factory=list)

    def climb(self) -> "Ladder":
        """Try every rung on every size of gallery."""
        sizes = dict.fromkeys(self.settings.galleries)
        done: set[int] = set()
        for size in sizes:
            largest = self._bench("test", size, BASE).size
            if largest not in done:  # a size beyond the part is the part
                done.add(largest)
                self._climb_at(size, largest)
        return self

    def _climb_at(self, size: int, largest: int) -> None:
        found: dict[str, Found] = {}
        tuned_on: dict[str, Bench] = {}
        reached: dict[str, float] = {}
        for rung in self.rungs:
            name = rung.keeps or rung.name
            if rung.keeps is None or isinstance(rung.strategy, Vetoed):
                generation = UNTRAINED if rung.generation == UNTRAINED else BASE
                if generation not in tuned_on:
                    tuned_on[generation] = self._bench(
                        "validation", largest, generation, padded_to=largest
                    )
                bench = tuned_on[generation]
                if rung.keeps is None:
                    found[name] = rung.strategy.tune(bench, self.search)
                matches = rung.strategy.match(bench, found[name], self.settings.largest_group)
                reached[rung.name] = mean_f1(matches, bench)
            else:
                reached[rung.name] = reached[name]
            step = self._judge(rung, found[name], reached[rung.name], size)
            self.steps_.append(step)
            self.progress(
                f"{step.gallery:,} listings, {rung.name}: F1 {step.f1['value']:.4f} "
                f"(validation {step.validation_f1:.4f})"
            )

    def _judge(self, rung: Rung, found: Found, validation_f1: float, size: int) -> Step:
        bench = self._bench("test", size, rung.generation)
        began = time.perf_counter()
        matches = rung.strategy.match(bench, found, self.settings.largest_group)
        seconds = time.perf_counter() - began
        reached = self._resampled(bench, f1_by_listing(matches, bench.truth))
        before = self._before(rung, bench.size)
        return Step(
            rung=rung,
            f1=percentile_interval(*reached, self.settings.confidence),
            validation_f1=validation_f1,
            gallery=bench.size,
            n_galleries=len(bench.starts),
            n_listings=int(bench.scored.sum()),
            seconds=seconds,
            thresholds=found,
            resampled=reached,
            gain=NO_GAIN if before is None else self._gain(reached, before.resampled),
            gain_over=None if before is None else before.rung.name,
        )

    def _before(self, rung: Rung, gallery: int) -> Step | None:
        """The step that a rung is compared with, in galleries of the same size."""
        steps = {step.rung.name: step for step in self.steps_ if step.gallery == gallery}
        return steps[rung.keeps] if rung.keeps else next(reversed(steps.values()), None)

    def _gain(self, found: Resampled, before: Resampled) -> dict[str, float | None]:
        """F1 minus that of an earlier step, the same groups resampled for both."""
        gain, draws = found[0] - before[0], found[1] - before[1]
        return percentile_interval(gain, draws, self.settings.confidence)

    def best(self) -> Step:
        """The rung with the highest validation F1 in the largest gallery.

        A rung of untrained encoders is not asked for: `encoders/` holds the trained ones.
        """
        largest = max(step.gallery for step in self.steps_)
        asked = [
            step
            for step in self.steps_
            if step.gallery == largest and step.rung.generation != UNTRAINED
        ]
        final = [step for step in asked if step.rung.generation == ALL] or asked
        return max(final, key=lambda step: step.validation_f1)

    def curve(self, steps: Sequence[Step]) -> list[dict[str, Any]]:
        """F1 against the size of the gallery, the same listings scored at every size.

        Args:
            steps: whose thresholds are kept at all sizes.

        Returns:
            `rung, gallery, f1, low, high` for each rung and size.
        """
        rows = []
        smallest = self.settings.smallest_gallery
        for galleries in halve_galleries(self.split, "test", smallest=smallest):
            mean_size = round(sum(map(len, galleries)) / len(galleries))
            for step in steps:
                bench = self._of(galleries, step.rung.generation)
                matches = step.rung.strategy.match(
                    bench, step.thresholds, self.settings.largest_group
                )
                f1 = self._interval(bench, f1_by_listing(matches, bench.truth))
                rows.append(
                    {
                        "rung": step.rung.name,
                        "gallery": mean_size,
                        "f1": f1["value"],
                        "low": f1["low"],
                        "high": f1["high"],
                    }
                )
        return rows

    def _bench(self, part: str, size: int, generation: str, *, padded_to: int = 0) -> Bench:
        galleries = draw_galleries(self.split, part, size=size, padded_to=padded_to)
        return self._of(galleries, generation)

    def _of(self, galleries: Sequence[Any], generation: str) -> Bench:
        views = self.views[generation]
        return Bench(galleries, views, self.titles, k=self.settings.neighbours)

    def _interval(self, bench: Bench, f1: NDArray[np.float64]) -> dict[str, float | None]:
        return percentile_interval(*self._resampled(bench, f1), self.settings.confidence)

    def _resampled(self, bench: Bench, f1: NDArray[np.float64]) -> Resampled:
        """Mean F1 of the scored listings, joined groups resampled."""
        scored = bench.scored
        return resampled_mean(
            f1[scored], bench.unit[scored], n_resamples=self.settings.resamples, seed=self.seed
        )


def resampled_mean(
    values: NDArray[np.float64], unit: NDArray[Any], *, n_resamples: int, seed: int
) -> Resampled:
    """A mean as it is and under resampling of units.

    Args:
        values: of at least one listing [n].
        unit: what is resampled whole, such as joined groups [n].
        n_resamples: how often.
        seed: of the draws; with the same units and seed the draws of two means are paired.

    Returns:
        The mean, and float64 [n_resamples].
    """
    present, number = np.unique(unit, return_inverse=True)
    sums, counts = np.bincount(number, weights=values), np.bincount(number).astype(np.float64)
    draws = [
        (sums @ weights) / (counts @ weights)
        for _, weights in resample(len(present), n_resamples, _CHUNK, seed)
    ]
    return float(sums.sum() / counts.sum()), np.concatenate(draws)
