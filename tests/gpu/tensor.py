"""Tensors of the pretended GPU: Python sees cuda:0, and the numbers lie in `held`, on the CPU."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .device import PretendedGPU

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
# What C++ takes it for. A build without CUDA has no guard and no streams for "cuda"; it has a guard that does nothing
# for "lazy", and the autograd engine treats that like the CPU.
INSIDE = torch.device("lazy", 0)
NAMES = ("cuda", "lazy")

present: list[PretendedGPU] = []  # the GPU of this process, while there is one
drawing_there: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def the_gpu() -> PretendedGPU:
    """The GPU that is there."""
    if not present:
        raise RuntimeError("a tensor of the pretended GPU outlived it")
    return present[0]


class GPUTensor(torch.Tensor):
    """A tensor on cuda:0."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: type[GPUTensor], held: Tensor) -> GPUTensor:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=INSIDE,
            requires_grad=False,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return the_gpu().run(func, args, kwargs or {})

    def __repr__(self, **_: Any) -> str:
        return f"GPUTensor({self.held!r})"

    @property
    def device(self) -> torch.device:
        return GPU

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, GPUTensor) or value.shape != self.shape or value.dtype != self.dtype:
            raise NotImplementedError("only tensors of the GPU, of one shape and dtype, can take each other's place")
        self.held = value.held

    # -- what C++ would answer without asking the dispatcher --

    def type(self, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is not None:
            return super().type(dtype, *args, **kwargs)
        return self.held.type().replace("torch.", "torch.cuda.")

    def __getitem__(self, key: Any) -> Tensor:
        return super().__getitem__(_index(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(_index(key), value)

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            the_gpu().refuse("numpy", "can't convert cuda:0 device type tensor to numpy", TypeError)
        return self.detach().cpu().numpy()

    def __array__(self, dtype: Any = None) -> Any:
        found = self.numpy()
        return found if dtype is None else found.astype(dtype, copy=False)

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, "device": GPU, **options})

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def untyped_storage(self) -> Any:
        return self.held.untyped_storage()

    def is_pinned(self, *_: Any) -> bool:
        return False

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            copy = self.detach().clone().requires_grad_(self.requires_grad)
            memo[id(self)] = torch.nn.Parameter(copy, self.requires_grad) if hasattr(self, "_is_param") else copy
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise RuntimeError("a tensor of the pretended GPU cannot be pickled")


def _index(key: Any) -> Any:
    """Lists of numbers in an index as tensors of the GPU; C++ would make them in a way of its own."""
    several = isinstance(key, list) and any(isinstance(part, (slice, Tensor, type(None), type(...))) for part in key)
    if isinstance(key, tuple) or several:
        return tuple(map(_index, key))
    return torch.tensor(key).to(GPU) if isinstance(key, (list, range)) else key


class Draws(torch.Generator):
    """A generator that knows whether it draws on the GPU; its numbers are the CPU's."""

    def __new__(cls, device: Any = "cpu") -> Draws:
        made = super().__new__(cls, "cpu")
        made.place = torch.device(device)
        if made.place.type in NAMES:
            drawing_there[made._cdata] = made  # C++ hands it back as another object
        return made

    def __init__(self, device: Any = "cpu") -> None:  # noqa: ARG002 - seen to by __new__
        super().__init__()

    @property
    def device(self) -> torch.device:
        return self.place


def numbers(value: Any) -> Any:
    """An argument as the CPU takes it."""
    if isinstance(value, GPUTensor):
        return value.held
    return CPU if isinstance(value, torch.device) and value.type in NAMES else value


def named_inside(value: Any) -> Any:
    """A device's name as C++ has it."""
    if isinstance(value, torch.device):
        return INSIDE if value.type == "cuda" else value
    return INSIDE if isinstance(value, str) and value.startswith("cuda") else value
