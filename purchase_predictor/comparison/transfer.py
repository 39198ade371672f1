"""Markets for one another: train on one and serve another; serve a market never seen."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from features.culture import Profiles, load_profiles
from purchase_predictor.comparison.flat import QuickModels
from purchase_predictor.errors import DataError
from purchase_predictor.evaluation.gap import paired_gaps
from purchase_predictor.evaluation.intervals import draw
from purchase_predictor.evaluation.metrics import auc
from purchase_predictor.evaluation.rows import Rows
from purchase_predictor.report.comparing_data import DIMENSIONS, EVERY, Transfer
from purchase_predictor.settings import Settings

Progress = Callable[[str], None]

UNSEEN_MARKET = "never seen"
ID_ALONE, RANDOM = "no profile", "random vectors"


def measure_transfer(
    models: QuickModels, markets: Sequence[str], *, settings: Settings, progress: Progress
) -> Transfer:
    """Train on each market, on all, and on all but each.

    Args:
        models: fits them.
        markets: those served; all of the data are learned from.
        settings: seed, intervals and random profiles.
        progress: told a line at each step.
    """
    seed = settings.seed
    cells: list[dict[str, Any]] = []
    progress("transfer: all markets")
    every = models.predict(models.markets, markets, seed=seed)
    cells += _cells(every, EVERY)
    for market in markets:
        progress(f"transfer: trained on {market}")
        try:
            rows = models.predict([market], markets, seed=seed)
        except DataError as error:  # too few rows to train on; it can still be served
            progress(f"transfer: {market} trains nobody: {error}")
            continue
        cells += _cells(rows, market)
    found = {
        name: _never_seen(models, markets, profiles, seed=seed, progress=progress, name=name)
        for name, profiles in profile_choices(models.markets, settings).items()
    }
    told = {name: rows for name, rows in found.items() if rows is not None}
    matrix = pl.DataFrame(cells)
    if not told:
        return Transfer(matrix, [], [], [])
    base = every.rename({"p": EVERY})
    for name, rows in told.items():
        base = base.join(rows.select("impression_id", pl.col("p").alias(name)), on="impression_id")
    base = base.with_columns(pl.col(DIMENSIONS).alias(UNSEEN_MARKET))
    random = [name for name in told if name.startswith(RANDOM)]
    pairs = [(DIMENSIONS, ID_ALONE), *((name, ID_ALONE) for name in random)]
    beyond = [(DIMENSIONS, name) for name in random]
    arms = [EVERY, UNSEEN_MARKET, *told]
    draws = draw(Rows.from_frame(base, arms), settings=settings.evaluation, seed=seed)
    evaluation = settings.evaluation
    return Transfer(
        matrix=matrix,
        gaps=paired_gaps(draws, [(UNSEEN_MARKET, EVERY)], settings=evaluation, metrics=("auc",)),
        culture=paired_gaps(draws, pairs, settings=evaluation, metrics=("auc",)),
        beyond=paired_gaps(draws, beyond, settings=evaluation, metrics=("auc",)),
    )


def profile_choices(markets: Sequence[str], settings: Settings) -> dict[str, Profiles]:
    """What a model may be told of a market: nothing, its culture, vectors drawn at random.

    With a dozen countries six dimensions only re-code which country it is; whether they say more
    shows in a market never seen, beside vectors that surely say nothing.

    Args:
        markets: those compared.
        settings: how many random vectors, and their seed.
    """
    published = load_profiles(settings.data.profiles_file)
    width = next((len(dimensions) for dimensions in published.values()), 0)
    names = next((list(dimensions) for dimensions in published.values()), [])
    choices: dict[str, Profiles] = {ID_ALONE: {}, DIMENSIONS: published}
    for number in range(settings.comparison.random_profiles):
        generator = np.random.default_rng([settings.seed, number])
        drawn = generator.normal(size=(len(markets), width))
        choices[f"{RANDOM} {number + 1}"] = {
            market: dict(zip(names, row.tolist(), strict=True))
            for market, row in zip(markets, drawn, strict=True)
            if market in published  # or the random ones would be told of more markets
        }
    return choices


def _never_seen(
    models: QuickModels,
    markets: Sequence[str],
    profiles: Profiles,
    *,
    seed: int,
    progress: Progress,
    name: str,
) -> pl.DataFrame | None:
    """The test rows of each market as a model of all the others predicts them."""
    parts = []
    for market in markets:
        progress(f"never seen: {market}, {name}")
        others = [other for other in models.markets if other != market]
        try:
            rows = models.predict(others, [market], seed=seed, profiles=profiles, codes=False)
        except DataError as error:  # the others are too few to learn from
            progress(f"never seen: {market} cannot be left out: {error}")
            continue
        parts.append(rows)
    return pl.concat(parts) if parts else None


def _cells(rows: pl.DataFrame, trained_on: str) -> list[dict[str, Any]]:
    cells = []
    for (market,), part in rows.group_by("market", maintain_order=True):
        y, p = part["converted"].to_numpy(), part["p"].to_numpy()
        cells.append(
            {
                "trained_on": trained_on,
                "market": str(market),
                "auc": float(auc(y, p)) if y.any() and not y.all() else None,
                "n_test_positive": int(y.sum()),
            }
        )
    return cells
