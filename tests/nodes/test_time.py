"""How long a latent lasts is asked, never typed: from the VAE, the clip, the model, by every task that counts in it."""

from typing import Any

import pytest
import torch

from comfyui_spacetime.models.geometry import MINIMAX_H3, Frames
from comfyui_spacetime.tools.bench import tiny_models, tiny_vaes

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
EVERY = {"wan2.1": 4, "wan2.2": 4, "ltx": 8}
TASKS = (
    "SpacetimeExtendVideo",
    "SpacetimeConnectVideos",
    "SpacetimeLoopVideo",
    "SpacetimeRestyleVideo",
    "SpacetimeFillRegion",
    "SpacetimeRetake",
)


@pytest.fixture(autouse=True)
def said(monkeypatch) -> list[str]:
    from comfyui_spacetime.nodes.host import messages

    texts: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: texts.append(text))
    return texts


def clip(channels: int = 16, length: int = 3, **entries: Any) -> dict[str, Any]:
    """A known clip of small latents."""
    return {"samples": torch.randn(1, channels, length, 4, 4, generator=torch.Generator().manual_seed(0)), **entries}


def timed_tasks() -> dict[str, Any]:
    """Each node with the input, and a call of it: (latent, frames_per_latent, vae) -> latents of the outcome."""
    from comfyui_spacetime.nodes.tasks.along_time import ExtendVideo, Retake
    from comfyui_spacetime.nodes.tasks.connect import ConnectVideos
    from comfyui_spacetime.nodes.tasks.in_space import FillRegion, RestyleVideo
    from comfyui_spacetime.nodes.tasks.loops import LoopVideo

    model, mask = tiny_models.model("wan"), torch.ones(1, 4, 4)
    return {
        "SpacetimeExtendVideo": lambda one, n, vae, fps=16.0: ExtendVideo.execute(one, "forward", 1.0, fps, n, vae),
        "SpacetimeConnectVideos": lambda one, n, vae, fps=16.0: ConnectVideos.execute(
            one, one, "gap", 1.0, 0.2, fps, n, None, None, vae
        ),
        "SpacetimeLoopVideo": lambda one, n, vae, fps=16.0: LoopVideo.execute(
            model, one, "close clip", 1.0, fps, n, 0, vae
        ),
        "SpacetimeRestyleVideo": lambda one, n, vae, fps=16.0: RestyleVideo.execute(
            model, one, 0.5, 0.5, 0.0, fps, "gate", n, None, vae
        ),
        "SpacetimeFillRegion": lambda one, n, vae: FillRegion.execute(one, mask, n, vae),
        "SpacetimeRetake": lambda one, n, vae, fps=16.0: Retake.execute(one, 0.25, 0.0, fps, n, None, vae),
    }


def made(output: Any) -> torch.Tensor:
    """The mask of whatever a task gives."""
    return next(one["noise_mask"] for one in output.result if isinstance(one, dict))


def test_every_node_that_counts_in_latents_asks(comfy_host):
    from comfyui_spacetime.nodes import load_nodes

    asking = {node.define_schema().node_id: node for node in load_nodes()}
    asking = {
        name: {one.id: one for one in node.define_schema().inputs}
        for name, node in asking.items()
        if any(one.id == "frames_per_latent" for one in node.define_schema().inputs)
    }
    assert set(timed_tasks()) == set(TASKS)
    over_time = {"SpacetimePromptOverTime", "SpacetimeGuidanceOverTime", "SpacetimeSecondPass"}
    assert set(asking) == {*TASKS, "SpacetimeExtendFar", "SpacetimeStreamVideo", *over_time}
    for name, inputs in asking.items():
        assert (inputs["frames_per_latent"].default, inputs["frames_per_latent"].min) == (0, 0)
        assert inputs["vae"].optional or name == "SpacetimeStreamVideo", "that one decodes, so it has a VAE"


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("each", [4, 8])
def test_a_number_a_vae_and_a_clip_that_tells_are_one_and_the_same(name, each):
    task = timed_tasks()[name]

    class VAE:
        latent_dim, latent_channels = 3, 16
        upscale_ratio = (lambda n: max(0, n * each - each + 1), 8, 8)

    typed = made(task(clip(), each, None))
    assert torch.equal(typed, made(task(clip(), 0, VAE())))
    assert torch.equal(typed, made(task(clip(spacetime_frames_per_latent=each), 0, None)))


@pytest.mark.parametrize("name", [name for name in TASKS if name != "SpacetimeFillRegion"])
def test_a_typed_rate_and_a_clip_that_tells_it_are_one_and_the_same(name):
    task, rate = timed_tasks()[name], 24.0
    told = task(clip(spacetime_fps=rate, length=9), 4, None, 0.0)
    assert torch.equal(made(task(clip(length=9), 4, None, rate)), made(told))
    assert not torch.equal(made(task(clip(length=9), 4, None, 12.0)), made(told))
    with pytest.raises(ValueError, match=r"nothing tells how many frames per second .* or set fps"):
        task(clip(length=9), 4, None, 0.0)


def test_clips_of_two_rates_are_not_joined_unless_a_person_says_so():
    from comfyui_spacetime.nodes import sockets
    from comfyui_spacetime.nodes.tasks.connect import ConnectVideos

    slow, quick = clip(spacetime_fps=12.0), clip(spacetime_fps=24.0)
    with pytest.raises(ValueError, match="the clips have 12 and 24 frames per second"):
        ConnectVideos.execute(slow, quick, "gap", 1.0, 0.2, 0.0, 4)
    joined = ConnectVideos.execute(slow, quick, "gap", 1.0, 0.2, 16.0, 4).result[0]
    assert joined[sockets.FPS] == 16.0


def test_where_times_do_not_matter_no_rate_is_asked_for():
    from comfyui_spacetime.nodes.tasks.in_space import RestyleVideo
    from comfyui_spacetime.nodes.tasks.loops import LoopVideo

    model = tiny_models.model("wan")
    made(LoopVideo.execute(model, clip(), "generate", 1.0, 0.0, 4, 0))
    made(RestyleVideo.execute(model, clip(), 0.5, 0.0, 0.0, 0.0, "gate", 4))


def test_frames_are_shown_as_fast_as_the_clip_says(said):
    from comfyui_spacetime.nodes.latents import VAEDecode, VAEEncode

    vae, frames = tiny_vaes.vae("wan2.1"), torch.rand(9, 64, 64, 3)
    with torch.inference_mode():
        told = VAEEncode.execute(vae, frames, 0).result[0]
        for latent, typed, shown in ((told, 0.0, 12), ({**told, "spacetime_fps": 24.0}, 0.0, 24), (told, 8.0, 8)):
            assert (
                VAEDecode.execute(vae, latent, typed, "images and video").result[1].get_components().frame_rate == shown
            )
        assert not any("does not say" in text for text in said)
        VAEDecode.execute(vae, {"samples": told["samples"]}, 0.0, "images and video")
    assert any("12 frames per second, since the clip does not say" in text for text in said)


@pytest.mark.parametrize("name", EVERY)
def test_what_our_nodes_make_tells_it(name):
    from comfyui_spacetime.nodes.host.time import clip_fps, clip_time
    from comfyui_spacetime.nodes.latents import EmptyVideo, VAEEncode
    from comfyui_spacetime.nodes.tasks.along_time import AnimateImage

    vae, frames = tiny_vaes.vae(name), torch.rand(9, 64, 64, 3)
    with torch.inference_mode():
        latents = [
            EmptyVideo.execute(64, 64, 1.0, 16.0, 1, None, vae).result[0],
            VAEEncode.execute(vae, frames, 0).result[0],
            AnimateImage.execute(vae, frames[:1], "0", 1.0, 16.0).result[0],
        ]
    for latent in latents:
        assert clip_time(0, latent) == Frames.every(EVERY[name])
    assert [clip_fps(0, latent) for latent in latents] == [16.0, 12.0, 16.0]


def test_the_model_is_asked_too_and_channels_that_only_one_vae_makes():
    from comfyui_spacetime.nodes.host.time import clip_time

    assert clip_time(0, clip(), model=tiny_models.model("wan")) == Frames.every(4)
    assert clip_time(0, clip(), model=tiny_models.model("ltx")) == Frames.every(8)
    assert clip_time(0, clip(), model=tiny_models.model("spacetime")) == Frames.every(4)
    assert clip_time(0, clip(128)) == Frames.every(8)
    assert clip_time(0, clip(24)) == MINIMAX_H3
    assert clip_time(6, clip(128)) == Frames.every(6)  # a number goes before all


@pytest.mark.parametrize("name", ["SpacetimeExtendVideo", "SpacetimeFillRegion"])
def test_where_nobody_tells_it_is_asked_for_in_a_sentence(name):
    with pytest.raises(ValueError, match=r"nothing tells how many frames .* connect `vae`"):
        timed_tasks()[name](clip(), 0, None)
