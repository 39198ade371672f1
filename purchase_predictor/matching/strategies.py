"""Ways to match, as a ladder climbs them: each is tuned on one bench and matches on others."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from purchase_predictor.matching.bench import Bench
from purchase_predictor.matching.blending import Thresholds
from purchase_predictor.matching.matches import Matches, capped, f1_by_listing, keep, union
from purchase_predictor.matching.quantities import veto
from purchase_predictor.matching.thresholds import (
    best_threshold,
    search,
    tune_blending,
    tune_union,
)
from purchase_predictor.matching.views import COMB

Found = Mapping[str, Any]
"""What tuning found, as JSON takes it."""

SHUT = -1.0
"""A threshold that no distance is within."""


@dataclass(frozen=True)
class Search:
    """How thresholds are searched.

    Attributes:
        union_trials: of the joint search of a union.
        blending_trials: of a search of blending thresholds.
        cap: listings that a listing may match, itself included.
        seed: of the draws.
        progress: takes a line now and then.
    """

    union_trials: int
    blending_trials: int
    cap: int
    seed: int
    progress: Callable[[str], None]


class Strategy(Protocol):
    """A way to match."""

    def tune(self, bench: Bench, search: Search) -> Found:
        """Thresholds with the best F1 on a validation bench."""

    def match(self, bench: Bench, found: Found, cap: int) -> Matches:
        """Matches of a bench under thresholds."""


def mean_f1(matches: Matches, bench: Bench) -> float:
    """F1 averaged over the scored listings of a bench."""
    return float(f1_by_listing(matches, bench.truth)[bench.scored].mean())


@dataclass(frozen=True)
class Alone:
    """Neighbours in one view within a threshold.

    Attributes:
        view: name of the view; `product` takes the distances of picture and title together.
        second: whether the nearest other listing has a looser threshold of its own (min2).
    """

    view: str
    second: bool = False

    def tune(self, bench: Bench, search: Search) -> Found:
        """See `Strategy`."""
        cutoff = best_threshold(
            self._neighbours(bench),
            bench.truth,
            second=self.second,
            rows_scored=bench.scored,
            cap=search.cap,
        )
        return {self.view: list(cutoff.ends) if self.second else [cutoff.threshold]}

    def match(self, bench: Bench, found: Found, cap: int) -> Matches:
        """See `Strategy`."""
        threshold, *second = found[self.view]
        return keep(
            self._neighbours(bench), threshold, second=second[0] if second else None, cap=cap
        )

    def _neighbours(self, bench: Bench) -> Any:
        return bench.product() if self.view == "product" else bench.neighbours(self.view)


@dataclass(frozen=True)
class Union:
    """What any of several views takes for a match, their thresholds tuned together.

    Attributes:
        views: names, in the order of trust in their cosines.
    """

    views: tuple[str, ...]

    def tune(self, bench: Bench, search: Search) -> Found:
        """See `Strategy`."""
        key = (self, search.union_trials, search.cap, search.seed)
        if key not in bench.tuned:
            bench.tuned[key] = self._tune(bench, search)
        return bench.tuned[key]

    def _tune(self, bench: Bench, search: Search) -> Found:
        pairs, _ = tune_union(
            {name: bench.neighbours(name) for name in self.views},
            bench.truth,
            rows_scored=bench.scored,
            n_trials=search.union_trials,
            seed=search.seed,
            progress=search.progress,
            cap=search.cap,
        )
        return {name: list(pair) for name, pair in pairs.items()}

    def match(self, bench: Bench, found: Found, cap: int) -> Matches:
        """See `Strategy`."""
        parts = [
            keep(bench.neighbours(name), found[name][0], second=found[name][1], cap=cap)
            for name in self.views
        ]
        return capped(union(*parts), cap)


@dataclass(frozen=True)
class Blended:
    """Iterative neighbourhood blending, united with what single views match at stage 1.

    Attributes:
        union: the union whose thresholds are the start.
        joint: False blends neighbours of the comb view alone and searches the thresholds of the
            later stages; True lets every view name neighbours at stage 1 and then searches all
            thresholds jointly.
    """

    union: Union
    joint: bool

    def tune(self, bench: Bench, search: Search) -> Found:
        """See `Strategy`."""
        start = self._start(self.union.tune(bench, search))
        tuned = self._tune_later(bench, start, search)
        if not self.joint:
            return tuned.to_dict()
        blender = bench.blender(self._further())
        tuned, f1 = tune_blending(
            blender,
            bench.truth,
            rows_scored=bench.scored,
            start=tuned,
            names=[*self._names(), "stage2", "stage2_second", "stage3", "stage3_second"],
            n_trials=search.blending_trials,
            seed=search.seed,
            progress=search.progress,
            cap=search.cap,
        )
        search.progress(f"thresholds: blending, all together, F1 {f1:.4f}")
        return tuned.to_dict()

    def match(self, bench: Bench, found: Found, cap: int) -> Matches:
        """See `Strategy`."""
        thresholds = Thresholds.from_dict(found)
        blender = bench.blender(self._further())
        if self.joint:
            return blender.match(thresholds, cap=cap)
        blended = blender.match(self._comb_alone(thresholds), cap=cap)
        return capped(union(blended, *self._singles(bench, thresholds, cap)), cap)

    def _tune_later(self, bench: Bench, start: Thresholds, search_: Search) -> Thresholds:
        """Search the thresholds of the stages after the first."""
        blender = bench.blender(self._further())
        singles = [] if self.joint else self._singles(bench, start, search_.cap)
        names = ("stage2", "stage2_second", "stage3", "stage3_second")

        def thresholds(values: Mapping[str, float]) -> Thresholds:
            own = {**start.to_dict(), **values}
            for stage in ("stage2", "stage3"):
                own[f"{stage}_second"] = max(own[stage], own[f"{stage}_second"])
            return Thresholds.from_dict(own)

        def f1(values: dict[str, float]) -> float:
            tried = thresholds(values)
            stages = blender.match(
                tried if self.joint else self._comb_alone(tried), cap=search_.cap
            )
            return mean_f1(capped(union(stages, *singles), search_.cap), bench)

        first = {name: getattr(start, name) for name in names}
        best, reached = search(
            f1,
            {name: (0.0, 2 * max(first[name], 0.0) + 0.1) for name in names},
            start=[
                {name: share * max(value, 0.0) for name, value in first.items()}
                for share in (1.0, 0.6, 0.3)
            ],
            n_trials=search_.blending_trials,
            seed=search_.seed,
            progress=search_.progress,
        )
        search_.progress(f"thresholds: blending, later stages, F1 {reached:.4f}")
        return thresholds(best)

    def _further(self) -> list[str]:
        return [name for name in self.union.views if name not in ("image", "title", COMB)]

    def _names(self) -> list[str]:
        return [f"{name}{end}" for name in self.union.views for end in ("", "_second")]

    def _start(self, pairs: Found) -> Thresholds:
        """Thresholds of a union, the later stages as tight as the comb view."""
        comb = pairs.get(COMB, (SHUT, SHUT))
        named = {
            name: pairs.get(name, (SHUT, SHUT)) for name in ("image", "title", COMB)
        } | dict.fromkeys(("stage2", "stage3"), comb)
        values = {name: pair[0] for name, pair in named.items()}
        values |= {f"{name}_second": pair[1] for name, pair in named.items()}
        further = {name: (pairs[name][0], pairs[name][1]) for name in self._further()}
        return Thresholds.from_dict({**values, "further": further})

    def _comb_alone(self, thresholds: Thresholds) -> Thresholds:
        """Thresholds that let the comb view alone name neighbours at stage 1."""
        return replace(
            thresholds,
            image=SHUT,
            image_second=SHUT,
            title=SHUT,
            title_second=SHUT,
            further=dict.fromkeys(thresholds.further, (SHUT, SHUT)),
        )

    def _singles(self, bench: Bench, thresholds: Thresholds, cap: int) -> list[Matches]:
        """What the single views match at stage 1."""
        return [
            keep(bench.neighbours(name), first, second=second, cap=cap)
            for name in self.union.views
            if name != COMB
            for first, second in [thresholds.of(name)]
        ]


@dataclass(frozen=True)
class Vetoed:
    """Another strategy without the pairs whose titles state different quantities.

    Attributes:
        strategy: the other one; its thresholds are taken as they are.
    """

    strategy: Strategy

    def tune(self, bench: Bench, search: Search) -> Found:
        """See `Strategy`."""
        return self.strategy.tune(bench, search)

    def match(self, bench: Bench, found: Found, cap: int) -> Matches:
        """See `Strategy`."""
        return veto(self.strategy.match(bench, found, cap), bench.titles)
