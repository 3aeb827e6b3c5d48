"""Data parallel training under torchrun: every worker takes its part of the same batch, gradients are summed.

All workers draw the whole batch of a step from the same generator and compute their rows of it, so the run is that of
one process at the same batch up to the order of sums. torch's DDP would need the model's own forward; training calls
its parts (text once, then tokens), so the sum is made here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from .optim import EMA, Optimiser


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

    @torch.no_grad()
    def sum_gradients(self, model: nn.Module, extra: Iterable[Tensor]) -> list[Tensor]:
        """Add up all workers' gradients, in fp32 and in one message, and `extra` (scalars), whose sums are returned.

        Parameters that no worker used stay without a gradient, as in a single process.
        """
        parameters = [p for p in model.parameters() if p.requires_grad]
        used = [torch.tensor(float(p.grad is not None)) for p in parameters]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        scalars = [value.detach().reshape(1) for value in (*used, *extra)]
        message = torch.cat(
            [part.float().flatten() for part in parts] + [s.to(parts[0].device).float() for s in scalars]
        )
        distributed.all_reduce(message)
        pieces = message.split([p.numel() for p in parameters] + [1] * len(scalars))
        count = len(parameters)
        for parameter, piece, users in zip(parameters, pieces[:count], pieces[count : 2 * count], strict=True):
            parameter.grad = piece.view_as(parameter).to(parameter.dtype) if users else None
        return [piece[0].cpu() for piece in pieces[2 * count :]]

    @torch.no_grad()
    def spread(self, optimiser: Optimiser, average: EMA, step: int) -> int:
        """Give all workers the first one's state, so only that one needs the run folder; returns its step."""
        if self.count == 1:
            return step
        state = optimiser.state()
        device = next(iter(state.values())).device
        number = torch.tensor([step], device=device)
        for tensor in [number, *state.values(), *(weight for _, weight in average.items())]:
            distributed.broadcast(tensor, 0)
        optimiser.load(state, int(number))
        return int(number)


def join(device: str) -> tuple[Workers, str]:
    """Join the workers that torchrun has started, if it has; returns them and this one's device."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Workers(), device
    if device.startswith("cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    if not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo")
    return Workers(distributed.get_rank(), count), device


def leave() -> None:
    """Say goodbye to the other workers."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
