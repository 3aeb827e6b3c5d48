"""State of torch's global random generators, which samplers, models and patches may draw from."""

from __future__ import annotations

import torch
from torch import Tensor

RngState = tuple[Tensor, ...]


def rng_state() -> RngState:
    """State of torch's global generators: the CPU's, then each CUDA device's."""
    begun = torch.cuda.is_available() and torch.cuda.is_initialized()
    return (torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if begun else []))


def set_rng_state(state: RngState) -> None:
    """Put rng_state() back; devices that this machine does not have are left out."""
    torch.set_rng_state(state[0])
    for device, one in enumerate(state[1 : 1 + torch.cuda.device_count()]):
        torch.cuda.set_rng_state(one, device)
