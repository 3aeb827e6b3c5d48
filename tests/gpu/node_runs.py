"""All nodes on a pretended GPU, in the real host, in a process of their own: the host reads its options once.

    python tools/pack.py tests.gpu.node_runs MODE FILE

FILE gets what was found, as JSON: for each node what went wrong (nothing, if all is well), and for each kind of run
what a step of it waits for. What nodes are given: tools/bench/tiny_nodes.py.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...tools.bench.tiny_nodes import IN_PROCESSES, TinyNodes, save_checkpoints
from ...tools.in_process import load_host
from .device import PretendedGPU
from .waits import Waits

MODES = {"normal": (), "partial": (), "gpu-only": ("--gpu-only",)}


class Bench(TinyNodes):
    """The nodes, and what was found."""

    def __init__(self, gpu: PretendedGPU, folder: Path) -> None:
        super().__init__(folder)
        self.gpu = gpu
        self.found: dict[str, list[str]] = {}

    def look(self, name: str, run: Callable[[], Any]) -> None:
        """Run something and note what a GPU would refuse, errors, and results in the wrong place."""
        before = dict(self.gpu.refusals)
        wrong = []
        try:
            for number, value in enumerate(run()):
                wrong += [f"output {number} holds {what}" for what in misplaced(value)]
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            wrong.append(f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})")
        wrong += [f for f, number in self.gpu.refusals.items() if number > before.get(f, 0)]
        self.found[name] = wrong

    def look_beside_the_nodes(self) -> None:
        """What no single node does: tokens that were edited between two, and a model of transformers' kind."""
        from comfy.model_management import minimum_inference_memory

        from ...nodes.denoise import DenoiseStep
        from ...nodes.host.words.language import local_placer

        for name, node in (("before a run", "SpacetimeForwardDiffusion"), ("within a run", "SpacetimeDenoiseStep")):
            tokens = self.of(node)
            edited = tokens.with_values(tokens.values * 1.01)
            others = (self.of("SpacetimeGuider"), self.of("SpacetimeSampler"), 1)
            self.look(f"tokens edited {name}", lambda edited=edited, o=others: DenoiseStep.execute(edited, *o).result)
        self.look("core's decoding takes what its estimate says", self.decoded_by_core)
        captioner, place = self.captioner(), local_placer()
        self.look("a captioner is whole on the GPU", lambda: whole(captioner.place, captioner.network, captioner.vae))
        room = int(min(2**20, self.gpu.memory - minimum_inference_memory()))
        side = int((room / 40) ** 0.5)
        plain = torch.nn.Sequential(*(torch.nn.Linear(side, side) for _ in range(8)))  # four fifths of the room
        held = torch.zeros(room // 2, dtype=torch.uint8, device="cuda")  # as what nodes hand on, or another program
        self.look("a language model is whole on the GPU", lambda: whole(lambda: place(plain), plain))
        del held

    def decoded_by_core(self) -> tuple[Any, ...]:
        """Nothing, where core's VAE Decode asks for the memory that it takes. RuntimeError otherwise."""
        vae, latents = self.checkpoint()[2], torch.zeros(1, 16, 9, 16, 16)
        vae.load(tuple(latents.shape), decode=True)
        before = self.gpu.most = self.gpu.bytes_held()
        self.gpu.measuring = True
        vae.decode(latents)
        self.gpu.measuring, taken = False, self.gpu.most - before
        asked = vae.memory_used_decode(latents.shape, vae.vae_dtype)
        if not taken <= asked <= 3 * taken:
            raise RuntimeError(f"{asked} bytes were asked for, and {taken} taken")
        return ()


def whole(place: Callable[[], None], *networks: torch.nn.Module) -> tuple[Any, ...]:
    """Nothing, once networks of plain layers were brought to the GPU. RuntimeError where a part of them was not."""
    place()
    left = [name for network in networks for name, weight in network.named_parameters() if not weight.is_cuda]
    if left:
        raise RuntimeError(f"on the CPU: {', '.join(left[:3])}")
    return ()


def misplaced(value: Any) -> Iterator[str]:
    """Tensors of an output that do not lie where the host keeps what nodes hand on."""
    from comfy.model_management import intermediate_device

    place = intermediate_device().type
    latent = value.get("samples") if isinstance(value, dict) else None
    if isinstance(latent, Tensor) and latent.device.type != place:
        yield f"a latent on {latent.device}"
    if place == "cpu":
        yield from (f"{tuple(tensor.shape)} on {tensor.device}" for tensor in tensors_in(value) if tensor.is_cuda)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors that a value holds; of the host's own objects, which it moves, none."""
    if isinstance(value, Tensor):
        yield value
    parts: list[Any] = []
    if isinstance(value, dict):
        parts = list(value.values())
    elif isinstance(value, (list, tuple)):
        parts = list(value)
    elif is_dataclass(value):
        parts = [getattr(value, field.name) for field in fields(value)]
    for part in parts:
        yield from tensors_in(part)


def dtypes_of_cards(gpu: PretendedGPU) -> dict[str, str]:
    """What our DiT computes in on cards of these kinds where nobody says."""
    from ...nodes.host.model.model import compute_dtype

    card, chosen = torch.cuda.get_device_properties(0), {}
    own = (card.major, card.minor)
    for kind in ((7, 5), own):
        gpu.compute = card.major, card.minor = kind
        chosen[f"{kind[0]}.{kind[1]}"] = str(compute_dtype("auto", torch.device("cuda", 0), 10**8))
    return chosen


def left_on_the_gpu(bench: Bench) -> int:
    """Bytes that lie on the GPU once all models have gone and nothing is kept here."""
    import gc

    import comfy.model_management

    bench.made.clear()
    gc.collect()  # before the host goes through its list of models, or some vanish from it meanwhile
    comfy.model_management.cleanup_models_gc()
    comfy.model_management.unload_all_models()
    gc.collect()
    return bench.gpu.bytes_held()


def run_all(gpu: PretendedGPU, mode: str, folder: Path) -> dict[str, Any]:
    """Every node, first with what it needs, then with all that it takes."""
    import comfy.model_management as management

    save_checkpoints(folder)
    bench = Bench(gpu, folder)
    if mode == "partial":
        size = management.module_size(bench.checkpoint()[0].model)
        gpu.memory = int(management.minimum_inference_memory() + size * 0.6)
    for name, node in bench.nodes.items():
        if name in IN_PROCESSES:
            continue
        bench.look(name, lambda name=name: bench.run(name))
        if any(one.optional and not hasattr(one, "default") for one in node.GET_SCHEMA().inputs):
            bench.look(f"{name}, all inputs", lambda name=name: bench.run(name, optional=True))
    bench.look_beside_the_nodes()
    waits = Waits(bench)
    if mode == "normal":
        waits.of_samplers()
        waits.of_tasks()
        waits.of_changes()
    return {
        "nodes": bench.found,
        "waits": waits.per_step,
        "changes": waits.changes,
        "tasks": waits.tasks,
        "strips": waits.strips,
        "dtypes": dtypes_of_cards(gpu),
        "left": left_on_the_gpu(bench),
    }


def main() -> None:
    """One mode."""
    mode, out = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    with PretendedGPU(strict=False) as gpu, tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        if not load_host(*MODES[mode], cpu=False):
            raise SystemExit("ComfyUI has not been fetched: python3 run.py setup")
        out.write_text(json.dumps(run_all(gpu, mode, Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main()
