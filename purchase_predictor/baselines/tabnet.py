"""TabNet (arXiv 1908.07442, pytorch-tabnet) on the same design matrix as LightGBM.

The library's own training loop, with the input made fit for it: missing numbers become the mean
and get an indicator column, numbers are standardised with training statistics, categories are
embedded. Weights are kept as safetensors; the library's zip holds a pickle.
"""

import copy
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from features.arrays import EncodedMarket
from purchase_predictor.baseline_settings import TabNetSettings
from purchase_predictor.baselines.dense import DenseInput
from purchase_predictor.baselines.system import Progress, learning_rows
from purchase_predictor.baselines.table import TableEncoder, chunks
from purchase_predictor.checkpoint import read_folder, write_folder

with warnings.catch_warnings():
    # pytorch-tabnet 4.1 imports from a module that SciPy renamed
    warnings.filterwarnings("ignore", "Please import `spmatrix`", DeprecationWarning)
    from pytorch_tabnet.callbacks import Callback
    from pytorch_tabnet.tab_model import TabNetClassifier
    from pytorch_tabnet.tab_network import TabNet

N_COMPONENTS = 16
PREDICTED_AT_ONCE = 50_000


class TabNetSystem:
    """Attentive tabular network with early stopping on log-loss.

    Args:
        settings: of TabNet.

    Attributes:
        table_: the design matrix's state.
        input_: imputation and scales.
        network_: the fitted network, in eval mode on the CPU.
        best_epoch_: epoch whose weights are kept, from 0.
    """

    name = "tabnet"

    def __init__(self, settings: TabNetSettings) -> None:
        self.settings = settings

    def fit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn from TRAIN rows until STOP rows gain no more.

        Args:
            data: encoded rows.
            seed: of initial weights and the order of rows.
            progress: told a line at each epoch.

        Raises:
            DataError: if a part is empty or holds one class only, or a number is infinite.
        """
        train, stop = learning_rows(data)
        self.table_ = TableEncoder.fit(data, N_COMPONENTS)
        x_train = self.table_.transform(data, train)
        self.input_ = DenseInput.fit(x_train, self.table_)
        x_train = self.input_.transform(x_train)
        x_stop = self.input_.transform(self.table_.transform(data, stop))
        chosen = self.settings
        classifier = TabNetClassifier(
            **_network_settings(chosen, self.input_),
            lambda_sparse=chosen.lambda_sparse,
            optimizer_params={"lr": chosen.learning_rate},
            seed=seed,
            verbose=0,
        )
        best = _Best(chosen.patience, progress)
        with warnings.catch_warnings():
            # the library's own stopping prints to stdout, `_Best` stands in for it
            warnings.filterwarnings("ignore", "No early stopping will be performed")
            classifier.fit(
                x_train,
                data.converted[train].astype(np.int64),
                eval_set=[(x_stop, data.converted[stop].astype(np.int64))],
                eval_name=["stop"],
                eval_metric=["logloss"],
                max_epochs=chosen.max_epochs,
                patience=0,
                batch_size=min(chosen.batch_size, len(train)),  # else the only batch is dropped
                virtual_batch_size=chosen.virtual_batch_size,
                compute_importance=False,
                callbacks=[best],
            )
        classifier.network.load_state_dict(best.weights)
        self.network_ = classifier.network.cpu().eval()
        self.best_epoch_ = best.epoch
        progress(f"tabnet: kept epoch {best.epoch + 1}, log-loss {best.log_loss:.5f}")
        return self

    def predict_proba(self, data: EncodedMarket) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion, float64 [n].

        Raises:
            DataError: if a number is infinite.
        """
        p = np.empty(len(data), np.float64)
        with torch.inference_mode():
            for rows in chunks(len(data), PREDICTED_AT_ONCE):
                x = self.input_.transform(self.table_.transform(data, rows))
                logits, _ = self.network_(torch.from_numpy(x))
                p[rows] = logits.double().softmax(dim=1)[:, 1].numpy()
        return p

    def save(self, folder: Path) -> None:
        """Write weights and scales as safetensors, shapes and settings as JSON."""
        weights = {name: tensor.numpy() for name, tensor in self.network_.state_dict().items()}
        state = {
            "table": self.table_.to_dict(),
            "settings": self.settings.model_dump(),
            "best_epoch": self.best_epoch_,
        }
        write_folder(
            folder,
            tensors={
                "weights": weights,
                "table": self.table_.tensors(),
                "input": self.input_.tensors(),
            },
            documents={"tabnet": state},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Undo `save`.

        Raises:
            ModelFolderError: if the folder is not whole.
        """
        saved = read_folder(folder)
        state = saved.document("tabnet")
        system = cls(TabNetSettings.model_validate(state["settings"]))
        system.table_ = TableEncoder.from_dict(state["table"], saved.tensors("table"))
        system.input_ = DenseInput(system.table_, **saved.tensors("input"))
        system.best_epoch_ = state["best_epoch"]
        system.network_ = _build(system.settings, system.input_)
        weights = saved.tensors("weights")
        system.network_.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        system.network_.eval()
        return system


def _network_settings(settings: TabNetSettings, dense: DenseInput) -> dict[str, Any]:
    """What shapes the network, as the library calls it."""
    return {
        "n_d": settings.n_d,
        "n_a": settings.n_d,
        "n_steps": settings.n_steps,
        "gamma": settings.gamma,
        "cat_idxs": list(range(len(dense.categories))),
        "cat_dims": list(dense.n_codes),
        # widths grow slowly with the vocabulary, as usual for entity embeddings
        "cat_emb_dim": [min(8, math.ceil(n_codes**0.25)) for n_codes in dense.n_codes],
    }


def _build(settings: TabNetSettings, dense: DenseInput) -> TabNet:
    """A network of the fitted one's shape, as the library itself builds it."""
    return TabNet(
        dense.width,
        2,
        **_network_settings(settings, dense),
        virtual_batch_size=settings.virtual_batch_size,
        group_attention_matrix=torch.eye(dense.width),
    )


class _Best(Callback):
    """Keeps a copy of the weights with the lowest log-loss and stops when they grow old."""

    def __init__(self, patience: int, progress: Progress) -> None:
        super().__init__()
        self.patience = patience
        self.progress = progress
        self.log_loss = math.inf
        self.epoch = 0
        self.weights: dict[str, torch.Tensor] = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        log_loss = (logs or {})["stop_logloss"]
        self.progress(f"tabnet: epoch {epoch + 1}, log-loss {log_loss:.5f}")
        if not self.weights or log_loss < self.log_loss:
            self.log_loss, self.epoch = log_loss, epoch
            self.weights = copy.deepcopy(self.trainer.network.state_dict())
        elif epoch - self.epoch >= self.patience:
            self.trainer._stop_training = True
