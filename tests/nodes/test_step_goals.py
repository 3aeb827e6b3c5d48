"""A call of the step node that goes to a noise level: the same run, cut at that point."""

from types import SimpleNamespace

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness, tiny_models
from comfyui_spacetime.tools.bench.exactness import cfg_guider, core_run, noised, same, schedule, step
from comfyui_spacetime.tools.bench.tiny_models import latent, model

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
NAMES = ["euler", "heun", "dpmpp_2m_sde", "uni_pc", "res_multistep_cfg_pp", "dpm_adaptive", "spacetime unipc"]


def go(tokens, guider, sampler, until="steps", value=0.5, steps=-1):
    from comfyui_spacetime.nodes.denoise import DenoiseStep

    return DenoiseStep.execute(tokens, guider, sampler, steps, until, value).result[0]


@pytest.mark.parametrize("name", NAMES)
def test_until_a_sigma_and_then_the_rest_is_the_whole_run(name):
    guider, given, chosen = cfg_guider(model("wan"), "wan"), latent("wan", masked=True), exactness.sampler(name)
    sigmas = schedule(guider, 8)
    reference = core_run(guider, chosen, sigmas, given)
    part = go(noised(given, sigmas), guider, chosen, "sigma", float(sigmas[3]))
    assert part.trajectory.sigma <= float(sigmas[3])
    if name != "dpm_adaptive":  # it has levels of its own
        assert part.trajectory.sigma == pytest.approx(float(sigmas[3]), rel=1e-5)
        assert part.trajectory.position == (3, 8)
    end = go(part, guider, chosen)
    assert torch.equal(exactness.laid(end), reference[0])


@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "spacetime unipc"])
def test_percent_is_counted_as_for_prompts(name):
    guider, chosen = cfg_guider(model("wan"), "wan"), exactness.sampler(name)
    sigmas = schedule(guider, 8)
    level = guider.model_patcher.get_model_object("model_sampling").percent_to_sigma(0.4)
    part = go(noised(latent("wan"), sigmas), guider, chosen, "percent", 0.4)
    assert part.trajectory.position[0] == int((sigmas[:-1] > level).sum())


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "uni_pc", "res_multistep", "spacetime unipc"])
def test_two_experts_in_one_run(name):
    """The first expert to the boundary, the second from there, equals a core run of a model that switches inside.

    For samplers with one call of the model a step. Those with two make a step whole by one expert here, while that
    model would switch between the two calls.
    """
    first, second, chosen = model("wan"), tiny_models.tiny_wan(seed=7), exactness.sampler(name)
    given = latent("wan")
    sigmas = schedule(cfg_guider(first, "wan"), 8)
    boundary = 0.875
    assert float(sigmas[0]) > boundary > float(sigmas[-2])

    def switching(apply, args):
        late = float(args["timestep"].max()) < boundary
        return (second.model.apply_model if late else apply)(args["input"], args["timestep"], **args["c"])

    both = first.clone()
    both.set_model_unet_function_wrapper(switching)
    reference = core_run(cfg_guider(both, "wan"), chosen, sigmas, given)
    half = go(noised(given, sigmas), cfg_guider(first, "wan"), chosen, "model's boundary")
    assert half.trajectory.sigma < boundary
    assert go(half, cfg_guider(first, "wan"), chosen, "model's boundary") is half, "it is below already"
    end = go(half, cfg_guider(second, "wan"), chosen)
    assert not end.trajectory.note
    assert same((exactness.laid(end), end.trajectory.denoised), reference)


def test_bad_goals_are_one_sentence_and_lose_nothing():
    guider, chosen = cfg_guider(model("wan"), "wan"), exactness.sampler("euler")
    tokens = step(noised(latent("wan"), schedule(guider)), guider, chosen, 2)
    with pytest.raises(ValueError, match=r"does not go back up to 0\.99"):
        go(tokens, guider, chosen, "sigma", 0.99)
    with pytest.raises(ValueError, match="percent counts from 0"):
        go(tokens, guider, chosen, "percent", 40.0)
    ours = cfg_guider(model("spacetime"), "spacetime")
    with pytest.raises(ValueError, match="no boundary between two experts is known"):
        go(noised(latent("spacetime"), schedule(ours)), ours, chosen, "model's boundary")
    assert go(tokens, guider, chosen).trajectory.done


@pytest.mark.parametrize(("in_dim", "level"), [(16, 0.875), (36, 0.9), (48, None)])
def test_boundaries_of_wan(in_dim, level):
    from comfyui_spacetime.nodes.host.stepping.goal import boundary_of

    config = SimpleNamespace(unet_config={"image_model": "wan2.1", "model_type": "t2v", "in_dim": in_dim})
    patcher = SimpleNamespace(model=SimpleNamespace(model_config=config))
    if level is None:
        with pytest.raises(ValueError, match="no boundary"):
            boundary_of(patcher)
    else:
        assert boundary_of(patcher) == level
