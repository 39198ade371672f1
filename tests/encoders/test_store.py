from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from purchase_predictor.encoders.store import (
    EmbeddingStore,
    digest,
    embed_once,
    weights_digest,
    write_whole,
)
from purchase_predictor.errors import UserError

KEYS = [digest([number]) for number in range(6)]
VECTORS = np.arange(18, dtype=np.float32).reshape(6, 3)


def quiet(_line: str) -> None:
    pass


def test_what_was_put_is_found_in_any_order(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, quiet)
    store.put(KEYS[:3], VECTORS[:3])
    store.put(KEYS[4:], VECTORS[4:])

    found, vectors = EmbeddingStore(tmp_path, quiet).get(KEYS[::-1], 3)

    assert found.tolist() == [True, True, False, True, True, True]
    assert (vectors[found] == VECTORS[::-1][found]).all()
    assert (vectors[~found] == 0).all()


def test_only_the_missing_are_computed_and_the_unreadable_are_not_kept(tmp_path: Path) -> None:
    store = EmbeddingStore(tmp_path, quiet)
    store.put(KEYS[:2], VECTORS[:2])
    asked: list[int] = []

    def compute(rows: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        asked.extend(rows)
        return np.array([row != 3 for row in rows]), VECTORS[list(rows)]

    readable, vectors = embed_once(store, KEYS, compute, 3, quiet)

    assert asked == [2, 3, 4, 5]
    assert readable.tolist() == [True, True, True, False, True, True]
    assert (vectors[readable] == VECTORS[readable]).all()
    assert (vectors[3] == 0).all()
    asked.clear()
    embed_once(store, KEYS, compute, 3, quiet)
    assert asked == [3]


@pytest.mark.parametrize("n_bytes", [0, 5, 60])
def test_a_damaged_file_is_told_and_computed_again(tmp_path: Path, n_bytes: int) -> None:
    lines: list[str] = []
    store = EmbeddingStore(tmp_path, lines.append)
    store.put(KEYS, VECTORS)
    file = next(tmp_path.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:n_bytes])

    found, _ = store.get(KEYS, 3)

    assert not found.any()
    assert "damaged" in lines[0]
    assert not file.exists()


def test_a_run_killed_while_writing_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    store = EmbeddingStore(tmp_path, quiet)

    with pytest.raises(KeyboardInterrupt):
        store.put(KEYS, VECTORS)

    assert not store.get(KEYS, 3)[0].any()
    assert not list(tmp_path.glob("*.safetensors"))


def test_two_writers_of_the_same_inputs_leave_one_file(tmp_path: Path) -> None:
    for _ in range(2):
        EmbeddingStore(tmp_path, quiet).put(KEYS, VECTORS)

    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(UserError, match="Cannot write"):
        write_whole(tmp_path / "file" / "below", b"content")


def test_weights_have_a_digest_of_their_own() -> None:
    network = nn.Linear(2, 2)
    before = weights_digest(network)
    with torch.no_grad():
        network.bias[0] += 1e-6

    assert weights_digest(network) != before
