"""Trainings that are done once, and taken up again where they were killed.

The weights are a safetensors file named by the hash of everything that goes into the training.
The checkpoint lies beside it under the same name, so that no other training ever reads it: one
safetensors file with a JSON header, written whole or not at all, gone when the training is over.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from purchase_predictor.encoders.store import state_of, write_whole


@dataclass(frozen=True)
class Checkpoint:
    """Where a training leaves what it needs to go on.

    Attributes:
        folder: of this training alone.
    """

    folder: Path

    def save(
        self, networks: dict[str, nn.Module], optimiser: torch.optim.Optimizer, state: Any
    ) -> None:
        """Write weights, moments and where the training stands.

        Args:
            networks: by name, without a dot.
            optimiser: of their weights.
            state: JSON-able.

        Raises:
            UserError: if it cannot be written.
        """
        tensors = {
            f"{name}.{key}": value
            for name, network in networks.items()
            for key, value in network.state_dict().items()
        }
        for number, moments in optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{key}": value for key, value in moments.items()}
        plain = {key: value.detach().cpu().clone() for key, value in tensors.items()}
        content = save(plain, metadata={"state": json.dumps(state)})
        write_whole(self._file, content)

    def restore(
        self,
        networks: dict[str, nn.Module],
        optimiser: torch.optim.Optimizer,
        progress: Callable[[str], None],
    ) -> dict[str, Any] | None:
        """Read what `save` wrote.

        Args:
            networks: get their weights.
            optimiser: gets its moments.
            progress: takes a line about a damaged file.

        Returns:
            The state; None where there is no whole checkpoint of these networks, and then
            nothing was changed.
        """
        if not self._file.is_file():
            return None
        try:
            with safe_open(self._file, framework="pt") as opened:
                state = json.loads(opened.metadata()["state"])
                tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            state, tensors = None, {}
        parts = {name: _below(tensors, name) for name in networks}
        if any(parts[name].keys() != networks[name].state_dict().keys() for name in networks):
            progress(f"{self._file} is damaged; the training starts again")
            return None
        for name, network in networks.items():
            network.load_state_dict(parts[name])
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, "optimiser").items():
            number, _, moment = key.partition(".")
            moments.setdefault(int(number), {})[moment] = value
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": moments, "param_groups": groups})
        return state

    def remove(self) -> None:
        """Take the folder away, as well as what a killed run left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _file(self) -> Path:
        return self.folder / "checkpoint.safetensors"


def trained_once(
    file: Path | None,
    network: nn.Module,
    train: Callable[[Checkpoint | None], None],
    *,
    name: str,
    progress: Callable[[str], None],
) -> None:
    """Train a network, or take the weights that the same training gave before.

    Args:
        file: named by the hash of everything that goes into the training; None keeps nothing.
        network: gets the weights and is left in evaluation mode.
        train: trains it in place, from the checkpoint on that a killed run left.
        name: what is trained, for the progress line.
        progress: takes a line where the weights were kept.
    """
    if file is None:
        train(None)
        return
    checkpoint = Checkpoint(file.with_suffix(".training"))
    if file.is_file():
        try:
            network.load_state_dict(load_file(file))
        except (SafetensorError, OSError, RuntimeError):
            progress(f"{file} is damaged; the {name} is trained again")
        else:
            network.eval()
            checkpoint.remove()
            progress(f"{name}: trained before on the same listings, taken from {file}")
            return
    train(checkpoint)
    write_whole(file, save(state_of(network)))
    checkpoint.remove()


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Those whose name begins with a name and a dot, without it."""
    start = f"{name}."
    return {
        key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)
    }
