import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from purchase_predictor.errors import SettingsError
from purchase_predictor.training.processes import (
    agreed,
    make_accelerator,
    n_shares,
    own_share,
    refuse_lonely_launch,
)

TWO_PROCESSES = """
import sys
from dataclasses import dataclass

import torch
from torch import nn

from purchase_predictor.model.inputs import TensorRecord
from purchase_predictor.training.loop import Loop, LoopSettings


@dataclass(frozen=True)
class Points(TensorRecord):
    x: torch.Tensor
    y: torch.Tensor


class Line:
    name = "line"

    def __init__(self):
        torch.manual_seed(1)
        self.model = nn.Linear(2, 1)

    def n_batches(self, world):
        return 4

    def batches(self, epoch, start, rank, world):
        for number in range(start, 4):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            x = torch.randn(16, 2, generator=generator)[rank::world]
            yield Points(x=x, y=x.sum(dim=1, keepdim=True))

    def loss(self, model, batch):
        return ((model(batch.x) - batch.y) ** 2).mean()

    def validate(self, model, device):
        weight = model.weight.detach()
        return {"log_loss": float(((weight - 1) ** 2).sum())}


task = Line()
settings = LoopSettings(
    max_epochs=3, patience=3, learning_rate=0.05, weight_decay=0.1, warm_up=0.1, clip_norm=1.0,
    ema_decay=0.9, checkpoint_every=100, bfloat16=False, seed=3,
)
loop = Loop(task, settings, progress=lambda _: None)
loop.fit()
if loop.accelerator.is_main_process:
    torch.save(task.model.state_dict(), sys.argv[1])
"""


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("n", [1, 2, 3, 7, 20])
def test_every_process_takes_as_many_steps(n: int, world: int) -> None:
    plan = list(range(n))

    shares = [own_share(plan, rank, world) for rank in range(world)]

    assert {len(share) for share in shares} == {n_shares(plan, world)}
    taken = [batch for share in shares for batch in share]
    # nobody waits for a process that has nothing to do; else no batch is taken twice
    assert len(set(taken)) == (len(taken) if n >= world else n)


def test_without_batches_there_is_no_share() -> None:
    assert own_share([], 1, 2) == []


def test_a_process_that_should_have_company_says_so() -> None:
    alone = {"ACCELERATE_MIXED_PRECISION": "no", "MASTER_ADDR": "127.0.0.1"}

    with pytest.raises(SettingsError, match="torchrun --nproc-per-node N"):
        refuse_lonely_launch(alone)

    refuse_lonely_launch({**alone, "WORLD_SIZE": "2"})
    refuse_lonely_launch({"ACCELERATE_MIXED_PRECISION": "no"})
    refuse_lonely_launch({"MASTER_ADDR": "127.0.0.1"})


def test_one_process_agrees_with_itself() -> None:
    assert agreed(make_accelerator(), {"log_loss": 0.5}) == {"log_loss": 0.5}


@pytest.mark.slow
def test_two_processes_on_halves_of_batches_learn_what_one_learns(tmp_path: Path) -> None:
    script = tmp_path / "line.py"
    script.write_text(TWO_PROCESSES)
    several = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    several += ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no"]
    several += ["--main_process_port=0"]
    found = []
    for name, launch in (("one", []), ("two", several)):
        file = tmp_path / f"{name}.pt"
        subprocess.run(
            [sys.executable, *launch, str(script), str(file)],
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
        )
        found.append(torch.load(file, weights_only=True))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, atol=1e-6, rtol=0)
