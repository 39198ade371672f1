"""The comparison, step by step: read, collect the arms, judge, write, log."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from features.arrays import TEST, TRAIN
from features.schema import Tables
from features.splits import Split
from purchase_predictor import tracking
from purchase_predictor.checkpoint import write_json
from purchase_predictor.cli import Reporter
from purchase_predictor.comparison.across import across_markets
from purchase_predictor.comparison.arms import ARMS, EXPLORATORY, POOLED, PRIMARY
from purchase_predictor.comparison.curves import break_evens, learning_curves
from purchase_predictor.comparison.flat import FlatModels
from purchase_predictor.comparison.full import FusionModels
from purchase_predictor.comparison.held import HeldRows, Trainings, collect, unstopped_markets
from purchase_predictor.comparison.transfer import measure_transfer
from purchase_predictor.comparison.verdicts import (
    beside_chance,
    compare_arms,
    compare_chance,
    draw_seeds,
    figures,
    with_pooled,
)
from purchase_predictor.errors import DataError, SettingsError, nearest, nearest_market
from purchase_predictor.evaluation.gap import NOT_ENOUGH
from purchase_predictor.panel import FUSION, LIGHTGBM, STACK
from purchase_predictor.report.comparing import bottom_line
from purchase_predictor.report.comparing_data import CHANCE, Comparison, Transfer
from purchase_predictor.report.comparing_words import words_of
from purchase_predictor.settings import Settings
from purchase_predictor.told_tables import QUARANTINE, read_told
from purchase_predictor.training.selection import fingerprint, split_by


@dataclass(frozen=True)
class _Collected:
    tests: list[pl.DataFrame]
    kappas: list[float]
    reasons: dict[str, str]
    untrained: list[pl.DataFrame]
    unstopped: list[str]


class ComparisonJob:
    """Compares the ways to serve markets.

    Args:
        settings: all settings.
        markets: those compared; all of the data if None.
        n_seeds: models of each arm; their seeds count from the settings' one.
        system: whose predictions are compared: fusion, lightgbm, stack.
        source: data folder.
        folder: where the rows that are set aside go.
        quick: whether curves and transfer are left out.
        full: whether the fusion is fitted for them, not LightGBM.
        reporter: tells what happens.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        markets: Sequence[str] | None,
        n_seeds: int,
        system: str,
        source: Path,
        folder: Path,
        quick: bool,
        full: bool = False,
        reporter: Reporter,
    ) -> None:
        self.settings = settings
        self.wanted = markets
        self.n_seeds = n_seeds
        self.system = system
        self.source = source
        self.folder = folder
        self.quick = quick
        self.full = full
        self.reporter = reporter
        known = [FUSION, *settings.baselines.systems]
        if LIGHTGBM in known:
            known.append(STACK)
        if system not in known:  # told now, not after hours of training
            there = ", ".join(known)
            raise SettingsError(
                f"the models have no system '{system}' among {there}{nearest(system, known)}"
            )

    def run(self) -> Comparison:
        """Read, train what is missing, judge."""
        tables = read_told(self.source, self.settings, self.folder, self.reporter)
        markets = self._markets(tables)
        split = split_by(tables, self.settings)
        n_train = conversions(tables, split)
        arms = self._collect(tables, markets, n_train)
        self.reporter.step(f"{self.settings.evaluation.resamples:,} resamples of users")
        draws = draw_seeds(arms.tests, [*(arm.name for arm in ARMS), POOLED], self.settings)
        gaps = compare_arms(draws, self.settings, n_train)
        for market, reason in arms.reasons.items():
            gaps.append(self._not_served(market, reason, n_train[market], tables, split))
        if all(len(rows) for rows in arms.untrained):
            draws_beside = draw_seeds(arms.untrained, (PRIMARY[0], CHANCE), self.settings)
            gaps += compare_chance(draws_beside, self.settings, n_train)
        curves, transfer = self._quick_models(tables, split, markets, arms.unstopped)
        return Comparison(
            data=self._describe(tables, n_train, markets),
            figures=figures(draws, self.settings),
            gaps=gaps,
            across=[
                across_markets(draws, gaps, pair, self.settings)
                for pair in (PRIMARY, *EXPLORATORY)
            ],
            kappa=arms.kappas,
            reasons=arms.reasons,
            unstopped=arms.unstopped,
            curves=curves,
            break_even=[]
            if curves is None or not len(curves)
            else [
                asdict(found)
                for found in break_evens(curves, confidence=self.settings.evaluation.confidence)
            ],
            transfer=transfer,
        )

    def _collect(
        self, tables: Tables, markets: Sequence[str], n_train: dict[str, tuple[int, int]]
    ) -> "_Collected":
        """The held rows of every arm under every seed."""
        reasons: dict[str, str] = {}
        of_seeds = []
        waiting = self._look_up(tables, markets)
        for held in waiting:  # told now, not after the models for all are trained
            _refuse_none(markets, held.refused)
        unstopped = set(waiting[0].unstopped)
        while waiting:
            # taken from the list, for it holds the models that later ones of its seed begin with
            frames, missing = collect(waiting.pop(0), ARMS, list(markets))
            reasons |= missing
            of_seeds.append(frames)
        # the halves of validation differ by seed: what one seed refuses is left out of all
        _refuse_none(markets, reasons)
        served = [market for market in markets if market not in reasons]
        positive = {market: n_train[market][1] for market in served}
        pooled = [with_pooled(frames, self.system, served, positive) for frames in of_seeds]
        alone = pl.col("market").is_in(list(reasons))
        return _Collected(
            [test for test, _ in pooled],
            [pooling.kappa for _, pooling in pooled],
            reasons,
            [beside_chance(frames[PRIMARY[0]].filter(alone), self.system) for frames in of_seeds],
            sorted(unstopped.intersection(served)),
        )

    def _look_up(self, tables: Tables, markets: Sequence[str]) -> list[HeldRows]:
        """What finished runs say, for each seed; what they lack is counted."""
        trainings = Trainings(self.reporter)
        seeds = []
        settings = [
            self.settings.model_copy(update={"seed": self.settings.seed + number})
            for number in range(self.n_seeds)
        ]
        unstopped = unstopped_markets(tables, settings)
        for of_seed in settings:
            held = HeldRows(
                tables,
                of_seed,
                name=self.source.resolve().name,
                reporter=self.reporter,
                trainings=trainings,
                unstopped=unstopped,
                seed_told=self.n_seeds > 1,
            )
            held.look_up(ARMS, markets)
            seeds.append(held)
        return seeds

    def _markets(self, tables: Tables) -> list[str]:
        known = tables.impressions["market"].unique().sort().to_list()
        for market in self.wanted or []:
            if market not in known:
                hint = nearest_market(market, known)
                raise DataError(f"there is no market '{market}' among {', '.join(known)}{hint}")
        return list(dict.fromkeys(self.wanted)) if self.wanted else known

    def _not_served(
        self,
        market: str,
        reason: str,
        n_train: tuple[int, int],
        tables: Tables,
        split: Split,
    ) -> dict[str, Any]:
        """The row of a market that is too small for a model of its own."""
        test = tables.impressions.filter(pl.Series(split.part == TEST), pl.col("market") == market)
        nothing = dict.fromkeys(
            ["value", "low", "high", "p", "p_holm", "smallest_detectable", "equivalent_within"]
        )
        return {
            "scope": "market", "market": market, "metric": "auc", "arm": PRIMARY[0],
            "against": PRIMARY[1], **nothing, "delong_low": None, "delong_high": None,
            "n_test": len(test), "n_test_positive": int(test["converted"].sum()),
            "n_train": n_train[0], "n_train_positive": n_train[1], "primary": True,
            "verdict": NOT_ENOUGH, "reason": reason,
        }  # fmt: skip

    def _quick_models(
        self, tables: Tables, split: Split, markets: Sequence[str], unstopped: Sequence[str]
    ) -> tuple[pl.DataFrame | None, Transfer | None]:
        if self.quick:
            return None, None
        kind = FusionModels if self.full else FlatModels
        models = kind(tables, split, self.settings)
        progress = self.reporter.step
        # a curve has models of subsets, which would have to be stopped
        stopping = [market for market in markets if market not in unstopped]
        curves = pl.DataFrame()
        if stopping:
            curves = learning_curves(models, stopping, settings=self.settings, progress=progress)
        if len(markets) < 2:
            return curves, None
        return curves, measure_transfer(models, markets, settings=self.settings, progress=progress)

    def _describe(
        self,
        tables: Tables,
        n_train: dict[str, tuple[int, int]],
        markets: Sequence[str],
    ) -> dict[str, Any]:
        return {
            "name": self.source.resolve().name,
            "fingerprint": fingerprint(tables),
            "system": self.system,
            "curves_by": FUSION if self.full else LIGHTGBM,
            "seeds": self.n_seeds,
            "markets": {
                market: {"n_train": n_train[market][0], "n_train_positive": n_train[market][1]}
                for market in markets
            },
            "products": len(tables.products),
            "resamples": self.settings.evaluation.resamples,
            "confidence": self.settings.evaluation.confidence,
            "margin": self.settings.comparison.margin,
        }


def _refuse_none(markets: Sequence[str], reasons: Mapping[str, str]) -> None:
    """Refuse a comparison in which no market has a model of its own."""
    if set(markets) <= reasons.keys():
        told = "; ".join(f"{market}: {reason}" for market, reason in reasons.items())
        raise DataError(f"no market has rows enough for a model of its own: {told}")


def conversions(tables: Tables, split: Split) -> dict[str, tuple[int, int]]:
    """Training rows and conversions of each market."""
    rows = tables.impressions.with_columns(pl.Series("train", split.part == TRAIN))
    counted = rows.group_by("market").agg(
        n=pl.col("train").sum(), positive=(pl.col("train") & pl.col("converted")).sum()
    )
    return {market: (int(n), int(positive)) for market, n, positive in counted.iter_rows()}


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `gap.json` and everything else as `comparison.json`.

    Args:
        comparison: what was found.
        folder: where; made if it is not there.

    Returns:
        The files of the folder that are logged, the rows set aside among them.
    """
    transfer = comparison.transfer
    whole = {
        **{k: v for k, v in vars(comparison).items() if k not in ("curves", "transfer", "gaps")},
        "curves": None if comparison.curves is None else comparison.curves.to_dicts(),
        "transfer": None
        if transfer is None
        else {
            "matrix": transfer.matrix.to_dicts(),
            "gaps": transfer.gaps,
            "culture": transfer.culture,
            "beyond": transfer.beyond,
        },
    }
    files = {"gap.json": comparison.gaps, "comparison.json": whole}
    for name, content in files.items():
        write_json(folder / name, content)
    return [folder / name for name in (*files, QUARANTINE)]


def log(comparison: Comparison, files: Sequence[Path], settings: Settings) -> None:
    """One run of the comparison in MLflow, beside those of its arms."""
    data = comparison.data
    tags = {
        "command": "compare", "market": ",".join(data["markets"]), "scope": "comparison",
        "system": data["system"],
    }  # fmt: skip
    with tracking.start_run(
        settings.tracking, experiment=data["name"], run_name="comparison", tags=tags
    ) as logged:
        logged.log_settings(settings.model_dump())
        logged.log_data(data["fingerprint"], data["name"], data["markets"])
        primary = {
            gap["market"]: {name: gap[name] for name in ("value", "low", "high")}
            for gap in comparison.gaps
            if gap["primary"] and gap["value"] is not None
        }
        logged.log_result({"gap": primary})
        logged.describe(bottom_line(comparison, words_of("en")))
        for file in files:
            logged.log_file(file)
