"""What is computed once and kept on disk: embeddings, by the content that they are of.

A file is written beside its place, flushed to the disk and renamed, so a killed run leaves none
that is half-written, and two processes that compute the same thing write the same file.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import nn

from purchase_predictor.errors import UserError

Compute = Callable[[Sequence[int]], tuple[NDArray[np.bool_], NDArray[np.float32]]]
"""Embeds some inputs by number: whether each could be read, and the vectors [n, d] of all."""

Progress = Callable[[str], None]

INPUTS_AT_ONCE = 4096
"""Embeddings in a file of the store, and what a killed run loses at most."""


def digest(parts: Iterable[object]) -> str:
    """SHA-256, in hexadecimal, of JSON-able values in their order."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(json.dumps(part, sort_keys=True, ensure_ascii=True).encode())
        sha.update(b"\n")
    return sha.hexdigest()


def weights_digest(network: nn.Module) -> str:
    """SHA-256, in hexadecimal, of all weights of a network, whatever device they are on."""
    sha = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        sha.update(flat.view(torch.uint8).numpy())
    return sha.hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is there entirely or not at all.

    Args:
        path: its place; folders above it are made.
        content: what is in it.

    Raises:
        UserError: if it cannot be written, a full disk among the reasons.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error


class EmbeddingStore:
    """Embeddings of one encoder, by the hash of the input.

    Attributes:
        folder: where the files are.
        progress: takes a line about a damaged file.
    """

    def __init__(self, folder: Path, progress: Progress) -> None:
        """Open the store of an encoder; nothing is read or written yet."""
        self.folder, self.progress = folder, progress

    def get(self, keys: Sequence[str], d: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Look up inputs.

        Args:
            keys: SHA-256 of each input, in hexadecimal.
            d: width of the embeddings.

        Returns:
            bool [n], whether the embedding is stored; float32 [n, d], zero where it is not.
        """
        wanted = np.array(keys, dtype="S64")
        found = np.zeros(len(keys), dtype=bool)
        vectors = np.zeros((len(keys), d), dtype=np.float32)
        for file in sorted(self.folder.glob("*.safetensors")) if len(keys) else []:
            stored = self._read(file, d)
            if stored is None:
                continue
            names, values = stored
            order = np.argsort(names)
            at = order[np.searchsorted(names, wanted, sorter=order).clip(max=len(names) - 1)]
            hit = (names[at] == wanted) & ~found
            vectors[hit] = values[at[hit]]
            found |= hit
        return found, vectors

    def put(self, keys: Sequence[str], vectors: NDArray[np.float32]) -> None:
        """Keep embeddings.

        Args:
            keys: SHA-256 of each input, in hexadecimal.
            vectors: float32 [n, d].
        """
        if not keys:
            return
        names = np.array(keys, dtype="S64").view(np.uint8).reshape(len(keys), 64)
        tensors: dict[str, NDArray[Any]] = {
            "keys": names,
            "vectors": np.ascontiguousarray(vectors),
        }
        write_whole(
            self.folder / f"{digest(keys)[:32]}.safetensors", safetensors.numpy.save(tensors)
        )

    def _read(self, file: Path, d: int) -> tuple[NDArray[np.bytes_], NDArray[np.float32]] | None:
        """Keys and vectors of a file, None where it is damaged; then it is taken away."""
        try:
            with safe_open(file, framework="np") as opened:
                keys, vectors = opened.get_tensor("keys"), opened.get_tensor("vectors")
            if keys.shape == (len(vectors), 64) and vectors.shape[1:] == (d,) and len(vectors):
                return keys.view("S64")[:, 0], vectors
        except (SafetensorError, OSError):
            pass
        self.progress(f"{file} is damaged; it is removed and its embeddings are computed again")
        file.unlink(missing_ok=True)
        return None


def embed_once(
    store: EmbeddingStore | None, keys: Sequence[str], compute: Compute, d: int, progress: Progress
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Embeddings of inputs, taken from the store or computed and kept there.

    Args:
        store: None keeps nothing.
        keys: SHA-256 of each input, in hexadecimal, no two alike.
        compute: embeds some of the inputs.
        d: width of the embeddings.
        progress: takes a line after each block of inputs where there are several.

    Returns:
        bool [n], whether the input could be read; float32 [n, d], zero where it could not.
    """
    if store is None:
        found = np.zeros(len(keys), dtype=bool)
        vectors = np.zeros((len(keys), d), dtype=np.float32)
    else:
        found, vectors = store.get(keys, d)
    missing = np.flatnonzero(~found)
    for start in range(0, len(missing), INPUTS_AT_ONCE):
        rows = missing[start : start + INPUTS_AT_ONCE]
        readable, computed = compute(rows.tolist())
        good = rows[readable]
        vectors[good], found[good] = computed[readable], True
        if store is not None:
            store.put([keys[row] for row in good], computed[readable])
        if len(missing) > INPUTS_AT_ONCE:
            progress(f"{start + len(rows):,} of {len(missing):,} embedded")
    return found, vectors


def state_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a network as safetensors takes them: on the CPU, contiguous, unshared."""
    return {
        name: tensor.detach().cpu().contiguous().clone()
        for name, tensor in network.state_dict().items()
    }
