"""Single steps of any sampler are one run of core's SamplerCustomAdvanced, to the bit, whatever happens between."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness, tiny_models
from comfyui_spacetime.tools.bench.exactness import cfg_guider, core_run, noised, same, schedule, step, stepped

pytestmark = pytest.mark.usefixtures("comfy_host")
MODELS = ("wan", "ltx", "spacetime")


@cache
def model(name: str):
    return getattr(tiny_models, f"tiny_{name}")()


def latent(name: str, *, masked: bool = False, batch: int = 1) -> dict:
    plain = tiny_models.latent(name, batch)
    return tiny_models.with_mask(plain) if masked else plain


def sampler(name: str):
    import comfy.samplers

    return comfy.samplers.sampler_object(name)


class Evaluations:
    """Counts what the model is asked, on a clone of it."""

    def __init__(self, patcher) -> None:
        import comfy.patcher_extension

        self.count = 0
        self.model = patcher.clone()
        kind = comfy.patcher_extension.WrappersMP.APPLY_MODEL
        self.model.add_wrapper_with_key(kind, "count", self.wrapper)

    def wrapper(self, executor, *args, **kwargs):
        self.count += 1
        return executor(*args, **kwargs)

    def taken(self) -> int:
        count, self.count = self.count, 0
        return count


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize("name", MODELS)
def test_every_core_sampler(sampler_name: str, name: str, masked: bool) -> None:
    counter = Evaluations(model(name))
    guider, chosen, given = cfg_guider(counter.model, name), sampler(sampler_name), latent(name, masked=masked)
    sigmas = schedule(guider)
    reference, asked = core_run(guider, chosen, sigmas, given), counter.taken()
    for steps in (0, 1, 3):
        assert same(stepped(guider, chosen, sigmas, given, steps), reference), f"{steps} at a time"
        assert counter.taken() == asked, "a replay must not ask the model"


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m", "unipc", "euler_ancestral", "euler_sde"])
def test_every_solver_of_ours(solver: str, name: str, masked: bool) -> None:
    guider, chosen = cfg_guider(model(name), name), exactness.samplers()[f"spacetime {solver}"]
    sigmas, given = schedule(guider), latent(name, masked=masked)
    reference = core_run(guider, chosen, sigmas, given)
    for steps in (0, 1, 3):
        assert same(stepped(guider, chosen, sigmas, given, steps), reference)


CASES = ["heun", "dpmpp_2m_sde", "uni_pc", "res_multistep_cfg_pp", "dpm_adaptive", "spacetime unipc"]


@pytest.fixture(params=CASES)
def chosen(request):
    return exactness.samplers()[request.param]


def test_schedule_that_begins_late_or_ends_early(chosen) -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan", masked=True)
    for sigmas in (schedule(guider, 8)[3:], schedule(guider, 8)[:-2]):
        assert same(stepped(guider, chosen, sigmas, given), core_run(guider, chosen, sigmas, given))


def test_batch_of_two_cfg_1_and_basic_guider(chosen) -> None:
    from comfy_extras.nodes_custom_sampler import Guider_Basic

    basic = Guider_Basic(model("wan"))
    basic.set_conds(tiny_models.conditioning("wan", 1))
    given = latent("wan", masked=True, batch=2)
    for guider in (cfg_guider(model("wan"), "wan", cfg=1.0), basic):
        sigmas = schedule(guider, 4)
        assert same(stepped(guider, chosen, sigmas, given), core_run(guider, chosen, sigmas, given))


def test_steps_are_counted_and_predictions_are_core_s(chosen) -> None:
    """Step n of a run shows what core's preview shows at step n, and ends where core's next step begins."""
    guider, given = cfg_guider(model("spacetime"), "spacetime"), latent("spacetime")
    sigmas, shown = schedule(guider), []
    tokens = noised(given, sigmas)
    noise = torch.randn(given["samples"].shape, generator=torch.Generator().manual_seed(exactness.SEED))
    settings = {"seed": exactness.SEED, "callback": lambda *args: shown.append(args[1].clone())}
    guider.sample(noise, given["samples"], chosen, sigmas.clone(), **settings)
    seen = []
    while not tokens.trajectory.done:
        tokens = step(tokens, guider, chosen)
        seen.append(tokens.trajectory.denoised)
        assert tokens.trajectory.position[0] == len(seen)
    assert tokens.trajectory.position == (len(seen), len(seen))
    assert len(seen) == len(shown)
    for ours, core in zip(seen, shown, strict=True):
        assert torch.equal(ours, guider.model_patcher.model.process_latent_out(core))


def test_two_branches_from_one_state(chosen) -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan", masked=True)
    sigmas = schedule(guider)
    reference = core_run(guider, chosen, sigmas, given)
    fork = step(noised(given, sigmas), guider, chosen, 2)
    other = step(fork, cfg_guider(model("wan"), "wan", cfg=6.0), chosen, 0)
    same_again = step(fork, guider, chosen, 0)
    assert torch.equal(exactness.laid(same_again), reference[0])
    assert not torch.equal(exactness.laid(other), reference[0])


def test_rebuilt_guider_and_sampler_continue(chosen) -> None:
    """What a cache miss in the host does between two steps."""
    given = latent("ltx")
    sigmas = schedule(cfg_guider(model("ltx"), "ltx"))
    reference = core_run(cfg_guider(model("ltx"), "ltx"), chosen, sigmas, given)
    tokens = noised(given, sigmas)
    while not tokens.trajectory.done:
        tokens = step(tokens, cfg_guider(model("ltx"), "ltx"), rebuilt(chosen))
        assert not tokens.trajectory.note
    assert torch.equal(exactness.laid(tokens), reference[0])


def rebuilt(chosen):
    from comfyui_spacetime.nodes.host.stepping.trajectory import fingerprint

    return next(other for other in exactness.samplers().values() if fingerprint(other) == fingerprint(chosen))


def test_fingerprints_tell_samplers_apart() -> None:
    import comfy.samplers

    from comfyui_spacetime.nodes.host.stepping.trajectory import fingerprint

    prints = {name: fingerprint(one) for name, one in exactness.samplers().items()}
    twins = [name for name in prints if list(prints.values()).count(prints[name]) > 1]
    assert not twins
    assert prints == {name: fingerprint(one) for name, one in exactness.samplers().items()}
    tuned = comfy.samplers.ksampler("euler_ancestral", {"eta": 0.5})
    assert fingerprint(tuned) != prints["euler_ancestral"]


def test_interrupt_keeps_the_old_state(chosen, monkeypatch) -> None:
    import comfy.model_management as management

    guider, given = cfg_guider(model("wan"), "wan"), latent("wan", masked=True)
    sigmas = schedule(guider)
    reference = core_run(guider, chosen, sigmas, given)
    tokens = step(noised(given, sigmas), guider, chosen, 1)
    shown, calls = tokens.values.clone(), []

    def interrupt_later() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise management.InterruptProcessingException

    with monkeypatch.context() as patch:
        patch.setattr(management, "throw_exception_if_processing_interrupted", interrupt_later)
        with pytest.raises(management.InterruptProcessingException):
            step(tokens, guider, chosen, 0)
    assert torch.equal(tokens.values, shown)
    assert torch.equal(exactness.laid(step(tokens, guider, chosen, 0)), reference[0])
    assert same(core_run(guider, chosen, sigmas, given), reference)


def test_nan_is_one_sentence_and_the_state_is_kept(chosen) -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    sigmas = schedule(guider)
    reference = core_run(guider, chosen, sigmas, given)
    tokens = step(noised(given, sigmas), guider, chosen, 1)
    broken = guider.model_patcher.clone()
    broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    with pytest.raises(ValueError, match="holds NaN or infinite values"):
        step(tokens, cfg_guider(broken, "wan"), chosen, 1)
    assert torch.equal(exactness.laid(step(tokens, guider, chosen, 0)), reference[0])


def test_model_that_draws_random_numbers() -> None:
    """A patch that uses torch's global generator sees the same numbers as in one run."""
    noisy = model("wan").clone()
    noisy.set_model_sampler_post_cfg_function(lambda args: args["denoised"] + 0.1 * torch.randn_like(args["denoised"]))
    guider, given = cfg_guider(noisy, "wan"), latent("wan")
    sigmas = schedule(guider)
    for name in ("heun", "ddim", "euler_ancestral", "spacetime heun"):
        one = exactness.samplers()[name]
        reference = core_run(guider, one, sigmas, given)
        mess = lambda tokens: (torch.manual_seed(99), tokens)[1]  # noqa: E731 - other nodes draw in between
        assert same(stepped(guider, one, sigmas, given, after=mess), reference), name


@pytest.mark.parametrize("node", ["EasyCacheNode", "LazyCacheNode"])
@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "spacetime unipc"])
def test_core_s_caches_go_on_over_steps(node: str, name: str) -> None:
    import comfy_extras.nodes_easycache as caches

    counter = Evaluations(model("wan"))
    cached = getattr(caches, node).execute(counter.model, 0.5, 0.15, 0.95, False).args[0]
    given, one = latent("wan"), exactness.samplers()[name]
    sigmas = schedule(cfg_guider(cached, "wan"), 10)
    counter.taken()
    reference, asked = core_run(cfg_guider(cached, "wan"), one, sigmas, given), counter.taken()
    tokens = noised(given, sigmas)
    while not tokens.trajectory.done:
        tokens = step(tokens, cfg_guider(cached, "wan"), one)
    assert torch.equal(exactness.laid(tokens), reference[0])
    assert counter.taken() == asked


def test_scheduled_prompts(chosen) -> None:
    """Conditioning with start and end percent: the model's view of the run is the whole run."""
    import comfy.samplers
    import node_helpers

    first = node_helpers.conditioning_set_values(tiny_models.conditioning("wan", 1), {"end_percent": 0.4})
    second = node_helpers.conditioning_set_values(tiny_models.conditioning("wan", 3), {"start_percent": 0.4})
    guider = comfy.samplers.CFGGuider(model("wan"))
    guider.set_conds(first + second, tiny_models.conditioning("wan", 2))
    guider.set_cfg(2.0)
    sigmas, given = schedule(guider), latent("wan")
    assert same(stepped(guider, chosen, sigmas, given), core_run(guider, chosen, sigmas, given))


@pytest.mark.parametrize("guarantee", [0, 2])
@pytest.mark.parametrize("name", ["euler", "heun", "spacetime heun"])
def test_scheduled_lora(name: str, guarantee: int) -> None:
    """Hook keyframes count the steps that they have lasted; the count goes on."""
    import comfy.hooks
    import node_helpers

    generator = torch.Generator().manual_seed(4)
    lora = {
        f"diffusion_model.blocks.0.self_attn.q.lora_{part}.weight": torch.randn(*shape, generator=generator)
        for part, shape in (("up", (128, 4)), ("down", (4, 128)))
    }
    hooks = comfy.hooks.create_hook_lora(lora, 1.0, 0.0)
    frames = comfy.hooks.HookKeyframeGroup()
    for strength, start in ((1.0, 0.0), (0.2, 0.3), (2.0, 0.5)):
        frames.add(comfy.hooks.HookKeyframe(strength, start, guarantee_steps=guarantee))
    hooks.set_keyframes_on_hooks(frames)
    guider = comfy_guider(node_helpers.conditioning_set_values(tiny_models.conditioning("wan", 1), {"hooks": hooks}))
    plain = comfy_guider(tiny_models.conditioning("wan", 1))
    sigmas, given, one = schedule(guider, 8), latent("wan"), exactness.samplers()[name]
    core_run(guider, one, sigmas, given)  # the first run of a hook differs from the second in core itself
    reference = core_run(guider, one, sigmas, given)
    assert not same(core_run(plain, one, sigmas, given), reference)
    assert same(stepped(guider, one, sigmas, given), reference)


def comfy_guider(positive):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model("wan"))
    guider.set_conds(positive, tiny_models.conditioning("wan", 2))
    guider.set_cfg(2.0)
    return guider


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m_sde", "uni_pc", "spacetime unipc"])
def test_context_windows(name: str) -> None:
    """Windows move with the step number in the whole schedule."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    windowed = ContextWindowsManualNode.execute(model("wan"), 4, 2, "standard_uniform", 1, False, "pyramid", 2).args[0]
    guider = cfg_guider(windowed, "wan")
    given = {"samples": torch.randn(1, 16, 7, 4, 4, generator=torch.Generator().manual_seed(2))}
    sigmas = schedule(guider, 4)
    assert same(
        stepped(guider, exactness.samplers()[name], sigmas, given),
        core_run(guider, exactness.samplers()[name], sigmas, given),
    )


# edits ---------------------------------------------------------------------------------------------------------


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
    assert edited.trajectory.schedule.equal(tokens.trajectory.schedule), "the model still sees the whole schedule"


def test_edited_run_is_an_euler_run_from_there() -> None:
    """Against plain arithmetic: Euler from the edited x over the remaining sigmas, on a Wan's own latent scale."""
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    sigmas = schedule(guider)
    tokens = step(noised(given, sigmas), guider, sampler("euler"), 2)
    edited = tokens.with_values(tokens.values * 1.25 + 0.1)
    from comfyui_spacetime.models.patches import unpatchify

    core_model = guider.model_patcher.model
    x = core_model.process_latent_in(unpatchify(edited))
    start = sigmas[2]
    # core itself begins at (1 - sigma) * latent + sigma * noise: choose a noise that makes this x
    out = guider.sample(x / start, torch.zeros_like(x), sampler("euler"), sigmas[2:].clone(), seed=0)
    ours = unpatchify(step(edited, guider, sampler("euler"), 0))
    assert torch.allclose(ours, out, atol=1e-4)


def test_edit_before_the_first_step_changes_the_noise(chosen) -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    sigmas = schedule(guider, 8)[2:]
    one, other = noised(given, sigmas, seed=1), noised(given, sigmas, seed=2)
    as_other = step(one.with_values(other.values), guider, sampler("euler"), 0)
    assert torch.allclose(as_other.values, step(other, guider, sampler("euler"), 0).values, atol=1e-4)


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
    chosen = exactness.samplers()[name]
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
    tokens = step(noised(given, schedule(guider)), guider, sampler("euler"), 0)
    assert step(tokens, guider, sampler("heun"), 5) is tokens
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.host.stepping.trajectory import begin

    again = begin(tokens, Noise_RandomNoise(3), schedule(guider)[2:])
    assert again.trajectory.position == (0, exactness.STEPS - 2)
    half = step(again, guider, sampler("euler"), 1)
    with pytest.raises(ValueError, match="in the middle of a run"):
        begin(half, Noise_RandomNoise(3), schedule(guider))


def test_bad_input_is_named() -> None:
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan")
    tokens = noised(given, schedule(guider))
    with pytest.raises(ValueError, match="put Forward Diffusion before"):
        step(replace(tokens, trajectory=None), guider, sampler("euler"))
    with pytest.raises(ValueError, match="at least two sigmas, got 1"):
        noised(given, schedule(guider)[:1])
    few = {"samples": given["samples"][:, :4]}
    with pytest.raises(ValueError, match="latents of 16 channels, these tokens have 4"):
        step(noised(few, schedule(guider)), guider, sampler("euler"))
