"""LightGBM on the design matrix: the baseline to beat.

The native interface, numpy codes for categories (polars categoricals abort the process), the same
trees from the same data, seed and number of threads. The model is LightGBM's own text.
"""

from pathlib import Path
from typing import Any, Self

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from purchase_predictor.baseline_settings import LightGBMSettings
from purchase_predictor.baselines.system import Progress, learning_rows
from purchase_predictor.baselines.table import TableEncoder, chunks
from purchase_predictor.checkpoint import read_folder, write_folder

TREES = "trees.txt"
PREDICTED_AT_ONCE = 200_000
REPORT_EVERY = 100


class LightGBMSystem:
    """Gradient boosting with early stopping on log-loss.

    Args:
        settings: of LightGBM.

    Attributes:
        table_: the design matrix's state.
        booster_: the trees.
        n_rounds_: trees kept, or told to be grown; 0 before there are any.
        stop_log_loss_: log-loss on STOP rows at that number of trees; None if they were not asked.
    """

    name = "lightgbm"
    n_rounds_ = 0

    def __init__(self, settings: LightGBMSettings) -> None:
        self.settings = settings

    def fit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn from TRAIN rows until STOP rows gain no more.

        Args:
            data: encoded rows.
            seed: of the rows and columns drawn.
            progress: told a line every hundred trees.

        Raises:
            DataError: if a part is empty or holds one class only.
        """
        train, stop = learning_rows(data)
        self.table_ = TableEncoder.fit(data, self.settings.n_components)
        learn = self._dataset(data, train)
        self.booster_ = lgb.train(
            self._parameters(seed),
            learn,
            num_boost_round=self.settings.max_rounds,
            valid_sets=[self._dataset(data, stop, reference=learn)],
            valid_names=["stop"],
            callbacks=[
                lgb.early_stopping(self.settings.patience, verbose=False),
                _Report(progress),
            ],
        )
        self.n_rounds_ = self.booster_.best_iteration
        self.stop_log_loss_: float | None = float(
            self.booster_.best_score["stop"]["binary_logloss"]
        )
        progress(f"lightgbm: {self.n_rounds_} trees, log-loss {self.stop_log_loss_:.5f}")
        return self

    def fit_rounds(
        self, data: EncodedMarket, n_rounds: int, *, seed: int, progress: Progress
    ) -> Self:
        """Learn as many trees from TRAIN rows, whatever the STOP rows say.

        Args:
            data: encoded rows.
            n_rounds: trees.
            seed: of the rows and columns drawn.
            progress: told a line.

        Raises:
            DataError: if a part is empty or the training rows hold one class only.
        """
        train, _ = learning_rows(data)
        self.table_ = TableEncoder.fit(data, self.settings.n_components)
        self.booster_ = lgb.train(
            self._parameters(seed), self._dataset(data, train), num_boost_round=n_rounds
        )
        self.n_rounds_, self.stop_log_loss_ = n_rounds, None
        progress(f"lightgbm: {n_rounds} trees, as told")
        return self

    def refit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn once more, from every row before the test, as many trees as `fit` found.

        Args:
            data: encoded rows.
            seed: of the rows and columns drawn.
            progress: told a line.
        """
        rows = np.flatnonzero(data.before_test())
        self.booster_ = lgb.train(
            self._parameters(seed), self._dataset(data, rows), num_boost_round=self.n_rounds_
        )
        progress(f"lightgbm: refitted on {len(rows):,} rows, {self.n_rounds_} trees")
        return self

    def predict_proba(self, data: EncodedMarket) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion, float64 [n]."""
        p = np.empty(len(data), np.float64)
        for rows in chunks(len(data), PREDICTED_AT_ONCE):
            x = self.table_.transform(data, rows)
            p[rows] = self.booster_.predict(
                x, num_iteration=self.n_rounds_, num_threads=self.settings.threads
            )
        return p

    def contributions(
        self, data: EncodedMarket, rows: NDArray[np.int64] | slice = slice(None)
    ) -> NDArray[np.float64]:
        """TreeSHAP values of the log-odds.

        Args:
            data: encoded rows.
            rows: which of them; all by default.

        Returns:
            float64 [n, n_columns + 1], in the order of `table_.names`; the last is what is
            expected of a row of which nothing is known. A row sums to its log-odds.
        """
        values = self.booster_.predict(
            self.table_.transform(data, rows),
            num_iteration=self.n_rounds_,
            num_threads=self.settings.threads,
            pred_contrib=True,
        )
        return np.asarray(values, np.float64)

    def gains(self) -> dict[str, float]:
        """Share of the training loss's decrease by column, the largest first."""
        gain = self.booster_.feature_importance("gain", iteration=self.n_rounds_)
        share = gain / max(float(gain.sum()), 1e-12)
        order = np.argsort(-share, kind="stable")
        return {self.table_.names[place]: float(share[place]) for place in order}

    def save(self, folder: Path) -> None:
        """Write trees as LightGBM text, the table's state as JSON and safetensors."""
        state = {
            "table": self.table_.to_dict(),
            "settings": self.settings.model_dump(),
            "n_rounds": self.n_rounds_,
            "stop_log_loss": self.stop_log_loss_,
        }
        write_folder(
            folder,
            tensors={"table": self.table_.tensors()},
            documents={"lightgbm": state},
            texts={TREES: self.booster_.model_to_string(num_iteration=self.n_rounds_)},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Undo `save`.

        Raises:
            ModelFolderError: if the folder is not whole.
        """
        saved = read_folder(folder)
        state = saved.document("lightgbm")
        system = cls(LightGBMSettings.model_validate(state["settings"]))
        system.table_ = TableEncoder.from_dict(state["table"], saved.tensors("table"))
        system.booster_ = lgb.Booster(model_str=saved.text(TREES))
        system.n_rounds_ = state["n_rounds"]
        system.stop_log_loss_ = state["stop_log_loss"]
        return system

    def _dataset(
        self, data: EncodedMarket, rows: NDArray[np.int64], reference: lgb.Dataset | None = None
    ) -> lgb.Dataset:
        return lgb.Dataset(
            self.table_.transform(data, rows),
            label=data.converted[rows],
            reference=reference,
            categorical_feature=self.table_.categories,
            # names with blanks, commas or quotes are refused by LightGBM's text format
            feature_name=[f"c{place}" for place in range(len(self.table_.columns))],
            params={"verbosity": -1, "num_threads": self.settings.threads},
        )

    def _parameters(self, seed: int) -> dict[str, Any]:
        chosen = self.settings
        return {
            "objective": "binary",
            "metric": "binary_logloss",
            "learning_rate": chosen.learning_rate,
            "num_leaves": chosen.num_leaves,
            "min_child_samples": chosen.min_child_samples,
            "colsample_bytree": chosen.colsample_bytree,
            "subsample": chosen.subsample,
            "subsample_freq": 1,
            "reg_lambda": chosen.reg_lambda,
            "cat_smooth": chosen.cat_smooth,
            "max_cat_to_onehot": chosen.max_cat_to_onehot,
            "extra_trees": chosen.extra_trees,
            "num_threads": chosen.threads,
            "seed": seed,
            "deterministic": True,
            # by rows there would be a second copy of the bins; the trees are the same
            "force_col_wise": True,
            "verbosity": -1,
        }


class _Report:
    """A LightGBM callback: says every hundred trees where the log-loss is."""

    order = 20
    before_iteration = False

    def __init__(self, progress: Progress) -> None:
        self.progress = progress

    def __call__(self, env: lgb.callback.CallbackEnv) -> None:
        if (env.iteration + 1) % REPORT_EVERY == 0 and env.evaluation_result_list:
            loss = env.evaluation_result_list[0][2]
            self.progress(f"lightgbm: {env.iteration + 1} trees, log-loss {loss:.5f}")
