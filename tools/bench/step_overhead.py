"""What it costs to take n single steps instead of one run, measured on our own model. A part of the speed benchmark."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from . import exactness, tiny_models
from .timing import paired

CASES = ("spacetime unipc", "spacetime heun", "euler", "dpmpp_2m", "euler_ancestral", "uni_pc", "dpmpp_2m_sde")


def step_overhead(
    preset: str = "toy", cases: Sequence[str] = CASES, steps: int = 12, rounds: int = 3
) -> Iterable[dict[str, Any]]:
    """Rows name, ours (s for n single steps), reference (s for one run of core's SamplerCustomAdvanced), ratio.

    Both are CPU seconds, see `paired`. The latent is the embedded model's: 33
    frames of 96 x 96 pixels. Needs the host (`load_host()` first).
    """
    guider = exactness.cfg_guider(tiny_models.spacetime(preset), "spacetime", cfg=4.0)
    latent = {"samples": torch.zeros(1, 16, 9, 12, 12)}
    sigmas = exactness.schedule(guider, steps)
    for name in cases:
        sampler = exactness.sampler(name)
        with torch.inference_mode():
            ours, reference = paired(
                lambda sampler=sampler: exactness.stepped(guider, sampler, sigmas, latent),
                lambda sampler=sampler: exactness.core_run(guider, sampler, sigmas, latent),
                rounds,
            )
        label = f"step_overhead {name.removeprefix('spacetime ')} ({'ours' if ' ' in name else 'core'}) {preset}"
        yield {"name": label, "ours": ours, "reference": reference, "ratio": ours / reference}
