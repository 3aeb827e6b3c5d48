"""Several clips in one denoising run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..models.patches import DEFAULT_PATCH, Grid, Patch, Tokens, from_patches, pack, split
from . import sockets
from .host import messages
from .host.latent import made, picture_alone, samples_of
from .schema import Node, schema
from .tokens import cut, laid_out

CATEGORY = "Spacetime/patches"


class PackClips(Node):
    """Two LATENTs, of which the first may hold several clips already -> one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
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
        cls,
        model: Any,
        first: dict[str, Any],
        second: dict[str, Any],
        first_prompt: Any = None,
        second_prompt: Any = None,
    ) -> io.NodeOutput:
        """Lay all patches out in a row."""
        from .host.model.packing import packed_model, packed_prompts, patch_of_ours

        if (first_prompt is None) != (second_prompt is None):
            raise ValueError("one clip has a prompt and the other has none: connect both, or neither")
        patch = patch_of_ours(model)
        clips = [*clips_of(first, patch), *clips_of(second, patch)]
        if any(clip.patch != patch for clip in clips):
            raise ValueError(
                f"this model works on patches of {patch} latents, and these clips were packed for another: pack them "
                "anew with this model"
            )
        if len({bool(clip.extra.get(sockets.LOOP)) for clip in clips}) > 1:
            raise ValueError("loops and other clips cannot share a run, since time is a circle for all or for none")
        prompts = None if first_prompt is None else packed_prompts(first_prompt, second_prompt)
        messages.show_text(cls, f"{len(clips)} clips, {sum(clip.values.shape[1] for clip in clips)} patches")
        return io.NodeOutput(packed_model(model, [clip.grids[0] for clip in clips]), in_a_row(clips), prompts)


class SplitClips(Node):
    """A packed LATENT -> a list of clips."""

    @classmethod
    def define_schema(cls) -> io.Schema:
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


def in_a_row(clips: Sequence[Tokens]) -> dict[str, Any]:
    """Clips as one core LATENT, one patch high: any sampler can work on it. What each carries is kept for it."""
    tokens = pack(clips)
    row = Grid(1, 1, sum(tokens.lengths))
    mask = None if tokens.change is None else from_patches(tokens.change, row, tokens.patch)
    grids = tuple(tuple(grid) for grid in tokens.grids)
    own = tuple((dict(clip.extra), clip.change is not None) for clip in clips)
    entries = {sockets.GRIDS: grids, sockets.ENTRIES: own}
    return made(from_patches(tokens.values, row, tokens.patch), mask, entries)


def clips_of(latent: dict[str, Any], patch: Patch = DEFAULT_PATCH) -> list[Tokens]:
    """The clips of a LATENT, packed or not, each with its own entries and those that the row got since.

    patch: how to cut a clip that is not packed. A row tells its own: it is one patch high and as long as its grids say.
    """
    picture_alone(latent, "Pack Clips")
    if sockets.GRIDS not in latent:
        return [cut(latent, patch)]
    grids = tuple(Grid(*sizes) for sizes in latent[sockets.GRIDS])
    frames, height, width = samples_of(latent).shape[2:]
    tokens = cut(latent, (frames, height, width // sum(grid.num_tokens for grid in grids)))
    of_row = {name: tokens.extra[name] for name in tokens.extra if name not in (sockets.GRIDS, sockets.ENTRIES)}
    own: Sequence[tuple[dict[str, Any], bool]] = latent.get(sockets.ENTRIES) or (({}, True),) * len(grids)
    clips = split(Tokens(tokens.values, grids, tokens.patch, tokens.channels, tokens.change))
    return [
        replace(clip, extra={**of_row, **entries}, change=clip.change if masked else None)
        for clip, (entries, masked) in zip(clips, own, strict=True)
    ]


NODES: list[type[io.ComfyNode]] = [PackClips, SplitClips]
