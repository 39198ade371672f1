"""The fusion transformer as a system: the contract that the baselines keep too."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.arrays import TRAIN, EncodedMarket
from purchase_predictor.checkpoint import has_folder, read_folder, write_folder
from purchase_predictor.errors import ModelFolderError
from purchase_predictor.model.fusion import LAYOUT, FusionTransformer
from purchase_predictor.model.inputs import FusionShape
from purchase_predictor.settings import ModelSettings, Settings
from purchase_predictor.training.batches import Batcher, scoring_rows
from purchase_predictor.training.conversion import FusionTask, mean_logits
from purchase_predictor.training.lever_errors import LeverErrors, measure_errors
from purchase_predictor.training.loop import (
    Loop,
    LoopSettings,
    LoopState,
    OnEpoch,
    Progress,
    default_device,
    from_numpy,
    measure_precisions,
    no_epoch,
    to_numpy,
)
from purchase_predictor.training.processes import agreed, make_accelerator
from purchase_predictor.training.readout import (
    mean_log_loss,
    read_out,
    refit_readout,
    solve_readout,
)
from purchase_predictor.training.shapes import ContentSizes, converted_rate, number_bins, shape_of
from purchase_predictor.training.weighing import weigh


class FusionSystem:
    """Fits, predicts, saves and loads the fusion transformer.

    Args:
        settings: all settings.
        sizes: vocabulary sizes.
        clicks: weights of a pre-trained click encoder to begin with; None where there is none,
            and then no next-click loss stands beside the main one.
        start_from: a fitted system to begin with (an adapted model); its shape and bins are kept.
        stops: whether STOP rows can choose epochs and weights. If not, the network learns to the
            last epoch and answers alone, if there is one; `start_from` keeps its network and
            weights.
        folder: of checkpoints; None keeps none.
        resume: goes on from them.
        on_epoch: told the figures of each epoch.
    """

    name = "fusion"

    def __init__(
        self,
        settings: Settings,
        sizes: ContentSizes,
        *,
        clicks: Mapping[str, Tensor] | None = None,
        start_from: "FusionSystem | None" = None,
        stops: bool = True,
        folder: Path | None = None,
        resume: bool = False,
        on_epoch: OnEpoch = no_epoch,
    ) -> None:
        self.settings = settings
        self.sizes = sizes
        self.clicks = clicks
        self.start_from = start_from
        self.stops = stops
        self.folder = folder
        self.resume = resume
        self.on_epoch = on_epoch

    def fit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Learn from TRAIN rows; stop on STOP rows, where they can choose the best weights.

        Args:
            data: encoded rows.
            seed: of initial weights and dropout.
            progress: told a line at each epoch.
        """
        if self.start_from is None:
            self.shape_ = shape_of(data, self.sizes)
            kept = self._kept(data)
            training = data.store.take(data.numbers, data.part == TRAIN, kept)
            self.bins_ = number_bins(training, self.settings.model.n_bins, seed)
        else:
            self.shape_, self.bins_ = self.start_from.shape_, self.start_from.bins_
        torch.manual_seed(seed)
        self.model_ = self._build()
        if self.start_from is not None:
            self.model_.load_state_dict(self.start_from.model_.state_dict())
        else:
            self.model_.head.start_from_rate(converted_rate(data))
            if self.clicks is not None:
                self.model_.clicks.load_state_dict(self.clicks)
        task = FusionTask(
            self.model_,
            self.columns_of(data),
            self.settings,
            auxiliary_weight=self._auxiliary_weight(),
            seed=seed,
        )
        if self.settings.model.parts != "network":
            self.readout_fit_ = solve_readout(
                self.model_.readout,
                task.learn.data,
                keep=self.start_from is not None,
                seed=seed,
                progress=progress,
            )
        data.store.settle()
        self.precision_, self.state_ = "float32", LoopState()
        # nothing can tell for how long a network is to be fine-tuned to a handful of conversions
        learns = self.stops or self.start_from is None
        if learns and self.settings.model.parts != "readout":
            self.precision_ = self._choose_precision(task, progress)
            self.state_ = Loop(
                task,
                self._loop(seed),
                folder=self.folder,
                progress=progress,
                on_epoch=self.on_epoch,
            ).fit(resume=self.resume)
        # not in one line: moving the model to a device and back gives it other buffers
        weights = torch.tensor(self._weights(task, progress))
        self.model_.weights.copy_(weights)
        self.lever_errors_: LeverErrors | None = None
        if self.settings.model.parts != "network" and not self.settings.training.refit:
            self._measure_errors(task.learn.data)
        return self

    def _auxiliary_weight(self) -> float:
        """0 where pre-training had nothing to learn from: nor has the loss beside the main one."""
        return 0.0 if self.clicks is None else self.settings.pretraining.auxiliary_weight

    def refit(self, data: EncodedMarket, *, seed: int, progress: Progress) -> Self:
        """Solve the readout once more, from every row before the test; the network stays.

        Args:
            data: encoded rows.
            seed: of the rows taken where there are many.
            progress: told a line.
        """
        if self.settings.model.parts != "network":
            rows = self.columns_of(data.select(data.before_test()))
            # whoever has a copy of this system has it as `fit` left it
            self.model_ = copy.deepcopy(self.model_.cpu())
            refit_readout(
                self.model_.readout, rows, self.readout_fit_, seed=seed, progress=progress
            )
            self._measure_errors(rows)
        return self

    def _measure_errors(self, rows: EncodedMarket) -> None:
        readout = self.model_.cpu().readout
        self.lever_errors_ = measure_errors(readout, rows, self.readout_fit_)

    def _weights(self, task: FusionTask, progress: Progress) -> Sequence[float]:
        """Of readout and network, by what each says of the STOP rows, and a constant."""
        parts = self.settings.model.parts
        if parts != "both":
            return (1.0, 0.0, 0.0) if parts == "readout" else (0.0, 1.0, 0.0)
        if not self.stops:
            # solved from a handful of conversions the readout is sure of what is not so: over six
            # such models it had an AUC of 0.58, the network 0.67 (docs/decisions.md)
            alone = (0.0, 1.0, 0.0)
            return alone if self.start_from is None else self.start_from.model_.weights.tolist()
        device = default_device()
        stop = task.stop.data
        network = mean_logits(self.model_.to(device), task.stop, device, network_only=True)
        linear = read_out(self.model_.cpu().readout, stop)
        centre = None
        if self.start_from is not None:  # a small market keeps what all markets have learned
            centre = self.start_from.model_.cpu().weights.double().numpy()
        # the network learns apart from the readout, not from what the readout leaves: with the
        # strong effects gone it hardly learned at all (docs/decisions.md)
        weights = weigh(np.stack([linear, network], axis=1), stop.converted, centre)
        both = weights[0] * linear + weights[1] * network + weights[2]
        losses = [mean_log_loss(logits, stop.converted) for logits in (linear, network, both)]
        progress(
            f"fusion: weights {weights[0]:.2f} of the readout, {weights[1]:.2f} of the network; "
            "log_loss on the rows that stop training {:.4f} and {:.4f}, together {:.4f}".format(
                *losses
            )
        )
        return weights.tolist()

    def predict_proba(self, data: EncodedMarket) -> NDArray[np.float64]:
        """Uncalibrated probability of conversion, float64 [n], always in float32 arithmetic."""
        device, rows = default_device(), self.columns_of(data)
        of_readout, of_network, constant = self.model_.weights.tolist()
        if of_network:
            model = self.model_.to(device).eval()
            logits = mean_logits(model, Batcher(rows, batch_size=scoring_rows(device)), device)
        else:  # a network that counts nothing would be nearly all of the time
            logits = of_readout * read_out(self.model_.cpu().readout, rows) + constant
        return 1 / (1 + np.exp(-logits.astype(np.float64)))

    def save(self, folder: Path) -> None:
        """Write weights and bins as safetensors, the shape as JSON."""
        bins = {str(number): edges.numpy() for number, edges in enumerate(self.bins_)}
        document = {
            "layout": LAYOUT,
            "shape": self.shape_.to_dict(),
            "model": self.settings.model.model_dump(),
            "precision": self.precision_,
            "best_epoch": self.state_.best_epoch,
            "history": self.state_.history,
        }
        tensors = {"weights": to_numpy(self.model_.state_dict()), "bins": bins}
        if self.lever_errors_ is not None:
            tensors["levers"] = self.lever_errors_.tensors()
        write_folder(
            folder,
            tensors=tensors,
            documents={"fusion": document},
        )

    @classmethod
    def load(cls, folder: Path, settings: Settings) -> Self:
        """Undo `save`.

        Args:
            folder: that `save` wrote.
            settings: those of the run; the model's own come from the folder.

        Raises:
            ModelFolderError: if the folder is not whole, or its weights are laid out as in
                another version.
        """
        saved = read_folder(folder)
        document = saved.document("fusion")
        if document.get("layout") != LAYOUT:
            raise ModelFolderError(
                f"{folder} holds a network of another version: train it again, or install that one"
            )
        shape = FusionShape.from_dict(document["shape"])
        settings = settings.model_copy(
            update={"model": ModelSettings.model_validate(document["model"])}
        )
        sizes = ContentSizes(
            shape.n_identities, shape.n_categories, shape.n_brands, shape.n_word_pieces
        )
        system = cls(settings, sizes)
        bins = from_numpy(saved.tensors("bins"))
        system.shape_ = shape
        system.bins_ = [bins[str(number)] for number in range(len(bins))]
        system.precision_ = document["precision"]
        system.state_ = LoopState(best_epoch=document["best_epoch"], history=document["history"])
        system.model_ = system._build()
        system.model_.load_state_dict(from_numpy(saved.tensors("weights")))
        system.model_.eval()
        system.lever_errors_ = None
        if (folder / "levers.safetensors").is_file():
            system.lever_errors_ = LeverErrors.of(saved.tensors("levers"))
        return system

    def _build(self) -> FusionTransformer:
        return FusionTransformer(shape=self.shape_, bins=self.bins_, settings=self.settings.model)

    def _kept(self, data: EncodedMarket) -> NDArray[np.int64]:
        names = [column.name for column in data.number_columns]
        return np.array([names.index(column.name) for column in self.shape_.numbers], np.int64)

    def columns_of(self, data: EncodedMarket) -> EncodedMarket:
        """The rows with the number columns that this system was fitted on."""
        return replace(
            data,
            numbers=data.store.take(data.numbers, columns=self._kept(data)),
            number_columns=self.shape_.numbers,
        )

    def _loop(self, seed: int) -> LoopSettings:
        training = self.settings.training
        adapting = self.start_from is not None
        return LoopSettings(
            max_epochs=training.max_epochs,
            patience=training.patience,
            # fine-tuning starts near an optimum: a full rate would forget the other markets
            learning_rate=training.learning_rate * (0.2 if adapting else 1.0),
            weight_decay=training.weight_decay,
            warm_up=training.warm_up,
            clip_norm=training.clip_norm,
            ema_decay=training.ema_decay,
            checkpoint_every=training.checkpoint_every,
            bfloat16=self.precision_ == "bfloat16",
            seed=seed,
            # what has learned before, from a hundred times as many events, would be unlearned long
            # before the rest has learned from conversions
            slow=() if self.clicks is None else ("clicks.",),
            slow_share=training.pretrained_share,
            keep_start=adapting,
            stops=self.stops,
        )

    def _choose_precision(self, task: FusionTask, progress: Progress) -> str:
        wanted = self.settings.training.precision
        if wanted != "auto":
            return wanted
        accelerator, chosen = make_accelerator(), ""
        if accelerator.is_main_process:
            chosen = self._measured_precision(task, progress)
        return agreed(accelerator, chosen)

    def _measured_precision(self, task: FusionTask, progress: Progress) -> str:
        stored = None if self.folder is None else self.folder / "precision"
        if self.resume and stored is not None and has_folder(stored):
            # another measurement might choose otherwise, and the run would not be the same
            return read_folder(stored).document("precision")["chosen"]
        seconds = measure_precisions(task, default_device())
        chosen = "bfloat16" if seconds["bfloat16"] < 0.9 * seconds["float32"] else "float32"
        if stored is not None:
            write_folder(stored, tensors={}, documents={"precision": {"chosen": chosen}})
        progress(
            f"precision: a step takes {seconds['float32'] * 1000:.0f} ms in float32, "
            f"{seconds['bfloat16'] * 1000:.0f} ms in bfloat16: {chosen}"
        )
        return chosen
