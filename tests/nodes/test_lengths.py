"""Extrapolate Time on our model, on core's Wan and on the embedding of HunyuanVideo."""

import math

import pytest
import torch
from torch import Tensor

KNOWN = 9  # frames: 3 latents


def sampled(model, conds, frames: int) -> Tensor:
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conds, conds)
    guider.set_cfg(1.0)
    noise = torch.randn(1, 16, frames, 4, 4, generator=torch.Generator().manual_seed(0))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
    with torch.inference_mode():
        return guider.sample(
            noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, disable_pbar=True, seed=1
        )


@pytest.mark.parametrize("name", ["spacetime", "wan"])
def test_only_videos_beyond_the_trained_length_change(comfy_host, one_thread, name):
    from comfyui_spacetime.nodes.tasks.long import ExtrapolateTime
    from comfyui_spacetime.tools.bench import tiny_models

    model, conds = tiny_models.model(name), tiny_models.conditioning(name, 0)
    (patched,) = ExtrapolateTime.execute(model, KNOWN, 0).result
    for frames, same in ((3, True), (6, False)):
        plain, slowed = (sampled(one, conds, frames) for one in (model, patched))
        assert torch.equal(plain, slowed) is same
    assert not torch.equal(sampled(ExtrapolateTime.execute(model, KNOWN, 2).result[0], conds, 6), slowed)
    assert torch.equal(sampled(model, conds, 6), plain), "the model that came in is as it was"


def test_core_s_embedding_with_one_other_frequency(comfy_host):
    from comfy.ldm.flux.layers import EmbedND

    from comfyui_spacetime.nodes.host.model.extrapolate import SlowedEmbed

    embed = EmbedND(dim=128, theta=256, axes_dim=[16, 56, 56])  # HunyuanVideo's
    ids = torch.zeros(1, 66, 3)
    ids[0, :, 0] = torch.arange(66)
    ids[0, :, 1] = 3
    plain, slowed = embed(ids), SlowedEmbed(embed, 33, -1)(ids)
    different = (plain != slowed).any(dim=(0, 1, 2, 4, 5)) if plain.ndim == 6 else None
    assert different is not None
    assert different.nonzero().flatten().tolist() == [3]
    angle = torch.arange(66) * 0.9 * 2 * math.pi / 66
    torch.testing.assert_close(slowed[0, 0, :, 3, 0, 0], angle.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(slowed[0, 0, :, 3, 1, 0], angle.sin(), atol=1e-5, rtol=0)
    assert torch.equal(SlowedEmbed(embed, 66, -1)(ids), plain)


def test_what_is_known_about_models(tiny_objects, comfy_host):
    from comfyui_spacetime.models.trained_on import TrainedOn
    from comfyui_spacetime.nodes.host.model.extrapolate import extrapolate, trained_length
    from comfyui_spacetime.nodes.host.model.model import TRAINED_ON
    from comfyui_spacetime.tools.bench import tiny_models

    assert trained_length(tiny_models.model("wan")) == 81
    ours = tiny_objects[0].clone()
    with pytest.raises(ValueError, match="set `trained_frames`"):
        extrapolate(ours, 0, 0)
    ours.set_attachments(TRAINED_ON, TrainedOn.parse(["96x96x33"]))
    assert extrapolate(ours, 0, 0)[1] == 33
    with pytest.raises(ValueError, match="LTXVModel are of another kind"):
        extrapolate(tiny_models.model("ltx"), 97, 0)


class Apple(Tensor):
    """A tensor on a device that knows no float64, as MPS."""

    device = property(lambda _: torch.device("mps"))  # type: ignore[assignment]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
        if func is Tensor.cpu or not isinstance(out, Tensor):
            return out.as_subclass(Tensor) if isinstance(out, Tensor) else out
        assert out.dtype != torch.float64, f"{func} makes float64 on the device"
        return out.as_subclass(cls)


def test_no_float64_on_a_device_without_it(comfy_host):
    from comfy.ldm.flux.layers import EmbedND

    from comfyui_spacetime.models.flow import ddpm_alphas_cumprod, vp_timestep
    from comfyui_spacetime.nodes.host.model.extrapolate import SlowedEmbed

    class OnTheCPU(EmbedND):
        """Core's own embedding goes to the CPU for such devices by itself."""

        def forward(self, ids):
            return super().forward(ids.as_subclass(Tensor)).as_subclass(type(ids))

    ids = torch.zeros(1, 66, 3)
    ids[0, :, 0] = torch.arange(66)
    slowed = SlowedEmbed(OnTheCPU(dim=128, theta=256, axes_dim=[16, 56, 56]), 33, -1)
    torch.testing.assert_close(slowed(ids.as_subclass(Apple)).as_subclass(Tensor), slowed(ids))
    sigma = torch.tensor([0.1, 0.7])
    steps = vp_timestep(sigma.as_subclass(Apple), ddpm_alphas_cumprod())
    assert torch.equal(steps.as_subclass(Tensor), vp_timestep(sigma, ddpm_alphas_cumprod()))
