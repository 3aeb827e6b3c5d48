"""Latents to spacetime patches and back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..models.patches import Grid, Patch, Tokens, change_mask, patchify, unpatchify
from ..models.streams import layout_of
from . import sockets
from .host import messages
from .host.latent import OPEN, entries_of, made, mask_of, samples_of, sound_mask_of, sound_of
from .host.sounding import sound_latents
from .looking import patches_shown
from .schema import Node, schema

CATEGORY = "Spacetime/patches"


class Patchify(Node):
    """LATENT -> TOKENS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimePatchify",
            display_name="Patchify",
            category=CATEGORY,
            description=(
                "Cuts video latents into spacetime patches, the tokens that a diffusion transformer works on. A mask "
                "on the latent (Set Latent Noise Mask) becomes the change level of each patch: 1 generate, 0 keep. "
                "Nothing is lost: Unpatchify gives the same latent back."
            ),
            search_aliases=["patches", "tokens", "spacetime patches", "latent to tokens", "cut latent"],
            inputs=[
                io.Latent.Input("latent", tooltip="Video latents (batch, channels, frames, height, width)."),
                io.Int.Input("patch_frames", default=1, min=1, max=64, tooltip="Latent frames in a patch."),
                io.Int.Input("patch_height", default=2, min=1, max=64, tooltip="Latent rows in a patch."),
                io.Int.Input(
                    "patch_width",
                    default=2,
                    min=1,
                    max=64,
                    tooltip="Latent columns in a patch. Models cut again for themselves: this is for the nodes here.",
                ),
                io.Model.Input(
                    "model", optional=True, tooltip="The patches are then those that this model cuts, whatever is set."
                ),
            ],
            outputs=[sockets.Tokens.Output(display_name="tokens", tooltip="Patches with their grid and change level.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, latent: dict[str, Any], patch_frames: int, patch_height: int, patch_width: int, model: Any = None
    ) -> io.NodeOutput:
        """Cut, and say into how many."""
        from .host.model.recommended import patch_of

        tokens = cut(latent, patch_of(model) or (patch_frames, patch_height, patch_width))
        messages.show_text(cls, describe(tokens))
        return io.NodeOutput(tokens, ui=patches_shown(tokens, model=model, guess=lambda: latent) or None)


class Unpatchify(Node):
    """TOKENS -> LATENT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="SpacetimeUnpatchify",
            display_name="Unpatchify",
            category=CATEGORY,
            description=(
                "Lays spacetime patches out as video latents again. In the middle of a run the latent is the noisy x "
                "of that step, and denoised is the model's present guess of the clean video; at its end both are clean."
            ),
            search_aliases=["tokens to latent", "assemble patches", "patches to latent"],
            inputs=[sockets.Tokens.Input("tokens", tooltip="Patches, before, during or after a denoising run.")],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The patches as they are, for VAE Decode."),
                io.Latent.Output(
                    display_name="denoised",
                    tooltip="The model's last prediction of the clean video; equal to latent where no run has begun.",
                ),
            ],
        )

    @classmethod
    def execute(cls, tokens: Tokens) -> io.NodeOutput:
        """Lay out."""
        return io.NodeOutput(laid_out(tokens), denoised_latent(tokens))


def cut(latent: dict[str, Any], patch: Patch) -> Tokens:
    """A core LATENT as Tokens; entries besides samples and noise_mask travel along. A patch of sound is one time."""
    samples, sound = samples_of(latent), sound_of(latent)
    tokens = replace(patchify(samples, patch, mask_of(latent)), extra=entries_of(latent))
    if sound is None:
        return tokens
    layout, heard = layout_of(samples, sound), sound_latents(samples, sound)
    return replace(tokens, streams=(patchify(heard, layout.patch(), sound_mask_of(latent)),))


def laid_out(tokens: Tokens) -> dict[str, Any]:
    """Tokens as a core LATENT, with the mask and the other entries that it had. Mid-run nothing is generated yet."""
    parts = [(unpatchify(one), change_mask(one)) for one in (tokens, *tokens.streams)]
    begun = tokens.trajectory is not None and not tokens.trajectory.done
    marked = all(mask is not None for _, mask in parts)
    opened = {OPEN: tuple(one for part in parts for one in part)} if begun and marked else {}
    (samples, mask), *others = parts
    sound, sound_mask = others[0] if others else (None, None)
    return made(samples, mask, {**tokens.extra, **opened}, sound=sound, sound_mask=sound_mask)


def denoised_latent(tokens: Tokens) -> dict[str, Any]:
    """The last clean prediction of a run as a core LATENT; the tokens themselves where there is none."""
    from .host.stepping.streams import with_latents

    if tokens.trajectory is None or tokens.trajectory.denoised is None:
        return laid_out(tokens)
    if tokens.streams:
        return laid_out(replace(with_latents(tokens, tokens.trajectory.denoised), trajectory=None))
    return made(tokens.trajectory.denoised, change_mask(tokens), tokens.extra)


def describe(tokens: Tokens) -> str:
    """For example: 9 x 6 x 6 = 324 patches of 64 values."""

    def one(grid: Grid) -> str:
        return f"{grid.frames} x {grid.height} x {grid.width} = {grid.num_tokens}"

    batch, _, width = tokens.values.shape
    clips = f", {batch} clips" if batch > 1 else ""
    sound = "".join(f", and {one.values.shape[1]} of sound with {one.values.shape[2]}" for one in tokens.streams)
    return f"{' + '.join(map(one, tokens.grids))} patches of {width} values{clips}{sound}"


NODES: list[type[io.ComfyNode]] = [Patchify, Unpatchify]
