"""A GPU for machines without one: numbers are computed on the CPU, and what a GPU refuses is refused.

    with PretendedGPU() as gpu:
        model.to("cuda")
        model(x)                       # x on the CPU: RuntimeError, as on a GPU
        gpu.waits                      # what made the host wait, and copies between the devices, with their lines

`strict=False` notes refusals in `gpu.refusals` and goes on as if the tensor had been moved: one run finds them all.
`gpu.bytes_held()` is what lies on the GPU; while `gpu.measuring`, its largest value is kept in `gpu.most`.

What is checked: the tensors of an operation lie together (a CPU tensor without axes may join pointwise operations and
the like, once, and not as what is written to; a CPU index may index a GPU tensor); a generator draws on its own device;
`numpy()` wants the CPU. What cannot be: kernels that lack a dtype, memory that runs out, speed, streams.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # torch.utils.checkpoint imports it when it is first used, and wants the real torch.cuda then
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from .tensor import CPU, GPU, NAMES, GPUTensor, drawing_there, numbers, present, the_gpu
from .torch_there import replacements

ROOT = Path(__file__).resolve().parents[2]
aten = torch.ops.aten
INDEXING = {f"aten::{name}" for name in ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")}
# besides pointwise operations, those that take a CPU tensor without axes among tensors of the GPU
TAKE_A_NUMBER = INDEXING | {
    f"aten::{name}"
    for name in """
        where masked_fill masked_fill_ index_fill index_fill_ fill fill_ copy result_type can_cast clamp clamp_
        linspace logspace lerp lerp_
    """.split()
}
CROSSING = {"aten::_to_copy", "aten::copy_", "aten::to", "aten::_copy_from", "aten::set_data"}
# the host needs the size or the value of what these give
WAITING = {
    f"aten::{name}"
    for name in """
        _local_scalar_dense equal nonzero masked_select _unique2 unique_dim unique_consecutive bincount is_nonzero
        linalg_lstsq _linalg_svd _linalg_solve_ex linalg_inv_ex _linalg_eigh linalg_qr
    """.split()
}


class _Seen(TorchDispatchMode):
    """Brings operations to the GPU that have no tensor of it among their arguments: factories, copies, mixtures."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return the_gpu().run(func, args, kwargs or {})


class PretendedGPU:
    """The GPU. It is there inside a `with`; afterwards torch is as before."""

    def __init__(self, *, strict: bool = True, memory: int = 8 * 2**30, compute: tuple[int, int] = (8, 6)) -> None:
        self.strict, self.memory, self.compute = strict, memory, compute
        self.refusals: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()  # (kind, line)
        self.measuring, self.most = False, 0
        self.bytes_sent = 0  # from the CPU's memory
        self.draws = torch.Generator().manual_seed(0).get_state()  # of its own generator
        self._tensors: dict[int, weakref.ref[Tensor]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> PretendedGPU:
        if present:
            raise RuntimeError("there is a pretended GPU already")
        present.append(self)
        for owner, name, value in replacements(self):
            self._stack.enter_context(_replaced(owner, name, value))
        swap = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)  # a Parameter stays the same object when it moves
        self._stack.callback(torch.__future__.set_swap_module_params_on_conversion, swap)
        self._stack.enter_context(_Seen())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        present.clear()

    # -- what was seen --

    def refuse(self, operation: str, why: str, kind: type[Exception] = RuntimeError) -> None:
        """Something that a GPU refuses."""
        self.refusals[f"{_line()}: {operation}: {why}"] += 1
        if self.strict:
            raise kind(why)

    def wait(self, kind: str) -> None:
        """The host waits, or something crosses between the devices."""
        self.waits[kind, _line()] += 1

    def bytes_held(self) -> int:
        """Bytes of all storages that tensors on the GPU refer to."""
        sizes = {}
        for number, reference in list(self._tensors.items()):
            tensor = reference()
            if tensor is None:
                del self._tensors[number]
            else:
                storage = tensor.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
        return sum(sizes.values())

    # -- operations --

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Check an operation, compute it on the CPU, and lay what it gives on the GPU."""
        flat, spec = tree_flatten((args, kwargs))
        asked = next((leaf for leaf in flat if isinstance(leaf, torch.device)), None)
        there = any(isinstance(leaf, GPUTensor) for leaf in flat)
        if not there and (asked is None or asked.type not in NAMES):
            self._check_generators(func, flat, CPU)
            return func(*args, **kwargs)
        with _Seen():  # in inference mode some arrive whole; their parts are what a GPU sees
            whole = func in (aten.is_pinned.default, aten._pin_memory.default)
            parts = NotImplemented if whole else func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        name = func._schema.name
        special = {
            "aten::_to_copy": self._to_copy,
            "aten::copy_": self._copy,
            "aten::equal": self._equal,
            "aten::is_pinned": lambda *_: False,
            "aten::_pin_memory": lambda _func, given, _kwargs: given[0],
            "aten::_fused_sdp_choice": lambda *_: 0,  # plain products: the fused kernels are not there
        }.get(name)
        if special is not None:
            return special(func, args, kwargs)
        home = CPU if asked is not None and asked.type not in NAMES else GPU
        self._check_generators(func, flat, home)
        if asked is None and name not in CROSSING:
            self._check_places(func, flat, spec)
        self._note_waits(func, name, flat)
        return self._computed(func, flat, spec, home)

    def lay(self, held: Tensor) -> Tensor:
        """A tensor on the GPU with these numbers, which are not copied."""
        if isinstance(held, GPUTensor):
            return held
        self._tensors[id(held)] = weakref.ref(held)
        if self.measuring:
            self.most = max(self.most, self.bytes_held())
        return GPUTensor(held)

    def _computed(self, func: Any, flat: list[Any], spec: Any, home: torch.device) -> Any:
        owners = {id(leaf.held): leaf for leaf in flat if isinstance(leaf, GPUTensor)}
        args, kwargs = tree_unflatten([numbers(leaf) for leaf in flat], spec)
        kwargs.pop("pin_memory", None)
        func = aten.zeros.default if func is aten._efficientzerotensor.default else func
        with self._own_draws(func, home):
            out = func(*args, **kwargs)
        if home.type == "cpu":
            return out

        def laid(leaf: Any) -> Any:
            if id(leaf) in owners:  # what it wrote to is the same tensor as before
                return owners[id(leaf)]
            return self.lay(leaf) if isinstance(leaf, Tensor) else leaf

        ordinary = func.is_view and not any(owner.is_inference() for owner in owners.values())
        if ordinary and torch.is_inference_mode_enabled():  # a view of an ordinary tensor is one, in there too
            with torch.inference_mode(mode=False):
                return tree_map(laid, out)
        return tree_map(laid, out)

    @contextlib.contextmanager
    def _own_draws(self, func: Any, home: torch.device) -> Iterator[None]:
        """Random numbers of the GPU leave the CPU's generator as it was."""
        if home.type == "cpu" or torch.Tag.nondeterministic_seeded not in func.tags:
            yield
            return
        state = torch.random.default_generator.get_state()
        torch.random.default_generator.set_state(self.draws)
        try:
            yield
        finally:
            self.draws = torch.random.default_generator.get_state()
            torch.random.default_generator.set_state(state)

    def _note_waits(self, func: Any, name: str, flat: Sequence[Any]) -> None:
        by_mask = any(isinstance(leaf, Tensor) and leaf.dtype in (torch.bool, torch.uint8) for leaf in flat[1:])
        of_tensor = name == "aten::repeat_interleave" and "self_int" not in func._overloadname
        if name in WAITING or of_tensor or (name in INDEXING and by_mask):
            self.wait(name.removeprefix("aten::"))

    def _check_generators(self, func: Any, flat: Sequence[Any], home: torch.device) -> None:
        for leaf in flat:
            if isinstance(leaf, torch.Generator):
                found = "cuda" if leaf._cdata in drawing_there else "cpu"
                if found != home.type:
                    self.refuse(str(func), f"a {home.type} generator is wanted, this is one of {found}")

    def _check_places(self, func: Any, flat: list[Any], spec: Any) -> None:
        """CPU tensors among those of the GPU, but for those that a GPU takes."""
        strangers = [i for i, leaf in enumerate(flat) if isinstance(leaf, Tensor) and not isinstance(leaf, GPUTensor)]
        if not strangers:
            return
        name = func._schema.name
        pointwise = torch.Tag.pointwise in func.tags or name.startswith("aten::_foreach")
        args, kwargs = tree_unflatten(list(range(len(flat))), spec)
        written = set(
            tree_flatten(
                [
                    args[i] if i < len(args) else kwargs.get(argument.name)
                    for i, argument in enumerate(func._schema.arguments)
                    if argument.alias_info is not None and argument.alias_info.is_write
                ]
            )[0]
        )
        indices = set(tree_flatten(args[1])[0]) if name in INDEXING else set()
        joined = 0
        for i in strangers:
            if i in indices and isinstance(flat[0], GPUTensor):
                self.wait("copy to the device")
            elif (pointwise or name in TAKE_A_NUMBER) and flat[i].ndim == 0 and i not in written and not joined:
                joined += int(pointwise)
            else:
                self.refuse(str(func), f"tensors on cuda:0 and cpu (argument {i}, shape {tuple(flat[i].shape)})")

    # -- operations of their own kind --

    def _to_copy(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        (source,), asked = args, kwargs.get("device")
        here = isinstance(source, GPUTensor)
        to_gpu = here if asked is None else asked.type in NAMES
        if here != to_gpu:
            self._crossed(source, to_gpu=to_gpu, asynchronous=to_gpu and bool(kwargs.get("non_blocking")))
        out = func(numbers(source), **{**kwargs, "device": CPU, "pin_memory": False})
        return self.lay(out) if to_gpu else out

    def _copy(self, func: Any, args: Any, kwargs: Any) -> Any:
        target, source, *rest = args
        if isinstance(target, GPUTensor) != isinstance(source, GPUTensor) and source.ndim:
            to_gpu = isinstance(target, GPUTensor)
            quick = bool(kwargs.get("non_blocking") or rest) and (to_gpu or getattr(target, "pinned", False))
            self._crossed(source, to_gpu=to_gpu, asynchronous=quick)
        func(numbers(target), numbers(source), *rest, **kwargs)
        return target

    def _crossed(self, source: Tensor, *, to_gpu: bool, asynchronous: bool) -> None:
        self.bytes_sent += source.numel() * source.element_size() if to_gpu else 0
        kind = f"copy to the {'device' if to_gpu else 'host'}"
        self.wait(f"{kind}, asynchronous" if asynchronous else kind)

    def _equal(self, func: Any, args: Any, kwargs: Any) -> bool:
        self.wait("equal")
        if not all(isinstance(arg, GPUTensor) for arg in args):
            self.refuse(str(func), "tensors on cuda:0 and cpu")
        return bool(func(*map(numbers, args), **kwargs))


def _line() -> str:
    """The innermost line of the pack that led here, else of whoever called torch."""
    frame, outer = sys._getframe(2), ""
    while frame is not None:
        file = os.path.realpath(frame.f_code.co_filename)
        inside = file.startswith((str(ROOT / "models"), str(ROOT / "nodes")))
        if inside:
            return f"{os.path.relpath(file, ROOT)}:{frame.f_lineno} {frame.f_code.co_name}"
        foreign = f"{os.sep}torch{os.sep}" not in file and not file.startswith(str(Path(__file__).parent))
        if not outer and foreign and "contextlib" not in file:
            outer = f"{file.split('site-packages' + os.sep)[-1]}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return outer or "?"


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    missing = object()
    before = vars(owner).get(name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)
