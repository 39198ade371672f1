"""The systems side by side: each calibrated, two of them stacked, one of them the champion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from features.arrays import CALIBRATE, EncodedMarket
from purchase_predictor.baselines.registry import load_baseline
from purchase_predictor.baselines.stack import Stack, cross_fitted_log_loss
from purchase_predictor.baselines.system import System
from purchase_predictor.checkpoint import ModelFolder
from purchase_predictor.settings import Settings
from purchase_predictor.training.calibration import Calibrator
from purchase_predictor.training.system import FusionSystem

FUSION, LIGHTGBM, STACK = "fusion", "lightgbm", "stack"
STACKED = (FUSION, LIGHTGBM)


@dataclass(frozen=True)
class Panel:
    """Fitted systems and all that is fitted on the second validation half.

    Attributes:
        systems_: by name.
        calibrators_: what turns a system's probability into a calibrated one.
        stack_: of the fusion and LightGBM; None where either was not trained.
        log_loss_: of each system, cross-fitted by unit on the CALIBRATE rows.
    """

    systems_: Mapping[str, System]
    calibrators_: Mapping[str, Calibrator]
    stack_: Stack | None
    log_loss_: Mapping[str, float]

    @classmethod
    def fit(cls, systems: Mapping[str, System], data: EncodedMarket) -> Self:
        """Calibrate every system alike and stack two of them.

        Args:
            systems: fitted, none of them on CALIBRATE rows.
            data: whose CALIBRATE rows are used.
        """
        rows = data.select(data.part == CALIBRATE)
        y, market, unit = rows.converted, rows.market, rows.unit
        raw = {name: system.predict_proba(rows) for name, system in systems.items()}
        calibrators = {name: Calibrator.fit(p, y, market) for name, p in raw.items()}
        losses = {
            name: cross_fitted_log_loss(Calibrator, p, y, market, unit) for name, p in raw.items()
        }
        stack = None
        if set(STACKED) <= set(raw):
            stacked = {name: raw[name] for name in STACKED}
            stack = Stack.fit(stacked, y, market)
            losses[STACK] = cross_fitted_log_loss(Stack, stacked, y, market, unit)
        return cls(dict(systems), calibrators, stack, losses)

    @property
    def names(self) -> list[str]:
        """Names of the systems, the stack last."""
        return [*self.systems_, *([STACK] if self.stack_ is not None else [])]

    @property
    def champion(self) -> str:
        """The system with the lowest cross-fitted log-loss."""
        return min(self.log_loss_, key=self.log_loss_.__getitem__)

    def predict_proba(
        self, data: EncodedMarket, names: list[str] | None = None
    ) -> dict[str, NDArray[np.float64]]:
        """Calibrated probabilities of encoded rows.

        Args:
            data: n rows.
            names: of the systems wanted; all by default.

        Returns:
            float64 [n] for each.
        """
        wanted = set(names or self.names)
        needed = wanted | (set(STACKED) if STACK in wanted else set())
        raw = {
            name: system.predict_proba(data)
            for name, system in self.systems_.items()
            if name in needed
        }
        calibrated = {
            name: self.calibrators_[name].transform(p, data.market)
            for name, p in raw.items()
            if name in wanted
        }
        if STACK in wanted and self.stack_ is not None:
            stacked = {name: raw[name] for name in STACKED}
            calibrated[STACK] = self.stack_.predict_proba(stacked, data.market)
        return calibrated

    def to_dict(self) -> dict[str, Any]:
        """All but the systems, as JSON holds it."""
        return {
            "systems": list(self.systems_),
            "calibrators": {name: c.to_dict() for name, c in self.calibrators_.items()},
            "stack": None if self.stack_ is None else self.stack_.to_dict(),
            "log_loss": dict(self.log_loss_),
        }

    @classmethod
    def load(cls, saved: ModelFolder, settings: Settings) -> Self:
        """Read `panel.json` and the systems beside it.

        Args:
            saved: a model folder.
            settings: of the model.

        Raises:
            ModelFolderError: the folder of a system is not whole.
        """
        state = saved.document("panel")
        systems: dict[str, System] = {
            name: FusionSystem.load(saved.path(name), settings)
            if name == FUSION
            else load_baseline(name, saved.path(name))
            for name in state["systems"]
        }
        calibrators = {name: Calibrator.from_dict(c) for name, c in state["calibrators"].items()}
        stack = None if state["stack"] is None else Stack.from_dict(state["stack"])
        return cls(systems, calibrators, stack, state["log_loss"])
