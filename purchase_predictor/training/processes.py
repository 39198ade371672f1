"""Several processes of one training (`accelerate launch`, `torchrun`).

Sizes of batches are those of all processes together, so that a training takes the same steps, over
as many rows each and at the same rates, however many processes share it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import TypeVar

from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list

T = TypeVar("T")

PATIENCE = timedelta(hours=12)
"""How long processes wait for one another: the first one trains encoders while the others wait."""


def make_accelerator() -> Accelerator:
    """The process's device and its place among others."""
    return Accelerator(
        kwargs_handlers=[
            DistributedDataParallelKwargs(find_unused_parameters=True),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ]
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
