"""Patchify and Unpatchify as nodes; Forward Diffusion and DiT Denoise Step through their schemas."""

import inspect

import pytest
import torch

from comfyui_spacetime.models.patches import pack
from comfyui_spacetime.tools.bench import exactness, tiny_models

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")


def node(name: str):
    from comfyui_spacetime.nodes import denoise, tokens

    return next(one for one in tokens.NODES + denoise.NODES if one.__name__ == name)


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def test_latent_comes_back_whole() -> None:
    latent = {"samples": random(2, 16, 3, 4, 6), "noise_mask": torch.rand(2, 1, 3, 4, 6), "batch_index": [4, 5]}
    (tokens,) = node("Patchify").execute(latent, 1, 2, 3).result
    assert tokens.values.shape == (2, 3 * 2 * 2, 96)
    back, denoised = node("Unpatchify").execute(tokens).result
    for other in (back, denoised):
        assert set(other) == set(latent)
        assert torch.equal(other["samples"], latent["samples"])
        assert torch.equal(other["noise_mask"], latent["noise_mask"])
        assert other["batch_index"] == [4, 5]


def test_node_says_what_it_made() -> None:
    from comfyui_spacetime.nodes.tokens import cut, describe

    tokens = cut({"samples": random(1, 16, 9, 12, 12)}, (1, 2, 2))
    assert describe(tokens) == "9 x 6 x 6 = 324 patches of 64 values"
    still = cut({"samples": random(1, 16, 1, 4, 4)}, (1, 2, 2))
    assert describe(pack([tokens, still])) == "9 x 6 x 6 = 324 + 1 x 2 x 2 = 4 patches of 64 values"
    assert (
        describe(cut({"samples": random(2, 16, 1, 4, 4)}, (1, 2, 2))) == "1 x 2 x 2 = 4 patches of 64 values, 2 clips"
    )


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (2, 8, 8), (1, 1, 2, 1, 1), (1, 1, 2, 4, 4), (1, 1, 2, 32, 32)])
def test_masks_of_any_shape_act_as_in_core(shape: tuple[int, ...]) -> None:
    mask = torch.rand(*shape, generator=torch.Generator().manual_seed(6)).round(decimals=1)
    latent = {**tiny_models.latent("wan"), "noise_mask": mask}
    model = tiny_models.model("wan")
    guider, sampler = exactness.cfg_guider(model, "wan"), exactness.sampler("heun")
    sigmas = exactness.schedule(guider, 3)
    reference = exactness.core_run(guider, sampler, sigmas, latent)
    assert exactness.same(exactness.stepped(guider, sampler, sigmas, latent), reference)


def test_noisy_tokens_keep_masked_patches_clean_to_the_eye() -> None:
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    latent = tiny_models.latent("wan", masked=True)
    (tokens,) = node("Patchify").execute(latent, 1, 2, 2).result
    (noisy,) = node("ForwardDiffusion").execute(tokens, Noise_RandomNoise(1), torch.tensor([0.8, 0.4, 0.0])).result
    shown = node("Unpatchify").execute(noisy).result[0]["samples"]
    noise = Noise_RandomNoise(1).generate_noise(latent)
    assert torch.equal(shown[:, :, 0], latent["samples"][:, :, 0])
    assert torch.allclose(
        shown[:, :, 1, 1:], 0.2 * latent["samples"][:, :, 1, 1:] + 0.8 * noise[:, :, 1, 1:], atol=1e-6
    )
    assert torch.allclose(shown[:, :, 1, 0], 0.6 * latent["samples"][:, :, 1, 0] + 0.4 * noise[:, :, 1, 0], atol=1e-6)


def test_whole_chain_of_nodes_is_core_s_sampler() -> None:
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    latent = tiny_models.latent("spacetime", masked=True)
    guider = exactness.cfg_guider(tiny_models.model("spacetime"), "spacetime")
    sampler, sigmas = exactness.sampler("dpmpp_2m"), exactness.schedule(guider, 4)
    (tokens,) = node("Patchify").execute(latent, 1, 2, 2).result
    (tokens,) = node("ForwardDiffusion").execute(tokens, Noise_RandomNoise(exactness.SEED), sigmas).result
    flags = []
    for steps in (1, 2, -1):
        tokens, denoised, done = node("DenoiseStep").execute(tokens, guider, sampler, steps).result
        flags.append(done)
    assert flags == [False, False, True]
    final, clean = node("Unpatchify").execute(tokens).result
    reference = exactness.core_run(guider, sampler, sigmas, latent)
    assert exactness.same((final["samples"], clean["samples"]), reference)
    assert torch.equal(denoised["samples"], reference[1])
    assert torch.equal(final["noise_mask"], latent["noise_mask"])


def test_progress_reaches_the_end_of_each_call(monkeypatch) -> None:
    import comfy.utils

    from comfyui_spacetime.nodes.host import messages

    seen, texts = [], []
    monkeypatch.setattr(comfy.utils, "PROGRESS_THROTTLE_MIN_INTERVAL", 0, raising=False)  # newer hosts skip some
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, *_, **__: seen.append((value, total)))
    monkeypatch.setattr(messages, "show_text", lambda _node, text: texts.append(text))
    guider = exactness.cfg_guider(tiny_models.model("wan"), "wan")
    tokens = exactness.noised(tiny_models.latent("wan"), exactness.schedule(guider, 5))
    sampler = exactness.sampler("heun")
    for steps in (2, 0):
        tokens = node("DenoiseStep").execute(tokens, guider, sampler, steps).result[0]
    assert seen == [(1, 2), (2, 2), (1, 3), (2, 3), (3, 3)]
    assert texts[0] == "step 1 of 5"
    assert texts[2].startswith("step 2 of 5, sigma 0.")
    assert texts[-1] == "step 5 of 5, sigma 0"


def test_what_the_editor_shows_of_patches_is_theirs() -> None:
    import base64

    from comfyui_spacetime.nodes.looking import KEY, MOST, patches_shown
    from comfyui_spacetime.nodes.tokens import cut

    latent = {"samples": random(2, 4, 3, 6, 8), "noise_mask": torch.zeros(1, 1, 3, 6, 8)}
    latent["noise_mask"][:, :, 1:] = 1
    tokens = cut(latent, (1, 2, 2))
    (shown,) = patches_shown(tokens)[KEY]
    assert shown["grids"] == [[3, 3, 4]]
    assert shown["sigma"] is None
    levels, sizes, colours = (base64.b64decode(shown[name]) for name in ("levels", "sizes", "colours"))
    assert levels == bytes([0] * 12 + [255] * 24), "the first frame is known"
    rms = tokens.values[0].square().mean(-1).sqrt()
    assert sizes == bytes((rms / rms.max() * 255).round().int().tolist())
    assert len(colours) == 36 * 3
    assert patches_shown(tokens.with_values(tokens.values * float("nan"))) == {}
    assert patches_shown(cut({"samples": random(1, 1, 1, 256, MOST // 256 + 1)}, (1, 1, 1))) == {}


def test_bad_latents_are_named() -> None:
    from comfyui_spacetime.nodes.tokens import cut

    with pytest.raises(ValueError, match="no video: use Empty Video"):
        cut({"samples": random(1, 4, 8, 8)}, (1, 2, 2))
    with pytest.raises(ValueError, match="make each size a multiple of the patch"):
        cut({"samples": random(1, 16, 3, 5, 4)}, (1, 2, 2))
    with pytest.raises(ValueError, match="the mask has 3 channels"):
        cut({"samples": random(1, 16, 3, 4, 4), "noise_mask": torch.ones(1, 3, 3, 4, 4)}, (1, 2, 2))


@pytest.mark.parametrize("name", ["Patchify", "Unpatchify", "ForwardDiffusion", "DenoiseStep"])
def test_schema_and_execute_agree(name: str) -> None:
    schema = node(name).GET_SCHEMA()
    assert schema.node_id == f"Spacetime{name}"
    assert [one.id for one in schema.inputs] == list(inspect.signature(node(name).execute).parameters)
    assert all(one.tooltip for one in [*schema.inputs, *schema.outputs])
