"""Runs that are kept: a denoising run as a file, continued tomorrow, elsewhere, in another workflow."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..models.patches import Tokens
from . import sockets
from .denoise import CATEGORY, describe_run
from .host import folders, messages
from .schema import Node, schema

SUFFIX = ".safetensors"


class SaveRun(Node):
    """TOKENS in a run -> a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeSaveRun",
            display_name="Save Run",
            category=CATEGORY,
            description=(
                "Writes a denoising run, whole, into a safetensors file in ComfyUI's output folder: x, noise, "
                "schedule, the sampler's state or the records that lead to it, random state, mask and kept content. "
                "Load Run continues it to the bit, also after a restart or in another workflow."
            ),
            search_aliases=["save run", "save tokens", "pause sampling", "save latent mid run", "checkpoint a run"],
            inputs=[
                sockets.Tokens.Input("tokens", tooltip="From Forward Diffusion or DiT Denoise Step."),
                io.String.Input(
                    "filename_prefix",
                    default="runs/spacetime",
                    tooltip="Folder and name in the output folder; a number is added.",
                ),
            ],
            outputs=[
                sockets.Tokens.Output(display_name="tokens", tooltip="The same tokens, to go on with at once."),
                io.String.Output(display_name="run", tooltip="The file's name, for Load Run."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, tokens: Tokens, filename_prefix: str) -> io.NodeOutput:
        """Write it, and say how large it is."""
        from .host.stepping.saving import save

        if tokens.trajectory is None:
            raise ValueError("these tokens carry no run yet: put Forward Diffusion before Save Run")
        path = folders.new_output_file(filename_prefix, SUFFIX)
        save(tokens, path)
        name = folders.output_name(path)
        text = f"{name}, {path.stat().st_size / 1e6:.1f} MB\n{describe_run(tokens)}"
        return io.NodeOutput(tokens, name, ui={"text": (text,)})


class LoadRun(Node):
    """A file -> TOKENS in a run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeLoadRun",
            display_name="Load Run",
            category=CATEGORY,
            description=(
                "Reads a denoising run that Save Run has written. With the same model, guider and sampler the next "
                "DiT Denoise Step goes on exactly where it stopped. Says when something else is connected."
            ),
            search_aliases=["load run", "resume run", "continue sampling", "load tokens", "resume sampling"],
            inputs=[
                io.String.Input(
                    "run",
                    default="",
                    tooltip="Its name in the output folder, as Save Run shows it: runs/spacetime_00001_.safetensors",
                ),
                io.Guider.Input("guider", tooltip="What the next steps will be made by: compared with the saved run."),
                io.Sampler.Input("sampler", tooltip="The sampler of the next steps: compared with the saved run."),
                io.Combo.Input(
                    "if_changed",
                    options=["stop", "new trajectory", "go on"],
                    default="stop",
                    tooltip=(
                        "When model, guider (cfg, prompt) or sampler are others than the run was made by. "
                        "new trajectory: from the present x, without history. go on: keep the history, as between two "
                        "steps."
                    ),
                ),
            ],
            outputs=[sockets.Tokens.Output(display_name="tokens", tooltip="The run as it was, for DiT Denoise Step.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, run: str, guider: Any, sampler: Any, if_changed: str) -> io.NodeOutput:
        """Read it, compare, and say where it stands."""
        from .host.stepping.resuming import resumed
        from .host.stepping.saving import load

        path = folders.output_file(run, "run", SUFFIX)
        tokens, version = load(path)
        tokens, remark = resumed(tokens, guider, sampler, if_changed)
        lines = [describe_run(tokens), remark, f"{path.stat().st_size / 1e6:.1f} MB, saved by version {version}"]
        messages.show_text(cls, "\n".join(filter(None, lines)))
        return io.NodeOutput(tokens)

    @classmethod
    def fingerprint_inputs(cls, run: str | None = None, **_others: Any) -> str:
        """Read again when the file has changed. A name that comes over a link is not known yet."""
        if not run:
            return ""
        stat = folders.output_file(run, "run", SUFFIX).stat()
        return f"{run}:{stat.st_mtime_ns}:{stat.st_size}"


NODES: list[type[io.ComfyNode]] = [SaveRun, LoadRun]
