"""The optimiser updates parameters in bunches: few kernels on a GPU, and the same numbers."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from comfyui_spacetime.models.training.optim import optimiser as optimiser_module
from comfyui_spacetime.models.training.optim.optimiser import EMA, Optimiser
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT


class Kernels(TorchDispatchMode):
    """Counts operations that would each be a kernel or so on a GPU; views and new tensors are none."""

    free = ("empty", "view", "detach", "alias", "t.", "transpose", "unbind", "select", "slice", "split", "unsqueeze")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.").lstrip("_")
        self.count += not name.startswith(self.free)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_of_the_optimiser_is_few_kernels_however_deep_the_model_is(dtype):
    counts = []
    for depth in (2, 6):
        model = DiT(replace(PRESETS["test"], depth=depth)).initialise().to(dtype)
        optimiser = Optimiser(model, learning_rate=0.1)
        average = EMA(optimiser.masters)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        with Kernels() as kernels:
            optimiser.step()
            average.update(optimiser.masters, 1)
        counts.append(kernels.count)
    assert counts[0] == counts[1] < 220


def test_bunches_do_not_change_what_a_step_does(monkeypatch):
    results = []
    for bunch in (1, 5000, 1 << 26):
        monkeypatch.setattr(optimiser_module, "BUNCH", bunch)
        torch.manual_seed(0)
        model = DiT(PRESETS["test"]).initialise()
        optimiser = Optimiser(model, learning_rate=0.1)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = parameter.detach().sin()
            optimiser.step()
        results.append(optimiser.state())
    for other in results[1:]:
        assert all(torch.equal(results[0][key], other[key]) for key in results[0])
