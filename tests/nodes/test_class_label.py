"""Class Label in the real ComfyUI: the class reaches the DiT, by name, and without one it is "no class"."""

from dataclasses import replace

import pytest
import torch

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")

NAMES = ("fall", "red ball", "roll")
SHAPE = (1, 16, 3, 4, 6)


def model(context_dim=384, classes=3):
    from comfyui_spacetime.models.transformer.config import PRESETS
    from comfyui_spacetime.models.transformer.dit import DiT
    from comfyui_spacetime.nodes.host.model.model import CLASS_NAMES, build_model

    torch.manual_seed(0)
    config = replace(PRESETS["test"], num_classes=classes, context_dim=context_dim)
    network = DiT(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    patcher = build_model(config, network.state_dict(), {}, "fp32")
    patcher.set_attachments(CLASS_NAMES, NAMES[:classes])
    return patcher, network.eval()


def text():
    return [[torch.randn(1, 4, 384, generator=torch.Generator().manual_seed(0)), {}]]


def label(patcher, name, conditioning=None):
    from comfyui_spacetime.nodes.classes import ClassLabel

    return ClassLabel.execute(patcher, name, conditioning).result[0]


def denoised(patcher, positive, negative=None, cfg=1.0):
    """One step from pure noise to the prediction."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(patcher)
    guider.set_conds(positive, negative or positive)
    guider.set_cfg(cfg)
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    sampler, sigmas = comfy.samplers.ksampler("euler"), torch.tensor([1.0, 0.0])
    return guider.sample(noise, torch.zeros(SHAPE), sampler, sigmas, disable_pbar=True)


@pytest.mark.parametrize("context_dim", [384, 0])
def test_the_dit_gets_the_class_that_was_named(context_dim):
    patcher, network = model(context_dim)
    words = text() if context_dim else None
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(3))
    for name, number in (("fall", 0), ("Red_Ball", 1), ("2", 2), ("", 3)):
        with torch.no_grad():
            context = words[0][0] if words else None
            expected = noise - network(noise, torch.ones(1), context, labels=torch.tensor([number]))
        torch.testing.assert_close(denoised(patcher, label(patcher, name, words)), expected, rtol=1e-4, atol=1e-4)


def test_guidance_leads_from_no_class_to_the_class():
    patcher, _ = model()
    named, none = label(patcher, "roll", text()), text()
    one, zero = denoised(patcher, named), denoised(patcher, none)
    torch.testing.assert_close(denoised(patcher, named, none, 3.0), zero + 3 * (one - zero), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(one, zero, atol=1e-2)


def test_what_cannot_be_labelled_is_one_sentence():
    patcher, _ = model()
    with pytest.raises(ValueError, match='no class "jump": choose one of fall, red ball, roll'):
        label(patcher, "jump", text())
    with pytest.raises(ValueError, match="connect a CLIP Text Encode"):
        label(patcher, "fall")
    with pytest.raises(ValueError, match="was not trained with classes"):
        label(model(classes=0)[0], "fall", text())
