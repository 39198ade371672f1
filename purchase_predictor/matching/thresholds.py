"""Thresholds of matching: exact for one view, searched jointly for unions and for blending.

Tune on a validation gallery that is padded with listings of groups that no encoder has seen:
thresholds found in a small gallery are too loose for a large one.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, Trial

from purchase_predictor.matching.blending import Blender, Thresholds
from purchase_predictor.matching.cutoffs import Cutoff, Ends, Pairs
from purchase_predictor.matching.matches import CAP, f1_by_listing
from purchase_predictor.matching.neighbours import Neighbours

Progress = Callable[[str], None]

PROGRESS_SECONDS = 15.0
"""Time between two lines of progress."""

SHRINKAGE = (1.0, 0.8, 0.6)
"""Shares of the single views' thresholds from which the search for a union starts."""


def silent(_line: str) -> None:
    """Take a line of progress and say nothing."""


def best_threshold(
    neighbours: Neighbours,
    groups: NDArray[np.int64],
    *,
    second: bool = False,
    rows_scored: NDArray[np.bool_] | None = None,
    cap: int = CAP,
) -> Cutoff:
    """The threshold with the best mean F1, and min2's second one with it.

    The search is exact: with min2, over all pairs of threshold and second threshold at once.
    Each lies midway between the last distance that is kept and the next that occurs; of equally
    good ones the tightest is taken. It is below every distance where no neighbour should be kept.

    Args:
        neighbours: in one view.
        groups: number of each listing's true group [n]; distractors are in the gallery too.
        second: also find min2's second threshold.
        rows_scored: bool [n], listings whose F1 counts; None for all.
        cap: as in `keep`.

    Raises:
        ValueError: if no listing is scored.
    """
    pairs = Pairs.collect([neighbours], groups, rows_scored, cap)
    return pairs.sweep(0, pairs.nothing(), second=second)


def search(
    objective: Callable[[dict[str, float]], float],
    space: Mapping[str, tuple[float, float]],
    *,
    start: Mapping[str, float] | Sequence[Mapping[str, float]],
    n_trials: int,
    seed: int,
    progress: Progress = silent,
) -> tuple[dict[str, float], float]:
    """Maximise a figure over thresholds jointly, by a tree-structured Parzen estimator (Optuna).

    Args:
        objective: takes a value for each name, gives the figure.
        space: lowest and highest value of each name.
        start: values that are tried first, one or several sets, each within the space.
        n_trials: how often the objective is asked, the starts included; all starts are tried
            where they are more.
        seed: of the draws.
        progress: takes a line every `PROGRESS_SECONDS`.

    Returns:
        The best values, which are never worse than a start, and their figure.

    Raises:
        ValueError: if a start lacks a name or lies outside the space, or nothing is to be tried.
    """
    starts = [start] if isinstance(start, Mapping) else list(start)
    for values in starts:
        _check_start(values, space)
    if not starts and n_trials < 1:
        raise ValueError(f"n_trials is {n_trials} and there is no start; one trial is needed.")

    def ask(trial: Trial) -> float:
        values = {name: trial.suggest_float(name, *ends) for name, ends in space.items()}
        return objective(values)

    n_trials = max(n_trials, len(starts))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for values in starts:
            study.enqueue_trial(dict(values))
        study.optimize(ask, n_trials=n_trials, callbacks=[_Report(n_trials, progress)])
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {name: study.best_params[name] for name in space}, study.best_value


def tune_union(
    neighbours: Mapping[str, Neighbours],
    groups: NDArray[np.int64],
    *,
    rows_scored: NDArray[np.bool_] | None = None,
    n_trials: int,
    seed: int,
    progress: Progress = silent,
    cap: int = CAP,
) -> tuple[dict[str, tuple[float, float]], float]:
    """Thresholds of all views at once, for the union of their matches.

    A union takes in the false matches of every view, so its thresholds are tighter than those of
    the views alone. From the views' own optima, shrunk by each of `SHRINKAGE`, one view after
    another gets the exact best thresholds given the others, until none gains; the joint search
    goes on from there. On Shopee's 6,928 validation listings, TF-IDF and picture hashes, that
    took 0.9 s, and 200 trials found nothing better.

    Args:
        neighbours: by the view's name.
        groups: number of each listing's true group [n].
        rows_scored: bool [n], listings whose F1 counts; None for all.
        n_trials: of the joint search; it has at least one for each of `SHRINKAGE`.
        seed: of the joint search.
        progress: takes a line now and then.
        cap: as in `keep`, for each view.

    Returns:
        (threshold, second threshold) by view, and the mean F1 of the union.

    Raises:
        ValueError: if no listing is scored or there is no view.
    """
    if not neighbours:
        raise ValueError("a union needs at least one view.")
    names = list(neighbours)
    pairs = Pairs.collect(list(neighbours.values()), groups, rows_scored, cap)
    alone = [pairs.sweep(view, pairs.nothing(), second=True) for view in range(len(names))]
    starts = [pairs.climb(_shrunk(alone, share)) for share in SHRINKAGE]
    progress(f"thresholds: union of {len(names)} views, F1 {max(pairs.f1(s) for s in starts):.4f}")
    found, f1 = search(
        lambda values: pairs.f1(_ends(values, len(names))),
        _union_space(starts),
        start=[_named(ends) for ends in starts],
        n_trials=n_trials,
        seed=seed,
        progress=progress,
    )
    return dict(zip(names, _ends(found, len(names)), strict=True)), f1


def tune_blending(
    blender: Blender,
    groups: NDArray[np.int64],
    *,
    rows_scored: NDArray[np.bool_] | None = None,
    start: Thresholds,
    names: Sequence[str] = ("stage2", "stage2_second", "stage3", "stage3_second"),
    n_trials: int,
    seed: int,
    progress: Progress = silent,
    cap: int = CAP,
) -> tuple[Thresholds, float]:
    """Thresholds of iterative neighbourhood blending, searched jointly.

    Args:
        blender: holds the views of the gallery.
        groups: number of each listing's true group [n].
        rows_scored: bool [n], listings whose F1 counts; None for all.
        start: thresholds to begin with; those not searched stay.
        names: thresholds to search, each from 0 to twice its start and a tenth: fields of
            `Thresholds`, or NAME and NAME_second of a further view. A second threshold that is
            drawn tighter than its first counts as the first.
        n_trials: how often the gallery is matched.
        seed: of the search.
        progress: takes a line every `PROGRESS_SECONDS`.
        cap: listings that a listing may match, itself included.

    Returns:
        The best thresholds, never worse than `start`, and their mean F1.

    Raises:
        ValueError: if a threshold to search is not among those of `start`, or no listing is
            scored.
    """
    scored = np.ones(len(groups), bool) if rows_scored is None else rows_scored
    if not scored.any():
        raise ValueError("no listing is scored; thresholds need at least one.")
    given = _flat(start)
    unknown = sorted(set(names) - given.keys())
    if unknown:
        raise ValueError(f"there is no threshold {unknown[0]!r}; there are {', '.join(given)}.")
    first = {name: given[name] for name in names}
    space = {name: (min(0.0, value), 2 * max(value, 0.0) + 0.1) for name, value in first.items()}

    def f1(values: dict[str, float]) -> float:
        matches = blender.match(_changed(start, values), cap=cap)
        return float(f1_by_listing(matches, groups)[scored].mean())

    found, best = search(f1, space, start=first, n_trials=n_trials, seed=seed, progress=progress)
    return _changed(start, found), best


class _Report:
    """Tells the progress of a study now and then."""

    def __init__(self, n_trials: int, progress: Progress) -> None:
        self.n_trials = n_trials
        self.progress = progress
        self.told = time.monotonic()

    def __call__(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Tell how many trials are done, if nothing was told for a while."""
        now = time.monotonic()
        if now - self.told >= PROGRESS_SECONDS:
            self.told = now
            done = f"{trial.number + 1} of {self.n_trials} trials"
            self.progress(f"thresholds: {done}, best {study.best_value:.4f}")


def _check_start(values: Mapping[str, float], space: Mapping[str, tuple[float, float]]) -> None:
    if values.keys() != space.keys():
        raise ValueError(f"a start must have {sorted(space)}; this one has {sorted(values)}.")
    for name, (low, high) in space.items():
        if not low <= values[name] <= high:
            raise ValueError(f"{name} starts at {values[name]}; it must be in [{low}, {high}].")


def _shrunk(cutoffs: Sequence[Cutoff], share: float) -> list[Ends]:
    """Thresholds of all views, nearer by this share."""
    return [(cutoff.ends[0] * share, cutoff.ends[1] * share) for cutoff in cutoffs]


def _named(ends: Sequence[Ends]) -> dict[str, float]:
    """The thresholds of all views as one set of values."""
    return {f"{view} {end}": own[end] for view, own in enumerate(ends) for end in range(2)}


def _ends(values: Mapping[str, float], n_views: int) -> list[Ends]:
    """The views' thresholds in one set of values; the second is at least the first."""
    pairs = [(values[f"{view} 0"], values[f"{view} 1"]) for view in range(n_views)]
    return [(first, max(first, second)) for first, second in pairs]


def _union_space(starts: Sequence[Sequence[Ends]]) -> dict[str, tuple[float, float]]:
    """Bounds of the search around the starts, which they hold."""
    sets = [_named(ends) for ends in starts]
    values = {name: [own[name] for own in sets] for name in sets[0]}
    return {name: _around(min(own), max(own)) for name, own in values.items()}


def _around(low: float, high: float) -> tuple[float, float]:
    """A little wider than from the lowest to the highest; both may be below zero."""
    return min(0.7 * low, 1.3 * low), max(0.8 * high, 1.2 * high) + 0.02


def _flat(thresholds: Thresholds) -> dict[str, float]:
    """All thresholds by name, those of further views as NAME and NAME_second."""
    values = thresholds.to_dict()
    for name, (first, second) in values.pop("further").items():
        values |= {name: first, f"{name}_second": second}
    return values


def _changed(thresholds: Thresholds, values: Mapping[str, float]) -> Thresholds:
    """With these values; where one changes a pair, its second is at least its first."""
    flat = {**_flat(thresholds), **values}
    for name in values:
        first = name.removesuffix("_second")
        flat[f"{first}_second"] = max(flat[first], flat[f"{first}_second"])
    further = {name: (flat.pop(name), flat.pop(f"{name}_second")) for name in thresholds.further}
    return Thresholds(**flat, further=further)
