"""TabM (arXiv 2410.24210, package `tabm`) on the same design matrix as LightGBM.

Trained as its authors train it: piecewise-linear embeddings of numbers (version B), k members
over one trunk, the mean loss of the members, AdamW at a constant rate, gradients clipped, early
stopping on the mean of the members' probabilities. Categories are embedded instead of one-hot:
a catalogue's product identities would make the first layer thousands of columns wide. Numbers
are standardised and cut; the edges of their embeddings are quantiles.
"""

import copy
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from sklearn.metrics import log_loss
from tabm import EnsembleView, LinearEnsemble, make_tabm_backbone
from torch import Tensor, nn

from features.arrays import EncodedMarket
from purchase_predictor.baseline_settings import TabMSettings
from purchase_predictor.baselines.dense import DenseInput
from purchase_predictor.baselines.system import Progress, learning_rows
from purchase_predictor.baselines.table import TableEncoder, chunks
from purchase_predictor.checkpoint import read_folder, write_folder
from purchase_predictor.training.loop import default_device
from purchase_predictor.training.shapes import number_bins

N_COMPONENTS = 16
PREDICTED_AT_ONCE = 8_192
CLIP_NORM = 1.0
LARGEST_EMBEDDING = 16


class TabMNetwork(nn.Module):
    """Members over one trunk.

    **Shape**

    - Input: ``x_cat`` int64 ``[n, n_categories]``, ``x_num`` float32 ``[n, n_numbers]``
    - Output: logits ``[n, k]``

    Args:
        n_codes: vocabulary size of each category.
        bins: edges of the embedding of each number.
        settings: of TabM.
    """

    def __init__(self, *, n_codes: list[int], bins: list[Tensor], settings: TabMSettings) -> None:
        super().__init__()
        widths = [min(LARGEST_EMBEDDING, math.ceil(size**0.5)) for size in n_codes]
        self.categories = nn.ModuleList(
            nn.Embedding(size, width) for size, width in zip(n_codes, widths, strict=True)
        )
        self.numbers = None
        if bins:
            with warnings.catch_warnings():
                # a flag has no more than two edges
                warnings.filterwarnings("ignore", ".*has just two bin edges")
                self.numbers = PiecewiseLinearEmbeddings(
                    bins, settings.d_embedding, activation=False, version="B"
                )
        chunk_widths = widths + [settings.d_embedding] * len(bins)
        self.members = EnsembleView(k=settings.k)
        self.trunk = make_tabm_backbone(
            d_in=sum(chunk_widths),
            n_blocks=settings.n_blocks,
            d_block=settings.d_block,
            dropout=settings.dropout,
            k=settings.k,
            start_scaling_init="normal",
            start_scaling_init_chunks=chunk_widths,
        )
        self.output = LinearEnsemble(settings.d_block, 1, k=settings.k)

    def forward(self, x_cat: Tensor, x_num: Tensor) -> Tensor:
        """Logits of the members."""
        parts = [embed(x_cat[:, place]) for place, embed in enumerate(self.categories)]
        if self.numbers is not None:
            parts.append(self.numbers(x_num).flatten(1))
        logits: Tensor = self.output(self.trunk(self.members(torch.cat(parts, dim=1))))
        return logits.squeeze(-1)


class TabMSystem:
    """Parameter-efficient ensemble of MLPs with early stopping on log-loss.

    Args:
        settings: of TabM.

    Attributes:
        table_: the design matrix's state.
        input_: imputation and scales.
        bins_: edges of the number embeddings.
        network_: the fitted network, in eval mode.
        best_epoch_: epoch whose weights are kept, from 0.
    """

    name = "tabm"

    def __init__(self, settings: TabMSettings) -> None:
        self.settings = settings

    def fit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn from TRAIN rows until STOP rows gain no more.

        Args:
            data: encoded rows.
            seed: of initial weights, dropout and the order of rows.
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
        numbers = x_train[:, len(self.input_.categories) :]
        self.bins_ = [_two_edges(b) for b in number_bins(numbers, self.settings.n_bins, seed)]
        torch.manual_seed(seed)
        self.network_ = self._build().to(default_device())
        converted = torch.from_numpy(data.converted[train])
        self._learn(x_train, converted, x_stop, data.converted[stop], seed, progress)
        return self

    def _learn(
        self,
        x_train: NDArray[np.float32],
        converted: Tensor,
        x_stop: NDArray[np.float32],
        y_stop: NDArray[np.float32],
        seed: int,
        progress: Progress,
    ) -> None:
        chosen, network = self.settings, self.network_
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay
        )
        order = torch.Generator().manual_seed(seed)
        best, weights = math.inf, network.state_dict()
        for epoch in range(chosen.max_epochs):
            network.train()
            for rows in torch.randperm(len(x_train), generator=order).split(chosen.batch_size):
                logits = network(*self._tensors(x_train[rows.numpy()]))
                target = converted[rows].to(logits.device)[:, None].expand_as(logits)
                loss = F.binary_cross_entropy_with_logits(logits, target)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
                optimiser.step()
            reached = float(log_loss(y_stop == 1, self._predict(x_stop)))
            progress(f"tabm: epoch {epoch + 1}, log-loss {reached:.5f}")
            if reached < best:
                best, self.best_epoch_ = reached, epoch
                weights = copy.deepcopy(network.state_dict())
            elif epoch - self.best_epoch_ >= chosen.patience:
                break
        network.load_state_dict(weights)
        network.cpu().eval()
        progress(f"tabm: kept epoch {self.best_epoch_ + 1}, log-loss {best:.5f}")

    def predict_proba(self, data: EncodedMarket) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion, float64 [n].

        Raises:
            DataError: if a number is infinite.
        """
        self.network_.to(default_device())
        p = np.empty(len(data), np.float64)
        for rows in chunks(len(data), 8 * PREDICTED_AT_ONCE):
            p[rows] = self._predict(self.input_.transform(self.table_.transform(data, rows)))
        self.network_.cpu()
        return p

    def save(self, folder: Path) -> None:
        """Write weights, edges and scales as safetensors, settings as JSON."""
        state = {
            "table": self.table_.to_dict(),
            "settings": self.settings.model_dump(),
            "best_epoch": self.best_epoch_,
        }
        weights = {name: tensor.numpy() for name, tensor in self.network_.state_dict().items()}
        write_folder(
            folder,
            tensors={
                "weights": weights,
                "bins": {str(place): edges.numpy() for place, edges in enumerate(self.bins_)},
                "table": self.table_.tensors(),
                "input": self.input_.tensors(),
            },
            documents={"tabm": state},
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Undo `save`.

        Raises:
            ModelFolderError: if the folder is not whole.
        """
        saved = read_folder(folder)
        state = saved.document("tabm")
        system = cls(TabMSettings.model_validate(state["settings"]))
        system.table_ = TableEncoder.from_dict(state["table"], saved.tensors("table"))
        system.input_ = DenseInput(system.table_, **saved.tensors("input"))
        bins = saved.tensors("bins")
        system.bins_ = [torch.from_numpy(bins[str(place)]) for place in range(len(bins))]
        system.best_epoch_ = state["best_epoch"]
        system.network_ = system._build()
        weights = saved.tensors("weights")
        system.network_.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()})
        system.network_.eval()
        return system

    def _build(self) -> TabMNetwork:
        return TabMNetwork(n_codes=self.input_.n_codes, bins=self.bins_, settings=self.settings)

    def _predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean of the members' probabilities, as the authors average them."""
        self.network_.eval()
        with torch.inference_mode():
            parts = [
                self.network_(*self._tensors(x[rows])).double().sigmoid().mean(dim=1).cpu()
                for rows in chunks(len(x), PREDICTED_AT_ONCE)
            ]
        return torch.cat(parts).numpy() if parts else np.empty(0)

    def _tensors(self, x: NDArray[np.float32]) -> Iterator[Tensor]:
        """Codes and numbers of rows that `DenseInput` made, on the network's device."""
        whole = torch.from_numpy(x).to(self.network_.output.weight.device)
        n_categories = len(self.input_.categories)
        yield whole[:, :n_categories].long()
        yield whole[:, n_categories:]


def _two_edges(edges: Tensor) -> Tensor:
    """A number known by its being missing alone has one value, and an embedding takes a range."""
    return edges if len(edges) > 1 else torch.cat([edges, edges + 1])
