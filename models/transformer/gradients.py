"""Whether autograd follows a computation. Where it does not, results may be written over what is not needed again."""

from __future__ import annotations

import torch
from torch import Tensor


def followed(*tensors: Tensor) -> bool:
    """Whether autograd follows what is computed of these."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
