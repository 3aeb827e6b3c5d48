"""Seams of sound: does it change more across a join than elsewhere, in loudness and in what it is made of?"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch
from torch import Tensor

from .report import Measure
from .seam import seam_ratio

WINDOW = 0.1  # seconds before and after a place that are compared
STEP = 0.05  # seconds between the places elsewhere
BANDS = 24  # of the spectrum, equally wide in octaves
LOWEST = 60.0  # Hz
SILENCE = 1e-4  # of full scale: below it nothing is heard, so nothing jumps


def measure_sound(samples: Tensor, rate: int, times: Sequence[float], *, cyclic: bool = False) -> tuple[Measure, ...]:
    """Changes of a sound (channels, n) in -1..1 across some times, in seconds, and as multiples of the median change.

    The loudness of `WINDOW` seconds before and after a place is compared in dB, and their spectra, in bands, by the
    root mean square of the differences in dB. cyclic: after the end comes the beginning. ValueError for a sound that is
    too short to compare.
    """
    mono, width = samples.float().mean(dim=0), round(WINDOW * rate)
    if cyclic:
        mono = torch.cat([mono[-width:], mono, mono[:width]])
    begin = width if cyclic else 0
    joins = [round(time * rate) + begin for time in times]
    step, last = round(STEP * rate), len(mono) - width
    elsewhere = [place for place in range(width, last + 1, step) if all(abs(place - join) > width for join in joins)]
    joins = [min(max(join, width), last) for join in joins]
    if not joins or len(elsewhere) < 3 or last < width:
        raise ValueError(f"a sound of {samples.shape[1] / rate:.2g} s is too short to compare its joins with the rest")
    across = [_changes(mono, place, width, rate) for place in joins]
    usual = [_changes(mono, place, width, rate) for place in elsewhere]
    measures = []
    for index, name in enumerate(("loudness", "spectrum")):
        median, worst = statistics.median(one[index] for one in usual), max(one[index] for one in across)
        ratio = seam_ratio(worst, [one[index] for one in usual])
        measures.append(Measure(f"sound seam, {name}", ratio, "x the median change"))
        measures.append(Measure(f"{name} across the seam", worst, "dB"))
        measures.append(Measure(f"median change of {name}", median, "dB"))
    return tuple(measures)


def _changes(mono: Tensor, place: int, width: int, rate: int) -> tuple[float, float]:
    """Loudness and spectrum after a place against before it, in dB."""
    before, after = _levels(mono[place - width : place], rate), _levels(mono[place : place + width], rate)
    loudness = abs(float(before[0] - after[0]))
    return loudness, float((before[1:] - after[1:]).square().mean().sqrt())


def _levels(window: Tensor, rate: int) -> Tensor:
    """Level of a window in dB, then that of each of its bands, (1 + BANDS,)."""
    power = torch.fft.rfft(window * torch.hann_window(len(window))).abs().square() / len(window)
    edges = torch.logspace(0, 1, BANDS + 1, base=rate / 2 / LOWEST) * LOWEST
    frequencies = torch.fft.rfftfreq(len(window), 1 / rate)
    band = torch.bucketize(frequencies, edges) - 1
    inside = (band >= 0) & (band < BANDS)
    energy = torch.zeros(BANDS).index_add(0, band[inside], power[inside])
    floor = SILENCE**2
    levels = torch.cat([window.square().mean()[None], energy / len(window)])
    return 10 * (levels + floor).log10()
