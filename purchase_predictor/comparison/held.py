"""What each arm says of the rows held out: read from finished runs, or trained."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from features.schema import Tables
from purchase_predictor import tracking
from purchase_predictor.baselines.registry import take_rounds
from purchase_predictor.cli import Reporter
from purchase_predictor.comparison.arms import ADAPTED, ALL, GLOBAL, WITH_ADAPTERS, Arm
from purchase_predictor.encoders.content import ContentEncoders
from purchase_predictor.errors import DataError
from purchase_predictor.fitting import rounds_of
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.report.run_page import logged_figures, run_note
from purchase_predictor.runs import HELD, KEY_TAG, ROUNDS, held_rows, run_key, write_held
from purchase_predictor.settings import Settings
from purchase_predictor.tracked import find_artifact
from purchase_predictor.training.selection import (
    check_rows,
    fingerprint,
    select_market,
    split_by,
    stopping_markets,
)


class Trainings:
    """Counts the trainings of a comparison, so that each is announced as one of so many.

    Args:
        reporter: told of each.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.n = 0
        self.n_begun = 0

    def begin(self, what: str) -> None:
        """Announce the next one."""
        self.n_begun += 1
        self.reporter.step(f"training {self.n_begun} of {self.n}: {what}")


def unstopped_markets(tables: Tables, seeds: Sequence[Settings]) -> set[str]:
    """Markets whose STOP rows choose nothing, under one of the seeds at least.

    A comparison treats a market alike under all seeds, which halve validation each in its way.
    There are none where a baseline has to choose for itself: such a market then has no models.

    Args:
        tables: checked, with labels.
        seeds: the settings under each.
    """
    found: set[str] = set()
    if take_rounds(seeds[0].baselines):
        every = set(tables.impressions["market"].unique())
        for settings in seeds:
            found |= every - stopping_markets(tables, split_by(tables, settings))
    return found


class HeldRows:
    """Gives the held rows of arms, each model trained once and logged as a run.

    Args:
        tables: checked, with labels.
        settings: all settings; their seed is the seed of the models.
        name: of the data, and of the experiment where the settings name none.
        reporter: tells what happens.
        trainings: of all seeds.
        unstopped: markets whose own STOP rows choose nothing: their baselines take as many rounds
            as those of the model for all.
        seed_told: whether the seed is named, as where there are several.

    Attributes:
        refused: by `look_up`, what has too few rows for a model, and why.
    """

    def __init__(
        self,
        tables: Tables,
        settings: Settings,
        *,
        name: str,
        reporter: Reporter,
        trainings: Trainings,
        unstopped: Collection[str] = (),
        seed_told: bool = False,
    ) -> None:
        self.tables = tables
        self.settings = settings
        self.name = name
        self.reporter = reporter
        self.trainings = trainings
        self.seed_told = seed_told
        self.fingerprint = fingerprint(tables)
        self.split = split_by(tables, settings)
        self._content: ContentEncoders | None = None
        self.refused: dict[str, str] = {}
        self._enough: set[tuple[str, int]] = set()
        self.unstopped = unstopped
        self._rounds_of_all: dict[str, int] | None = None
        self._global: dict[str, PurchasePredictor] = {}
        self._frames: dict[tuple[str, str], pl.DataFrame] = {}

    def look_up(self, arms: Sequence[Arm], markets: Sequence[str]) -> None:
        """Read the finished runs, and count the trainings that the others take.

        Done for all seeds before the first training: only then is it known how many there are.

        Args:
            arms: wanted.
            markets: wanted.
        """
        missing = set()
        for arm in arms:
            for trained_on in dict.fromkeys(map(arm.trained_on, markets)):
                read = self._read(arm, trained_on)
                if read is not None:
                    self._frames[arm.name, trained_on] = read
                    continue
                try:
                    self._check(arm, trained_on)
                    missing.add((arm.name, trained_on))
                except DataError as error:  # `of` leaves such a market out
                    self.refused.setdefault(trained_on, str(error))
        if any(name == ADAPTED.name for name, _ in missing):
            missing.add((WITH_ADAPTERS.name, ALL))  # see `_shared`
        if any(trained_on in self.unstopped for _, trained_on in missing):
            self._rounds_of_all = self._read_rounds()
            if self._rounds_of_all is None:
                missing.add((GLOBAL.name, ALL))  # see `_rounds`
        self.trainings.n += len(missing)

    def _check(self, arm: Arm, trained_on: str) -> None:
        """Refuse rows that are too few; those that were found enough are not counted again."""
        least = arm.settings(self.settings).data.min_conversions
        if (trained_on, least) not in self._enough:
            rows = select_market(self.tables, self.split, trained_on)
            check_rows(rows, trained_on, least, stops=trained_on not in self.unstopped)
            self._enough.add((trained_on, least))

    def of(self, arm: Arm, market: str) -> pl.DataFrame:
        """The held rows of a market as an arm predicts them: as `look_up` found, or trained.

        Returns:
            As `runs.held_rows`, of that market.

        Raises:
            DataError: the market has too few rows for a model of its own.
        """
        trained_on = arm.trained_on(market)
        key = (arm.name, trained_on)
        if key not in self._frames:
            self._frames[key] = self._train(arm, trained_on)
        return self._frames[key].filter(pl.col("market") == market)

    def _key(self, arm: Arm, trained_on: str) -> str:
        return run_key(
            self.fingerprint,
            arm.settings(self.settings),
            trained_on,
            arm.scope,
            stops=trained_on not in self.unstopped,
        )

    def _read(self, arm: Arm, trained_on: str) -> pl.DataFrame | None:
        with TemporaryDirectory() as folder:
            file = self._artifact(arm, trained_on, HELD, Path(folder))
            if file is None:
                return None
            self.reporter.step(f"{self._what(arm, trained_on)}: read from a finished run")
            return pl.read_parquet(file)

    def _read_rounds(self) -> dict[str, int] | None:
        with TemporaryDirectory() as folder:
            file = self._artifact(GLOBAL, ALL, ROUNDS, Path(folder))
            return None if file is None else json.loads(file.read_text())

    def _artifact(self, arm: Arm, trained_on: str, name: str, folder: Path) -> Path | None:
        return find_artifact(
            self.settings.tracking,
            experiment=self.name,
            tag=(KEY_TAG, self._key(arm, trained_on)),
            name=name,
            folder=folder,
        )

    def _what(self, arm: Arm, trained_on: str) -> str:
        seed = f", seed {self.settings.seed}" if self.seed_told else ""
        return f"{arm.name}, {trained_on}{seed}"

    def _train(self, arm: Arm, trained_on: str) -> pl.DataFrame:
        self._check(arm, trained_on)
        # either may train another arm, whose run comes first
        shared = self._shared(arm)
        rounds = self._rounds() if trained_on in self.unstopped else None
        self.trainings.begin(self._what(arm, trained_on))
        settings = arm.settings(self.settings)
        predictor = PurchasePredictor(settings, market=trained_on, scope=arm.scope)
        tags = {
            "command": "compare", "market": trained_on, "scope": arm.scope, "arm": arm.name,
            KEY_TAG: self._key(arm, trained_on),
        }  # fmt: skip
        if rounds is not None:
            tags["unstopped"] = f"rounds of {self._what(GLOBAL, ALL)}"
        with tracking.start_run(
            settings.tracking, experiment=self.name, run_name=f"{trained_on}-{arm.name}", tags=tags
        ) as logged:
            logged.log_settings(settings.model_dump())
            predictor.fit(
                self.tables,
                content=self._encoders(),
                shared=shared,
                rounds=rounds,
                progress=self.reporter.step,
                on_epoch=logged.log_epoch,
            )
            if arm.scope == "global":
                self._global[arm.name] = predictor
            held = held_rows(predictor)
            self._log(logged, predictor, held)
        return held

    def _log(self, logged: tracking.Run, predictor: PurchasePredictor, held: pl.DataFrame) -> None:
        rows = {
            name: sum(getattr(count, name) for count in self.tables.rows.values())
            for name in ("read", "used", "set_aside")
        }
        result: Mapping[str, Any] = predictor.evaluate()
        logged.log_data(self.fingerprint, self.name, rows)
        facts = predictor.facts_
        logged.log_result({**logged_figures(result["systems"]), "n_train": facts.n_train})
        note = run_note(
            dict(result),
            market=facts.market,
            scope=facts.scope,
            champion=facts.champion,
            n_train=facts.n_train,
        )
        logged.describe(note, {"system": facts.champion})
        with TemporaryDirectory() as folder:
            files = write_held(predictor, held, Path(folder))
            text = json.dumps(result, indent=1, ensure_ascii=False)
            (Path(folder) / "metrics.json").write_text(text, "utf-8")
            for file in (*files, Path(folder) / "metrics.json"):
                logged.log_file(file)

    def _rounds(self) -> dict[str, int]:
        """Of the model for all, which is trained again if its run does not tell them."""
        if self._rounds_of_all is None:
            if GLOBAL.name not in self._global:
                self._train(GLOBAL, ALL)
            self._rounds_of_all = rounds_of(self._global[GLOBAL.name].panel_.systems_)
        return self._rounds_of_all

    def _encoders(self) -> ContentEncoders:
        """Trained once: titles and pictures are the same for every arm."""
        if self._content is None:
            self._content = PurchasePredictor(self.settings).fit_content(
                self.tables, progress=self.reporter.step
            )
        return self._content

    def _shared(self, arm: Arm) -> PurchasePredictor | None:
        """What a global model of the same features leaves to others."""
        if arm.scope == "local" or arm.market == "none":
            return None
        if arm.scope == "adapted" and WITH_ADAPTERS.name not in self._global:
            # its run is there, but a run does not hold what fine-tuning begins with
            self._train(WITH_ADAPTERS, ALL)
        if arm.scope == "adapted":
            return self._global[WITH_ADAPTERS.name]
        return next(
            (found for name, found in self._global.items() if _prepared_alike(found)), None
        )


def _prepared_alike(predictor: PurchasePredictor) -> bool:
    return predictor.settings.model.market != "none"


def collect(
    held: HeldRows, arms: tuple[Arm, ...], markets: list[str]
) -> tuple[dict[str, pl.DataFrame], dict[str, str]]:
    """The held rows of all arms.

    Args:
        held: gives them.
        arms: wanted.
        markets: wanted.

    Returns:
        For each arm the rows of all markets, and for each market that has no model of its own
        the reason.
    """
    frames: dict[str, list[pl.DataFrame]] = {arm.name: [] for arm in arms}
    reasons: dict[str, str] = {}
    for arm in arms:
        for market in markets:
            try:
                frames[arm.name].append(held.of(arm, market))
            except DataError as error:
                if arm.scope == "global":
                    raise
                reasons.setdefault(market, str(error))
                held.reporter.warn(f"{arm.name}, {market}: {error}")
    return {name: pl.concat(parts) for name, parts in frames.items() if parts}, reasons
