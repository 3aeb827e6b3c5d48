"""Second Pass on core MODELs: what the model sees of a large video, what stays, and what is refused."""

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.tools.bench import tiny_models

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
SIZES = {"spacetime": (16, 3, 4, 8), "wan": (16, 3, 4, 8), "ltx": (128, 3, 4, 8)}
SIGMAS = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0])


@pytest.fixture(params=tuple(SIZES))
def name(request) -> str:
    return request.param


def clip(name: str = "spacetime", **more) -> dict:
    return {"samples": torch.randn(1, *SIZES[name], generator=torch.Generator().manual_seed(0)), **more}


def second(name: str = "spacetime", latent=None, *, scale=2.0, rate=1, strength=0.6, tile=1.0, overlap=0.25, **more):
    from comfyui_spacetime.nodes.tasks.second_pass import SecondPass

    model = more.pop("model", None) or tiny_models.model(name)
    inputs = (latent or clip(name), SIGMAS, scale, rate, strength, tile, overlap, 12.0, 0)
    return SecondPass.execute(model, *inputs, **more).result


def sample(name: str, model, latent: dict, sigmas: Tensor, *, positive=None, sampler: str = "euler") -> Tensor:
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive or tiny_models.conditioning(name, 1), tiny_models.conditioning(name, 2))
    guider.set_cfg(2.0)
    samples, mask = latent["samples"], latent.get("noise_mask")
    noise = torch.randn(samples.shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return guider.sample(
            noise, samples, comfy.samplers.sampler_object(sampler), sigmas, denoise_mask=mask, disable_pbar=True, seed=1
        )


@pytest.fixture
def seen(monkeypatch, name) -> list[tuple[int, ...]]:
    """The sizes of all latents that the network is given."""
    sizes: list[tuple[int, ...]] = []
    model = tiny_models.model(name).model
    plain = model._apply_model

    def apply(x, *rest, **named):
        sizes.append(tuple(x.shape[2:]))
        return plain(x, *rest, **named)

    monkeypatch.setattr(model, "_apply_model", apply)
    return sizes


def test_the_network_sees_tiles_as_large_as_the_clip_was(name, seen):
    model, latent, sigmas, fps = second(name, rate=2)
    assert latent["samples"].shape[2:] == (5, 8, 16)
    assert sigmas.tolist() == pytest.approx([0.6, 0.5, 0.25, 0.0])
    assert fps == 24.0
    made = sample(name, model, latent, sigmas)
    assert made.shape == latent["samples"].shape
    assert set(seen) == {SIZES[name][1:]}


def test_a_tile_that_holds_all_is_the_run_without_tiles_to_the_bit(name):
    plain, latent, sigmas, _ = second(name, tile=0.0)
    whole = second(name, tile=8.0)[0]
    assert plain is tiny_models.model(name)
    assert torch.equal(sample(name, whole, latent, sigmas), sample(name, plain, latent, sigmas))


def test_a_run_begins_at_the_strength(name):
    """Where the model changes nothing the clip comes back: what is added of noise is taken away again."""
    model, latent, sigmas, _ = second(name, strength=0.05)
    made = sample(name, model, latent, sigmas)
    noisier = sample(name, *second(name, strength=1.0)[:3])
    assert (made - latent["samples"]).abs().mean() < 0.2 * (noisier - latent["samples"]).abs().mean()


def test_outside_of_the_mask_the_clip_is_only_enlarged(name):
    mask = torch.zeros(1, 32, 64)
    mask[:, :, :32] = 1
    model, latent, sigmas, _ = second(name, mask=mask)
    made = sample(name, model, latent, sigmas)
    assert torch.allclose(made[..., 8:], latent["samples"][..., 8:], atol=1e-4)
    assert not torch.allclose(made[..., :8], latent["samples"][..., :8], atol=1e-2)


def test_prompts_over_time_reach_their_tiles(name):
    """Other words for the right half change it most, in tiles as in one piece."""
    from comfyui_spacetime.nodes.prompts import PromptOverTime

    class Words:
        tokenize = staticmethod(str)

        def encode_from_tokens_scheduled(self, text: str) -> list:
            return tiny_models.conditioning(name, sum(map(ord, text)))

    model, latent, sigmas, _ = second(name)
    mask = torch.zeros(1, 64, 128)
    mask[:, :, 64:] = 1
    base = tiny_models.conditioning(name, 1)
    runs = []
    for text in ("0: a", "0: b"):
        inputs = (model, Words(), {"samples": latent["samples"]}, text, 0.0, 12.0, 0, base, mask)
        runs.append(sample(name, model, latent, sigmas[-2:], positive=PromptOverTime.execute(*inputs).result[0]))
    change = (runs[0] - runs[1]).abs().mean(dim=(0, 1, 2, 3))
    assert change[8:].mean() > 2 * change[:8].mean()


def test_steps_of_the_step_node_equal_one_run(name):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import CFGGuider, Noise_RandomNoise

    from comfyui_spacetime.nodes.denoise import DenoiseStep, ForwardDiffusion
    from comfyui_spacetime.nodes.tokens import Patchify

    model, latent, sigmas, _ = second(name)
    words = tiny_models.conditioning(name, 1)
    guider = CFGGuider.execute(model, words, words, 2.0).result[0]
    sampler = comfy.samplers.sampler_object("dpmpp_2m")
    with torch.inference_mode():
        tokens = ForwardDiffusion.execute(Patchify.execute(latent, 1, 2, 2).result[0], Noise_RandomNoise(3), sigmas)
        start = tokens.result[0]
        whole = DenoiseStep.execute(start, guider, sampler, 0).result[0]
        for _ in range(3):
            start = DenoiseStep.execute(start, guider, sampler, 1).result[0]
    assert torch.equal(start.values, whole.values)


def test_the_host_makes_room_for_one_tile(monkeypatch):
    import comfy.sampler_helpers

    shapes = []
    plain = comfy.sampler_helpers._prepare_sampling
    monkeypatch.setattr(
        comfy.sampler_helpers,
        "_prepare_sampling",
        lambda model, shape, *rest, **named: shapes.append(tuple(shape)) or plain(model, shape, *rest, **named),
    )
    model, latent, sigmas, _ = second("spacetime")
    sample("spacetime", model, latent, sigmas)
    assert shapes == [(1, *SIZES["spacetime"])]


def test_a_second_node_takes_the_place_of_the_first():
    once = second("spacetime")[0]
    twice = second("spacetime", clip(), model=once, tile=0.5)[0]
    assert len(twice.get_wrappers("apply_model", "spacetime_tiles")) == 1


def test_what_cannot_have_a_second_pass_is_refused():
    from comfyui_spacetime.nodes import sockets

    with pytest.raises(ValueError, match="still to be generated"):
        second(latent={"samples": torch.zeros(1, *SIZES["spacetime"])})
    with pytest.raises(ValueError, match="the mask is empty"):
        second(mask=torch.zeros(1, 32, 64))
    loop = clip(**{sockets.LOOP: True})
    model, latent, sigmas, _ = second(latent=loop, rate=2)
    from comfyui_spacetime.nodes.host.model.levels import looped

    assert latent["samples"].shape[2] == 6
    with pytest.raises(ValueError, match="a loop of 6 latents cannot be cut in time"):
        sample("spacetime", looped(model), latent, sigmas)


def test_sound_goes_along_with_more_frames():
    from comfyui_spacetime.models.media.sound import Sound
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.host.vae.sound import Carried, kept

    sound = Sound.of_samples(torch.randn(1, 4000).clamp(-1, 1).numpy(), 16000)
    given = clip(**{sockets.SOUND: Carried(sound, 12.0, 3)})
    _, latent, _, fps = second(latent=given, rate=2)
    assert kept(latent, latent["samples"], fps)[0] == sound


@pytest.mark.parametrize("rate", [1, 2])
def test_with_the_vae_frames_are_enlarged(tiny_objects, rate):
    model, _, vae = tiny_objects
    given = {"samples": torch.randn(2, 16, 3, 4, 8, generator=torch.Generator().manual_seed(0))}
    _, latent, _, _ = second(latent=given, model=model, rate=rate, vae=vae)
    assert latent["samples"].shape[2:] == (1 + 2 * rate, 8, 16)
    if rate == 1:
        frames = vae.decode(given["samples"][:1])[0].movedim(-1, 1)
        large = torch.nn.functional.interpolate(frames, scale_factor=2, mode="bicubic").movedim(1, -1).clamp(0, 1)
        torch.testing.assert_close(latent["samples"][:1], vae.encode(large), atol=1e-4, rtol=1e-4)
