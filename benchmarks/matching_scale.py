"""Matching at scale: neighbours and three blending stages on planted groups.

    python benchmarks/matching_scale.py --n 100000 --output matching_scale.json

The package works in a process of its own, whose peak memory is reported; numpy's brute force and
faiss's exact index, on the same embeddings and threads, stand beside it.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

K = 51
LARGEST_GROUP = 20
NOISE = 0.8  # length of what is added to a group's unit vector: cosine 1 / (1 + NOISE²) = 0.61
TIE = 1e-5
ROWS_AT_ONCE = 512
FAISS_ROWS = 4096
STAGE_1, STAGE_1_SECOND, LATER, LATER_SECOND = 0.45, 0.5, 0.2, 0.25


@dataclass(frozen=True)
class Found:
    """What the package found, and what it took.

    Attributes:
        index: int32 [n, K].
        knn_s: seconds of the first search for neighbours.
        blending_s: seconds of the three stages after it, two more searches among them.
        peak_bytes: greatest resident memory of the process, embeddings included.
        f1: mean F1 of the matches over the planted groups.
    """

    index: NDArray[np.int32]
    knn_s: float
    blending_s: float
    peak_bytes: int
    f1: float


def planted(n: int, d: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors [n, d] around the centres of groups of 1 to 20, and the group of each."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, LARGEST_GROUP + 1, n)
    groups = np.repeat(np.arange(n), sizes)[:n]
    rng.shuffle(groups)
    centres = rng.standard_normal((groups.max() + 1, d), dtype=np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    vectors = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, ROWS_AT_ONCE):
        part = centres[groups[start : start + ROWS_AT_ONCE]]
        part += rng.standard_normal(part.shape, dtype=np.float32) * np.float32(NOISE / np.sqrt(d))
        vectors[start : start + len(part)] = part / np.linalg.norm(part, axis=1, keepdims=True)
    return vectors, groups


def with_package(n: int, d: int, threads: int, seed: int) -> Found:
    """Neighbours and blending by the package; runs in a fresh process."""
    import torch

    from purchase_predictor.matching.blending import Blender, Thresholds
    from purchase_predictor.matching.matches import f1_by_listing
    from purchase_predictor.matching.views import COMB, View

    torch.set_num_threads(threads)
    first, later = (STAGE_1, STAGE_1_SECOND), (LATER, LATER_SECOND)
    thresholds = Thresholds(*first, *first, *first, *later, *later)
    with threadpool_limits(threads):
        vectors, groups = planted(n, d, seed)
        blender = Blender(View("image", vectors, np.ones(n, dtype=bool)), k=K)
        start = time.perf_counter()
        index = blender.neighbours(COMB).index
        middle = time.perf_counter()
        matches = blender.match(thresholds)
        end = time.perf_counter()
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    f1 = float(f1_by_listing(matches, groups).mean())
    return Found(index, middle - start, end - middle, peak, f1)


def with_numpy(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Brute force: the top 51 of each row, unsorted, and the least of their cosines."""
    k = min(K, len(vectors))
    index = np.empty((len(vectors), k), dtype=np.int64)
    least = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        cosines = vectors[start : start + ROWS_AT_ONCE] @ vectors.T
        top = np.argpartition(cosines, -k, axis=1)[:, -k:]
        index[start : start + len(top)] = top
        least[start : start + len(top)] = np.take_along_axis(cosines, top, axis=1).min(axis=1)
    return index, least


def with_faiss(vectors: NDArray[np.float32], threads: int) -> float:
    """Seconds that faiss's exact index would take for all rows, measured on some of them."""
    import faiss

    faiss.omp_set_num_threads(threads)
    flat = faiss.IndexFlatIP(vectors.shape[1])
    flat.add(vectors)
    queries = vectors[:FAISS_ROWS]
    start = time.perf_counter()
    flat.search(queries, K)
    return (time.perf_counter() - start) * len(vectors) / len(queries)


def recall(
    vectors: NDArray[np.float32],
    index: NDArray[np.int32],
    least: NDArray[np.float32],
) -> float:
    """Share of the places of all lists filled by a listing that is near enough for the top 51."""
    right = 0
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        cosines = np.einsum("nd,nkd->nk", vectors[rows], vectors[index[rows]])
        near = (cosines >= least[rows, None] - TIE) & (index[rows] >= 0)
        ordered = np.sort(np.where(near, index[rows], -1), axis=1)
        new = np.diff(ordered, axis=1, prepend=-1) > 0
        right += int(new.sum())
    return right / (len(vectors) * min(K, len(vectors)))


def group_recall(
    index: NDArray[np.int32], exact: NDArray[np.int64], groups: NDArray[np.int64]
) -> float:
    """Share of the members of a listing's group in the exact list that are in the list found."""
    n = len(groups)
    keys = []
    for lists in (exact, index.astype(np.int64)):
        row, place = np.nonzero((groups[lists] == groups[:, None]) & (lists >= 0))
        keys.append(row * n + lists[row, place])
    return float(np.isin(keys[0], keys[1]).mean())


def measure(n: int, d: int, threads: int, seed: int) -> dict[str, Any]:
    """All figures of the benchmark."""
    # First, while this process is small: a child's peak counts what its parent held.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(with_package, n, d, threads, seed).result()
    vectors, groups = planted(n, d, seed)
    with threadpool_limits(threads):
        start = time.perf_counter()
        exact, least = with_numpy(vectors)
        numpy_s = time.perf_counter() - start
        faiss_s = with_faiss(vectors, threads)
    total = found.knn_s + found.blending_s
    return {
        "n": n,
        "d": d,
        "threads": threads,
        "knn_s": found.knn_s,
        "blending_s": found.blending_s,
        "total_s": total,
        "numpy_top51_s": numpy_s,
        "faiss_exact_s": faiss_s,
        "knn_to_numpy": found.knn_s / numpy_s,
        "total_to_numpy": total / numpy_s,
        "peak_gb": found.peak_bytes / 1e9,
        "recall": recall(vectors, found.index, least),
        "group_recall": group_recall(found.index, exact, groups),
        "f1": found.f1,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000, help="listings")
    parser.add_argument("--d", type=int, default=512, help="width of the embeddings")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    figures = measure(arguments.n, arguments.d, arguments.threads, arguments.seed)
    for name, value in figures.items():
        print(
            f"{name:16} {value:12,.3f}" if isinstance(value, float) else f"{name:16} {value:12,}"
        )
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
