"""Another guidance scale at each time of a video, on any MODEL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ....models.geometry import Frames
from ....models.guidance import scaled_along
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
        if denoised.ndim == 3:  # both streams in one
            raise ValueError(
                "guidance over time takes pictures alone, and this model makes sound too: use the guider's"
            )
        if options.get(GRIDS) or denoised.ndim != 5:
            raise ValueError("guidance over time is for one clip in a run: Split Clips and sample each by itself")
        clock = Clock(denoised.shape[2], fps, time, bool(options.get(CYCLIC)))
        return scaled_along(denoised, args["cond_denoised"], args["cond_scale"], scales_over_time(scales, clock))

    patched.set_model_sampler_post_cfg_function(guide)
    patched.set_attachments(KEY, guide)
    return patched
