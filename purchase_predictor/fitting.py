"""From encoded rows to fitted, calibrated and stacked systems: the part that takes the time."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from torch import Tensor

from features.arrays import CALIBRATE, EncodedMarket
from purchase_predictor.baselines.registry import make_baseline
from purchase_predictor.baselines.system import Refitting, System, TakesRounds
from purchase_predictor.errors import DataError
from purchase_predictor.panel import FUSION, Panel
from purchase_predictor.settings import Settings
from purchase_predictor.training.loop import OnEpoch, Progress
from purchase_predictor.training.shapes import ContentSizes
from purchase_predictor.training.system import FusionSystem


@dataclass(frozen=True)
class FittedSystems:
    """What came out.

    Attributes:
        panel: the systems.
        fusion: as it was before it learned from validation rows: what a model adapted to a market
            may begin with.
        validation: what the systems said of the second validation half before they learned from
            it; as `predictions` has it.
    """

    panel: Panel
    fusion: FusionSystem
    validation: pl.DataFrame


@dataclass(frozen=True)
class Fitting:
    """How systems are fitted, whatever the rows.

    Attributes:
        settings: all settings.
        sizes: vocabulary sizes.
        clicks: weights of the pre-trained click encoder; None where there is none.
        folder: of checkpoints; None keeps none.
        resume: goes on from them.
        progress: told what happens.
        on_epoch: told the figures of each epoch.
        rounds: of each baseline, where the STOP rows cannot choose; None where they can.
    """

    settings: Settings
    sizes: ContentSizes
    clicks: Mapping[str, Tensor] | None
    folder: Path | None
    resume: bool
    progress: Progress
    on_epoch: OnEpoch
    rounds: Mapping[str, int] | None = None

    def fusion(self, data: EncodedMarket, start_from: FusionSystem | None = None) -> FusionSystem:
        """Fit the fusion transformer.

        Args:
            data: encoded rows.
            start_from: a fitted one to fine-tune; None starts afresh.
        """
        folder = self.folder
        if start_from is not None and folder is not None:
            folder = folder / "adapted"
        system = FusionSystem(
            self.settings,
            self.sizes,
            clicks=self.clicks,
            start_from=start_from,
            stops=self.rounds is None,
            folder=folder,
            resume=self.resume,
            on_epoch=self.on_epoch,
        )
        return system.fit(data, seed=self.settings.seed, progress=self.progress)

    def beside(self, fusion: FusionSystem, data: EncodedMarket) -> FittedSystems:
        """Fit the baselines on the same rows, calibrate all, stack; then let them learn the rest.

        Args:
            fusion: fitted on these rows.
            data: encoded rows.
        """
        settings, progress = self.settings, self.progress
        systems: dict[str, System] = {FUSION: fusion}
        for name in settings.baselines.systems:
            progress(f"{name}: fitting on the same rows")
            systems[name] = self._baseline(name, data)
        panel = Panel.fit(systems, data)
        before = copy.copy(fusion)
        validation = predictions(panel, data.select(data.part == CALIBRATE))
        if settings.training.refit:
            # only now: what calibrates and stacks must come from rows they did not learn from
            for system in systems.values():
                if isinstance(system, Refitting):
                    system.refit(data, seed=settings.seed, progress=progress)
        return FittedSystems(panel, before, validation)

    def _baseline(self, name: str, data: EncodedMarket) -> System:
        seed, system = self.settings.seed, make_baseline(name, self.settings.baselines)
        if self.rounds is None:
            return system.fit(data, seed=seed, progress=self.progress)
        if not isinstance(system, TakesRounds):
            raise DataError(f"{name} cannot learn where no rows of both outcomes can stop it")
        return system.fit_rounds(data, self.rounds[name], seed=seed, progress=self.progress)


def rounds_of(systems: Mapping[str, System]) -> dict[str, int]:
    """Rounds of each fitted baseline that can learn a given number of them."""
    return {name: one.n_rounds_ for name, one in systems.items() if isinstance(one, TakesRounds)}


def predictions(panel: Panel, data: EncodedMarket) -> pl.DataFrame:
    """Calibrated probabilities of labelled rows.

    Args:
        panel: fitted systems.
        data: n rows.

    Returns:
        `impression_id, market, converted, unit, list_number` and a column for each system.
    """
    return pl.DataFrame(
        {
            "impression_id": data.impression_id.astype(str),
            "market": data.market_label.astype(str),
            "converted": data.converted == 1,
            "unit": data.unit,
            "list_number": data.list_number,
            **panel.predict_proba(data),
        }
    )
