"""A second pass over a finished clip: larger, or with more frames, and finer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...models.patches import DEFAULT_PATCH
from ...models.tasks import second_pass
from ...models.tasks.in_space import region_of_pixels
from .. import sockets
from ..host import messages
from ..host.latent import known_clip, latent_of
from ..inputs import fps_input
from ..schema import schema
from .base import Task
from .inputs import CATEGORY, per_latent_input


def _tile_inputs() -> list[Any]:
    """How far the second pass goes, and in which tiles."""
    return [
        io.Float.Input(
            "strength",
            default=0.5,
            min=0.05,
            max=1.0,
            step=0.05,
            round=0.001,
            tooltip="The noise level to start from: how far the clip may change.",
        ),
        io.Float.Input(
            "tile",
            default=1.0,
            min=0.0,
            max=8.0,
            step=0.25,
            round=0.001,
            tooltip="Sides of a tile, in sides of the clip that comes in. 0: the whole video at once.",
        ),
        io.Float.Input(
            "overlap",
            default=0.25,
            min=0.0,
            max=0.5,
            step=0.05,
            round=0.001,
            tooltip="Of neighbouring tiles, as a part of a tile. More takes longer and joins more softly.",
        ),
    ]


class SecondPass(Task):
    """MODEL, LATENT and SIGMAS -> the same for a larger clip that is denoised from a lower level."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeSecondPass",
            display_name="Second Pass",
            category=CATEGORY,
            description=(
                "Makes a finished clip larger, or gives it more frames, and lets the model go over it once more from a "
                "lower noise level. The model sees it in tiles that overlap and share one noise, so they "
                "leave no seams, and a run takes no more memory than one tile. Sample with all three outputs."
            ),
            search_aliases=[
                "upscale video",
                "hires fix",
                "latent upscale",
                "high resolution",
                "tiled diffusion",
                "refine",
                "interpolate frames",
            ],
            rarely=["tile", "overlap"],
            inputs=[
                io.Model.Input("model", tooltip="A flow model: ours, Wan, LTX-Video, HunyuanVideo."),
                io.Latent.Input("latent", tooltip="The clip from the first pass, or from VAE Encode Video."),
                io.Sigmas.Input("sigmas", tooltip="A schedule for a whole run; only its lower part is used."),
                io.Float.Input(
                    "scale",
                    default=1.5,
                    min=1.0,
                    max=8.0,
                    step=0.25,
                    round=0.001,
                    tooltip="Factor for height and width.",
                ),
                io.Int.Input(
                    "frame_rate",
                    default=1,
                    min=1,
                    max=4,
                    tooltip="Factor for the number of frames, in the same seconds.",
                ),
                *_tile_inputs(),
                fps_input(),
                per_latent_input(),
                io.Mask.Input("mask", optional=True, tooltip="Make finer only what is in here; the rest is enlarged."),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="With it the frames are enlarged, else the latents, which is quicker and less sharp.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model that works in tiles."),
                io.Latent.Output(display_name="latent", tooltip="The larger clip, to be denoised from the strength."),
                io.Sigmas.Output(display_name="sigmas", tooltip="The schedule from the strength down."),
                io.Float.Output(display_name="fps", tooltip="Frames per second of the new clip, to decode with."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        latent: dict[str, Any],
        sigmas: Tensor,
        scale: float,
        frame_rate: int,
        strength: float,
        tile: float,
        overlap: float,
        fps: float,
        frames_per_latent: int,
        mask: Tensor | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        """Enlarge, and cut the schedule."""
        from ..host.model.recommended import patch_of
        from ..host.model.tiles import with_tiles
        from ..host.time import clip_fps, clip_time
        from ..host.vae.enlarging import enlarged
        from ..host.vae.sound import slowed

        rate = clip_fps(fps, latent)
        clip, patch = known_clip(latent, "go over"), patch_of(model) or DEFAULT_PATCH
        region = None
        if mask is not None:
            region = region_of_pixels(mask, clip, clip_time(frames_per_latent, latent, vae=vae, model=model))
        size = second_pass.larger_size(clip.latents, scale, patch)
        by_frames = vae is not None and not clip.cyclic and size != tuple(clip.latents.shape[-2:])
        larger = enlarged(vae, clip.latents, *size) if by_frames else None
        canvas = second_pass.enlarge(clip, scale, frame_rate, region, patch, larger)
        entries = {**slowed(canvas.entries, frame_rate, canvas.length), sockets.FPS: rate * frame_rate}
        canvas = replace(canvas, entries=entries)
        levels = second_pass.sigmas_from(sigmas, strength)
        sizes = canvas.latents.shape[2:]
        said = f"{sizes[0]} x {sizes[1]} x {sizes[2]} latents, {len(levels) - 1} steps from sigma {strength:g}"
        if tile:
            tiling = second_pass.tiling_of(clip, tile, overlap, patch)
            model, said = with_tiles(model, tiling), f"{said}\n{len(tiling.parts(sizes))} tiles in each step"
        messages.show_text(cls, said)
        return io.NodeOutput(model, latent_of(canvas), levels, rate * frame_rate)


NODES: list[type[io.ComfyNode]] = [SecondPass]
