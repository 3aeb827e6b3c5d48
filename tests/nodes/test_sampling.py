"""Scheduler, Sampler and Guider in the real ComfyUI, on a small model of core's own class."""

import inspect
from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.usefixtures("comfy_host")

LATENT = (1, 16, 3, 4, 6)


@pytest.fixture
def model():
    """A core MODEL of flow type whose calls are counted in model.calls (batch sizes)."""
    import comfy.latent_formats
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models_base

    calls = []

    class Net(torch.nn.Module):
        def __init__(self, **_):
            super().__init__()
            self.dtype = torch.float32

        def forward(self, x, timesteps, context=None, **_):
            calls.append(x.shape[0])
            words = context.mean(dim=(1, 2)).reshape(-1, 1, 1, 1, 1)
            t = timesteps.reshape(-1, 1, 1, 1, 1) / 1000
            return torch.tanh(x + words + 0.2 * torch.roll(x, 1, -1)) * (0.5 + t)

    class Config(comfy.supported_models_base.BASE):
        unet_config = {"disable_unet_model_creation": False}  # noqa: RUF012 - core's own way to configure
        latent_format = comfy.latent_formats.Wan21
        sampling_settings = {"shift": 2.0}  # noqa: RUF012
        memory_usage_factor = 0.01

    config = Config({})
    core = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.FLOW, device="cpu", unet_model=Net)
    patcher = comfy.model_patcher.ModelPatcher(core, torch.device("cpu"), torch.device("cpu"))
    patcher.calls = calls
    return patcher


def prompt(value):
    return [[torch.full((1, 4, 8), value), {}]]


def noise(seed=0):
    return torch.randn(LATENT, generator=torch.Generator().manual_seed(seed))


def run(guider, sampler, sigmas, **kwargs):
    return guider.sample(noise(), torch.zeros(LATENT), sampler, sigmas.clone(), seed=7, disable_pbar=True, **kwargs)


def core_guider(model, cfg=3.0):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(prompt(0.5), prompt(-0.5))
    guider.set_cfg(cfg)
    return guider


def our_guider(model, negative=True, **settings):
    from comfyui_spacetime.models.guidance import Guidance
    from comfyui_spacetime.nodes.host.sampling import make_guider

    return make_guider(model, prompt(0.5), prompt(-0.5) if negative else None, Guidance(**settings))


def our_sampler(**settings):
    from comfyui_spacetime.models.solvers import Solver
    from comfyui_spacetime.nodes.host.sampling import solver_sampler

    return solver_sampler(Solver(**settings))


def our_sigmas(steps=8, **settings):
    from comfyui_spacetime.models.schedules import sigmas

    return sigmas("linear", steps, shift=2.0, **settings)


def solver_names():
    from comfyui_spacetime.models.solvers import SOLVERS

    return list(SOLVERS)


# --- Sampler ---


@pytest.mark.parametrize("name", solver_names())
def test_a_solver_in_the_host_is_the_solver_of_the_library(model, name):
    from comfyui_spacetime.models import solvers

    guider = core_guider(model)
    seen = []
    hosted = run(guider, our_sampler(name=name), our_sigmas(), callback=lambda i, *_: seen.append(i))
    assert seen == list(range(8))

    def denoiser(x, sigma):
        t = sigma.reshape(-1, 1, 1, 1, 1)
        positive, negative = (torch.tanh(x + w + 0.2 * torch.roll(x, 1, -1)) * (0.5 + t) for w in (0.5, -0.5))
        return x - t * (negative + 3.0 * (positive - negative))

    solver = solvers.Solver(name=name)
    alone = solvers.sample(solver, denoiser, noise(), our_sigmas(), generator=solvers.noise_generator(7))
    format_ = model.model.latent_format
    torch.testing.assert_close(hosted, format_.process_out(alone), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_euler_and_heun_equal_cores(model, name):
    import comfy.samplers

    ours = run(core_guider(model), our_sampler(name=name), our_sigmas())
    core = run(core_guider(model), comfy.samplers.ksampler(name), our_sigmas())
    torch.testing.assert_close(ours, core, rtol=0, atol=2e-4)


def test_euler_ancestral_equals_cores_with_the_same_noise():
    from comfy.k_diffusion import sampling as k_diffusion

    from comfyui_spacetime.models import solvers

    def denoiser(x, sigma):
        return torch.tanh(x) * 0.5

    # newer hosts ask the model how strong its noise is, and take 1 where it does not say
    patcher = SimpleNamespace(get_model_object=lambda _name: object())
    denoiser.inner_model = SimpleNamespace(model_patcher=patcher)
    for eta in (0.4, 1.0):
        draw = solvers.noise_generator(7)
        core = k_diffusion.sample_euler_ancestral_RF(
            denoiser,
            noise(),
            our_sigmas(),
            eta=eta,
            noise_sampler=lambda *_: torch.randn(LATENT, generator=draw),  # noqa: B023 - used at once
            disable=True,
        )
        solver = solvers.Solver(name="euler_ancestral", eta=eta)
        ours = solvers.sample(solver, denoiser, noise(), our_sigmas(), generator=solvers.noise_generator(7))
        torch.testing.assert_close(ours, core, rtol=0, atol=1e-5)


def test_dpmpp_2m_equals_cores_in_coordinates_where_the_signal_is_constant():
    """x / (1 - sigma) turns our path into core's native one, x0 + sigma' noise with sigma' = sigma / (1 - sigma)."""
    from comfy.k_diffusion import sampling as k_diffusion

    from comfyui_spacetime.models import solvers

    def denoiser(x, sigma):
        return torch.tanh(x) * (1 - 0.5 * sigma.reshape(-1, 1, 1, 1, 1))

    def native(x, sigma):
        ours = sigma / (1 + sigma)  # of a variance-exploding level
        return denoiser(x * (1 - ours.reshape(-1, 1, 1, 1, 1)), ours)

    sigmas = our_sigmas(12, sigma_max=0.95).double()
    x = noise().double()
    core = k_diffusion.sample_dpmpp_2m(native, x / 0.05, sigmas / (1 - sigmas), disable=True)
    ours = solvers.sample(solvers.Solver(name="dpmpp_2m"), denoiser, x, sigmas)
    torch.testing.assert_close(ours, core, rtol=0, atol=1e-4)


def test_a_mask_keeps_what_it_should(model):
    latent = noise(3)
    mask = torch.ones(1, 1, *LATENT[2:])
    mask[:, :, 0] = 0
    for name in solver_names():
        result = our_guider(model, scale=3.0).sample(
            noise(), latent, our_sampler(name=name), our_sigmas(), denoise_mask=mask, seed=7, disable_pbar=True
        )
        torch.testing.assert_close(result[:, :, 0], latent[:, :, 0], rtol=0, atol=1e-5)
        assert (result[:, :, 1:] - latent[:, :, 1:]).abs().mean() > 0.1


def test_an_interrupt_ends_the_run_at_the_next_call(model):
    import comfy.model_management

    def cancel(step, *_):
        if step == 2:
            raise comfy.model_management.InterruptProcessingException

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(core_guider(model), our_sampler(name="unipc"), our_sigmas(), callback=cancel)
    assert len(model.calls) == 3


def test_a_model_with_another_noise_scale_is_refused(model):
    import comfy.model_base

    model.model.model_sampling = comfy.model_base.model_sampling(
        SimpleNamespace(sampling_settings={}, unet_config={}), comfy.model_base.ModelType.EPS
    )
    with pytest.raises(ValueError, match="KSamplerSelect"):
        run(core_guider(model), our_sampler(name="euler"), our_sigmas())


# --- Guider ---


def test_plain_cfg_is_cores_guider_bit_for_bit(model):
    import comfy.samplers

    for name in ("euler", "dpmpp_2m", "euler_ancestral_cfg_pp"):
        sampler = comfy.samplers.ksampler(name)
        ours = run(our_guider(model, scale=3.0), sampler, our_sigmas())
        assert torch.equal(ours, run(core_guider(model), sampler, our_sigmas()))


def test_both_prompts_run_in_one_batch_and_one_alone_outside_the_interval(model):
    run(our_guider(model, scale=3.0, unit="sigma", start=0.8, end=0.5), our_sampler(name="euler"), our_sigmas())
    sigmas = our_sigmas()[:-1].tolist()
    assert model.calls == [2 if 0.5 < sigma <= 0.8 else 1 for sigma in sigmas]
    assert 1 < model.calls.count(2) < 8


def test_an_interval_in_percent_follows_the_model(model):
    run(our_guider(model, scale=3.0, start=0.25, end=0.75), our_sampler(name="euler"), our_sigmas())
    # a quarter of eight steps is two; the schedule has the model's own shift, and ends belong to the interval's start
    assert model.calls == [1, 1, 2, 2, 2, 2, 1, 1]


def test_outside_the_interval_the_result_is_that_of_no_guidance(model):
    plain = run(core_guider(model, cfg=1.0), our_sampler(name="euler"), our_sigmas())
    empty = our_guider(model, scale=3.0, unit="sigma", start=0.01, end=0.0)
    assert torch.equal(run(empty, our_sampler(name="euler"), our_sigmas()), plain)


@pytest.mark.parametrize("mode", ["rescale", "apg", "cfg_zero_star"])
def test_modes_differ_from_plain_cfg_and_agree_at_scale_one(model, mode):
    sampler, settings = our_sampler(name="euler"), {"mode": mode, "zero_steps": 0}
    plain = run(our_guider(model, scale=3.0), sampler, our_sigmas())
    assert (run(our_guider(model, scale=3.0, **settings), sampler, our_sigmas()) - plain).abs().max() > 1e-3
    alone = run(our_guider(model, scale=1.0), sampler, our_sigmas())
    assert torch.equal(run(our_guider(model, scale=1.0, **settings), sampler, our_sigmas()), alone)


def test_a_mode_applies_its_formula_to_the_models_predictions(model):
    from comfyui_spacetime.models.guidance import Guidance

    guider = our_guider(model, mode="cfg_zero_star", scale=4.0, zero_steps=0)
    seen = {}

    def watch(args):
        seen.update(args)
        return args["denoised"]

    guider.model_options = {**guider.model_options, "sampler_post_cfg_function": [watch]}
    run(guider, our_sampler(name="euler"), our_sigmas(2))
    settings = Guidance(mode="cfg_zero_star", scale=4.0)
    expected = settings.combine(seen["cond_denoised"], seen["uncond_denoised"], seen["input"])
    torch.testing.assert_close(seen["denoised"], expected, rtol=0, atol=1e-5)


def test_zero_steps_cost_no_model_call_and_stand_still(model):
    guider = our_guider(model, mode="cfg_zero_star", scale=3.0, zero_steps=2)
    states = []
    run(guider, our_sampler(name="euler"), our_sigmas(), callback=lambda *about: states.append(about[2].clone()))
    assert len(model.calls) == 6
    torch.testing.assert_close(states[2], states[0])
    assert (states[3] - states[2]).abs().max() > 1e-3


def test_the_negative_prompt_may_be_absent_only_without_guidance(model):
    with pytest.raises(ValueError, match="connect `negative`"):
        our_guider(model, negative=False, scale=3.0)
    alone = run(our_guider(model, negative=False), our_sampler(name="euler"), our_sigmas())
    assert torch.equal(alone, run(core_guider(model, cfg=1.0), our_sampler(name="euler"), our_sigmas()))


# --- Scheduler ---


def test_schedules_equal_cores(model):
    import comfy.samplers
    from comfy.k_diffusion import sampling as k_diffusion

    from comfyui_spacetime.models import schedules

    sampling = SimpleNamespace(sigma_max=torch.tensor(1.0))
    for steps in (1, 7, 20):
        core = comfy.samplers.linear_quadratic_schedule(sampling, steps)
        torch.testing.assert_close(schedules.sigmas("linear_quadratic", steps), core)
    torch.testing.assert_close(schedules.sigmas("karras", 20), k_diffusion.get_sigmas_karras(20, 0.001, 1.0))
    torch.testing.assert_close(schedules.sigmas("exponential", 20), k_diffusion.get_sigmas_exponential(20, 0.001, 1.0))
    flow = comfy.samplers.calculate_sigmas(model.model.model_sampling, "beta", 20)  # rounds to 1000 levels
    torch.testing.assert_close(schedules.sigmas("beta", 20, shift=2.0), flow, rtol=0, atol=4e-3)
    flow = comfy.samplers.calculate_sigmas(model.model.model_sampling, "simple", 20)
    torch.testing.assert_close(schedules.sigmas("linear", 20, shift=2.0), flow, rtol=0, atol=2e-3)


def test_the_scheduler_shows_what_it_gives(model):
    from comfyui_spacetime.nodes.sampling import Scheduler

    output = Scheduler.execute("karras", 10, "fixed", 2.0, 1.0, 1.0)
    assert output.ui["spacetime_curve"] == output.args[0].tolist()
    assert output.ui["spacetime_note"] == ["shift 2"]


def test_automatic_shift_counts_the_patches(model):
    from comfyui_spacetime.models import schedules
    from comfyui_spacetime.models.patches import patchify
    from comfyui_spacetime.nodes.sampling import Scheduler, count_tokens

    latent = {"samples": torch.zeros(1, 16, 9, 12, 12)}
    assert count_tokens(latent) == 324
    assert count_tokens(patchify(latent["samples"])) == 324
    assert count_tokens({"samples": torch.zeros(1, 128, 9, 12, 12)}) == 9 * 144
    assert count_tokens({"samples": torch.zeros(1, 4, 64, 64)}) == 1024
    output = Scheduler.execute("linear", 10, "auto_ltx", 1.0, 1.0, 1.0, latent)
    assert torch.equal(output.args[0], schedules.sigmas("linear", 10, shift=schedules.ltx_shift(324)))
    assert output.ui["spacetime_note"][0].endswith("for 324 tokens")
    with pytest.raises(ValueError, match="connect `video`"):
        Scheduler.execute("linear", 10, "auto_ltx", 1.0, 1.0, 1.0)


def test_the_editor_gets_the_same_curve_and_readable_errors(model):
    from comfyui_spacetime.nodes.sampling import Scheduler, curve_for

    query = {"schedule": "beta", "steps": "12", "shift": "3.5", "denoise": "0.5", "sigma_max": "1"}
    assert curve_for(query)["sigmas"] == Scheduler.execute("beta", 12, "fixed", 3.5, 0.5, 1.0).args[0].tolist()
    with pytest.raises(ValueError, match="unknown schedule"):
        curve_for({"schedule": "magic"})
    with pytest.raises(ValueError, match="steps"):
        curve_for({"steps": "-1"})


# --- all three ---


def test_inputs_are_the_parameters_and_all_are_explained(model):
    from comfyui_spacetime.nodes import guidance, sampling

    for node in [*sampling.NODES, *guidance.NODES]:
        schema = node.GET_SCHEMA()
        parameters = list(inspect.signature(node.execute).parameters)
        assert {each.id for each in schema.inputs} == set(parameters)
        assert all(each.tooltip for each in [*schema.inputs, *schema.outputs])
        assert schema.description
        assert schema.node_id.startswith("Spacetime")
