"""Which numbers the hardware is fast in."""

from __future__ import annotations

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def cpu_multiplies_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware: by AMX tiles (Intel) or AVX-512 BF16 (also AMD).

    With tiles the DiT is about three times faster than in fp32, with vector units about 1.3 times; other CPUs convert
    in software and are slower than in fp32.
    """
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(probe() for probe in probes if probe)
