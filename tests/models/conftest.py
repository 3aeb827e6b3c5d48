"""Networks to test with."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT


@pytest.fixture(scope="session")
def awake() -> Callable[..., nn.Module]:
    """Makes what starts at zero take part, and a network ready to be asked."""

    def wake(network: nn.Module, std: float = 0.1) -> nn.Module:
        for parameter in network.parameters():
            if not parameter.abs().sum():
                nn.init.normal_(parameter, std=std)
        return network.eval().requires_grad_(False)

    return wake


@pytest.fixture(scope="module")
def awake_dit(awake) -> DiT:
    """A tiny DiT."""
    torch.manual_seed(0)
    return awake(DiT(PRESETS["test"]).initialise())
