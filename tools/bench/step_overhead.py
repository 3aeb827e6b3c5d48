"""What it costs to take n single steps instead of one run, measured on our own model. A part of the speed benchmark."""

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch

from . import exactness, tiny_models

CASES = ("spacetime unipc", "spacetime heun", "euler", "dpmpp_2m", "euler_ancestral", "uni_pc", "dpmpp_2m_sde")


def step_overhead(preset: str = "toy", steps: int = 12, rounds: int = 3) -> Iterable[dict[str, Any]]:
    """Rows name, ours (s for n single steps), reference (s for one run of core's SamplerCustomAdvanced), ratio.

    The two take turns, so that a busy machine slows both; the medians count. The latent is the embedded model's: 33
    frames of 96 x 96 pixels. Needs the host (`load_host()` first).
    """
    guider = exactness.cfg_guider(tiny_models.spacetime(preset), "spacetime", cfg=4.0)
    latent = {"samples": torch.zeros(1, 16, 9, 12, 12)}
    sigmas = exactness.schedule(guider, steps)
    for name in CASES:
        sampler = exactness.sampler(name)
        with torch.inference_mode():
            ours, reference = paired(
                lambda sampler=sampler: exactness.stepped(guider, sampler, sigmas, latent),
                lambda sampler=sampler: exactness.core_run(guider, sampler, sigmas, latent),
                rounds,
            )
        label = f"step_overhead {name.removeprefix('spacetime ')} ({'ours' if ' ' in name else 'core'})"
        yield {"name": label, "ours": ours, "reference": reference, "ratio": ours / reference}


def paired(one: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """Median seconds of each, run in turns after one round to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for function, taken in zip((one, other), times, strict=True):
            begin = time.perf_counter()
            function()
            if number:
                taken.append(time.perf_counter() - begin)
    return statistics.median(times[0]), statistics.median(times[1])
