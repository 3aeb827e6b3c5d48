"""All nodes on a pretended GPU, in the real host, in a process of their own: the host reads its options once.

    python tools/pack.py tests.gpu.node_runs MODE FILE

FILE gets what was found, as JSON: for each node what went wrong (nothing, if all is well), and for each kind of run
what a step of it waits for. Inputs are made from the schemas, so that a new node is tried without anyone remembering:
widgets have their defaults, sockets get what stands in `sockets`, or what another node gives.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...tools.in_process import load_host
from .device import PretendedGPU
from .waits import Waits

MODES = {"normal": (), "partial": (), "gpu-only": ("--gpu-only",)}
SMALL = {
    "seeds": 1,
    "width": 32,
    "height": 32,
    "seconds": 0.75,
    "steps": 2,
    "num_frames": 9,
    "count": 1,
    "clips": 1,
    "limit": 1,
}
ALWAYS = {"negative", "conditioning"}  # optional, but a small model that reads text wants them
IN_PROCESSES = {  # these start a process, which tests of models/ look into
    "SpacetimeTrainVAE",
    "SpacetimeTrainDiT",
    "SpacetimeDistillDiT",
    "SpacetimeTrainCaptioner",
    "SpacetimeGenerateOnCluster",
}


class Bench:
    """The nodes, what they are given, and what was found."""

    def __init__(self, gpu: PretendedGPU, mode: str, folder: Path) -> None:
        from ...nodes import load_nodes

        self.gpu, self.mode, self.folder = gpu, mode, folder
        self.nodes = {node.GET_SCHEMA().node_id: node for node in load_nodes()}
        self.made: dict[str, Any] = {}
        self.found: dict[str, list[str]] = {}
        self.sockets: dict[str, Callable[[], Any]] = {
            "MODEL": lambda: self.checkpoint()[0],
            "CLIP": lambda: self.checkpoint()[1],
            "VAE": lambda: self.checkpoint()[2],
            "CONDITIONING": self.conditioning,
            "NOISE": self.noise,
            "IMAGE": lambda: torch.rand(9, 32, 32, 3),
            "MASK": lambda: torch.rand(9, 32, 32).round(),
            "LATENT": lambda: self.of("SpacetimeVAEEncode"),
            "SPACETIME_LANGUAGE_MODEL": self.captioner,
        }
        self.special: dict[str, dict[str, Callable[[], Any]]] = {
            "SpacetimeLoadCheckpoint": {"checkpoint": lambda: "tiny.safetensors"},
            "SpacetimeLoadDiT": {"file": self.published, "dtype": lambda: "fp32"},
            "SpacetimeClassLabel": {
                "model": lambda: self.checkpoint("classes")[0],
                "label": lambda: "a",
                "conditioning": self.conditioning,
            },
            "SpacetimeGuider": {
                "negative": lambda: self.conditioning(""),
                "weak_model": lambda: self.checkpoint("weak")[0],
            },
            "SpacetimeMeasureSimulation": {"frames": lambda: self.of("SpacetimeProbeClips", 2)},
            "SpacetimePromptOverTime": {"prompts": lambda: "0: a red ball\n0.4: a blue ball"},
            "SpacetimeGuidanceOverTime": {"scales": lambda: "0: 3\n0.4: 1.5"},
            "SpacetimeOutpaint": {"left": lambda: 16},
            "SpacetimeRetake": {"start": lambda: 0.25},
            "SpacetimeVAEEncode": {"audio_vae": lambda: None},  # of models with sound, which this is not
            "SpacetimeVAEDecode": {"audio_vae": lambda: None},
            "SpacetimeAnimateImage": {"images": lambda: torch.rand(1, 32, 32, 3)},
            "SpacetimeLoadCaptioner": {"vae": lambda: self.checkpoint("spacetime-toy")[2]},
            "SpacetimeClipsFromFolder": {"folder": lambda: "example"},
            "SpacetimeExploreSeeds": {"tokens": lambda: self.of("SpacetimePatchify"), "steps": lambda: 1},
            "SpacetimePickRuns": {"runs": lambda: self.of("SpacetimeExploreSeeds"), "pick": lambda: "1"},
            "SpacetimeDenoiseStep": {"tokens": lambda: self.of("SpacetimeForwardDiffusion")},
            "SpacetimeSaveRun": {"tokens": lambda: self.of("SpacetimeDenoiseStep")},
            "SpacetimeLoadRun": {"run": lambda: self.of("SpacetimeSaveRun", 1)},
            "SpacetimeSplitClips": {"latent": lambda: self.of("SpacetimePackClips", 1)},
            "SpacetimeCaptionClips": {"clips": lambda: self.of("SpacetimeClipsFromFolder")},
        }

    # -- what nodes are given --

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Something that is made when it is first asked for."""
        if name not in self.made:
            self.made[name] = make()
        return self.made[name]

    def checkpoint(self, name: str = "tiny") -> Any:
        """MODEL, CLIP, VAE."""
        from ...nodes.loaders import LoadCheckpoint

        file = name if name.startswith("spacetime") else f"{name}.safetensors"
        return self.once(name, lambda: LoadCheckpoint.execute(file, "auto").result)

    def conditioning(self, text: str = "a red ball rolls") -> Any:
        """A prompt."""
        import nodes as core

        return self.once(text, lambda: core.CLIPTextEncode().encode(self.checkpoint()[1], text)[0])

    def noise(self) -> Any:
        """Core's noise."""
        from comfy_extras import nodes_custom_sampler as custom

        return custom.RandomNoise.execute(5).result[0]

    def captioner(self) -> Any:
        """The embedded one, which writes few words."""
        return self.of("SpacetimeLoadCaptioner")

    def published(self) -> str:
        """A small DiT in Meta's layout, where the host lists it."""
        import folder_paths
        from safetensors.torch import save_file

        from ...models.published.dit import ClassConfig, ClassTransformer

        config = ClassConfig(
            in_channels=4,
            out_channels=8,
            hidden_size=64,
            depth=1,
            num_heads=1,
            inner_size=256,
            patch=2,
            grid=16,
            frames=0,
            num_labels=11,
        )
        folder_paths.add_model_folder_path("diffusion_models", str(self.folder))
        save_file(ClassTransformer(config, torch.nn).state_dict(), self.folder / "DiT.safetensors")
        return "DiT.safetensors"

    def of(self, node: str, output: int = 0) -> Any:
        """What a node gives for the inputs that it gets here."""
        return self.once(node, lambda: self.run(node))[output]

    def run(self, name: str, *, optional: bool = False) -> tuple[Any, ...]:
        """A node's outputs for inputs made by its schema."""
        node = self.nodes[name]
        schema = node.GET_SCHEMA()
        given = {}
        for one in schema.inputs:
            needed = not one.optional or hasattr(one, "default") or one.id in ALWAYS
            if not (needed or optional):
                continue
            value = self.value(name, one)
            if value is not None:
                given[one.id] = [value] if schema.is_input_list and not isinstance(value, list) else value
        return tuple(node.execute(**given).result or ())

    def value(self, node: str, one: Any) -> Any:
        """A widget's default, or something for a socket."""
        if one.id in self.special.get(node, {}):
            return self.special[node][one.id]()
        if hasattr(one, "default"):
            value = one.default
            if one.id in SMALL and isinstance(value, (int, float)):
                value = type(value)(max(SMALL[one.id], one.min or 0))
            return one.options[0] if value is None and getattr(one, "options", None) else value
        kinds = str(one.get_io_type()).split(",")
        for kind in kinds:
            if kind in self.sockets:
                return self.once(f"socket {kind}", self.sockets[kind])
        for name, other in self.nodes.items():
            for number, output in enumerate(other.GET_SCHEMA().outputs):
                if output.io_type in kinds:
                    found = self.of(name, number)
                    return found[0] if output.is_output_list else found
        raise LookupError(f"nothing makes a {one.io_type} for {node}: name something in `sockets`")

    # -- what is found --

    def look(self, name: str, run: Callable[[], Any]) -> None:
        """Run something and note what a GPU would refuse, errors, and results in the wrong place."""
        from comfy.model_management import intermediate_device

        before = dict(self.gpu.refusals)
        wrong = []
        try:
            for value in run():
                tensor = value.get("samples") if isinstance(value, dict) else None
                if isinstance(tensor, Tensor) and tensor.device.type != intermediate_device().type:
                    wrong.append(f"a latent was handed on on {tensor.device}")
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            wrong.append(f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})")
        wrong += [f for f, number in self.gpu.refusals.items() if number > before.get(f, 0)]
        self.found[name] = wrong


def save_checkpoints(folder: Path) -> None:
    """Small random checkpoints, one with classes, where the host lists them."""
    import folder_paths

    from ...models.checkpoints import Checkpoint, save_checkpoint
    from ...models.transformer.config import PRESETS
    from ...models.transformer.dit import DiT
    from ...models.vae.autoencoder import PRESETS as VAES
    from ...models.vae.autoencoder import VideoVAE

    folder_paths.add_model_folder_path("checkpoints", str(folder))
    for place in ("output", "temp", "input", "user"):
        (folder / place).mkdir()
        getattr(folder_paths, f"set_{place}_directory")(str(folder / place))
    for name, classes in (("tiny", 0), ("weak", 0), ("classes", 3)):
        torch.manual_seed(0)
        colours = torch.rand(PRESETS["test"].in_channels, 3).tolist()
        dit = DiT(replace(PRESETS["test"], num_classes=classes)).initialise()
        vae = VideoVAE(VAES["test"])
        for network in (dit, vae):
            for weight in network.parameters():
                torch.nn.init.normal_(weight, std=0.1 if weight.ndim > 1 else 0.3)
        meta = {
            "rgb_factors": colours,
            "rgb_bias": [0.0] * 3,
            "trained_on": ["32x32x9"],
            "classes": ["a", "b", "c"] if classes else [],
        }
        made = Checkpoint(dit.config, dit.state_dict(), vae.config, vae.state_dict(), meta)
        save_checkpoint(folder / f"{name}.safetensors", made)


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
    bench = Bench(gpu, mode, folder)
    if mode == "partial":
        size = management.module_size(bench.checkpoint()[0].model)
        gpu.memory = int(management.minimum_inference_memory() + size * 0.6)
    for name, node in bench.nodes.items():
        if name in IN_PROCESSES:
            continue
        bench.look(name, lambda name=name: bench.run(name))
        if any(one.optional and not hasattr(one, "default") for one in node.GET_SCHEMA().inputs):
            bench.look(f"{name}, all inputs", lambda name=name: bench.run(name, optional=True))
    waits = Waits(bench)
    if mode == "normal":
        waits.of_samplers()
        waits.of_changes()
    return {
        "nodes": bench.found,
        "waits": waits.per_step,
        "changes": waits.changes,
        "strips": waits.strips,
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
