"""Steps, shift, solver, guidance and the first noise level that are left to the model."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from comfyui_spacetime.models.embedded import EMBEDDED as SHIPPED
from comfyui_spacetime.models.published.families import DDPM
from comfyui_spacetime.models.recommended import Recommended

OTHER = Recommended(cfg=5.0, shift=3.5, steps=12, solver="heun")
NOISIEST = float(DDPM.levels()[-1])
EMBEDDED, RECOMMENDS, SILENT, OWN_EPS, DISCRETE, LOGARITHMIC, EPS, NONE = (
    "embedded",
    "recommends",
    "recommends nothing",
    "ours, predicts eps",
    "Wan's kind",
    "LTX-Video's kind",
    "predicts eps",
    "none",
)


class Foreign:
    """A MODEL of another family as far as its schedule goes."""

    model_options: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, sampling: Any) -> None:
        self.sampling = sampling

    def get_model_object(self, name: str) -> Any:
        return self.sampling if name == "model_sampling" else SimpleNamespace()

    def get_attachment(self, _key: str) -> None:
        return None

    def clone(self) -> "Foreign":
        return self


@pytest.fixture
def model_of(tiny_objects, tiny_checkpoint, monkeypatch):
    """A MODEL of each kind."""
    import comfy.model_sampling
    import folder_paths

    from comfyui_spacetime.models.checkpoints import load_checkpoint
    from comfyui_spacetime.nodes.host import checkpoint as host
    from comfyui_spacetime.nodes.host.model.published import PublishedSampling
    from comfyui_spacetime.nodes.host.model.recommended import RECOMMENDED

    def foreign(kind: type, shift: float) -> Foreign:
        return Foreign(kind(SimpleNamespace(sampling_settings={"shift": shift, "multiplier": 1000})))

    def make(kind: str) -> Any:
        if kind == DISCRETE:
            return foreign(comfy.model_sampling.ModelSamplingDiscreteFlow, 8.0)
        if kind == LOGARITHMIC:
            return foreign(comfy.model_sampling.ModelSamplingFlux, 2.37)
        if kind == EPS:
            model = Foreign(PublishedSampling.of(DDPM))
            model.get_attachment = lambda key: Recommended(4.0, 1.0, 50, "euler") if key == RECOMMENDED else None
            return model
        if kind == NONE:
            return None
        path = Path(folder_paths.get_full_path("checkpoints", tiny_checkpoint))
        read = load_checkpoint(path if kind != EMBEDDED else SHIPPED)
        if kind != EMBEDDED:
            read.meta.update({"shift": OTHER.shift})
        read.meta.update({"recommended": OTHER.entry()} if kind == RECOMMENDS else {})
        if kind == OWN_EPS:
            read = replace(read, dit_config=replace(read.dit_config, prediction="eps"))
        return host.build_dit(read, host.Source.of(path, "tiny", "fp32"))

    return make


# kind -> (steps, shift, solver, cfg, first sigma), and a word of where they come from
OWN = {
    NONE: ((24, 2.0, "euler_sde", 2.0, 1.0), "no model is connected"),
    EMBEDDED: ((24, 2.0, "euler_sde", 2.0, 1.0), "recommended for this model"),
    RECOMMENDS: ((12, 3.5, "heun", 5.0, 1.0), "recommended for this model"),
    SILENT: ((24, 3.5, "euler_sde", 2.0, 1.0), "this model recommends none"),
    DISCRETE: ((24, 8.0, "euler_sde", 2.0, 1.0), "this model recommends none"),
    LOGARITHMIC: ((24, math.exp(2.37), "euler_sde", 2.0, 1.0), "this model recommends none"),
    OWN_EPS: ((24, 3.5, "euler_sde", 2.0, NOISIEST), "this model recommends none"),
    EPS: ((50, 1.0, "euler", 4.0, NOISIEST), "recommended for this model"),
}


@pytest.fixture
def said(monkeypatch) -> list[str]:
    from comfyui_spacetime.nodes import sampling
    from comfyui_spacetime.nodes.host import messages

    texts: list[str] = []
    for place in (sampling, messages):
        monkeypatch.setattr(place, "show_text", lambda _, text: texts.append(text))
    return texts


@pytest.mark.parametrize("kind", OWN)
def test_what_is_left_to_the_model_is_its_own_and_said(model_of, said, kind):
    from comfyui_spacetime.models import schedules
    from comfyui_spacetime.nodes.guidance import Guider
    from comfyui_spacetime.nodes.sampling import Sampler, Scheduler

    (steps, shift, solver, cfg, first), source = OWN[kind]
    model = model_of(kind)
    sigmas = Scheduler.execute("linear", 0, "fixed", 0.0, 1.0, 1.0, None, model).args[0]
    wanted = schedules.sigmas("linear", steps, shift=shift, sigma_max=first)
    torch.testing.assert_close(sigmas, wanted, rtol=0, atol=1e-6)
    assert f"{steps} steps" in said[-1]
    assert source in said[-1]
    assert ("noisiest" in said[-1]) == (first < 1)
    assert Sampler.execute("auto", 2, 1.0, 1.0, model).args[0].spacetime_solver.name == solver
    assert said[-1].startswith(solver)
    assert source in said[-1]
    if isinstance(model, Foreign) or model is None:
        return
    prompt = [[torch.zeros(1, 2, 384), {}]]
    guider = Guider.execute(model, prompt, -1.0, "cfg", "percent", 0, 1, 0.7, 0, 0, 1, prompt).args[0]
    assert guider.guidance.scale == guider.cfg == cfg
    assert source in said[-1]


@pytest.mark.parametrize("kind", OWN)
def test_what_a_workflow_says_is_kept(model_of, said, kind):
    from comfyui_spacetime.models import schedules
    from comfyui_spacetime.nodes.sampling import Sampler, Scheduler

    model = model_of(kind)
    for name in ("linear", "karras"):
        sigmas = Scheduler.execute(name, 7, "fixed", 3.0, 0.5, 0.9, None, model).args[0]
        assert torch.equal(sigmas, schedules.sigmas(name, 7, shift=3.0, denoise=0.5, sigma_max=0.9))
    assert "recommend" not in said[-1]
    assert Sampler.execute("unipc", 3, 1.0, 1.0, model).args[0].spacetime_solver.order == 3


def test_a_shift_set_on_the_model_is_its_own(model_of, said, core_node):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    from comfyui_spacetime.nodes.sampling import Scheduler

    (patched,) = ModelSamplingSD3().patch(model_of(RECOMMENDS), 6.0)
    Scheduler.execute("linear", 0, "fixed", 0.0, 1.0, 1.0, None, patched)
    assert said[-1].startswith("shift 6 (the shift of this model); 12 steps")


def test_new_nodes_are_left_to_the_model(comfy_host):
    from comfyui_spacetime.nodes.guidance import Guider
    from comfyui_spacetime.nodes.sampling import Sampler, Scheduler

    defaults = {
        one.id: one.default
        for node in (Scheduler, Sampler, Guider)
        for one in node.define_schema().inputs
        if getattr(one, "default", None) is not None
    }
    assert [defaults[name] for name in ("steps", "shift", "solver", "cfg")] == [0, 0.0, "auto", -1.0]
