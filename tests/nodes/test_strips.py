"""The moving strip of a run: in every way to run, once a step, core's own colours, and nothing where nobody looks."""

import base64
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from comfyui_spacetime.tools.bench import exactness, tiny_models

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
STEPS = 3


@pytest.fixture
def sent(monkeypatch) -> list[dict[str, Any]]:
    """What an editor that listens is sent."""
    from comfyui_spacetime.nodes.host import messages, strips

    found: list[dict[str, Any]] = []
    monkeypatch.setattr(messages, "listening_node", lambda: "7:2")
    monkeypatch.setattr(messages, "show_json", lambda event, data: found.append({"event": event, **data}))
    monkeypatch.setattr(strips, "PAUSE", 0.0)
    return found


def coloured(name: str = "spacetime") -> Any:
    """A small model whose latents have colours."""
    model = tiny_models.model(name).clone()
    described = model.model.latent_format
    if described.latent_rgb_factors is None:
        described.latent_rgb_factors = torch.linspace(-0.3, 0.3, described.latent_channels * 3).view(-1, 3).tolist()
    return model


def own_guider(model: Any, name: str = "spacetime") -> Any:
    from comfyui_spacetime.models.guidance import Guidance
    from comfyui_spacetime.nodes.host.sampling import make_guider

    conds = exactness.cfg_guider(model, name).original_conds
    guider = make_guider(model, [], [], Guidance(scale=3.0))
    guider.original_conds = conds
    return guider


def steps_in(each: int) -> Callable[[Any, Any], Any]:
    def run(guider: Any, sampler: Any) -> Any:
        from comfyui_spacetime.nodes.denoise import DenoiseStep, ForwardDiffusion
        from comfyui_spacetime.nodes.tokens import Patchify

        tokens = Patchify.execute(tiny_models.latent("spacetime"), 1, 2, 2).result[0]
        sigmas = exactness.schedule(guider, STEPS)
        from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

        run, done = ForwardDiffusion.execute(tokens, Noise_RandomNoise(1), sigmas).result[0], False
        while not done:
            run, _, done = DenoiseStep.execute(run, guider, sampler, each).result
        return run.values

    return run


def core(guider: Any, sampler: Any) -> Any:
    return exactness.core_run(guider, sampler, exactness.schedule(guider, STEPS), tiny_models.latent("spacetime"))


WAYS = {
    "Denoise Step, all": (steps_in(0), False, "euler"),
    "Denoise Step, one by one": (steps_in(1), False, "euler"),
    "Denoise Step, our solver and guider": (steps_in(1), True, "spacetime unipc"),
    "core's node, our guider": (core, True, "euler"),
    "core's node, our sampler": (core, False, "spacetime unipc"),
    "core's node, both": (core, True, "spacetime unipc"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_step_is_shown_once_on_the_node_that_runs(sent, way):
    run, ours, sampler = WAYS[way]
    model = coloured()
    guider = own_guider(model) if ours else exactness.cfg_guider(model, "spacetime")
    with torch.inference_mode():
        run(guider, exactness.sampler(sampler))
    assert [(one["step"], one["total"]) for one in sent] == [(step, STEPS) for step in range(1, STEPS + 1)]
    assert {(one["event"], one["node"]) for one in sent} == {("spacetime.strip", "7:2")}
    picture = Image.open(io.BytesIO(base64.b64decode(sent[-1]["jpeg"])))
    assert picture.size == (sent[-1]["width"] * sent[-1]["columns"], sent[-1]["height"] * 2)


def test_core_alone_shows_none_of_ours(sent):
    core(exactness.cfg_guider(coloured(), "spacetime"), exactness.sampler("euler"))
    assert sent == []


def test_a_run_that_is_looked_at_is_the_same_to_the_bit(sent):
    model = coloured()
    sampler = exactness.sampler("spacetime unipc")
    with torch.inference_mode():
        seen = core(own_guider(model), sampler)
        sent.clear()
        from comfyui_spacetime.nodes.host.strips import hidden

        with hidden():
            unseen = core(own_guider(model), sampler)
    assert sent == []
    assert exactness.same(seen, unseen)


def test_extend_far_shows_every_window(sent):
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.tasks.long import ExtendFar

    guider = exactness.cfg_guider(coloured(), "spacetime")
    latent = {"samples": torch.randn(1, 16, 4, 4, 4)}
    with torch.inference_mode():
        ExtendFar.execute(
            guider,
            exactness.sampler("euler"),
            exactness.schedule(guider, 2),
            Noise_RandomNoise(1),
            latent,
            "forward",
            1.0,
            1.0,
            0.5,
            0.3,
            12.0,
            4,
        )
    steps = [one["step"] for one in sent]
    assert len(steps) >= 4
    assert steps == [1, 2] * (len(steps) // 2)


def test_colours_are_those_of_cores_preview():
    from latent_preview import Latent2RGBPreviewer

    from comfyui_spacetime.nodes.host.colours import Colours

    described = coloured().model.latent_format
    latents = torch.randn(1, described.latent_channels, 3, 4, 6)
    bias = described.latent_rgb_factors_bias
    wanted = Latent2RGBPreviewer(described.latent_rgb_factors, bias).decode_latent_to_preview(latents)
    found = Colours(described)(latents[0])
    assert found.shape == (3, 4, 6, 3)
    assert torch.equal(found[0], torch.frombuffer(bytearray(wanted.tobytes()), dtype=torch.uint8).view(4, 6, 3))


@pytest.mark.parametrize("shape", [(1, 16, 40, 4, 6), (2, 16, 1, 4, 4), (1, 16, 4, 4)])
def test_long_videos_are_thinned_out_and_pictures_are_videos_of_one_frame(sent, shape):
    from comfyui_spacetime.nodes.host import strips

    with strips.strip(coloured().model.latent_format) as show:
        show(0, torch.randn(shape), torch.randn(shape), 1)
    assert sent[0]["columns"] == min(12, shape[2] if len(shape) == 5 else 1)
    assert len(sent[0]["jpeg"]) < 60_000


def test_a_run_that_fails_or_is_cancelled_leaves_the_next_one_its_strip(sent):
    from comfyui_spacetime.nodes.host.strips import strip

    described, latents = coloured().model.latent_format, torch.randn(1, 16, 2, 4, 4)
    with pytest.raises(KeyError), strip(described):
        raise KeyError
    with strip(described) as show:
        show(0, latents, latents, 1)
    assert len(sent) == 1


def test_latents_without_colours_or_of_another_kind_are_left_out(sent):
    from types import SimpleNamespace

    from comfyui_spacetime.nodes.host.strips import strip

    with strip(SimpleNamespace(latent_rgb_factors=None)) as show:
        show(0, torch.randn(1, 16, 2, 4, 4), torch.randn(1, 16, 2, 4, 4), 1)
    with strip(coloured().model.latent_format) as show:
        show(0, torch.randn(1, 3, 2, 4, 4), torch.randn(1, 3, 2, 4, 4), 1)  # channels of another format
        show(0, torch.randn(1, 1, 99), torch.randn(1, 1, 99), 1)  # streams packed into one row
    assert sent == []
