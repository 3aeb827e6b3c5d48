"""RMS norm in the form that is fastest on the device at hand.

torch has a kernel for it on GPUs. On CPUs `F.rms_norm` is seven passes over the data, a quarter of a small DiT's time;
vector_norm and one product are two.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .gradients import followed
from .plain import norm_weights

EPS = 1e-6


def rms(x: Tensor) -> Tensor:
    """RMS norm over the last axis, without weights."""
    if x.device.type != "cpu":
        return F.rms_norm(x, x.shape[-1:], eps=EPS)
    return x * inverse_rms(x).to(x.dtype)


def inverse_rms(x: Tensor) -> Tensor:
    """What RMS norm multiplies each row of the last axis by, (..., 1), at least in float32."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    return torch.rsqrt(length.square() / x.shape[-1] + EPS)


def normed(norm: nn.Module, x: Tensor) -> Tensor:
    """norm(x), where norm is an RMSNorm layer over the last axis."""
    if x.device.type != "cpu":
        out: Tensor = norm(x)
        return out
    unit, scale = rms(x), norm_weights(norm, x)
    return unit * scale if followed(unit, scale) else unit.mul_(scale)
