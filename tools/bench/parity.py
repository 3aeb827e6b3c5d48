"""Published transformers as MODELs against independent implementations: one forward pass, and a sample of 10 steps.

Networks are small and random, saved in the published key layout and recognised from the file. References: diffusers'
DiT, Latte and DDIM where it has them; for SiT the paper's Euler steps from noise to data, for Latte with classes its
formula on diffusers' blocks. Errors are relative to the largest number of the reference, in float32.
"""

import logging
import tempfile
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..in_process import load_host
from .references import Reference, references

FORWARD, SAMPLE = 1e-5, 1e-4  # limits
STEPS, CFG = 10, 3.0


def rows() -> Iterable[dict[str, Any]]:
    """Rows family, what, max_error, limit, within."""
    if not load_host():
        raise SystemExit("ComfyUI has not been fetched yet: run `python3 run.py setup`")
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(1)
    for reference in references():
        model = loaded(reference)
        for what, judge, limit in (("forward", forward_error, FORWARD), (f"{STEPS} steps", sample_error, SAMPLE)):
            error = judge(reference, model)
            row = {"family": reference.family, "what": what, "max_error": error, "limit": limit}
            yield row | {"within": error <= limit}


def loaded(reference: Reference) -> Any:
    """The MODEL that Load DiT makes of a file with the reference's weights."""
    from ...models.published.families import recognise
    from ...models.published.files import read_weights
    from ...nodes.host.model.published import build_published

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{reference.family.split()[0]}.safetensors"
        save_file(
            {key: value.clone(memory_format=torch.contiguous_format) for key, value in reference.state.items()}, path
        )
        return build_published(recognise(read_weights(path), name=path.name), "fp32")


@torch.no_grad()
def forward_error(reference: Reference, model: Any) -> float:
    """Largest relative error of the raw answer to random latents at two times."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, *reference.shape, generator=generator)
    times = torch.tensor([0.25, 0.9]) if reference.family == "SiT" else torch.tensor([10.0, 905.5])
    context, labels = given(reference.conditions[0])
    network = model.model.diffusion_model
    with torch.inference_mode(False), torch.no_grad():
        ours = network(x, times, context=context, class_labels=None if labels is None else labels.repeat(2))
    return relative(ours, reference.answer(x, times, reference.conditions[0]))


@torch.no_grad()
def sample_error(reference: Reference, model: Any) -> float:
    """Largest relative error of a whole guided sample: core's Euler on our MODEL against the published sampler."""
    import comfy.sample
    import comfy.samplers

    generator = torch.Generator().manual_seed(4)
    noise = torch.randn(1, *reference.shape, generator=generator)
    steps = {"SiT": sit_sample, "Open-Sora": open_sora_sample}.get(reference.family, ddim_sample)
    expected, sigmas, start = steps(reference, noise)
    conds = [conditioning(condition) for condition in reference.conditions]
    sampler = comfy.samplers.sampler_object("euler")
    made = comfy.sample.sample_custom(
        model, start, CFG, sampler, sigmas, *conds, torch.zeros_like(noise), disable_pbar=True, seed=0
    )
    return relative(made * model.model.latent_format.scale_factor, expected)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """The largest difference over the reference's largest number."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def guided(reference: Reference, x: Tensor, time: Tensor) -> Tensor:
    """The guided answer, without a learned variance."""
    positive, negative = (reference.answer(x, time, c)[:, : x.shape[1]] for c in reference.conditions)
    return negative + CFG * (positive - negative)


def ddim_sample(reference: Reference, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """diffusers' DDIM: the sample, its noise levels on our line, and the noise that leads core to the same start."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=False)
    scheduler.set_timesteps(STEPS)
    power = scheduler.alphas_cumprod[scheduler.timesteps].double()
    signal, spread = power.sqrt(), (1 - power).sqrt()
    sigmas = torch.cat([spread / (signal + spread), torch.zeros(1)]).float()
    x = noise * spread[0].float()  # as much noise as that step has, no signal
    for time in scheduler.timesteps:
        x = scheduler.step(guided(reference, x, time.float()[None]), time, x).prev_sample
    return x, sigmas, noise


def sit_sample(reference: Reference, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The paper's ODE in Euler steps (arXiv 2401.08740, eq. 5, linear path): x at time t is t data + (1 - t) noise."""
    times, x = torch.linspace(0, 1, STEPS + 1), noise
    for now, then in pairwise(times):
        x = x + (then - now) * guided(reference, x, now[None])
    return x, 1 - times, noise


def open_sora_sample(reference: Reference, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Open-Sora's rectified flow: from time 1000 (noise) down to 0, the answer is data - noise."""
    times, z = torch.linspace(1000, 0, STEPS + 1), noise
    for now, then in pairwise(times):
        z = z + (now - then) / 1000 * guided(reference, z, now[None])
    return z, times / 1000, noise


def given(condition: Any) -> tuple[Tensor | None, Tensor | None]:
    """Text and class numbers of a condition."""
    if isinstance(condition, Tensor):
        return condition.expand(2, -1, -1), None
    return None, torch.tensor([condition])


def conditioning(condition: Any) -> list[Any]:
    """The same as a core CONDITIONING."""
    from ...nodes.host.model.model import CLASS

    if isinstance(condition, Tensor):
        return [[condition, {}]]
    return [[torch.zeros(1, 1, 1), {CLASS: condition}]]
