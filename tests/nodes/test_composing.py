"""Tasks and single steps together with what core hangs into a model: caches, context windows, LoRA, VACE, attention."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness, families
from comfyui_spacetime.tools.bench.families import FAMILIES, latent

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
MODELS = ("wan 2.1", "wan 2.2 5b", "ltx-video", "ltx-2")
LAYERS = {"wan": "blocks.0.self_attn.v", "ltx": "transformer_blocks.0.attn1.to_v"}
STEPS = 4


@pytest.fixture(autouse=True)
def as_the_host_runs(monkeypatch):
    from comfyui_spacetime.nodes.host import messages

    monkeypatch.setattr(messages, "show_text", lambda *_: None)
    with torch.inference_mode():
        yield


@pytest.fixture(params=MODELS)
def name(request, comfy_host) -> str:
    why = families.lacking(request.param)
    if why:
        pytest.skip(why)
    return request.param


def eased(model: Any, core_node: Any) -> Any:
    """Core's EasyCache, so eager that it leaves out calls."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    return core_node(EasyCacheNode, model=model, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0).result[0]


def windowed(model: Any, core_node: Any) -> Any:
    """Core's context windows of three latents, one of them shared."""
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    given = {"context_length": 3, "context_overlap": 1, "context_stride": 1, "closed_loop": False, "dim": 2}
    return core_node(ContextWindowsManualNode, model=model, **given).result[0]


def adapted(model: Any, _core_node: Any) -> Any:
    """A LoRA of one layer, by core's own loader."""
    import comfy.sd

    layer = next(path for kind, path in LAYERS.items() if kind in type(model.model).__name__.lower())
    weight = model.model.get_parameter(f"diffusion_model.{layer}.weight")
    generator = torch.Generator().manual_seed(4)
    lora = {
        f"diffusion_model.{layer}.lora_A.weight": 3 * torch.randn(2, weight.shape[1], generator=generator),
        f"diffusion_model.{layer}.lora_B.weight": 3 * torch.randn(weight.shape[0], 2, generator=generator),
    }
    return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0]


def with_other_attention(model: Any, _core_node: Any) -> Any:
    """Another attention, as nodes for sage attention hang it in: here one whose answers are larger."""
    changed = model.clone()

    def override(original: Any, *args: Any, **settings: Any) -> torch.Tensor:
        return 3 * original(*args, **settings)

    options = changed.model_options["transformer_options"]
    changed.model_options["transformer_options"] = {**options, "optimized_attention_override": override}
    return changed


COMPANIONS: dict[str, Callable[[Any, Any], Any]] = {
    "EasyCache": eased,
    "context windows": windowed,
    "LoRA": adapted,
    "attention override": with_other_attention,
}


def longer(name: str) -> dict[str, Any]:
    """A clip that is extended, so that there is something to keep and something to make."""
    from comfyui_spacetime.nodes.tasks.along_time import ExtendVideo

    fps, each = (25.0, 0) if FAMILIES[name].sound else (8.0, 4)
    return ExtendVideo.execute(latent(name), "forward", 2.0, fps, each).result[0]


def flat(value: Any) -> torch.Tensor:
    from comfyui_spacetime.nodes.host.stepping.streams import from_core

    return from_core(value)


@pytest.mark.parametrize("companion", COMPANIONS)
def test_a_task_in_single_steps_is_cores_run_with_it(name, companion, core_node):
    plain, given = families.family_model(name), longer(name)
    model = COMPANIONS[companion](plain, core_node)
    guider, chosen = families.guider(name, model=model), exactness.sampler("euler")
    sigmas = exactness.schedule(guider, STEPS)
    if companion == "context windows" and FAMILIES[name].levels:
        try:
            exactness.core_run(guider, chosen, sigmas, given)
        except RuntimeError:
            pytest.skip("this core does not cut noise levels of places into windows, so its own run fails with a mask")
    reference = exactness.core_run(guider, chosen, sigmas, given)
    for steps in (0, 1):
        assert exactness.same(exactness.stepped(guider, chosen, sigmas, given, steps), reference)
    made = flat(reference[0])
    assert bool(torch.isfinite(made).all())
    without = flat(exactness.core_run(families.guider(name), chosen, sigmas, given)[0])
    assert not torch.equal(made, without), "the companion does nothing here, so this shows nothing"
    clip = latent(name)["samples"]
    kept, known = (one.unbind()[0] if FAMILIES[name].sound else one for one in (reference[0], clip))
    torch.testing.assert_close(kept[:, :, : known.shape[2]], known, atol=2e-4, rtol=2e-4)


def test_a_task_with_vace_conditioning(core_node):
    """What VACE is shown beside the latents, and what a task keeps of them, in one run."""
    name = "wan vace"
    given = longer(name)
    shape = given["samples"].shape
    generator = torch.Generator().manual_seed(7)
    shown = torch.randn(shape[0], 32, *shape[2:], generator=generator)
    vace = {"vace_frames": [shown], "vace_mask": [torch.ones(shape[0], 64, *shape[2:])], "vace_strength": [1.0]}
    guider, chosen = families.guider(name, **vace), exactness.sampler("euler")
    sigmas = exactness.schedule(guider, STEPS)
    reference = exactness.core_run(guider, chosen, sigmas, given)
    assert exactness.same(exactness.stepped(guider, chosen, sigmas, given), reference)
    other = exactness.core_run(families.guider(name), chosen, sigmas, given)
    assert not torch.allclose(reference[0], other[0], atol=1e-4)
    known = latent(name)["samples"]
    torch.testing.assert_close(reference[0][:, :, : known.shape[2]], known, atol=2e-4, rtol=2e-4)


def test_a_task_on_a_compiled_model(core_node, monkeypatch):
    """Core's Torch Compile node; its backend makes no code here, so that the test needs no compiler and no minute."""
    import torch._dynamo
    from comfy_extras import nodes_torch_compile

    name, wrap = "wan 2.2 5b", nodes_torch_compile.set_torch_compile_wrapper
    eager = lambda model, **settings: wrap(model=model, **{**settings, "backend": "eager"})  # noqa: E731
    monkeypatch.setattr(nodes_torch_compile, "set_torch_compile_wrapper", eager)
    torch._dynamo.reset()
    compiled = core_node(nodes_torch_compile.TorchCompileModel, model=families.family_model(name)).result[0]
    given, guider, chosen = longer(name), families.guider(name, model=compiled), exactness.sampler("euler")
    sigmas = exactness.schedule(guider, 2)
    before = torch._dynamo.utils.counters["frames"]["total"]
    reference = exactness.core_run(guider, chosen, sigmas, given)
    assert torch._dynamo.utils.counters["frames"]["total"] > before, "it was compiled"
    assert exactness.same(exactness.stepped(guider, chosen, sigmas, given, 1), reference)
    plain = exactness.core_run(families.guider(name), chosen, sigmas, given)
    torch.testing.assert_close(reference[0], plain[0], atol=1e-3, rtol=1e-3)
    torch._dynamo.reset()


def test_a_task_with_a_controlnet(core_node):
    """Core's own nodes and classes; its network adds to the tokens of the first block what a hint says."""
    from comfy.controlnet import ControlBase

    class Control(ControlBase):
        def get_control(self, x: torch.Tensor, *_: Any) -> dict[str, list[torch.Tensor]]:
            shift = torch.linspace(-3, 3, 128).repeat(1, 1, 1) * self.cond_hint_original.mean() * self.strength
            return {"input": [shift.to(x)], "output": []}

        def copy(self) -> Any:
            made = Control()
            self.copy_to(made)
            return made

    name = "hunyuan-video"
    control = Control().set_cond_hint(torch.ones(1, 3, 8, 8), strength=0.8)
    given, chosen = longer(name), exactness.sampler("euler")
    guider = families.guider(name, control=control, control_apply_to_uncond=True)
    sigmas = exactness.schedule(guider, STEPS)
    reference = exactness.core_run(guider, chosen, sigmas, given)
    for steps in (0, 1):
        assert exactness.same(exactness.stepped(guider, chosen, sigmas, given, steps), reference)
    other = exactness.core_run(families.guider(name), chosen, sigmas, given)
    assert not torch.allclose(reference[0], other[0], atol=1e-4), "the control does nothing here"
    known = latent(name)["samples"]
    torch.testing.assert_close(reference[0][:, :, : known.shape[2]], known, atol=2e-4, rtol=2e-4)
