"""Every node of the registry on tiny inputs, which are made from the schemas: a new node needs nobody to remember it.

Widgets have their defaults, sockets get what stands in `sockets`, or what another node gives. Needs the host
(`load_host()` first).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

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
TOGETHER = {("SpacetimeStreamVideo", "clip")}  # optional, but what is in `special` beside it wants it
IN_PROCESSES = {  # these start a process, which tests of models/ look into
    "SpacetimeTrainVAE",
    "SpacetimeTrainDiT",
    "SpacetimeDistillDiT",
    "SpacetimeTrainCaptioner",
    "SpacetimeGenerateOnCluster",
}


class TinyNodes:
    """The nodes, and what they are given. folder: where `save_checkpoints` has put the models."""

    def __init__(self, folder: Path) -> None:
        from ...nodes import load_nodes

        self.folder = folder
        self.nodes = {node.GET_SCHEMA().node_id: node for node in load_nodes()}
        self.made: dict[str, Any] = {}
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
            "SpacetimeStreamVideo": {"prompts": lambda: "0: a red ball\n0.4: a blue ball"},
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

        from ...models.files import write_tensors
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
        write_tensors(self.folder / "DiT.safetensors", ClassTransformer(config, torch.nn).state_dict(), {})
        return "DiT.safetensors"

    def of(self, node: str, output: int = 0) -> Any:
        """What a node gives for the inputs that it gets here."""
        return self.once(node, lambda: self.run(node))[output]

    def run(self, name: str, *, optional: bool = False) -> tuple[Any, ...]:
        """A node's outputs for inputs made by its schema."""
        return tuple(self.nodes[name].execute(**self.inputs_of(name, optional=optional)).result or ())

    def inputs_of(self, name: str, *, optional: bool = False) -> dict[str, Any]:
        """What a node is given, by its inputs' names; optional: also what it can do without."""
        schema = self.nodes[name].GET_SCHEMA()
        given: dict[str, Any] = {}
        for one in schema.inputs:
            needed = not one.optional or hasattr(one, "default") or one.id in ALWAYS or (name, one.id) in TOGETHER
            if not (needed or optional):
                continue
            value = self.value(name, one)
            if value is not None:
                given[one.id] = [value] if schema.is_input_list and not isinstance(value, list) else value
        return given

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
