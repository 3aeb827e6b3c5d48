"""Editing tasks on core's samplers: kept patches stay, levels mean what they say, loops have no beginning."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.tasks.levels import LEVELS

SIZE = (1, 16, 4, 8, 8)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def conditions(tiny_objects) -> tuple:
    from nodes import CLIPTextEncode

    return tuple(CLIPTextEncode().encode(tiny_objects[1], text)[0] for text in ("a red ball falls", ""))


@pytest.fixture
def run(conditions) -> Callable[..., Tensor]:
    """run(model, noise, latents, mask, steps): what core's sampler makes of it."""

    def sample(
        model, noise: Tensor, latents: Tensor, mask: Tensor | None = None, *, steps: int = 5, name: str = "euler"
    ):
        import comfy.samplers

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*conditions)
        guider.set_cfg(3.0)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
        with torch.inference_mode():
            return guider.sample(
                noise,
                latents,
                comfy.samplers.sampler_object(name),
                sigmas,
                denoise_mask=mask,
                disable_pbar=True,
                seed=1,
            )

    return sample


def watch_levels(model) -> list[Tensor]:
    """The noise levels that the DiT itself is given from now on (first of the batch)."""
    seen: list[Tensor] = []
    network = model.get_model_object("diffusion_model")
    network.register_forward_pre_hook(lambda _, args: seen.append(args[1][0].float().clone()))
    return seen


@pytest.fixture
def fresh(tiny_checkpoint):
    """A MODEL of its own, for tests that hang hooks into it."""
    from comfyui_spacetime.nodes.loaders import LoadCheckpoint

    return LoadCheckpoint.execute(tiny_checkpoint, "fp32").result[0]


# -- a mask reaches the DiT as a noise level per patch -------------------------------------------


def test_a_mask_over_frames_becomes_a_noise_level_per_frame(fresh, run):
    seen = watch_levels(fresh)
    mask = torch.ones(1, 1, 4, 8, 8)
    mask[:, :, 0] = 0
    run(fresh, normal(*SIZE), normal(*SIZE, seed=1), mask, steps=2)
    assert seen[0].shape == (4,)
    assert seen[0].tolist() == [0, 1, 1, 1]
    assert seen[1][0] == 0
    assert 0 < float(seen[1][1]) < 1


def test_a_mask_in_space_becomes_a_noise_level_per_patch(fresh, run):
    seen = watch_levels(fresh)
    mask = torch.zeros(1, 1, 4, 8, 8)
    mask[..., 4:] = 1
    run(fresh, normal(*SIZE), normal(*SIZE, seed=1), mask, steps=1)
    assert seen[0].reshape(4, 4, 4)[0].tolist() == [[0, 0, 1, 1]] * 4


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_kept_patches_come_back_unchanged(tiny_objects, run, levels, name):
    from comfyui_spacetime.nodes.host.model.levels import with_levels

    known = normal(*SIZE, seed=1)
    mask = torch.ones(1, 1, 4, 8, 8)
    mask[:, :, :2] = 0
    mask[:, :, 2] = 0.5
    out = run(with_levels(tiny_objects[0], levels), normal(*SIZE), known, mask, name=name)
    assert torch.allclose(out[:, :, :2], known[:, :, :2], atol=1e-5)
    assert (out[:, :, 2:] - known[:, :, 2:]).abs().mean() > 0.05


# -- what levels between 0 and 1 mean ---------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", LEVELS)
def test_the_dit_is_given_the_levels_that_the_mode_says(fresh, run, levels):
    import comfy.samplers

    from comfyui_spacetime.models.tasks.levels import seen_change
    from comfyui_spacetime.nodes.host.model.levels import with_levels

    seen = watch_levels(fresh)
    mask = torch.tensor([0.0, 0.4, 0.7, 1.0]).reshape(1, 1, 4, 1, 1).expand(1, 1, 4, 8, 8)
    model = with_levels(fresh, levels)
    run(model, normal(*SIZE), normal(*SIZE, seed=1), mask, steps=6)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 6)
    for sigma, given in zip(sigmas[:-1], seen, strict=True):
        assert torch.allclose(given, sigma * seen_change(mask[0, 0, :, 0, 0], sigma, levels), atol=1e-5)


def test_a_gate_at_a_sigma_of_the_schedule_is_sdedit(tiny_objects, run):
    """All places at one level m on the schedule: the run equals one that begins there from the noised reference."""
    import comfy.samplers

    from comfyui_spacetime.nodes.host.model.levels import with_levels

    model, noise, known = tiny_objects[0], normal(*SIZE), normal(*SIZE, seed=1)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 5)
    begin = 2
    mask = torch.full((1, 1, 4, 8, 8), float(sigmas[begin]))
    gated = run(with_levels(model, "gate"), noise, known, mask)
    clamped = run(with_levels(model, "clamp"), noise, known, mask)
    original = comfy.samplers.calculate_sigmas
    comfy.samplers.calculate_sigmas = lambda *args: original(*args)[begin:]
    try:
        sdedit = run(model, noise, known)
    finally:
        comfy.samplers.calculate_sigmas = original
    assert torch.allclose(gated, sdedit, atol=1e-4)
    assert torch.allclose(clamped, sdedit, atol=1e-4)


def test_scale_is_what_the_model_does_by_itself(tiny_objects, run):
    from comfyui_spacetime.nodes.host.model.levels import with_levels

    mask = torch.full((1, 1, 4, 8, 8), 0.5)
    noise, known = normal(*SIZE), normal(*SIZE, seed=1)
    changed_and_back = with_levels(with_levels(tiny_objects[0], "clamp"), "scale")
    assert torch.equal(run(changed_and_back, noise, known, mask), run(tiny_objects[0], noise, known, mask))


# -- loops ----------------------------------------------------------------------------------------


def test_a_loop_of_ours_has_no_beginning(tiny_objects, run):
    """Rolled noise gives the rolled video: no place on the circle is special."""
    from comfyui_spacetime.nodes.host.model.levels import looped

    loop = looped(tiny_objects[0])
    noise = normal(1, 16, 5, 8, 8)
    plain = run(loop, noise, torch.zeros_like(noise))
    for shift in (1, 3):
        rolled = run(loop, noise.roll(shift, dims=2), torch.zeros_like(noise))
        assert (rolled - plain.roll(shift, dims=2)).abs().max() <= 1e-5
    ordinary = run(tiny_objects[0], noise.roll(1, dims=2), torch.zeros_like(noise))
    assert (ordinary - run(tiny_objects[0], noise, torch.zeros_like(noise)).roll(1, dims=2)).abs().max() > 1e-2


def test_other_models_see_time_shifted_at_every_step(tiny_objects, run, monkeypatch):
    from comfyui_spacetime.nodes.host.model import levels as editing

    monkeypatch.setattr(editing, "is_ours", lambda _model: False)
    loop, shifts = editing.looped(tiny_objects[0], skip=2), []
    original = editing.loop_shift
    monkeypatch.setattr(editing, "loop_shift", lambda *args: shifts.append(original(*args)) or shifts[-1])
    noise = normal(1, 16, 5, 8, 8)
    known = normal(1, 16, 5, 8, 8, seed=1)
    mask = torch.ones(1, 1, 5, 8, 8)
    mask[:, :, 0] = 0
    out = run(loop, noise, known, mask, steps=4)
    assert shifts == [0, 2, 4, 1]
    assert torch.allclose(out[:, :, :1], known[:, :, :1], atol=1e-5)
    # with a model that looks at each frame alone, rolling there and back changes nothing
    assert not torch.equal(out, run(tiny_objects[0], noise, known, mask, steps=4))


@pytest.mark.parametrize("area", [10**9, 1])
def test_a_loop_decodes_the_same_from_any_frame_on(tiny_objects, monkeypatch, area):
    from comfyui_spacetime.nodes.host.vae import pieces as host_vae

    monkeypatch.setattr(host_vae, "PIECE_AREA", area)
    latents = normal(1, 16, 5, 4, 4)
    frames = torch.cat(list(host_vae.decode_pieces(tiny_objects[2], latents, cyclic=True)))
    rolled = torch.cat(list(host_vae.decode_pieces(tiny_objects[2], latents.roll(2, dims=2), cyclic=True)))
    assert frames.shape == (20, 32, 32, 3)
    assert torch.allclose(rolled, frames.roll(8, dims=0), atol=1e-5)


def test_another_vae_decodes_a_loop_with_the_frames_before_it(tiny_objects):
    from comfyui_spacetime.nodes.host.vae import pieces as host_vae

    class Other:
        """A core VAE as we find it: no streaming."""

        def decode(self, latents: Tensor) -> Tensor:
            return tiny_objects[2].decode(latents)

    latents = normal(1, 16, 5, 4, 4)
    frames = torch.cat(list(host_vae.decode_pieces(Other(), latents, cyclic=True)))
    exact = torch.cat(list(host_vae.decode_pieces(tiny_objects[2], latents, cyclic=True)))
    assert frames.shape == exact.shape
    # the lead-in of 4 latents is shorter than this decoder's memory, but only just
    assert torch.allclose(frames, exact, atol=2e-2)
