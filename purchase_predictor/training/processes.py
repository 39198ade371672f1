"""Several processes of one training (`accelerate launch`, `torchrun`).

Sizes of batches are those of all processes together, so that a training takes the same steps, over
as many rows each and at the same rates, however many processes share it.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list

from purchase_predictor.errors import SettingsError

T = TypeVar("T")

COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
"""Variables in which launchers tell how many processes there are."""

PATIENCE = timedelta(hours=12)
"""How long processes wait for one another: the first one trains encoders while the others wait."""


def make_accelerator() -> Accelerator:
    """The process's device and its place among others.

    Without GPUs processes meet over gloo, which accelerate has to be told: it would let each of
    them train alone.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return Accelerator(
        cpu=several and not torch.cuda.is_available(),
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )


def refuse_lonely_launch(environment: Mapping[str, str]) -> None:
    """See that `accelerate launch` started as many processes as it was asked for.

    Without GPUs it starts a single one, whatever `--num_processes` says, and tells nobody: it sets
    where several would meet, but neither how many they are nor which one this is.

    Args:
        environment: of this process.

    Raises:
        SettingsError: it is alone where several were asked for.
    """
    launched = {"ACCELERATE_MIXED_PRECISION", "MASTER_ADDR"} <= environment.keys()
    if launched and not any(name in environment for name in COUNTS):
        raise SettingsError(
            "accelerate launch started one process where several were asked for, as it does "
            "without GPUs: use torchrun --nproc-per-node N -m purchase_predictor.train, or "
            "accelerate launch --multi_gpu"
        )


def agreed(accelerator: Accelerator, value: T) -> T:
    """The first process's value, in all of them: what they decide by must not differ by rounding.

    Args:
        accelerator: of this process.
        value: of this process, that pickles.
    """
    if accelerator.num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


def own_share(plan: Sequence[T], rank: int, world: int) -> Sequence[T]:
    """The batches of a process; all get equally many, since each step waits for all of them.

    Args:
        plan: batches of all processes; fewer than one for each are repeated, and what is left over
            is left out, other batches in every epoch.
        rank: of the process.
        world: processes.
    """
    while 0 < len(plan) < world:
        plan = [*plan, *plan]
    return plan[: len(plan) // world * world][rank::world]


def n_shares(plan: Sequence[T], world: int) -> int:
    """Batches in the share of each process, one at least."""
    return max(1, len(plan) // world)
