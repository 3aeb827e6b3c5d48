"""History guidance: what the model is shown, what becomes of its answers, and which models can have it."""

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.guidance import hidden_history, history_guidance
from comfyui_spacetime.models.tasks.levels import LEVELS

SIZE = (1, 16, 4, 8, 8)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def known_first() -> Tensor:
    """The first frame is known."""
    mask = torch.ones(1, 1, 4, 8, 8)
    mask[:, :, 0] = 0
    return mask


@pytest.fixture
def sample(tiny_objects):
    """sample(model, mask, steps): one run from noise beside a known clip, by core's sampler."""
    from nodes import CLIPTextEncode

    conditions = [CLIPTextEncode().encode(tiny_objects[1], text)[0] for text in ("a red ball falls", "")]

    def run(model, mask=None, *, steps: int = 1, cfg: float = 3.0) -> Tensor:
        import comfy.samplers

        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*conditions)
        guider.set_cfg(cfg)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
        with torch.inference_mode():
            return guider.sample(
                normal(*SIZE),
                normal(*SIZE, seed=1),
                comfy.samplers.sampler_object("euler"),
                sigmas,
                denoise_mask=mask,
                disable_pbar=True,
                seed=1,
            )

    return run


@pytest.fixture
def fresh(tiny_checkpoint):
    """A MODEL of its own, for tests that hang hooks into it."""
    from comfyui_spacetime.nodes.loaders import LoadCheckpoint

    return LoadCheckpoint.execute(tiny_checkpoint, "fp32").result[0]


def guided(model, scale: float):
    from comfyui_spacetime.nodes.guidance import HistoryGuidance

    return HistoryGuidance.execute(model, scale).result[0]


def test_known_places_become_noise_at_level_1_and_others_stay():
    x, noise, change = normal(2, 3, 4), normal(2, 3, 4, seed=1), torch.tensor([[0.0, 0.3, 1.0, 0.0]])[:, None]
    sigma = torch.tensor([0.5, 0.8])
    state, hidden = hidden_history(x, change, sigma, noise)
    torch.testing.assert_close(state[..., [0, 3]], noise[..., [0, 3]])
    torch.testing.assert_close(state[..., 1:3], x[..., 1:3])
    levels = hidden * sigma[:, None, None]
    torch.testing.assert_close(levels, torch.tensor([[[1, 0.15, 0.5, 1]], [[1, 0.24, 0.8, 1]]]))


def test_the_formula_adds_the_difference_and_keeps_the_dtype():
    total, cond, without = normal(3, 2, 4).bfloat16()
    assert torch.equal(history_guidance(total, cond, without, 0), total)
    assert torch.equal(history_guidance(total, cond, cond, 5), total)
    expected = total.float() + 2 * (cond.float() - without.float())
    made = history_guidance(total, cond, without, 2)
    assert made.dtype == torch.bfloat16
    torch.testing.assert_close(made.float(), expected, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("levels", LEVELS)
def test_the_dit_sees_the_known_frames_and_then_noise_in_their_place(fresh, sample, levels):
    from comfyui_spacetime.nodes.host.model.levels import with_levels

    seen: list[tuple[Tensor, Tensor]] = []
    network = fresh.get_model_object("diffusion_model")
    network.register_forward_pre_hook(lambda _, args: seen.append((args[1][0].clone(), args[0][0].clone())))
    sample(with_levels(guided(fresh, 1.0), levels), known_first(), steps=2)
    assert len(seen) == 4, "two prompts in one batch, then one more, at two steps"
    for (shown, state), (hidden, other) in (seen[:2], seen[2:]):
        sigma = float(shown[1])
        assert shown.tolist() == pytest.approx([0, sigma, sigma, sigma], abs=1e-6)
        assert hidden.tolist() == pytest.approx([1, sigma, sigma, sigma], abs=1e-6)
        torch.testing.assert_close(state[:, 0], normal(*SIZE, seed=1)[0, :, 0], atol=1e-5, rtol=1e-5)
        assert torch.corrcoef(torch.stack([other[:, 0].flatten(), state[:, 0].flatten()]))[0, 1].abs() < 0.2
        torch.testing.assert_close(other[:, 1:], state[:, 1:])


def test_one_step_moves_in_proportion_to_the_scale_and_known_frames_stay(tiny_objects, sample):
    model, mask = tiny_objects[0], known_first()
    plain, half, whole = (sample(guided(model, scale), mask) for scale in (0, 0.5, 1.0))
    torch.testing.assert_close(plain, sample(model, mask), atol=0, rtol=0)
    assert (whole - plain)[:, :, 1:].abs().mean() > 1e-3
    torch.testing.assert_close(whole - plain, 2 * (half - plain), atol=1e-4, rtol=1e-3)
    for made in (plain, half, whole):
        torch.testing.assert_close(made[:, :, 0], normal(*SIZE, seed=1)[:, :, 0], atol=1e-5, rtol=0)


def test_nothing_known_changes_nothing_and_a_second_node_replaces_the_first(tiny_objects, sample):
    model, mask = tiny_objects[0], known_first()
    assert torch.equal(sample(guided(model, 2.0)), sample(model))
    assert torch.equal(sample(guided(model, 2.0), torch.ones(1, 1, 4, 8, 8)), sample(model, torch.ones(1, 1, 4, 8, 8)))
    assert torch.equal(sample(guided(guided(model, 2.0), 0.5), mask), sample(guided(model, 0.5), mask))
    assert torch.equal(sample(guided(guided(model, 2.0), 0), mask), sample(model, mask))


def test_it_works_under_our_guider(tiny_objects, sample):
    """Where cfg is 1 and only one prediction is made as well."""
    import comfy.samplers

    from comfyui_spacetime.nodes.guidance import Guider
    from nodes import CLIPTextEncode

    model = guided(tiny_objects[0], 1.0)
    positive = CLIPTextEncode().encode(tiny_objects[1], "a red ball falls")[0]
    guider = Guider.execute(model, positive, 1.0, "cfg", "percent", 0, 1, 0.7, 0, 0, 1).result[0]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 3)
    with torch.inference_mode():
        made = guider.sample(
            normal(*SIZE),
            normal(*SIZE, seed=1),
            comfy.samplers.sampler_object("euler"),
            sigmas,
            denoise_mask=known_first(),
            disable_pbar=True,
            seed=1,
        )
    assert torch.equal(made, sample(model, known_first(), steps=3, cfg=1.0))
    assert not torch.allclose(made, sample(tiny_objects[0], known_first(), steps=3, cfg=1.0), atol=1e-3)


def test_ltx_video_sees_noise_too_and_wan_is_refused(comfy_host, one_thread):
    from comfyui_spacetime.tools.bench import exactness, tiny_models

    with pytest.raises(ValueError, match="one noise level for the whole video"):
        guided(tiny_models.model("wan"), 0.5)
    model = guided(tiny_models.tiny_ltx(), 1.0)
    seen: list[Tensor] = []
    model.model.diffusion_model.register_forward_pre_hook(lambda _, args: seen.append(args[1].flatten(1)[0].clone()))
    guider, latent = exactness.cfg_guider(model, "ltx"), tiny_models.latent("ltx", masked=True)
    exactness.core_run(guider, exactness.sampler("euler"), exactness.schedule(guider)[:2], latent)
    shown, hidden = seen
    assert shown[:4].tolist() == [0] * 4  # the first of three frames of 2 x 2
    assert hidden[:4].tolist() == pytest.approx([1] * 4, abs=1e-6)
    torch.testing.assert_close(hidden[4:], shown[4:])
