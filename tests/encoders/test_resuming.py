from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from purchase_predictor.encoders import learning
from purchase_predictor.encoders.arcface import ArcFaceRecipe
from purchase_predictor.encoders.resuming import Checkpoint, trained_once

N = 60
LABELS = np.arange(N) % 3
PIXELS = torch.randint(
    0, 256, (N, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(4)
)
RECIPE = ArcFaceRecipe(3, 16, 0.02, 0.1, 0.4, size_exponent=0.1, cutmix=0.5)
N_STEPS = 12


class Network(nn.Module):
    """All that makes a step depend on what came before: dropout, BatchNorm, augmentation."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(8 * 8 * 3, 4)
        self.drop = nn.Dropout(0.3)
        self.neck = nn.BatchNorm1d(4)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.neck(self.map(self.drop(pixels.flatten(1) / 255.0))))


class KilledError(Exception):
    pass


def train(
    checkpoint: Checkpoint | None, *, killed_at: int | None = None, seed: int = 5
) -> tuple[Network, list[str], list[int]]:
    """Train; returns the network, the progress lines and the batches made."""
    torch.manual_seed(1)
    network, lines, made = Network(), [], []

    def batch_of(rows: np.ndarray, _generator: torch.Generator) -> torch.Tensor:
        if len(made) == killed_at:
            raise KilledError
        made.append(len(rows))
        return PIXELS[torch.as_tensor(rows)]

    learning.train_arcface(
        network,
        batch_of,
        LABELS,
        RECIPE,
        d_embedding=4,
        seed=seed,
        name="net",
        progress=lines.append,
        lengths=LABELS + 1,
        checkpoint=checkpoint,
    )
    return network, lines, made


def same(one: nn.Module, two: nn.Module) -> bool:
    state = two.state_dict()
    return all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize(
    ("seconds", "killed_at", "left", "line"),
    [
        (0.0, 6, 6, "net: goes on at epoch 2, step 6"),
        (0.0, 4, 8, "net: goes on at epoch 2, step 4"),
        (1e9, 6, 8, "net: goes on at epoch 2, step 4"),
        (1e9, 3, 12, "net: epoch 1/3"),
    ],
)
def test_a_killed_training_gives_the_weights_of_an_uninterrupted_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
    killed_at: int,
    left: int,
    line: str,
) -> None:
    monkeypatch.setattr(learning, "SECONDS_BETWEEN_CHECKPOINTS", seconds)
    whole, *_ = train(None)
    with pytest.raises(KilledError):
        train(Checkpoint(tmp_path), killed_at=killed_at)

    resumed, lines, made = train(Checkpoint(tmp_path))

    assert same(resumed, whole)
    assert len(made) == left
    assert lines[0].startswith(line)
    assert not same(train(None, seed=6)[0], whole)


def test_a_damaged_checkpoint_is_told_and_the_training_starts_again(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        train(Checkpoint(tmp_path), killed_at=5)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-100])

    resumed, lines, made = train(Checkpoint(tmp_path))

    assert "is damaged; the training starts again" in lines[0]
    assert len(made) == N_STEPS
    assert same(resumed, train(None)[0])


def test_a_checkpoint_is_safetensors_alone_and_goes_with_the_end(tmp_path: Path) -> None:
    file = tmp_path / "net.safetensors"

    def killed(checkpoint: Checkpoint | None) -> None:
        train(checkpoint, killed_at=5)

    with pytest.raises(KilledError):
        trained_once(file, Network(), killed, name="net", progress=[].append)
    between = [path for path in tmp_path.rglob("*") if path.is_file()]
    network = Network()

    def whole(checkpoint: Checkpoint | None) -> None:
        network.load_state_dict(train(checkpoint)[0].state_dict())

    trained_once(file, network, whole, name="net", progress=[].append)

    assert [path.suffix for path in between] == [".safetensors"]
    assert list(tmp_path.iterdir()) == [file]


def test_the_same_training_is_done_once(tmp_path: Path) -> None:
    file, lines, trainings = tmp_path / "net.safetensors", [], []

    def run() -> nn.Linear:
        network = nn.Linear(2, 2)

        def train(_checkpoint: Checkpoint | None) -> None:
            trainings.append(1)
            nn.init.constant_(network.weight, len(trainings))

        trained_once(file, network, train, name="net", progress=lines.append)
        return network

    run()
    assert (run().weight == 1).all()
    assert len(trainings) == 1
    file.write_bytes(b"broken")
    assert (run().weight == 2).all()
    assert any("trained again" in line for line in lines)
    assert (run().weight == 2).all()
