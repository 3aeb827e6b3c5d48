"""A card, what is asked of it, and how it is timed."""

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

ENOUGH = 0.25  # seconds of repetitions of what is timed
MOST = 50  # repetitions


class Found(NamedTuple):
    """What a case found: a number in a unit, milliseconds where something was timed, and whether it is as it should."""

    value: float | None
    unit: str
    ms: float = 0.0
    note: str = ""
    ok: bool = True


class Case(NamedTuple):
    """One row: how it is made, and the seconds after which it is given up."""

    name: str
    run: Callable[[], Found]
    limit: float = 30.0
    heavy: bool = True  # whether memory is given back before it


@dataclass
class Card:
    """The device under test. tiny: sizes that a CPU does in no time, to test the benchmark itself."""

    device: torch.device
    tiny: bool = False
    rates: dict[torch.dtype, float] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        """Whether it has streams, events and memory of its own."""
        return self.device.type == "cuda"

    @property
    def half(self) -> torch.dtype:
        """bf16, or fp16 on cards before Ampere."""
        if self.cuda and torch.cuda.get_device_capability(self.device)[0] < 8:
            return torch.float16
        return torch.bfloat16

    def either(self, size: Any, tiny: Any) -> Any:
        """A size, or the tiny one."""
        return tiny if self.tiny else size

    def wait(self) -> None:
        """Until everything is done."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def empty(self) -> None:
        """Give memory back, and forget its peak."""
        if self.cuda:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_mb(self) -> float:
        """Megabytes that were held at most since `empty`; 0 on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) / 1e6 if self.cuda else 0.0

    def milliseconds(self, run: Callable[[], Any]) -> float:
        """The median of some repetitions, after two to warm up."""
        run()
        once = self.once(run)
        count = max(1, min(MOST, 1 if self.tiny else int(ENOUGH / once)))
        return statistics.median([1000 * self.once(run) for _ in range(count)])

    def once(self, run: Callable[[], Any]) -> float:
        """Seconds of one run of what is long enough."""
        self.wait()
        begin = time.perf_counter()
        run()
        self.wait()
        return time.perf_counter() - begin

    def rate(self, dtype: torch.dtype) -> float:
        """Operations per second of a large matrix product on this card, measured once."""
        if dtype not in self.rates:
            size = self.either(8192, 128)
            a, b = (torch.randn(size, size, device=self.device).to(dtype) for _ in range(2))
            self.rates[dtype] = 2 * size**3 / (self.milliseconds(lambda: a @ b) / 1000)
        return self.rates[dtype]

    def share(self, operations: float, ms: float, dtype: torch.dtype) -> float:
        """Which share of that rate so many operations in so many milliseconds are (MFU)."""
        return operations / (ms / 1000) / self.rate(dtype)


def operations(run: Callable[[], Any]) -> float:
    """Operations of the matrix products in what `run` does with tensors on the device "meta", which computes nothing.

    Attention counts as its two products; a gradient checkpoint, if there is one, counts twice.
    """
    with FlopCounterMode(display=False) as counter:
        run()
    return float(counter.get_total_flops())


def drawn(network: nn.Module, std: float = 0.1) -> Any:
    """A network with random weights everywhere, the same each time: zeros would hide what is behind them."""
    rng = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        weight.data.copy_(torch.randn(weight.shape, generator=rng) * std)
    return network.eval().requires_grad_(requires_grad=False)


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Numbers drawn on the CPU, so that they are the same on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference of two tensors by the largest of the wanted numbers."""
    off = (found.detach().cpu().float() - wanted.detach().cpu().float()).abs().max()
    return float(off / wanted.detach().abs().max().clamp(min=1e-12).cpu().float())


def judged(found: Tensor, wanted: Tensor, limit: float, note: str = "") -> Found:
    """A difference as a finding: right where it is within the limit."""
    off = difference(found, wanted)
    return Found(off, "of the CPU's", note=f"{note}{', ' if note else ''}limit {limit:g}", ok=off <= limit)
