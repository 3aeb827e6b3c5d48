"""CPU seconds on one thread, ours and a reference by turns in one run.

The ratio is reference / ours (above 1: ours is faster), but for step_overhead ours / reference (the cost of stepping).

forward_*       one pass of our DiT and of a diffusers transformer of equal shape, see forwards.py
step_overhead   n single DiT Denoise Steps and one run of core's SamplerCustomAdvanced
decode          latents to pixels, in bf16 where the CPU multiplies it in hardware
end_to_end      Forward Diffusion and single Denoise Steps against core's KSampler on the same model
"""

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch

from ..in_process import load_host
from . import exactness, tiny_models
from .forwards import forward_dtype, forwards, frozen
from .step_overhead import step_overhead
from .timing import paired

LATENT = (1, 16, 9, 12, 12)  # the embedded model's: 33 frames of 96 x 96 pixels


def rows() -> Iterable[dict[str, Any]]:
    """Rows name, ours, reference, ratio, note; those of `forwards` with bound."""
    if not load_host():
        raise SystemExit("ComfyUI has not been fetched yet: run `python3 run.py setup`")
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    yield from forwards()
    yield decode()
    yield end_to_end()
    for preset, cases, steps in (("toy", ("spacetime euler", "euler"), 12), ("B", ("spacetime euler", "euler"), 6)):
        for row in step_overhead(preset, cases, steps, rounds=3):
            each = row["reference"] / steps
            yield row | {"note": f"{steps} steps of {each:.2f} CPU s, cfg; ratio is ours / reference"}


def decode() -> dict[str, Any]:
    """Our VAE and diffusers' Wan VAE at a third of its width.

    It is the published one that is nearest in kind (causal, 4 x 8 x 8 pixels per latent, 16 channels), but far larger.
    """
    from diffusers import AutoencoderKLWan

    from ...models.vae.autoencoder import PRESETS, VideoVAE

    dtype = forward_dtype()
    ours, reference = frozen(VideoVAE(PRESETS["toy"]), dtype), frozen(AutoencoderKLWan(base_dim=32), dtype)
    latents = torch.randn(LATENT).to(dtype)
    with torch.inference_mode():
        one, other = paired(lambda: ours.decode(latents), lambda: reference.decode(latents), rounds=2)
    sizes = [sum(p.numel() for p in model.decoder.parameters()) / 1e6 for model in (ours, reference)]
    note = f"decoder of {sizes[0]:.1f} M weights against AutoencoderKLWan base_dim=32 of {sizes[1]:.1f} M"
    note += f", 33 x 96 x 96, {str(dtype).removeprefix('torch.')}"
    return {"name": "decode", "ours": one, "reference": other, "ratio": other / one, "note": note}


def end_to_end(preset: str = "toy", steps: int = 12, rounds: int = 3) -> dict[str, Any]:
    """The same noise, prompt, cfg, sampler and schedule on both sides; the note says whether the results are equal."""
    model = tiny_models.spacetime(preset, dtype="auto")
    guider = exactness.cfg_guider(model, "spacetime", cfg=4.0)
    sigmas, sampler = exactness.schedule(guider, steps), exactness.sampler("euler")
    latent = {"samples": torch.zeros(LATENT)}
    outputs: dict[str, torch.Tensor] = {}

    def ours() -> None:
        outputs["ours"] = exactness.stepped(guider, sampler, sigmas, latent)[0]

    reference = core_sampler(model, steps, latent, outputs)
    with torch.inference_mode():
        one, other = paired(ours, reference, rounds)
    equal = "equal" if torch.equal(outputs["ours"], outputs["reference"]) else "NOT equal"
    note = f"{steps} single steps of euler, cfg 4, against core's KSampler, {preset} preset; results {equal}"
    return {"name": "end_to_end", "ours": one, "reference": other, "ratio": other / one, "note": note}


def core_sampler(
    model: Any, steps: int, latent: dict[str, Any], outputs: dict[str, torch.Tensor]
) -> Callable[[], None]:
    """A run of what core's KSampler node calls."""
    import comfy.sample

    positive, negative = tiny_models.conditioning("spacetime", 1), tiny_models.conditioning("spacetime", 2)

    def run() -> None:
        noise = comfy.sample.prepare_noise(latent["samples"], exactness.SEED, None)
        outputs["reference"] = comfy.sample.sample(
            model,
            noise,
            steps,
            4.0,
            "euler",
            "simple",
            positive,
            negative,
            latent["samples"],
            disable_pbar=True,
            seed=exactness.SEED,
        )

    return run
