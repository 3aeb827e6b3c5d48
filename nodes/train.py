"""Train the VAE, the DiT and the captioner on clips of one's own."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..models.training.run.ranges import limits
from . import sockets
from . import train_inputs as shared
from .host import folders
from .schema import Node, schema
from .train_inputs import CATEGORY
from .train_runs import result, trained_on_latents

VAE_PRESETS = ["toy", "base", "test", "mini"]
DIT_PRESETS = ["toy", "S", "B", "L", "XL", "test", "mini"]
CAPTIONER_PRESETS = ["toy", "small", "base", "test"]


class TrainVAE(Node):
    """SPACETIME_CLIPS -> VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeTrainVAE",
            display_name="Train VAE",
            category=CATEGORY,
            description=(
                "Trains a video VAE in a process of its own and shows its loss and reconstructions as it goes. Cancel "
                "stops it after a step; queue it again to continue. The run lies in output/spacetime/<name>."
            ),
            search_aliases=["train vae", "autoencoder", "video vae", "fine-tune vae"],
            rarely=["crop"],
            inputs=[
                sockets.Clips.Input("clips", tooltip="From Clips From Folder or Toy World."),
                shared.name("my_vae"),
                shared.preset(VAE_PRESETS, "toy is small, mini the embedded VAE's, base larger; test is for trials."),
                shared.steps(1000),
                io.Int.Input("batch", default=4, **limits("batch"), tooltip="Crops per step. Fewer need less memory."),
                io.Int.Input("crop", default=64, **limits("crop"), tooltip="Side of the crops in pixels."),
                shared.rate(),
                *shared.common(),
                io.Vae.Input(
                    "start_from",
                    optional=True,
                    tooltip="Continue from this VAE of ours instead of from scratch; it brings its own size.",
                ),
                *shared.losses(),
            ],
            outputs=[
                io.Vae.Output(display_name="vae", tooltip="The trained VAE, with averaged weights."),
                io.String.Output(display_name="path", tooltip="Its checkpoint file."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        clips: Any,
        name: str,
        preset: str,
        steps: int,
        batch: int,
        crop: int,
        learning_rate: float,
        save_every: int,
        run_seed: int,
        numbers: str,
        start_from: Any = None,
        images: float = 0.3,
        perceptual: float = 0.0,
        adversarial: float = 0.0,
        adversarial_from: float = 0.5,
    ) -> io.NodeOutput:
        """Run the training command and load what it made."""
        from .host.checkpoint import load_vae
        from .host.processes import training

        folder = training.run_folder(name)
        arguments = ["vae", "--out", str(folder), *clips.vae_arguments(), "--preset", preset, "--steps", str(steps)]
        arguments += ["--batch", str(batch), "--crop", str(crop), "--images", str(images)]
        arguments += ["--perceptual", str(perceptual)]
        arguments += ["--adversarial", str(adversarial), "--adversarial-from", str(adversarial_from)]
        arguments += shared.shared_arguments(learning_rate, save_every, run_seed, numbers)
        follower = training.Follower(folder, steps)
        if start_from is None:
            training.train(cls, arguments, folder, follower)
        else:
            with training.vae_for_process(start_from, folder / "start.safetensors") as start:
                training.train(cls, [*arguments, "--init", str(start)], folder, follower)
        path = folder / "vae.safetensors"
        return io.NodeOutput(load_vae(path), str(path), ui=result(folder, steps, str(path)))


class TrainDiT(Node):
    """SPACETIME_CLIPS and VAE -> MODEL."""

    FILES = frozenset({"start_from"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeTrainDiT",
            display_name="Train DiT",
            category=CATEGORY,
            description=(
                "Encodes the clips once, then trains a diffusion transformer on their latents in a process of its own "
                "and shows its loss and samples as it goes. Cancel stops it after a step; queue it again to continue. "
                "The result appears in Load Spacetime Checkpoint as spacetime/<name>."
            ),
            search_aliases=["train dit", "train video model", "diffusion transformer", "from scratch", "fine-tune"],
            rarely=["packing", "parts", "checkpointing", "log"],
            inputs=[
                sockets.Clips.Input("clips", tooltip="From Clips From Folder or Toy World."),
                io.Vae.Input("vae", tooltip="The VAE of Train VAE or of Load Spacetime Checkpoint."),
                shared.name("my_model"),
                shared.preset(DIT_PRESETS, "mini is the embedded model's, S to XL the paper's; test is for trials."),
                shared.steps(2000),
                shared.tokens(
                    2592,
                    "Patches per step; the number of clips follows from their size. A clip of 64x64x17 has 80. "
                    "Lower it when memory is full.",
                ),
                shared.rate(),
                *shared.common(),
                shared.start_from(
                    folders.checkpoint_names(),
                    "Continue from a checkpoint of ours instead of from scratch; it brings its own size.",
                ),
                *shared.dit_extras(),
            ],
            outputs=shared.checkpoint_outputs(
                "The trained transformer, with averaged weights.", "The VAE, in the checkpoint's numbers."
            ),
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        clips: Any,
        vae: Any,
        name: str,
        preset: str,
        steps: int,
        tokens: int,
        learning_rate: float,
        save_every: int,
        run_seed: int,
        numbers: str,
        start_from: str,
        lora_rank: int = 0,
        classes: bool = False,
        packing: bool = False,
        parts: int = 1,
        checkpointing: bool = False,
        log: str = shared.LOGS[0],
    ) -> io.NodeOutput:
        """Encode the clips, run the training command, and load what it made."""
        from .host.checkpoint import Source, build_objects
        from .host.processes import training

        if lora_rank and start_from == "nothing":
            raise ValueError("a LoRA is an addition to a trained model: choose that model in start_from")
        folder = training.run_folder(name)
        arguments = shared.latent_arguments(preset, steps, tokens)
        arguments += shared.shared_arguments(learning_rate, save_every, run_seed, numbers)
        arguments += shared.extra_arguments(
            lora_rank, parts, log, classes=classes, packing=packing, checkpointing=checkpointing
        )
        if start_from != "nothing":
            arguments += ["--init", str(folders.checkpoint_path(start_from))]
        with trained_on_latents(cls, "dit", clips, vae, folder, steps, arguments) as vae_file:
            path, checkpoint = training.publish(folder, vae_file, name)
        objects = build_objects(checkpoint, Source.of(path, name, "auto"))
        return io.NodeOutput(*objects, str(path), ui=result(folder, steps, f"spacetime/{path.name}"))


class TrainCaptioner(Node):
    """SPACETIME_CLIPS and VAE -> SPACETIME_LANGUAGE_MODEL."""

    FILES = frozenset({"start_from"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeTrainCaptioner",
            display_name="Train Captioner",
            category=CATEGORY,
            description=(
                "Encodes the clips once, then trains a captioner on their latents and captions in a process of its "
                "own: it learns to say what clips like these show. Its loss, and held-out clips with what it says of "
                "them, appear as it goes. Cancel stops it after a step; queue it again to continue."
            ),
            search_aliases=["train captioner", "recaption", "llava", "video to text", "fine-tune captioner"],
            inputs=[
                sockets.Clips.Input("clips", tooltip="Clips with captions, such as Toy World or Caption Clips give."),
                io.Vae.Input("vae", tooltip="The VAE whose latents it reads, the one that your DiT is trained with."),
                shared.name("my_captioner"),
                shared.preset(
                    CAPTIONER_PRESETS, "toy is the embedded one's; small and base have 20 and 110 M weights."
                ),
                shared.steps(2000),
                shared.tokens(4096, "Patches per step: the number of clips follows. Lower it when memory is full."),
                shared.rate(),
                *shared.common(),
                shared.start_from(
                    _captioners(), "Continue from a captioner of this VAE; it brings its own size and words."
                ),
            ],
            outputs=[
                sockets.LanguageModel.Output(
                    display_name="language_model", tooltip="The captioner, for Describe Video and Caption Clips."
                ),
                io.String.Output(display_name="path", tooltip="Its file, which Load Captioner lists."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        clips: Any,
        vae: Any,
        name: str,
        preset: str,
        steps: int,
        tokens: int,
        learning_rate: float,
        save_every: int,
        run_seed: int,
        numbers: str,
        start_from: str,
    ) -> io.NodeOutput:
        """Encode the clips, run the training command, and load what it made."""
        from .host.processes import training
        from .host.words import captioning

        folder = training.run_folder(name)
        arguments = shared.latent_arguments(preset, steps, tokens)
        arguments += shared.shared_arguments(learning_rate, save_every, run_seed, numbers)
        if start_from != "nothing":
            arguments += ["--init", str(captioning.captioner_path(start_from))]
        with trained_on_latents(cls, "captioner", clips, vae, folder, steps, arguments):
            path = captioning.publish(folder / "captioner.safetensors", name)
        return io.NodeOutput(captioning.read_file(path, vae), str(path), ui=result(folder, steps, f"spacetime/{name}"))


def _captioners() -> list[str]:
    from .host.words.captioning import captioner_names

    return captioner_names()


NODES: list[type[io.ComfyNode]] = [TrainVAE, TrainDiT, TrainCaptioner]
