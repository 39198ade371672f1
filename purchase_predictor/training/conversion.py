"""The task of the fusion transformer: conversion, learned by a training loop."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from features.arrays import STOP, TRAIN, EncodedMarket
from purchase_predictor.model.fusion import FusionTransformer
from purchase_predictor.model.inputs import FusionBatch
from purchase_predictor.settings import Settings
from purchase_predictor.training.batches import Batcher, scoring_rows
from purchase_predictor.training.loop import default_device
from purchase_predictor.training.pretraining import hidden_in_training, next_click_loss
from purchase_predictor.training.processes import n_shares
from purchase_predictor.training.readout import mean_log_loss

MIN_STEPS = 40
MIN_BATCH = 128


class FusionTask:
    """Learns conversion, with the next-click loss beside it where it has a weight."""

    name = "fusion"

    def __init__(
        self,
        model: FusionTransformer,
        data: EncodedMarket,
        settings: Settings,
        *,
        auxiliary_weight: float,
        seed: int,
    ) -> None:
        self.model = model
        self.auxiliary_weight = auxiliary_weight
        learn = data.select(data.part == TRAIN)
        steps_of = len(learn) // MIN_STEPS
        self.learn = Batcher(
            learn,
            # a small market would otherwise take a handful of steps and learn nothing
            batch_size=max(MIN_BATCH, min(settings.training.batch_size, steps_of)),
            hidden=hidden_in_training(settings),
            seed=seed,
        )
        stop = data.select(data.part == STOP)
        self.stop = Batcher(stop, batch_size=scoring_rows(default_device()))

    def n_batches(self, world: int) -> int:
        """Batches of an epoch in each process."""
        return n_shares(self.learn.plan(0, world), world)

    def batches(self, epoch: int, start: int, rank: int, world: int) -> Iterator[FusionBatch]:
        """Training batches of an epoch."""
        return self.learn.training_batches(epoch, start=start, rank=rank, world=world)

    def loss(self, model: nn.Module, batch: FusionBatch) -> Tensor:
        """Mean cross-entropy of the members, plus the weighted next-click loss."""
        output = model(batch, network_only=True, next_click=self.auxiliary_weight > 0)
        target = batch.converted[:, None].expand_as(output.logits)
        loss = F.binary_cross_entropy_with_logits(output.logits.float(), target)
        if not self.auxiliary_weight:
            return loss
        loss = loss + self.auxiliary_weight * next_click_loss(output.clicks, batch.sessions)
        # a head that was run takes part: processes that share a step wait for gradients of all
        return loss + output.clicks.types.sum() * 0.0

    def validate(self, model: nn.Module, device: torch.device) -> dict[str, float]:
        """Log-loss of the network's mean logit on the stopping rows."""
        logits = mean_logits(model, self.stop, device, network_only=True)
        return {"log_loss": mean_log_loss(logits, self.stop.data.converted)}


def mean_logits(
    model: nn.Module, rows: Batcher, device: torch.device, *, network_only: bool = False
) -> NDArray[np.float32]:
    """The members' mean logit of every row, float32 [n].

    Args:
        model: a `FusionTransformer`.
        rows: what is scored.
        device: where the model is.
        network_only: whether the readout is left out, as in training.
    """
    logits = np.empty(len(rows.data), np.float32)
    with torch.inference_mode():
        for places, batch in rows.scoring_batches():
            output = model(batch.to(device), network_only=network_only)
            logits[places] = output.logits.float().mean(dim=1).cpu().numpy()
    return logits
