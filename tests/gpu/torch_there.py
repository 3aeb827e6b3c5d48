"""What stands in torch's own place while the pretended GPU is there: what its dispatcher does not see."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .tensor import CPU, GPU, INSIDE, Draws, GPUTensor, named_inside

if TYPE_CHECKING:
    from .device import PretendedGPU

Replacement = tuple[Any, str, Any]  # owner, name, value


def replacements(gpu: PretendedGPU) -> list[Replacement]:
    """All of them."""
    return [*_of_tensors(), *_of_cuda(gpu), (torch.version, "cuda", "12.8")]


def _of_tensors() -> list[Replacement]:
    """Moving, making and drawing."""
    base, plain = torch._C.TensorBase, torch.Generator

    def to(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return base.to(x, *map(named_inside, args), **{key: named_inside(value) for key, value in kwargs.items()})

    def cuda(x: Tensor, device: Any = None, non_blocking: bool = False, **_: Any) -> Tensor:
        return base.to(x, INSIDE, non_blocking=non_blocking)

    def is_one(kind: type, instance: Any) -> bool:
        return type.__instancecheck__(kind, instance) or type.__instancecheck__(plain, instance)

    def pin(x: Tensor, *_: Any, **__: Any) -> Tensor:
        x.pinned = True  # type: ignore[attr-defined] # a GPU copies into it without being waited for
        return x

    either = type("_Either", (type(Draws),), {"__instancecheck__": is_one})
    makers = [(torch, name, _making(getattr(torch, name))) for name in ("tensor", "as_tensor", "asarray")]
    moved = [(torch.Tensor, "to", to), (torch.Tensor, "cuda", cuda)]
    pinned = (torch.Tensor, "pin_memory", pin)
    return [*moved, pinned, *makers, (torch, "Generator", either("Generator", (Draws,), {}))]


def _making(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """torch.tensor and its kin, which take the device as a keyword."""
    base, copies = torch._C.TensorBase, make is torch.tensor

    def made(data: Any, *args: Any, device: Any = None, **options: Any) -> Tensor:
        on_gpu = isinstance(data, GPUTensor) if device is None else torch.device(device).type == "cuda"
        wanted = options.pop("requires_grad", False)
        if isinstance(data, (list, tuple)):
            data = [part.item() if isinstance(part, GPUTensor) else part for part in data]
        if isinstance(data, GPUTensor):
            out = base.to(data, options.get("dtype") or data.dtype)
            out = out.clone() if copies else out
            out = out if on_gpu else base.to(out, CPU)
        else:
            out = make(data, *args, **options)
            out = base.to(out, INSIDE) if on_gpu else out
        return out.requires_grad_() if wanted else out

    return made


class Nothing:
    """A stream, an event, a context: everything happens at once, so there is nothing to wait for."""

    device = GPU

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: self

    def __enter__(self) -> Nothing:
        return self

    def __exit__(self, *_: object) -> None: ...


class _Runtime:
    """What pins memory: it says that it did."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: 0


def _of_cuda(gpu: PretendedGPU) -> list[Replacement]:
    """torch.cuda."""

    def seed(number: int) -> None:
        gpu.draws = torch._C.Generator().manual_seed(int(number)).get_state()

    states: dict[bytes, Tensor] = {}

    def state(*_: Any) -> Tensor:
        short = hashlib.md5(gpu.draws.numpy().tobytes(), usedforsecurity=False).digest()  # 16 bytes, as CUDA's are
        states[short] = gpu.draws.clone()
        return torch.frombuffer(bytearray(short), dtype=torch.uint8)

    def set_state(new: Tensor, *_: Any) -> None:
        gpu.draws = states[new.numpy().tobytes()].clone()

    def held(*_: Any) -> int:
        return gpu.bytes_held()

    def nothing(*_: Any, **__: Any) -> None: ...

    describing = types.SimpleNamespace(
        name="Pretended GPU",
        total_memory=gpu.memory,
        major=gpu.compute[0],
        minor=gpu.compute[1],
        multi_processor_count=80,
        gcnArchName="",
        warp_size=32,
        is_integrated=0,
        uuid="pretended",
    )
    names = ("active_bytes", "reserved_bytes", "allocated_bytes")
    values: dict[str, Any] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "_initialized": True,
        "device_count": lambda: 1,
        "current_device": lambda: GPU,
        "get_device_properties": lambda *_: describing,
        "get_device_name": lambda *_: describing.name,
        "get_device_capability": lambda *_: gpu.compute,
        "get_arch_list": lambda: ["sm_86"],
        "is_bf16_supported": lambda including_emulation=True: including_emulation or gpu.compute[0] >= 8,
        "mem_get_info": lambda *_: (max(0, gpu.memory - held()), gpu.memory),
        "memory_stats": lambda *_: {f"{name}.all.{kind}": held() for name in names for kind in ("current", "peak")},
        "synchronize": lambda *_: gpu.wait("synchronize"),
        "current_stream": lambda *_: Nothing(),
        "default_stream": lambda *_: Nothing(),
        "manual_seed": seed,
        "manual_seed_all": seed,
        "get_rng_state": state,
        "set_rng_state": set_state,
        "get_rng_state_all": lambda: [state()],
        "set_rng_state_all": lambda states: set_state(states[0]),
        "initial_seed": lambda: 0,
        "cudart": _Runtime,
        "is_current_stream_capturing": lambda: False,
        "get_allocator_backend": lambda: "native",
        "_is_in_bad_fork": lambda: False,
    }
    values |= dict.fromkeys(
        ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"), held
    )
    values |= dict.fromkeys(("device", "device_of", "stream", "Stream", "ExternalStream", "Event"), Nothing)
    quiet = ("_lazy_init", "init", "set_device", "reset_peak_memory_stats", "empty_cache", "ipc_collect", "set_stream")
    values |= dict.fromkeys(quiet, nothing)
    random = {"get_rng_state": state, "set_rng_state": set_state, "manual_seed": seed, "manual_seed_all": seed}
    return [
        *((torch.cuda, name, value) for name, value in values.items()),
        *((torch.cuda.random, name, value) for name, value in random.items()),
    ]
