"""A LoRA of ours through ComfyUI's own loader equals the merged model."""

import pytest
import torch

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-4), ("bf16", 0.05)])
def test_cores_loader_applies_it_like_a_merge(tmp_path, dtype, tolerance):
    import comfy.samplers
    import folder_paths

    from comfyui_spacetime.models.training.dit.lora import merge
    from comfyui_spacetime.nodes.host.model.model import build_model
    from comfyui_spacetime.tests.models.test_training_batches import write_cache
    from comfyui_spacetime.tests.models.test_training_lora import start, train
    from nodes import LoraLoaderModelOnly

    (tmp_path / "cache").mkdir()
    init = start()
    train(write_cache(tmp_path / "cache"), tmp_path / "run", init, lora=4, steps=12)
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    plain = build_model(init.dit_config, init.dit_state, {}, dtype)
    loaded = LoraLoaderModelOnly().load_lora_model_only(plain, "run/lora.safetensors", 0.8)[0]
    assert len(loaded.patches) == 14  # seven layers in each of two blocks
    together = merge(init, tmp_path / "run" / "lora.safetensors", 0.8)
    merged = build_model(together.dit_config, together.dit_state, {}, dtype)
    text = [[torch.randn(1, 4, 384, generator=torch.Generator().manual_seed(0)), {}]]

    def run(model):
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(text, text)
        guider.set_cfg(1.0)
        noise = torch.randn((1, 16, 3, 4, 6), generator=torch.Generator().manual_seed(3))
        sampler, sigmas = comfy.samplers.ksampler("euler"), torch.tensor([1.0, 0.6, 0.0])
        return guider.sample(noise, torch.zeros(1, 16, 3, 4, 6), sampler, sigmas, disable_pbar=True)

    expected, found, without = run(merged), run(loaded), run(plain)
    size = float(expected.norm())
    assert float((found - expected).norm()) < tolerance * size
    assert float((without - expected).norm()) > 4 * tolerance * size
