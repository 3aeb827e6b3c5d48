"""Many videos at once, by workers on this machine or a cluster."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..models.extras import install
from .host import folders
from .schema import Node, schema


class GenerateOnCluster(Node):
    """Prompts x seeds -> a list of videos."""

    FILES = frozenset({"checkpoint"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = folders.checkpoint_names()
        return schema(
            node_id="SpacetimeGenerateOnCluster",
            display_name="Generate on a Cluster",
            category="Spacetime/sampling",
            description=(
                "Makes a video for every prompt and seed, shared among workers that each keep the model loaded: "
                "processes on this machine, or the machines of your Ray cluster. A worker that dies is replaced. The "
                "same prompt and seed make the same video wherever they are made. Without Ray they are made one after "
                f"the other; it comes with: {install('ray[train]')}."
            ),
            search_aliases=["ray", "distributed", "batch prompts", "many seeds", "parallel", "fan out"],
            rarely=["first_seed", "workers"],
            inputs=[
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default="a red ball falls\na blue cube is spinning at sunset",
                    tooltip="One prompt per line. Empty lines do not count.",
                ),
                io.Int.Input("seeds", default=2, min=1, max=1000, tooltip="Videos of each prompt."),
                io.Int.Input(  # not called seed: editors change that after each run
                    "first_seed", default=0, min=0, max=2**31 - 1, tooltip="The others follow it."
                ),
                io.Combo.Input(
                    "checkpoint", options=names, default=names[0], tooltip="As in Load Spacetime Checkpoint."
                ),
                io.Float.Input("seconds", default=2.75, min=0.1, max=60.0, step=0.25, tooltip="Length, at 12 fps."),
                io.Int.Input("width", default=96, min=16, max=2048, step=16, tooltip="Width in pixels."),
                io.Int.Input("height", default=96, min=16, max=2048, step=16, tooltip="Height in pixels."),
                io.Int.Input("steps", default=24, min=1, max=200, tooltip="Denoising steps of each video."),
                io.Float.Input(
                    "cfg", default=2.0, min=0.0, max=30.0, step=0.1, tooltip="How strongly the prompt leads."
                ),
                io.Int.Input(
                    "workers",
                    default=1,
                    min=1,
                    max=256,
                    tooltip="At most so many; never more than there are GPUs, or CPUs where there is no GPU.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", is_output_list=True, tooltip="The frames of each video, in a list."
                ),
                io.String.Output(
                    display_name="names", is_output_list=True, tooltip="Prompt and seed of each video, in a list."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        prompts: str,
        seeds: int,
        first_seed: int,
        checkpoint: str,
        seconds: float,
        width: int,
        height: int,
        steps: int,
        cfg: float,
        workers: int,
    ) -> io.NodeOutput:
        """Run the command that makes them, and read what it wrote."""
        from ..models.cluster.fan_out import jobs_of
        from .host.processes import cluster

        jobs = jobs_of(prompts.splitlines(), seeds, first_seed)
        settings: dict[str, Any] = {"seeds": seeds, "seed": first_seed, "seconds": seconds, "width": width}
        settings |= {"height": height, "steps": steps, "cfg": cfg, "workers": workers}
        videos = cluster.make_videos(cls, prompts.splitlines(), len(jobs), checkpoint, settings)
        return io.NodeOutput(videos, [f"{job.prompt}, seed {job.seed}" for job in jobs])


NODES: list[type[io.ComfyNode]] = [GenerateOnCluster]
