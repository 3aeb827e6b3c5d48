"""torch.compile for the blocks of a DiT: on a GPU one graph for all blocks and all sizes of clips.

Writing a graph takes a GPU's compiler many seconds, as long as hundreds of steps, so there must be few. torch makes a
new one for each number that it takes to be fixed; here batch, patches and words are said to be of any size.
"""

from __future__ import annotations

import importlib.util
import shutil
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .attention import Kernel
from .blocks import Block, Text

ANY_SIZE = {"keys": (0, 2), "values": (0, 2), "mask": (0, 3)}  # dimensions of a text's tensors


def compile_blocks(blocks: Iterable[nn.Module], backend: str = "inductor") -> None:
    """Let torch write the blocks anew: on a CPU, which gains by it, for each size of clips."""
    torch._dynamo.config.cache_size_limit = 64
    found = [block for block in blocks if isinstance(block, Block)]
    if not found or found[0].table.device.type == "cpu":
        for block in found:
            block.compile(dynamic=False)
        return
    share_graph(found, torch.compile(Block.forward, backend=backend))


def share_graph(blocks: Iterable[Block], compiled: Callable[..., Any]) -> None:
    """Run all blocks through one compiled function."""

    def run(
        block: Block,
        x: Tensor,
        modulation: Tensor,
        rope: Tensor,
        text: Text | None,
        kernel: Kernel,
        lengths: Sequence[int],
    ) -> Tensor:
        if x._is_view():  # what comes from another layer than a block would be another kind of input
            x = x.clone()
        for tensor, dims in ((x, (0, 1)), (modulation, (0, 1)), (rope, (1, rope.ndim - 2)), *_sizes_of(text)):
            for dim in dims:
                if tensor.shape[dim] > 1:
                    torch._dynamo.maybe_mark_dynamic(tensor, dim)
        out: Tensor = compiled(block, x, modulation, rope, text, kernel, lengths if len(lengths) > 1 else ())
        return out

    for block in blocks:
        block.forward = types.MethodType(run, block)  # type: ignore[method-assign]


def _sizes_of(text: Text | None) -> list[tuple[Tensor, tuple[int, ...]]]:
    """A text's tensors and their dimensions of any size."""
    return [(tensor, dims) for name, dims in ANY_SIZE.items() if (tensor := getattr(text, name, None)) is not None]


def told(device: torch.device | str) -> str:
    """Whether blocks can be compiled on a device, and why they are not unless that is asked for, in a line."""
    if torch.device(device).type == "cpu":
        compilers = ("c++", "g++", "clang++", "cl")
        found = next((name for name in compilers if shutil.which(name)), "")
        means = f"the compiler {found} is there" if found else f"there is no C++ compiler ({', '.join(compilers)})"
    else:
        means = "triton is there" if importlib.util.find_spec("triton") else "triton is not installed"
    return f"only where training is told to (--compile), because it takes from seconds to minutes at the start; {means}"
