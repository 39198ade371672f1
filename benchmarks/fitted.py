"""Systems fitted once: raw predictions on disk, calibrated and stacked as the package does it."""

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.prepared import PeakMemory
from features.arrays import CALIBRATE, TEST, EncodedMarket
from purchase_predictor.baselines.system import Progress, Refitting, System
from purchase_predictor.checkpoint import write_file
from purchase_predictor.panel import STACKED, Panel
from purchase_predictor.settings import Settings
from purchase_predictor.tuning.prepared import Prepared, make_system

UNITS = ("impression_id", "market", "converted", "unit", "list_number")


@dataclass(frozen=True)
class Cost:
    """What a system costs.

    Attributes:
        fit_s: seconds to fit, without what all systems share (`Prepared.seconds`).
        rows_per_s: encoded test rows scored in a second.
        peak_gb: peak resident memory of the process meanwhile, the encoded rows included.
    """

    fit_s: float
    rows_per_s: float
    peak_gb: float


@dataclass(frozen=True)
class Fitted:
    """One system's raw predictions and what they cost.

    Attributes:
        name: of the system.
        key: hash of the data, the settings that matter to the system, and its name.
        cost: seconds and memory.
        frame: the CALIBRATE and TEST rows: `UNITS`, part, market_code and p, uncalibrated.
        facts: of the run: rows, conversions, seconds of the preparation.
    """

    name: str
    key: str
    cost: Cost
    frame: pl.DataFrame
    facts: Mapping[str, Any]

    def save(self, stem: Path) -> None:
        """Write STEM.parquet, then STEM.json, which commits it."""
        write_file(stem.with_name(f"{stem.name}.parquet"), self.frame.write_parquet)
        document = {
            "name": self.name, "key": self.key, "cost": asdict(self.cost),
            "facts": dict(self.facts),
        }  # fmt: skip
        text = json.dumps(document, indent=1)
        write_file(stem.with_name(f"{stem.name}.json"), lambda path: path.write_text(text))

    @classmethod
    def load(cls, stem: Path, key: str) -> Self | None:
        """What `save` wrote; None where there is nothing, or something of another key."""
        file = stem.with_name(f"{stem.name}.json")
        if not file.is_file():
            return None
        document = json.loads(file.read_text())
        if document["key"] != key:
            return None
        frame = pl.read_parquet(stem.with_name(f"{stem.name}.parquet"))
        return cls(document["name"], key, Cost(**document["cost"]), frame, document["facts"])


def key_of(fingerprint: str, settings: Settings, market: str, name: str, dropped: str = "") -> str:
    """Hash of everything that a system's predictions follow from, its code excepted.

    Args:
        fingerprint: of the data.
        settings: all settings; those of other baselines, of evaluation and tracking do not count.
        market: a market, or `all`.
        name: of the system.
        dropped: the modality left out, if any.
    """
    values = settings.model_values()
    values["encoders"].pop("cache")
    values["baselines"] = values["baselines"].get(name)
    text = json.dumps([fingerprint, values, market, name, dropped], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fit_system(
    name: str,
    prepared: Prepared,
    settings: Settings,
    *,
    key: str,
    rows: pl.DataFrame,
    progress: Progress,
) -> Fitted:
    """Fit one system and predict the rows that calibrate and the rows that judge.

    Args:
        name: of the system.
        prepared: rows.
        settings: all settings.
        key: of `key_of`.
        rows: of `held_rows`, of the data before any modality was left out.
        progress: told a line now and then.
    """
    data = prepared.data
    calibrating, test = (data.select(data.part == part) for part in (CALIBRATE, TEST))
    with PeakMemory() as memory:
        began = time.perf_counter()
        system = make_system(name, settings, prepared)
        system.fit(data, seed=settings.seed, progress=progress)
        fit_s = time.perf_counter() - began
        p = [system.predict_proba(calibrating)]
        if settings.training.refit and isinstance(system, Refitting):
            began = time.perf_counter()
            system.refit(data, seed=settings.seed, progress=progress)
            fit_s += time.perf_counter() - began
        began = time.perf_counter()
        p.append(system.predict_proba(test))
        scoring_s = time.perf_counter() - began
    cost = Cost(fit_s, len(test) / scoring_s, memory.gb)
    facts = {"prepare_s": prepared.seconds, "click_auc": dict(prepared.click_auc)}
    return Fitted(name, key, cost, rows.with_columns(p=np.concatenate(p)), facts)


def held_rows(data: EncodedMarket) -> pl.DataFrame:
    """The CALIBRATE rows, then the TEST rows: what calibration and evaluation ask of them."""
    parts = [data.select(data.part == part) for part in (CALIBRATE, TEST)]
    return pl.concat(
        pl.DataFrame(
            {
                "impression_id": rows.impression_id.astype(str),
                "market": rows.market_label.astype(str),
                "converted": rows.converted == 1,
                "unit": rows.unit,
                "list_number": rows.list_number,
                "part": rows.part,
                "market_code": rows.market,
            }
        )
        for rows in parts
    )


@dataclass(frozen=True)
class _Held:
    """What `Panel` asks of encoded rows, with raw predictions in place of inputs."""

    part: NDArray[np.int8]
    converted: NDArray[np.float64]
    market: NDArray[np.int32]
    unit: NDArray[np.int64]
    raw: Mapping[str, NDArray[np.float64]]

    def select(self, rows: NDArray[np.bool_]) -> "_Held":
        arrays = {
            name: getattr(self, name)[rows] for name in ("part", "converted", "market", "unit")
        }
        return replace(self, raw={name: p[rows] for name, p in self.raw.items()}, **arrays)


class _Stored:
    """A system whose predictions are known."""

    def __init__(self, name: str) -> None:
        self.name = name

    def predict_proba(self, data: _Held) -> NDArray[np.float64]:
        return data.raw[self.name]


def predictions(fitted: Sequence[Fitted]) -> tuple[pl.DataFrame, dict[str, float]]:
    """Calibrate all alike and stack the fusion with LightGBM, as `Panel` does.

    Args:
        fitted: systems of the same rows.

    Returns:
        The test rows with `UNITS` and a column of calibrated probabilities for each system, the
        stack last, where its two systems are there; and the cross-fitted log-loss of each system
        on the rows that calibrate.
    """
    first = fitted[0].frame
    held = _Held(
        part=first["part"].to_numpy(),
        converted=first["converted"].cast(pl.Float64).to_numpy(),
        market=first["market_code"].to_numpy(),
        unit=first["unit"].to_numpy(),
        raw={one.name: one.frame["p"].to_numpy() for one in fitted},
    )
    systems = {one.name: cast(System, _Stored(one.name)) for one in fitted}
    panel = Panel.fit(systems, cast(EncodedMarket, held))
    test = held.part == TEST
    probabilities = panel.predict_proba(cast(EncodedMarket, held.select(test)))
    frame = first.filter(pl.Series(test)).select(UNITS).with_columns(**probabilities)
    return frame, dict(panel.log_loss_)


def stack_cost(fitted: Sequence[Fitted]) -> Cost:
    """The stack costs what its two systems cost together."""
    two = [one.cost for one in fitted if one.name in STACKED]
    return Cost(
        fit_s=sum(cost.fit_s for cost in two),
        rows_per_s=1 / sum(1 / cost.rows_per_s for cost in two),
        peak_gb=max(cost.peak_gb for cost in two),
    )
