"""Several clips in one denoising run."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..models.patches import DEFAULT_PATCH, Grid, Tokens, from_patches, pack, split, to_patches
from . import sockets
from .host import messages
from .schema import schema
from .tokens import cut, laid_out

CATEGORY = "Spacetime/patches"


class PackClips(io.ComfyNode):
    """Two LATENTs, of which the first may hold several clips already -> one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="SpacetimePackClips",
            display_name="Pack Clips",
            category=CATEGORY,
            description=(
                "Puts clips of different length, size and aspect ratio into one sequence of patches, so that one run "
                "denoises them together; each clip attends to itself only. Chain it to pack more. Works with this "
                "pack's model, with KSampler and with DiT Denoise Step; Split Clips takes them apart again."
            ),
            search_aliases=["pack", "navit", "batch different sizes", "several clips", "block diagonal"],
            inputs=[
                io.Model.Input("model", tooltip="This pack's model, the same for all clips."),
                io.Latent.Input("first", tooltip="A clip, or the output of another Pack Clips."),
                io.Latent.Input("second", tooltip="One more clip of the same batch size."),
                io.Conditioning.Input("first_prompt", optional=True, tooltip="Prompt of the first, or packed prompts."),
                io.Conditioning.Input("second_prompt", optional=True, tooltip="Prompt of the second clip."),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model that knows these clips. Use it."),
                io.Latent.Output(display_name="latent", tooltip="All clips in one row of patches, with their masks."),
                io.Conditioning.Output(display_name="prompts", tooltip="A prompt for each clip, if both were given."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, model: Any, first: dict[str, Any], second: dict[str, Any], first_prompt: Any = None,
        second_prompt: Any = None,
    ) -> io.NodeOutput:  # fmt: skip
        """Lay all patches out in a row."""
        from .host.model.packing import packed_model, packed_prompts

        if (first_prompt is None) != (second_prompt is None):
            raise ValueError("one clip has a prompt and the other has none: connect both, or neither")
        tokens = pack([*clips_of(first), *clips_of(second)])
        prompts = None if first_prompt is None else packed_prompts(first_prompt, second_prompt)
        messages.show_text(cls, f"{len(tokens.grids)} clips, {sum(tokens.lengths)} patches")
        return io.NodeOutput(packed_model(model, tokens.grids), in_a_row(tokens), prompts)


class SplitClips(io.ComfyNode):
    """A packed LATENT -> a list of clips."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return schema(
            node_id="SpacetimeSplitClips",
            display_name="Split Clips",
            category=CATEGORY,
            description=(
                "Takes the clips of Pack Clips apart again. The output is a list: what follows runs once per clip."
            ),
            search_aliases=["unpack", "separate clips", "navit"],
            inputs=[io.Latent.Input("latent", tooltip="From a run over packed clips.")],
            outputs=[io.Latent.Output(display_name="latent", is_output_list=True, tooltip="The clips, in order.")],
        )

    @classmethod
    def execute(cls, latent: dict[str, Any]) -> io.NodeOutput:
        """Cut the row."""
        if sockets.GRIDS not in latent:
            raise ValueError("this latent holds a single clip: only the output of Pack Clips can be split")
        return io.NodeOutput([laid_out(clip) for clip in clips_of(latent)])


def in_a_row(tokens: Tokens) -> dict[str, Any]:
    """Packed Tokens as a core LATENT one patch high: any sampler can work on it."""
    row = Grid(1, 1, sum(tokens.lengths))
    mask = {} if tokens.change is None else {"noise_mask": from_patches(tokens.change, row, tokens.patch)}
    grids = tuple(tuple(grid) for grid in tokens.grids)
    return {**tokens.extra, "samples": from_patches(tokens.values, row, tokens.patch), sockets.GRIDS: grids, **mask}


def clips_of(latent: dict[str, Any]) -> list[Tokens]:
    """The clips of a LATENT, packed or not."""
    plain = {name: value for name, value in latent.items() if name != sockets.GRIDS}
    tokens = cut(plain, DEFAULT_PATCH)
    if sockets.GRIDS not in latent:
        return [tokens]
    grids = tuple(Grid(*sizes) for sizes in latent[sockets.GRIDS])
    values = to_patches(latent["samples"], DEFAULT_PATCH)
    return split(Tokens(values, grids, DEFAULT_PATCH, tokens.channels, tokens.change, extra=tokens.extra))


NODES: list[type[io.ComfyNode]] = [PackClips, SplitClips]
