"""Logistic regression on the same design matrix: what no interaction is needed for.

Numbers are standardised, missing ones become the mean with an indicator beside them, categories
of moderate size become one column a code. The L2 penalty is chosen on STOP rows.
"""

import math
import warnings
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from features.arrays import EncodedMarket
from purchase_predictor.baseline_settings import LogisticSettings
from purchase_predictor.baselines.dense import DenseInput
from purchase_predictor.baselines.system import Progress, learning_rows
from purchase_predictor.baselines.table import TableEncoder, chunks
from purchase_predictor.checkpoint import read_folder, write_folder

N_COMPONENTS = 16
PREDICTED_AT_ONCE = 100_000
MAX_ITERATIONS = 500
STEP = 10.0
"""Factor between two penalties that are tried."""


class LogisticSystem:
    """L2-penalised logistic regression.

    Args:
        settings: of logistic regression.

    Attributes:
        table_: the design matrix's state.
        input_: imputation and scales.
        coefficients_: float64 [n_inputs].
        intercept_: float.
        inverse_penalty_: the one chosen (scikit-learn's C).
    """

    name = "logistic"

    def __init__(self, settings: LogisticSettings) -> None:
        self.settings = settings

    def fit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn from TRAIN rows with each penalty, keep the one that is best on STOP rows.

        Args:
            data: encoded rows.
            seed: not used: the optimum is unique.
            progress: told a line for each penalty.

        Raises:
            DataError: if a part is empty or holds one class only, or a number is infinite.
        """
        del seed
        train, stop = learning_rows(data)
        self.table_ = TableEncoder.fit(data, N_COMPONENTS)
        x_train = self.table_.transform(data, train)
        self.input_ = DenseInput.fit(x_train, self.table_)
        x, x_stop = self._inputs(x_train), self._inputs(self.table_.transform(data, stop))
        best = math.inf
        # the strongest first: each solution is near the next
        model = LogisticRegression(max_iter=MAX_ITERATIONS, warm_start=True)
        for power in reversed(range(self.settings.n_penalties)):
            model.set_params(C=self.settings.inverse_penalty / STEP**power)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # told in the line below
                model.fit(x, data.converted[train] == 1)
            loss = float(log_loss(data.converted[stop] == 1, model.predict_proba(x_stop)[:, 1]))
            short = "" if model.n_iter_[0] < MAX_ITERATIONS else ", not converged"
            progress(f"logistic: inverse penalty {model.C:g}, log-loss {loss:.5f}{short}")
            if loss < best:
                best = loss
                self.inverse_penalty_ = float(model.C)
                self.coefficients_ = model.coef_[0].astype(np.float64)
                self.intercept_ = float(model.intercept_[0])
        progress(f"logistic: kept inverse penalty {self.inverse_penalty_:g}, log-loss {best:.5f}")
        return self

    def predict_proba(self, data: EncodedMarket) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion, float64 [n].

        Raises:
            DataError: if a number is infinite.
        """
        p = np.empty(len(data), np.float64)
        for rows in chunks(len(data), PREDICTED_AT_ONCE):
            x = self._inputs(self.table_.transform(data, rows))
            p[rows] = expit(x @ self.coefficients_ + self.intercept_)
        return p

    def save(self, folder: Path) -> None:
        """Write coefficients and scales as safetensors, settings as JSON."""
        state = {
            "table": self.table_.to_dict(),
            "settings": self.settings.model_dump(),
            "inverse_penalty": self.inverse_penalty_,
            "intercept": self.intercept_,
        }
        write_folder(
            folder,
            tensors={
                "weights": {"coefficients": self.coefficients_},
                "table": self.table_.tensors(),
                "input": self.input_.tensors(),
            },
            documents={"logistic": state},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Undo `save`.

        Raises:
            ModelFolderError: if the folder is not whole.
        """
        saved = read_folder(folder)
        state = saved.document("logistic")
        system = cls(LogisticSettings.model_validate(state["settings"]))
        system.table_ = TableEncoder.from_dict(state["table"], saved.tensors("table"))
        system.input_ = DenseInput(system.table_, **saved.tensors("input"))
        system.coefficients_ = saved.tensors("weights")["coefficients"]
        system.intercept_ = state["intercept"]
        system.inverse_penalty_ = state["inverse_penalty"]
        return system

    def _inputs(self, x: NDArray[np.float32]) -> sparse.csr_array:
        """One column for each code of the smaller categories, then numbers and indicators."""
        dense = self.input_.transform(x)
        n_categories = len(self.input_.categories)
        blocks = [
            _one_hot(dense[:, place].astype(np.int64), n_codes)
            for place, n_codes in enumerate(self.input_.n_codes)
            if n_codes <= self.settings.largest_category
        ]
        return sparse.hstack([*blocks, sparse.csr_array(dense[:, n_categories:])], format="csr")


def _one_hot(codes: NDArray[np.int64], n_codes: int) -> sparse.csr_array:
    n = len(codes)
    return sparse.csr_array((np.ones(n, np.float32), codes, np.arange(n + 1)), shape=(n, n_codes))
