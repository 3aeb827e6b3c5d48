"""Parameters, optimiser state and average split among the workers (FSDP2), for models that one device cannot hold.

Every tensor is cut along its first dimension. Blocks are gathered when they are used and let go after; gradients are
summed and cut at once. Muon needs whole matrices: they are dealt out, so that each worker gathers and orthogonalises
its share of them and sends the parts back. Each worker does a fraction of the work and the result is that of one
process. Checkpoints are torch's distributed ones in safetensors files, a folder of parts per step; any number of
workers can continue them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from ...files import opened
from ...transformer.blocks import Block
from ...transformer.dit import DiT
from ..optim.layout import Layout, forget_others
from ..optim.muon import orthogonalise
from ..optim.parts import TOO_OLD, load_parts, save_parts

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


class Shards(Layout):
    """The layout of a DiT whose parameters are split. Making one splits the model, in place."""

    split = True

    def __init__(self, model: DiT, device: str) -> None:
        try:
            from torch.distributed.device_mesh import init_device_mesh
            from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
            from torch.distributed.fsdp import register_fsdp_forward_method as register
        except ImportError as error:
            raise ValueError(TOO_OLD) from error
        self.mesh = init_device_mesh(torch.device(device).type, (distributed.get_world_size(),))
        options: dict[str, Any] = {"mesh": self.mesh, "mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32)}
        for block in [b for b in model.blocks if isinstance(b, Block)]:
            fully_shard(block.cross_attn, **options)  # on its own, for `prepare` uses it outside of its block
            register(block.cross_attn, "keys_values")
            fully_shard(block, **options)
        fully_shard(model, **options)
        # it warns of views because an in-place operation on one would lose gradients; this model does none on them
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        for method in ("prepare", "forward_tokens"):
            register(model, method)
        for module in model.modules():
            if isinstance(module, FSDPModule):  # the loss is already this worker's share of the mean
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self.shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
        self.workers = self.mesh.size()

    def local(self, tensor: Tensor) -> Tensor:
        """This worker's rows; they may be none."""
        with torch.no_grad():
            return tensor.to_local() if hasattr(tensor, "to_local") else tensor

    def shape(self, name: str, local: Tensor) -> torch.Size:  # noqa: ARG002 - as in Layout
        """The shape of the whole parameter."""
        return self.shapes[name]

    def total(self, value: Tensor) -> Tensor:
        """The sum over all workers."""
        value = value.clone()
        distributed.all_reduce(value)
        return value

    def orthogonalised(self, matrices: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Large matrices first, as many at a time as there are workers: each worker gets one whole, and does that."""
        ordered = iter(sorted(matrices, key=lambda entry: -self.shapes[entry[0]].numel()))
        while group := list(islice(ordered, self.mesh.size())):
            yield from self._together([name for name, _ in group], [part for _, part in group])

    def _together(self, names: Sequence[str], parts: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        rank, nothing = distributed.get_rank(), parts[0].new_empty(0)
        outgoing = [*parts, *[nothing] * (self.mesh.size() - len(parts))]
        received = exchange(outgoing, self._incoming(names, nothing))
        outgoing = [nothing] * self.mesh.size()
        if rank < len(names):
            matrix = torch.cat(received).flatten(1)
            whole = orthogonalise(matrix).view(self.shapes[names[rank]])
            outgoing = list(whole.split([len(part) for part in received]))
        yield from zip(names, exchange(outgoing, parts), strict=False)

    def _incoming(self, names: Sequence[str], like: Tensor) -> list[Tensor]:
        """Room for all workers' parts of the matrix that this worker is to do, if there is one for it."""
        rank, count = distributed.get_rank(), self.mesh.size()
        if rank >= len(names):
            return [like] * count
        shape = self.shapes[names[rank]]
        return [like.new_empty((rows, *shape[1:])) for rows in rows_of_workers(shape[0], count)]

    def whole(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors in the CPU's memory, one at a time. All workers must call it."""
        for name, tensor in tensors:
            yield name, self.split_tensor(name, tensor).full_tensor().cpu()

    def split_tensor(self, name: str, local: Tensor) -> DTensor:
        """A DTensor of this worker's part of a tensor that is shaped like the parameter `name`."""
        from torch.distributed.tensor import DTensor, Shard

        shape = self.shapes[name]
        stride = torch.empty(shape, device="meta").stride()
        return DTensor.from_local(local, self.mesh, [Shard(0)], run_check=False, shape=shape, stride=stride)

    def write(self, folder: Path, step: int, state: Mapping[str, Tensor]) -> None:
        """Replace the checkpoint in a run folder by a folder of parts. All workers must call it."""
        path = folder / f"checkpoint-{step:08d}"
        save_parts(path, self._named(state))
        if distributed.get_rank() == 0:
            forget_others(folder, path)

    def read(self, path: Path, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This worker's parts of a checkpoint, split among any number or not. All workers must call it."""
        if path.is_dir():
            load_parts(path, self._named(state), together=True)  # which fills the tensors of `state`
            return dict(state)
        rank, count, parts = distributed.get_rank(), self.mesh.size(), {}
        with opened(path) as file:
            for key in state:
                if self._parameter(key) not in self.shapes:
                    parts[key] = file.get_tensor(key)
                    continue
                whole = file.get_slice(key)
                rows = rows_of_workers(whole.get_shape()[0], count)
                parts[key] = whole[sum(rows[:rank]) : sum(rows[: rank + 1])]
        return parts

    def _named(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        names = {key: self._parameter(key) for key in state}
        return {
            key: self.split_tensor(names[key], tensor) if names[key] in self.shapes else tensor
            for key, tensor in state.items()
        }  # what belongs to no parameter is the same in every worker

    @staticmethod
    def _parameter(key: str) -> str:
        # kind.parameter, or for an average of another profile kind.profile:parameter
        return key.partition(".")[2].rpartition(":")[2]


def rows_of_workers(rows: int, count: int) -> list[int]:
    """How torch cuts a dimension: equal parts, the last ones shorter or empty."""
    each = -(-rows // count)
    return [max(0, min(each, rows - each * rank)) for rank in range(count)]


def exchange(outgoing: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Send outgoing[i] to worker i and get from each a tensor shaped like like[i]; from those without one, nothing.

    As bytes, so that every backend takes every dtype.
    """
    empty = outgoing[0].new_empty(0)
    expected = [*like, *[empty] * (len(outgoing) - len(like))]
    message = torch.cat([tensor.contiguous().view(-1).view(torch.uint8) for tensor in outgoing])
    incoming, outgoing_sizes = ([t.numel() * t.element_size() for t in tensors] for tensors in (expected, outgoing))
    answer = message.new_empty(sum(incoming))
    distributed.all_to_all_single(answer, message, incoming, outgoing_sizes)
    pieces = zip(answer.split(incoming), expected, strict=True)
    # a copy: a piece may begin where its dtype may not
    return [piece.clone().view(tensor.dtype).view(tensor.shape) for piece, tensor in pieces]
