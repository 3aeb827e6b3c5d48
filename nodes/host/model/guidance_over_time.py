"""Another guidance scale at each time of a video, on any MODEL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ....models.geometry import Frames
from ....models.guidance import scaled_along
from ....models.streams import SoundLayout, apart, joint, layout_of
from ....models.tasks.prompts import Clock, scales_over_time
from .hosted_dit import CYCLIC, GRIDS

KEY = "spacetime_guidance_over_time"  # attachment of a MODEL: the function that is in its options


def with_scales(model: Any, scales: Sequence[tuple[float, float]], fps: float, time: Frames) -> Any:
    """A clone of a MODEL whose guidance has these scales, (seconds, scale) each, instead of the guider's one."""
    patched = model.clone()
    earlier = patched.get_attachment(KEY)
    functions = patched.model_options.get("sampler_post_cfg_function", [])
    patched.model_options["sampler_post_cfg_function"] = [function for function in functions if function is not earlier]

    def guide(args: Mapping[str, Any]) -> Tensor:
        denoised: Tensor = args["denoised"]
        if args["cond_scale"] == 1:
            return denoised  # no guidance at this step
        options = args["model_options"].get("transformer_options", {})
        shapes = getattr(args["model"], "latent_shapes", None)
        if options.get(GRIDS) or (denoised.ndim != 5 and not shapes):
            raise ValueError("guidance over time is for one clip in a run: Split Clips and sample each by itself")
        guided, cond = (apart(one, shapes or [one.shape]) for one in (denoised, args["cond_denoised"]))
        scale, clock = args["cond_scale"], Clock(guided[0].shape[2], fps, time, bool(options.get(CYCLIC)))
        made = [scaled_along(guided[0], cond[0], scale, scales_over_time(scales, clock))]
        for sound, own in zip(guided[1:], cond[1:], strict=True):
            made.append(_of_sound(layout_of(guided[0], sound), sound, own, scale, scales, clock))
        return joint(made)

    patched.set_model_sampler_post_cfg_function(guide)
    patched.set_attachments(KEY, guide)
    return patched


def _of_sound(
    layout: SoundLayout,
    guided: Tensor,
    cond: Tensor,
    scale: float,
    scales: Sequence[tuple[float, float]],
    clock: Clock,
) -> Tensor:
    """The same for the sound beside a picture, at its own times."""
    seen = layout.seen(guided)
    own = clock.of_sound(seen.shape[2], layout.rate)
    return layout.given(scaled_along(seen, layout.seen(cond), scale, scales_over_time(scales, own)))
