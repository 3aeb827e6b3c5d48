"""A pool of Ray actors, each with the model loaded."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ..checkpoints import Checkpoint
from .fan_out import Frames, Job, Maker, Recipe, WorkerLostError


class Actors:
    """Workers on a cluster: one per GPU where it has some, else one per `recipe.threads` CPUs, at most `most` (0: all).

    The checkpoint travels once to each machine, so no disk needs to be shared.
    """

    def __init__(self, ray: ModuleType, checkpoint: Checkpoint, recipe: Recipe, most: int = 0) -> None:
        resources = ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        room = gpus or max(1, cpus // recipe.threads)
        self.ray, self.recipe = ray, recipe
        self.count = min(most, room) if most else room
        self.device = "cuda" if gpus else "cpu"
        needs = {"num_gpus": 1} if gpus else {"num_cpus": min(recipe.threads, cpus)}
        self.remote = ray.remote(Maker).options(**needs)
        self.checkpoint = ray.put(checkpoint)
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Job]] = {}
        for _ in range(self.count):
            self._hire()

    def _hire(self) -> None:
        self.idle.append(self.remote.remote(self.checkpoint, self.recipe, self.device))

    def free(self) -> bool:
        """Whether a worker has no job (it may still be loading)."""
        return bool(self.idle)

    def start(self, job: Job) -> None:
        """Give a job to a worker."""
        worker = self.idle.pop()
        self.busy[worker.make.remote(job.prompt, job.seed)] = (worker, job)

    def ended(self) -> list[tuple[Job, Frames | WorkerLostError]]:
        """Jobs that have ended; a worker that died is replaced. What a job raises is raised here."""
        ready, _ = self.ray.wait(list(self.busy), num_returns=len(self.busy), timeout=0.2)
        ended: list[tuple[Job, Frames | WorkerLostError]] = []
        for reference in ready:
            worker, job = self.busy.pop(reference)
            try:
                ended.append((job, self.ray.get(reference)))
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except self.ray.exceptions.RayError as error:
                ended.append((job, WorkerLostError(type(error).__name__)))
                self._hire()
            else:
                self.idle.append(worker)
        return ended
