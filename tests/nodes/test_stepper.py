"""Single steps of any sampler are one run of core's SamplerCustomAdvanced, to the bit, whatever happens between."""

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness, tiny_models
from comfyui_spacetime.tools.bench.exactness import cfg_guider, core_run, noised, same, schedule, step, stepped
from comfyui_spacetime.tools.bench.tiny_models import NAMES, latent, model

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")


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


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize("name", NAMES)
def test_every_core_sampler(sampler_name: str, name: str, masked: bool) -> None:
    counter = Evaluations(model(name))
    guider, chosen, given = (
        cfg_guider(counter.model, name),
        exactness.sampler(sampler_name),
        latent(name, masked=masked),
    )
    sigmas = schedule(guider)
    reference, asked = core_run(guider, chosen, sigmas, given), counter.taken()
    for steps in (0, 1, 3):
        assert same(stepped(guider, chosen, sigmas, given, steps), reference), f"{steps} at a time"
        assert counter.taken() == asked, "a replay must not ask the model"


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m", "unipc", "euler_ancestral", "euler_sde"])
def test_every_solver_of_ours(solver: str, name: str, masked: bool) -> None:
    guider, chosen = cfg_guider(model(name), name), exactness.sampler(f"spacetime {solver}")
    sigmas, given = schedule(guider), latent(name, masked=masked)
    reference = core_run(guider, chosen, sigmas, given)
    for steps in (0, 1, 3):
        assert same(stepped(guider, chosen, sigmas, given, steps), reference)


CASES = ["heun", "dpmpp_2m_sde", "uni_pc", "res_multistep_cfg_pp", "dpm_adaptive", "spacetime unipc"]


@pytest.fixture(params=CASES)
def chosen(request):
    return exactness.sampler(request.param)


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
    from comfyui_spacetime.nodes.host.stepping.fingerprint import fingerprint

    return next(other for other in exactness.samplers().values() if fingerprint(other) == fingerprint(chosen))


def test_fingerprints_tell_samplers_apart() -> None:
    import comfy.samplers

    from comfyui_spacetime.nodes.host.stepping.fingerprint import fingerprint

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
        one = exactness.sampler(name)
        reference = core_run(guider, one, sigmas, given)
        mess = lambda tokens: (torch.manual_seed(99), tokens)[1]  # noqa: E731 - other nodes draw in between
        assert same(stepped(guider, one, sigmas, given, after=mess), reference), name


@pytest.mark.parametrize("node", ["EasyCacheNode", "LazyCacheNode"])
@pytest.mark.parametrize("name", ["dpmpp_2m", "heun", "spacetime unipc"])
def test_core_s_caches_go_on_over_steps(node: str, name: str) -> None:
    import comfy_extras.nodes_easycache as caches

    counter = Evaluations(model("wan"))
    cached = getattr(caches, node).execute(counter.model, 0.5, 0.15, 0.95, False).args[0]
    given, one = latent("wan"), exactness.sampler(name)
    sigmas = schedule(cfg_guider(cached, "wan"), 10)
    counter.taken()
    reference, asked = core_run(cfg_guider(cached, "wan"), one, sigmas, given), counter.taken()
    tokens = noised(given, sigmas)
    while not tokens.trajectory.done:
        tokens = step(tokens, cfg_guider(cached, "wan"), one)
    assert torch.equal(exactness.laid(tokens), reference[0])
    assert counter.taken() == asked


@pytest.mark.parametrize("name", ["dpmpp_sde", "dpmpp_3m_sde_gpu"])
def test_brownian_noise_is_drawn_once(name: str, monkeypatch) -> None:
    """Each draw is slow on the CPU: single steps must not repeat those of the steps before."""
    import comfy.k_diffusion.sampling as k_diffusion

    queries, original = [], k_diffusion.BatchedBrownianTree.__call__
    monkeypatch.setattr(k_diffusion.BatchedBrownianTree, "__call__", lambda *a: queries.append(1) or original(*a))
    guider, given, one = cfg_guider(model("wan"), "wan"), latent("wan"), exactness.sampler(name)
    sigmas = schedule(guider, 6)
    core_run(guider, one, sigmas, given)
    drawn = len(queries)
    tokens = noised(given, sigmas)
    stepped_from_here = step(tokens, guider, one)  # with the dry run, which draws too
    queries.clear()
    while not stepped_from_here.trajectory.done:
        stepped_from_here = step(stepped_from_here, guider, one)
    assert len(queries) < drawn


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
    sigmas, given, one = schedule(guider, 8), latent("wan"), exactness.sampler(name)
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
def test_context_windows(name: str, core_node) -> None:
    """Windows move with the step number in the whole schedule."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    windowed = core_node(
        ContextWindowsManualNode,
        model=model("wan"),
        context_length=4,
        context_overlap=2,
        dim=2,
        context_schedule="standard_uniform",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
    ).args[0]
    guider = cfg_guider(windowed, "wan")
    given = {"samples": torch.randn(1, 16, 7, 4, 4, generator=torch.Generator().manual_seed(2))}
    sigmas = schedule(guider, 4)
    assert same(
        stepped(guider, exactness.sampler(name), sigmas, given),
        core_run(guider, exactness.sampler(name), sigmas, given),
    )
