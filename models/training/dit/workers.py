"""Data parallel training under torchrun: every worker takes its part of the same batch, gradients are summed.

All workers draw the whole batch of a step from the same generator and compute their rows of it, so the run is that of
one process at the same batch up to the order of sums. torch's DDP would need the model's own forward; training calls
its parts (text once, then tokens), so the sum is made here. `ShardedWorkers` split the model as well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from ...transformer.dit import DiT
from ..optim.layout import Layout, newest
from ..optim.optimiser import EMA, Optimiser
from ..run.folder import Run
from .batches import Batch

HELD = "worker %d of %d holds %d bytes of parameters and optimiser state"
LOST = "another worker of this run is gone: the same command continues from the last checkpoint"
BUCKET = 1 << 23  # gradients in a message: 32 MB
PATIENCE = timedelta(hours=1)  # the others wait while the first one makes its report; a dead worker is noticed at once


@dataclass(frozen=True)
class Workers:
    """This process and how many there are."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes the files."""
        return self.rank == 0

    def rows(self, total: int) -> slice:
        """This worker's part of a batch."""
        return slice(total * self.rank // self.count, total * (self.rank + 1) // self.count)

    def pieces(self, batch: Batch, parts: int) -> list[tuple[Batch, float]]:
        """This worker's clips of a batch in at most `parts` pieces, and which share of the batch each is."""
        pieces = batch.part(self.rows(batch.count)).parts(parts)
        return [(piece, piece.count / batch.count) for piece in pieces]

    def layout(self, model: DiT, device: str) -> Layout:
        """Bring the model to the device; returns how its parameters lie."""
        model.to(device)
        return Layout()

    def agree(self, answer: bool) -> bool:
        """The first worker's answer to a question that only it can answer."""
        if self.count == 1:
            return answer
        said = torch.tensor([int(answer)])
        distributed.broadcast(said, 0)
        return bool(said)

    def say_what_it_holds(self, optimiser: Optimiser) -> None:
        """Log how much memory the parameters and the optimiser's state take in this worker, if there are several."""
        if self.count > 1:
            logging.getLogger(__name__).info(HELD, self.rank + 1, self.count, optimiser.held_bytes())

    @torch.no_grad()
    def sum_gradients(self, model: nn.Module, extra: Iterable[Tensor]) -> list[Tensor]:
        """Add up all workers' gradients, in fp32 and in buckets, and `extra` (scalars), whose sums are returned.

        While a bucket is on its way the next one is filled. Parameters that no worker used stay without a gradient, as
        in a single process.
        """
        parameters = [p for p in model.parameters() if p.requires_grad]
        device, count = parameters[0].device, len(parameters)
        used = torch.tensor([float(p.grad is not None) for p in parameters])
        scalars = [used.to(device), *(value.detach().reshape(1).to(device).float() for value in extra)]
        last = torch.cat(scalars)
        distributed.all_reduce(last)
        sums = last.cpu()  # in one transfer
        learned = [p for p, users in zip(parameters, sums[:count].tolist(), strict=True) if users]
        sent = []
        for bucket in buckets(learned):
            parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
            message = torch.cat([part.float().flatten() for part in parts])
            sent.append((bucket, message, distributed.all_reduce(message, async_op=True)))
        for bucket, message, arrives in sent:
            arrives.wait()
            for parameter, piece in zip(bucket, message.split([p.numel() for p in bucket]), strict=True):
                parameter.grad = piece.view_as(parameter).to(parameter.dtype)
        return list(sums[count:])

    @torch.no_grad()
    def resume(self, run: Run, optimiser: Optimiser, average: EMA) -> int:
        """Continue from the run's checkpoint if there is one; returns the number of steps done.

        Only the first worker reads, so only that one needs the run folder.
        """
        step = run.resume(optimiser, average)
        if self.count == 1:
            return step
        state = optimiser.state()
        device = next(iter(state.values())).device
        number = torch.tensor([step], device=device)
        for tensor in [number, *state.values(), *(weight for _, weight in average.items())]:
            distributed.broadcast(tensor, 0)
        optimiser.load(state, int(number))
        return int(number)


@dataclass(frozen=True)
class ShardedWorkers(Workers):
    """Workers among which the model, the optimiser and the average are split as well. All need the run folder."""

    def pieces(self, batch: Batch, parts: int) -> list[tuple[Batch, float]]:
        """As in `Workers`, and as many for each: they gather together, so a missing piece is one with no share."""
        own = super().pieces(batch, parts)
        number = min(parts, -(-batch.count // self.count))
        return own + [(batch.part(slice(0, 1)), 0.0)] * (number - len(own))

    def layout(self, model: DiT, device: str) -> Layout:
        """Split the model; each worker keeps its part on its device."""
        from .sharded import Shards

        return Shards(model, device)

    @torch.no_grad()
    def sum_gradients(self, model: nn.Module, extra: Iterable[Tensor]) -> list[Tensor]:  # noqa: ARG002 - as in Workers
        """Sums of `extra`; the gradients were summed as they were made."""
        message = torch.stack([value.detach().float().cpu() for value in extra])
        distributed.all_reduce(message)
        return list(message)

    @torch.no_grad()
    def resume(self, run: Run, optimiser: Optimiser, average: EMA) -> int:
        """Each worker reads its parts, however many workers wrote them. ValueError where not all see the folder."""
        found = newest(run.folder)
        seen = torch.tensor([found[1] if found else 0])
        least, most = seen.clone(), seen
        distributed.all_reduce(least, distributed.ReduceOp.MIN)
        distributed.all_reduce(most, distributed.ReduceOp.MAX)
        if int(least) != int(most):
            raise ValueError(
                f"not all workers see the checkpoint in {run.folder}: with --shard it must be on a disk that they share"
            )
        return run.resume(optimiser, average)


def buckets(parameters: Iterable[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Parameters whose gradients go in one message; a large one goes alone."""
    bucket: list[nn.Parameter] = []
    held = 0
    for parameter in parameters:
        if bucket and held + parameter.numel() > BUCKET:
            yield bucket
            bucket, held = [], 0
        bucket.append(parameter)
        held += parameter.numel()
    if bucket:
        yield bucket


def join(device: str, *, shard: bool = False) -> tuple[Workers, str]:
    """Join the workers that torchrun or Ray has started, if any; returns them and this one's device."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Workers(), device
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        distributed.init_process_group(backend, timeout=PATIENCE)
    return (ShardedWorkers if shard else Workers)(distributed.get_rank(), count), device


def lost_a_worker(error: RuntimeError) -> bool:
    """Whether an error says that the connection to another worker broke, as gloo and NCCL put it."""
    said = str(error).lower()
    return distributed.is_initialized() and any(word in said for word in ("connection", "peer", "nccl", "timed out"))


def leave() -> None:
    """Say goodbye to the other workers."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
