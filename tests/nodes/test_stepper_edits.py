"""What happens to a run when tokens, mask or sampler change between its steps, and what bad input gets."""

from dataclasses import replace

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness
from comfyui_spacetime.tools.bench.exactness import cfg_guider, noised, schedule, step
from comfyui_spacetime.tools.bench.tiny_models import latent, model

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")


@pytest.fixture(params=["heun", "dpmpp_2m_sde", "uni_pc", "res_multistep_cfg_pp", "dpm_adaptive", "spacetime unipc"])
def chosen(request):
    return exactness.sampler(request.param)


def test_edit_starts_anew_from_the_edited_x(chosen) -> None:
    """Untouched values continue; edited ones are core's run of the remaining sigmas from the edited x."""
    guider, given = cfg_guider(model("spacetime"), "spacetime"), latent("spacetime")
    tokens = step(noised(given, schedule(guider)), guider, chosen, 2)
    unchanged = step(tokens.with_values(tokens.values.clone()), guider, chosen, 1)
    assert unchanged.trajectory.note == ""
    values = tokens.values.clone()
    values[:, 0] = 0
    edited = step(tokens.with_values(values), guider, chosen, 0)
    assert edited.trajectory.note == "new trajectory: tokens edited"
    assert edited.trajectory.done
    assert not torch.equal(edited.values, step(tokens, guider, chosen, 0).values)
    assert edited.trajectory.schedule.whole.equal(tokens.trajectory.schedule.whole), (
        "the model still sees the whole schedule"
    )


def test_edited_run_is_an_euler_run_from_there() -> None:
    """Against plain arithmetic: Euler from the edited x over the remaining sigmas, on a Wan's own latent scale."""
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    sigmas = schedule(guider)
    tokens = step(noised(given, sigmas), guider, exactness.sampler("euler"), 2)
    edited = tokens.with_values(tokens.values * 1.25 + 0.1)
    from comfyui_spacetime.models.patches import unpatchify

    core_model = guider.model_patcher.model
    x = core_model.process_latent_in(unpatchify(edited))
    start = sigmas[2]
    # core itself begins at (1 - sigma) * latent + sigma * noise: choose a noise that makes this x
    out = guider.sample(x / start, torch.zeros_like(x), exactness.sampler("euler"), sigmas[2:].clone(), seed=0)
    ours = unpatchify(step(edited, guider, exactness.sampler("euler"), 0))
    assert torch.allclose(ours, out, atol=1e-4)


def test_edit_before_the_first_step_changes_the_noise(chosen) -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    sigmas = schedule(guider, 8)[2:]
    one, other = noised(given, sigmas, seed=1), noised(given, sigmas, seed=2)
    as_other = step(one.with_values(other.values), guider, exactness.sampler("euler"), 0)
    assert torch.allclose(as_other.values, step(other, guider, exactness.sampler("euler"), 0).values, atol=1e-4)


def test_another_sampler_goes_on_from_the_present_x() -> None:
    guider, given = cfg_guider(model("spacetime"), "spacetime"), latent("spacetime", masked=True)
    sigmas = schedule(guider)
    for first, second in (("euler", "dpmpp_2m"), ("heun", "spacetime unipc"), ("spacetime euler", "uni_pc")):
        made = exactness.samplers()
        tokens = step(noised(given, sigmas), guider, made[first], 2)
        tokens = step(tokens, guider, made[second], 1)
        assert tokens.trajectory.note == "new trajectory: sampler changed"
        assert tokens.trajectory.position[0] == 3
        tokens = step(tokens, guider, made[second], 0)
        assert tokens.trajectory.done
        assert torch.isfinite(tokens.values).all()


def test_euler_of_core_and_euler_of_ours_can_take_turns() -> None:
    guider, given = cfg_guider(model("spacetime"), "spacetime"), latent("spacetime")
    made, tokens = exactness.samplers(), noised(given, schedule(guider))
    turns = step(
        step(step(tokens, guider, made["euler"], 2), guider, made["spacetime euler"], 1), guider, made["euler"], 0
    )
    assert torch.allclose(turns.values, step(tokens, guider, made["euler"], 0).values, atol=1e-4)


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m_sde", "res_multistep_cfg_pp", "spacetime unipc"])
def test_edited_mask_is_honoured(name: str) -> None:
    chosen = exactness.sampler(name)
    guider, given = cfg_guider(model("spacetime"), "spacetime"), latent("spacetime")
    tokens = step(noised(given, schedule(guider)), guider, chosen, 2)
    change = torch.ones(*tokens.values.shape[:2], 4)
    change[:, :4] = 0  # keep the first frame's four patches
    kept = step(replace(tokens, change=change), guider, chosen, 0)
    assert kept.trajectory.note == "new trajectory: mask or kept content edited"
    assert torch.allclose(kept.values[:, :4], tokens.reference[:, :4], atol=1e-3)
    assert not torch.allclose(kept.values[:, 4:], tokens.reference[:, 4:], atol=1e-2)


def test_complete_run_can_be_noised_again_and_is_left_alone_by_more_steps() -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    tokens = step(noised(given, schedule(guider)), guider, exactness.sampler("euler"), 0)
    assert step(tokens, guider, exactness.sampler("heun"), 5) is tokens
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.host.stepping.trajectory import begin

    again = begin(tokens, Noise_RandomNoise(3), schedule(guider)[2:])
    assert again.trajectory.position == (0, exactness.STEPS - 2)
    half = step(again, guider, exactness.sampler("euler"), 1)
    with pytest.raises(ValueError, match="in the middle of a run"):
        begin(half, Noise_RandomNoise(3), schedule(guider))


def test_bad_input_is_named() -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    tokens = noised(given, schedule(guider))
    with pytest.raises(ValueError, match="put Forward Diffusion before"):
        step(replace(tokens, trajectory=None), guider, exactness.sampler("euler"))
    with pytest.raises(ValueError, match="at least two sigmas, got 1"):
        noised(given, schedule(guider)[:1])
    few = {"samples": given["samples"][:, :4]}
    with pytest.raises(ValueError, match="latents of 16 channels, these tokens have 4"):
        step(noised(few, schedule(guider)), guider, exactness.sampler("euler"))
