"""Teach a trained DiT to work in a few steps."""

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


class DistillDiT(Node):
    """SPACETIME_CLIPS and a checkpoint -> MODEL for few steps."""

    FILES = frozenset({"teacher"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = folders.checkpoint_names()
        return schema(
            node_id="SpacetimeDistillDiT",
            display_name="Distill DiT",
            category=CATEGORY,
            description=(
                "Teaches a trained transformer to make in 4 steps without guidance what it makes in 24 with it: a video"
                " then needs 4 calls of the model instead of 48. Runs in a process of its own. Cancel stops it after a "
                "step; queue it again to continue. The result appears in Load Spacetime Checkpoint as spacetime/<name>."
            ),
            search_aliases=["distill", "few steps", "turbo", "lightning", "lcm", "consistency", "faster model"],
            rarely=["lora_rank"],
            inputs=[
                sockets.Clips.Input(
                    "clips", tooltip="Clips with captions like those of its training: captions, sizes, known frames."
                ),
                io.Combo.Input(
                    "teacher", options=names, default=names[0], tooltip="The trained model; its file holds its VAE too."
                ),
                shared.name("my_model_4_steps"),
                shared.steps(1000),
                shared.tokens(
                    1296,
                    "Patches of the clips of a step. Each clip is learned from at every step of the student, so "
                    "memory is that of Train DiT with four times as many. Lower it when memory is full.",
                ),
                shared.rate(),
                *shared.common(),
                io.Int.Input(
                    "student_steps", default=4, **limits("student_steps"), tooltip="In how many steps it is to work."
                ),
                io.Float.Input(
                    "cfg",
                    default=0.0,
                    **limits("cfg"),
                    step=0.1,
                    round=0.01,
                    tooltip="Strength of the teacher's guidance, which the student has built in; 0: as its file says.",
                ),
                io.Int.Input(
                    "lora_rank",
                    default=0,
                    **limits("lora"),
                    tooltip=(
                        "0 trains the whole model. Above 0 only a small addition of this rank to the teacher, which "
                        "core's Load LoRA nodes list as spacetime/<name>."
                    ),
                ),
            ],
            outputs=shared.checkpoint_outputs(
                "The model for few steps: left to it, Scheduler and Guider fit.", "The VAE of the teacher."
            ),
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        clips: Any,
        teacher: str,
        name: str,
        steps: int,
        tokens: int,
        learning_rate: float,
        save_every: int,
        run_seed: int,
        numbers: str,
        student_steps: int,
        cfg: float,
        lora_rank: int,
    ) -> io.NodeOutput:
        """Encode the clips, run the training command, and load what it made."""
        from .host.checkpoint import Source, build_objects, load_vae
        from .host.processes import training

        file, folder = folders.checkpoint_path(teacher), training.run_folder(name)
        arguments = ["--teacher", str(file), "--student-steps", str(student_steps), "--lora", str(lora_rank)]
        arguments += shared.length_arguments(steps, tokens)
        arguments += shared.shared_arguments(learning_rate, save_every, run_seed, numbers)
        arguments += ["--cfg", str(cfg)] if cfg else []
        with trained_on_latents(cls, "distill", clips, load_vae(file), folder, steps, arguments) as vae_file:
            path, checkpoint = training.publish(folder, vae_file, name)
        objects = build_objects(checkpoint, Source.of(path, name, "auto"))
        return io.NodeOutput(*objects, str(path), ui=result(folder, steps, f"spacetime/{path.name}"))


NODES: list[type[io.ComfyNode]] = [DistillDiT]
