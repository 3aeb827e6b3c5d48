"""A clip extended to so many seconds through the nodes, straight into a file. A part of the memory benchmark."""

import tempfile
from typing import Any

import torch

from .peak import FPS, SIDE, Peak, resident_mb

STEPS = 2  # of each window: more would take longer and no more memory


def measure(seconds: int, preset: str) -> dict[str, Any]:
    """One row: Extend Far and VAE Decode Video (video file, deflicker), random weights of a preset, in this process."""
    from ..in_process import load_host

    if not load_host():
        raise RuntimeError("ComfyUI has not been fetched: python3 run.py setup")
    import comfy.samplers
    import folder_paths
    from comfy_extras.nodes_custom_sampler import CFGGuider, Noise_RandomNoise

    from ...models.vae.autoencoder import PRESETS, VideoVAE
    from ...nodes.host.vae.pieces import SpacetimeVAE
    from ...nodes.latents import VAEDecode
    from ...nodes.tasks.long import ExtendFar
    from . import tiny_models

    torch.set_num_threads(1)
    model, vae = tiny_models.spacetime(preset), SpacetimeVAE(VideoVAE(PRESETS[preset]))
    conds = tiny_models.conditioning("spacetime", 0)
    guider = CFGGuider.execute(model, conds, conds, 1.0).result[0]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    sampler, noise = comfy.samplers.sampler_object("euler"), Noise_RandomNoise(0)
    clip = {"samples": torch.randn(1, 16, 5, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))}

    def run(more: float) -> None:
        far = ExtendFar.execute(guider, sampler, sigmas, noise, clip, "forward", more, 2.75, 1.0, 0.3, float(FPS), 4)
        VAEDecode.execute(vae, far.result[0], float(FPS), "video file", deflicker=True)

    with torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        folder_paths.set_temp_directory(folder)
        before = resident_mb()
        with Peak() as peak:
            run(seconds)
    return {"name": "extend", "seconds": seconds, "peak_mb": peak.value - before}
