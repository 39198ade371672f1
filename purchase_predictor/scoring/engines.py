"""Where shards are scored: in this process, or by the workers of a Ray cluster.

Both run `ShardScorer.finish`, which writes a shard's scores and then its record into the working
folder, so that a shard is the same whoever scores it, and one whose worker died leaves no record
and is scored again by another.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from features.heap import keep_few_kernels, map_large_arrays
from features.reading import read_folder
from purchase_predictor.errors import ClusterError, SettingsError
from purchase_predictor.predictor import PurchasePredictor
from purchase_predictor.scoring.scorer import ShardScorer
from purchase_predictor.scoring.work import WorkFolder

Facts = dict[str, Any]

MAX_DEATHS = 3
"""How often a worker is started again, and a shard given to a worker again, before it is told."""

STORE_BYTES = 100_000_000
"""Shared memory of a cluster of one's own: nothing but numbers of shards and counts goes there."""


class Engine(Protocol):
    """Scores shards."""

    def finish(
        self, scorer: ShardScorer, n_shards: int, system: str
    ) -> Iterator[tuple[int, Facts]]:
        """Score all shards that are not scored yet.

        Args:
            scorer: of this process.
            n_shards: how many there are, numbered from 0.
            system: that answers.

        Yields:
            Number and facts of each shard, in any order.
        """


class LocalEngine:
    """Scores one shard after another in this process."""

    def finish(
        self, scorer: ShardScorer, n_shards: int, system: str
    ) -> Iterator[tuple[int, Facts]]:
        """Score all shards that are not scored yet; see `Engine`."""
        for shard in range(n_shards):
            yield shard, scorer.finish(shard, system)


@dataclass(frozen=True)
class WorkerTask:
    """What a worker needs to know; the folders must be where every machine can read them.

    Attributes:
        model: model folder.
        profiles: file with the profiles of markets that are new to the model, if any.
        data: data folder.
        work: working folder, which workers write to.
        threads: of torch, by whose number sums are rounded.
    """

    model: Path
    profiles: Path | None
    data: Path
    work: Path
    threads: int


class ShardWorker:
    """An actor: loads the model with its first shard and keeps it.

    Not when it is made: an error of the constructor would be told as the death of the actor.
    """

    def __init__(self, task: WorkerTask) -> None:
        self.task = task
        self.scorer: ShardScorer | None = None

    def finish(self, shard: int, system: str) -> tuple[int, Facts]:
        """Score a shard; its number and facts."""
        if self.scorer is None:
            self.scorer = self._load()
        return shard, self.scorer.finish(shard, system)

    def _load(self) -> ShardScorer:
        torch.set_num_threads(self.task.threads)
        keep_few_kernels()
        map_large_arrays()
        predictor = PurchasePredictor.load(self.task.model)
        if self.task.profiles is not None:
            predictor.preparation_.add_profiles(self.task.profiles)
        return ShardScorer(predictor, read_folder(self.task.data), WorkFolder(self.task.work))


class RayEngine:
    """Scores shards by workers of a Ray cluster, each with a model of its own.

    The cluster is that of `RAY_ADDRESS` or of `ray.init`, else one on this machine that ends with
    the call. Workers that die are started again, and their shards are scored again.

    Args:
        task: what workers need to know.
        n_workers: how many score at once; None takes as many as there are cores for their threads.

    Raises:
        SettingsError: Ray is not installed.
    """

    def __init__(self, task: WorkerTask, n_workers: int | None = None) -> None:
        require_ray()
        absolute = {name: getattr(task, name).resolve() for name in ("model", "data", "work")}
        profiles = None if task.profiles is None else task.profiles.resolve()
        self.task = replace(task, **absolute, profiles=profiles)
        self.n_workers = n_workers

    def finish(
        self, scorer: ShardScorer, n_shards: int, system: str
    ) -> Iterator[tuple[int, Facts]]:
        """Score all shards that are not scored yet; see `Engine`.

        Raises:
            UserError: what a worker was told by the input, the model or the disk.
            ClusterError: a shard's workers died too often, or the cluster has too few cores.
        """
        left = []
        for shard in range(n_shards):  # a finished one starts no worker
            facts = scorer.work.facts(f"scores-{shard}")
            if facts is None:
                left.append(shard)
            else:
                yield shard, facts
        if left:
            yield from self._by_workers(left, system)

    def _by_workers(self, shards: list[int], system: str) -> Iterator[tuple[int, Facts]]:
        import ray
        from ray.util import ActorPool

        with _cluster():
            make = ray.remote(
                num_cpus=1,
                max_restarts=MAX_DEATHS,
                max_task_retries=MAX_DEATHS,
                scheduling_strategy="SPREAD",
            )(ShardWorker)
            workers = [make.remote(self.task) for _ in range(self._count(len(shards)))]
            pool = ActorPool(workers)
            try:
                yield from pool.map_unordered(
                    lambda worker, shard: worker.finish.remote(shard, system), shards
                )
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error  # what the worker met: a full disk, a broken file
            except ray.exceptions.RayActorError as error:
                raise ClusterError(
                    f"a worker died {MAX_DEATHS + 1} times while it scored, perhaps for want of "
                    "memory: take fewer --workers or --shard-rows; go on with --resume"
                ) from error
            except ray.exceptions.RayError as error:
                raise ClusterError(
                    f"the cluster gave up ({error}); go on with --resume"
                ) from error
            finally:
                for worker in workers:
                    ray.kill(worker)

    def _count(self, n_shards: int) -> int:
        import ray

        cores = int(ray.cluster_resources().get("CPU", 0))
        if self.n_workers is None:
            return min(n_shards, max(1, cores // self.task.threads))
        if self.n_workers > cores:
            raise ClusterError(
                f"--workers {self.n_workers} is more than the {cores} cores of the cluster"
            )
        return min(n_shards, self.n_workers)


def require_ray() -> None:
    """See that Ray is there, without importing it.

    Raises:
        SettingsError: it is not.
    """
    if find_spec("ray") is None:
        raise SettingsError(
            "--engine ray needs Ray, which is not installed: "
            "pip install 'purchase-predictor[cluster]'"
        )


@contextmanager
def _cluster() -> Iterator[None]:
    """A cluster: one that was joined before stays, another is left at the end."""
    # before the import, which reads it
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS")
    own: dict[str, Any] = {}
    if not address:  # one of its own, whatever else runs on this machine
        own = {
            "address": "local", "include_dashboard": False, "object_store_memory": STORE_BYTES,
        }  # fmt: skip
    try:
        ray.init(log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"at RAY_ADDRESS={address} cannot be joined" if address else "did not start"
        raise ClusterError(f"the Ray cluster {where}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
