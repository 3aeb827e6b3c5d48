"""The loader gives the form for few steps where the file has one, and the nodes that ask the model follow it."""

from pathlib import Path

import pytest
import torch

from comfyui_spacetime.models.checkpoints import load_checkpoint, save_checkpoint, with_few_steps
from comfyui_spacetime.models.lora import Pair
from comfyui_spacetime.models.recommended import Recommended

FEW = Recommended(cfg=1.0, shift=3.0, steps=4, solver="euler")
LAYER = "blocks.0.mlp.down"


@pytest.fixture(scope="module")
def both(tiny_checkpoint: str) -> str:
    """The tiny checkpoint with a form for few steps."""
    import folder_paths

    path = Path(folder_paths.get_full_path("checkpoints", tiny_checkpoint))
    full = load_checkpoint(path)
    rows, columns = full.dit_state[f"{LAYER}.weight"].shape
    torch.manual_seed(3)
    pairs = {LAYER: Pair(torch.randn(rows, 2), torch.randn(2, columns))}
    save_checkpoint(path.with_name("both.safetensors"), with_few_steps(full, pairs, FEW))
    return "both.safetensors"


def weight_of(model) -> torch.Tensor:
    return model.get_model_object(f"diffusion_model.{LAYER}").weight


def test_the_form_is_what_the_widget_says(both, tiny_checkpoint):
    from comfyui_spacetime.nodes.host.model.recommended import own_settings
    from comfyui_spacetime.nodes.loaders import FORMS, LoadCheckpoint

    model = LoadCheckpoint.execute(both, "fp32", FORMS[1]).result[0]
    assert own_settings(model).settings == FEW
    full = LoadCheckpoint.execute(both, "fp32").result[0]
    assert own_settings(full).settings != FEW
    assert not torch.equal(weight_of(model), weight_of(full))
    built_again = model.cached_patcher_init[0](*model.cached_patcher_init[1])
    assert torch.equal(weight_of(built_again), weight_of(model)), "core reads the file once more for its training"
    prints = {LoadCheckpoint.fingerprint_inputs(both, "fp32", form) for form in FORMS}
    assert len(prints) == 2
    with pytest.raises(ValueError, match="holds no form for few steps"):
        LoadCheckpoint.execute(tiny_checkpoint, "fp32", FORMS[1])
