"""A second pass over a clip that was made so many times larger, through the nodes. A part of the memory benchmark."""

from typing import Any

import torch

from .peak import SIDE, Peak, resident_mb

STEPS = 2  # more would take longer and no more memory
LATENTS = 5


def measure(scale: int, preset: str, *, tile: float) -> dict[str, Any]:
    """One row: Second Pass and core's euler, random weights of a preset, in this process. tile 0: in one piece."""
    from ..in_process import load_host

    if not load_host():
        raise RuntimeError("ComfyUI has not been fetched: python3 run.py setup")
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import CFGGuider, Noise_RandomNoise

    from ...nodes.tasks.second_pass import SecondPass
    from . import tiny_models

    torch.set_num_threads(1)
    model, conds = tiny_models.spacetime(preset), tiny_models.conditioning("spacetime", 0)
    whole = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2 * STEPS)
    sampler = comfy.samplers.sampler_object("euler")

    def run(times: int) -> None:
        clip = {
            "samples": torch.randn(1, 16, LATENTS, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))
        }
        tiled, large, sigmas, _ = SecondPass.execute(
            model, clip, whole, float(times), 1, 0.5, tile, 0.25, 12.0, 0
        ).result
        guider = CFGGuider.execute(tiled, conds, conds, 1.0).result[0]
        noise = Noise_RandomNoise(0).generate_noise(large)
        guider.sample(noise, large["samples"], sampler, sigmas, denoise_mask=large.get("noise_mask"), disable_pbar=True)

    with torch.inference_mode():
        run(1)  # what the first run leaves in memory is not part of a larger one
        before = resident_mb()
        with Peak() as peak:
            run(scale)
    named = "second pass" if tile else "second pass in one piece"
    return {
        "name": f"{named}, {scale} x the sides",
        "seconds": round((1 + 4 * (LATENTS - 1)) / 12, 2),
        "peak_mb": peak.value - before,
    }
