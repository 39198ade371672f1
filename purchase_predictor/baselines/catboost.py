"""CatBoost on the same design matrix as LightGBM; its own binary file holds the trees.

An optional library (`pip install purchase-predictor[benchmarks]`): a second opinion on what
boosted trees can do with these columns. Categories go in as codes and come out as CatBoost's
ordered target statistics.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from purchase_predictor.baseline_settings import CatBoostSettings
from purchase_predictor.baselines.system import Progress, learning_rows
from purchase_predictor.baselines.table import TableEncoder, chunks
from purchase_predictor.checkpoint import read_folder, write_folder
from purchase_predictor.errors import SettingsError

try:
    from catboost import CatBoost, Pool
except ModuleNotFoundError as error:
    raise SettingsError(
        "baseline 'catboost' needs a library that is not installed: "
        "pip install 'purchase-predictor[benchmarks]'"
    ) from error

TREES = "trees.cbm"
PREDICTED_AT_ONCE = 200_000
REPORT_EVERY = 100


class CatBoostSystem:
    """Gradient boosting on oblivious trees with early stopping on log-loss.

    Args:
        settings: of CatBoost.

    Attributes:
        table_: the design matrix's state.
        model_: the trees.
        stop_log_loss_: log-loss on STOP rows at the number of trees kept.
    """

    name = "catboost"

    def __init__(self, settings: CatBoostSettings) -> None:
        self.settings = settings

    def fit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn from TRAIN rows until STOP rows gain no more.

        Args:
            data: encoded rows.
            seed: of the rows' order and of all that is drawn.
            progress: told a line every hundred trees.

        Raises:
            DataError: if a part is empty or holds one class only.
        """
        train, stop = learning_rows(data)
        self.table_ = TableEncoder.fit(data, self.settings.n_components)
        self.model_ = CatBoost(self._parameters(seed))
        self.model_.fit(
            self._pool(data, train),
            eval_set=self._pool(data, stop),
            use_best_model=True,
            callbacks=[_Report(progress)],
        )
        self.stop_log_loss_ = float(self.model_.best_score_["validation"]["Logloss"])
        progress(f"catboost: {self.model_.tree_count_} trees, log-loss {self.stop_log_loss_:.5f}")
        return self

    def predict_proba(self, data: EncodedMarket) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion, float64 [n]."""
        p = np.empty(len(data), np.float64)
        for rows in chunks(len(data), PREDICTED_AT_ONCE):
            both = self.model_.predict(
                self._frame(data, rows),
                prediction_type="Probability",
                thread_count=self.settings.threads,
            )
            p[rows] = both[:, 1]
        return p

    def save(self, folder: Path) -> None:
        """Write trees as CatBoost's own file, the table's state as JSON and safetensors."""
        state = {
            "table": self.table_.to_dict(),
            "settings": self.settings.model_dump(),
            "stop_log_loss": self.stop_log_loss_,
        }
        write_folder(
            folder,
            tensors={"table": self.table_.tensors()},
            documents={"catboost": state},
            folders={"trees": lambda place: self.model_.save_model(str(place / TREES))},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Undo `save`.

        Raises:
            ModelFolderError: if the folder is not whole.
        """
        saved = read_folder(folder)
        state = saved.document("catboost")
        system = cls(CatBoostSettings.model_validate(state["settings"]))
        system.table_ = TableEncoder.from_dict(state["table"], saved.tensors("table"))
        system.model_ = CatBoost().load_model(str(saved.path(f"trees/{TREES}")))
        system.stop_log_loss_ = state["stop_log_loss"]
        return system

    def _pool(self, data: EncodedMarket, rows: NDArray[np.int64]) -> Pool:
        return Pool(
            self._frame(data, rows),
            data.converted[rows].astype(np.int64),
            cat_features=self.table_.categories,
        )

    def _frame(self, data: EncodedMarket, rows: NDArray[np.int64] | slice) -> pd.DataFrame:
        """The design matrix with categories as integers: CatBoost refuses float codes."""
        x = self.table_.transform(data, rows)
        codes = set(self.table_.categories)
        return pd.DataFrame(
            {
                place: x[:, place].astype(np.int32) if place in codes else x[:, place]
                for place in range(x.shape[1])
            }
        )

    def _parameters(self, seed: int) -> dict[str, Any]:
        chosen = self.settings
        return {
            "loss_function": "Logloss",
            "iterations": chosen.max_rounds,
            "learning_rate": chosen.learning_rate,
            "depth": chosen.depth,
            "l2_leaf_reg": chosen.l2_leaf_reg,
            "random_strength": chosen.random_strength,
            "bootstrap_type": "Bayesian",
            "bagging_temperature": chosen.bagging_temperature,
            "od_type": "Iter",
            "od_wait": chosen.patience,
            "random_seed": seed,
            "thread_count": chosen.threads,
            "allow_writing_files": False,
            "logging_level": "Silent",
        }


class _Report:
    """A CatBoost callback: says every hundred trees where the log-loss is."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def after_iteration(self, info: Any) -> bool:
        """Told after each tree; the answer lets training go on."""
        if (info.iteration + 1) % REPORT_EVERY == 0:
            loss = info.metrics["validation"]["Logloss"][-1]
            self.progress(f"catboost: {info.iteration + 1} trees, log-loss {loss:.5f}")
        return True
