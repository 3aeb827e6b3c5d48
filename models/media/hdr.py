"""High dynamic range and wide gamut brought to the BT.709 pictures that models know.

PQ (SMPTE ST 2084) and HLG (ARIB STD-B67, BT.2100) are tone-mapped by the EETF of ITU-R BT.2390, section 5.4.1, from
1000 to 203 cd/m2, the diffuse white of BT.2408: applied to the largest of R, G and B, the other two scaled alike, so
that hues stay. Primaries of BT.2020 become those of BT.709 (BT.2087); what lies outside is cut. Display gamma is 2.4
(BT.1886).
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

PQ, HLG = "PQ", "HLG"
TRANSFERS = {16: PQ, 18: HLG}  # ISO/IEC 23091-2
BT2020 = 9
PEAK, WHITE = 1000.0, 203.0  # cd/m2
GAMMA = 2.4
TO_709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
)  # BT.2087, table 4 inverted
LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)
M1, M2, C1, C2, C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
A, B, C = 0.17883277, 0.28466892, 0.55991073

Floats = NDArray[np.floating[Any]]


def pq_to_light(code: Floats) -> Floats:
    """PQ signal 0..1 to cd/m2 (ST 2084, equation 5.1)."""
    power = np.clip(code, 0, 1) ** (1 / M2)
    return 10_000 * (np.maximum(power - C1, 0) / (C2 - C3 * power)) ** (1 / M1)


def light_to_pq(light: Floats) -> Floats:
    """cd/m2 to PQ signal 0..1 (ST 2084, equation 5.2)."""
    power = (np.maximum(light, 0) / 10_000) ** M1
    return ((C1 + C2 * power) / (1 + C3 * power)) ** M2


def hlg_to_light(rgb: Floats) -> Floats:
    """HLG signal (..., 3) to cd/m2 on a display of PEAK (BT.2100, table 5)."""
    scene = np.where(rgb <= 0.5, rgb**2 / 3, (np.exp((rgb - C) / A) + B) / 12)
    return PEAK * scene * np.maximum(scene @ LUMA, 1e-9)[..., None] ** 0.2


def rolled_off(code: Floats) -> Floats:
    """The EETF of BT.2390: PQ signals up to PEAK brought to at most WHITE, equal below the knee."""
    top, limit = (float(light_to_pq(np.array(light))) for light in (PEAK, WHITE))
    source, maximum = np.clip(code / top, 0, 1), limit / top
    knee = 1.5 * maximum - 0.5
    t = (source - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * maximum
    return np.where(source < knee, source, spline) * top


@cache
def _tables() -> tuple[Floats, Floats, Floats]:
    """PQ signals, their light, and the factor that tone mapping takes it by."""
    codes = np.linspace(0, 1, 8192, dtype=np.float64)
    light = pq_to_light(codes)
    return codes, light, pq_to_light(rolled_off(codes)) / np.maximum(light, 1e-6)


def to_sdr(rgb: NDArray[np.float32], transfer: str) -> NDArray[np.float32]:
    """Pictures (H, W, 3) of BT.2020 in 0..1, coded by PQ or HLG, as BT.709 pictures in 0..1."""
    codes, light_of, factor_of = _tables()
    light: Floats
    brightest: Floats
    rgb = np.clip(rgb, 0, 1)
    if transfer == PQ:
        light = np.interp(rgb, codes, light_of)
        brightest = rgb.max(axis=-1)
    else:
        light = hlg_to_light(rgb)
        brightest = light_to_pq(light.max(axis=-1))
    mapped = light * np.interp(brightest, codes, factor_of)[..., None] / WHITE
    return _displayed(mapped)


def to_709(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pictures of BT.2020 without high dynamic range as BT.709 pictures."""
    return _displayed(np.clip(rgb, 0, 1) ** GAMMA)


def _displayed(light: Floats) -> NDArray[np.float32]:
    """Light of BT.2020, 1 is white, as a BT.709 signal."""
    return np.asarray(np.clip(light @ TO_709.T, 0, 1) ** (1 / GAMMA), dtype=np.float32)
