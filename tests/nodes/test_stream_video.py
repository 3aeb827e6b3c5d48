"""Stream Video: which models it takes, what it asks of them, what comes out, how it goes on, and how it is stopped."""

from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.tools.bench import families, tiny_models

LEVELLED = [name for name, family in families.FAMILIES.items() if family.levels and family.sound is None]
OTHERS = [name for name, family in families.FAMILIES.items() if not family.levels and family.sound is None]


@pytest.fixture(autouse=True)
def without_gradients(comfy_host, one_thread):
    with torch.inference_mode():
        yield


def guider_of(model, conditions, cfg: float = 3.0):
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(*conditions)
    guider.set_cfg(cfg)
    return guider


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def stream(tiny_objects, tmp_path, monkeypatch):
    """stream(**inputs) -> (VIDEO, LATENT) of the small checkpoint, 32 x 32 pixels."""
    import folder_paths
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.sampling import Sampler
    from comfyui_spacetime.nodes.tasks.stream import StreamVideo
    from nodes import CLIPTextEncode

    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path))
    model, clip, vae = tiny_objects
    conditions = [CLIPTextEncode().encode(clip, text)[0] for text in ("a red ball falls", "")]

    def run(**given):
        inputs = {
            "guider": guider_of(model, conditions),
            "sampler": Sampler.execute("euler_sde", 2, 1.0, 1.0).result[0],
            "sigmas": torch.linspace(1, 0, 5),
            "noise": Noise_RandomNoise(3),
            "latent": {"samples": torch.zeros(1, 16, 3, 4, 4)},
            "vae": vae,
            "seconds": 2.0,
            "prompts": "",
            "fade": 0.0,
            "window": 1.0,
            "context": 0.25,
            "fps": 12.0,
            "frames_per_latent": 0,
            "clip": clip,
        }
        return StreamVideo.execute(**{**inputs, **given}).result

    return run


@pytest.fixture
def asking(monkeypatch):
    """with asking(at=n): a run is asked to stop when it shows its frame n, as the button on its node asks."""
    from comfy_execution.utils import CurrentNodeContext

    from comfyui_spacetime.nodes.host import messages, stopping

    here = {"prompt_id": "a prompt", "node_id": "5:2"}

    @contextmanager
    def asked(at: int):
        told = []

        def show_frame(bar, image, value, total):
            if value == at:
                assert stopping.stop(here) == {"stopping": ["5:2"]}

        with monkeypatch.context() as patched, CurrentNodeContext(**here):
            patched.setattr(messages, "show_frame", show_frame)
            patched.setattr(messages, "listening_node", lambda: "5:2")
            patched.setattr(messages, "show_json", lambda event, data: told.append((event, data["running"], data)))
            yield
        assert told[0] == ("spacetime.stoppable", True, {**here, "running": True})
        assert told[-1] == ("spacetime.stoppable", False, {**here, "running": False})
        with pytest.raises(ValueError, match="nothing that can be stopped"):  # no more
            stopping.stop(here)

    return asked


def frames_of(video) -> Tensor:
    return video.get_components().images


@pytest.mark.parametrize("name", ["ours", *LEVELLED])
def test_a_call_at_one_level_is_the_models_own_prediction_there(name, tiny_objects):
    """A window whose latents all have level 0.6 is what core's samplers show the model at sigma 0.6."""
    from comfyui_spacetime.nodes.host.rolling import _denoiser, check_streamable

    if name == "ours":
        model, shape = tiny_models.model("spacetime"), (1, 16, 3, 4, 4)
        conditions = [tiny_models.conditioning("spacetime", seed) for seed in (0, 1)]
    else:
        model, shape = families.family_model(name), (1, *families.FAMILIES[name].latent)
        conditions = [families.conditioning(name, seed) for seed in (0, 1)]
    guider, x = guider_of(model, conditions), normal(*shape)
    if name in families.UNLIKE_FLOW:
        with pytest.raises(ValueError, match="flow model"):
            check_streamable(guider)
        return
    check_streamable(guider)
    seen = {}

    class Once:
        def sample(self, wrapped, sigmas, extra_args, _callback, noise, *_):
            seen["denoised"] = wrapped(noise, sigmas[:1], **extra_args)
            return noise

    guider.sample(x, torch.zeros(shape), Once(), torch.tensor([0.6, 0.0]), disable_pbar=True, seed=0)
    made = _denoiser(guider)(x, torch.full((1, shape[2]), 0.6))
    torch.testing.assert_close(made, seen["denoised"].cpu(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_one_level_are_refused(name):
    from comfyui_spacetime.nodes.host.rolling import check_streamable

    if why := families.lacking(name):
        pytest.skip(why)
    conditions = [families.conditioning(name, seed) for seed in (0, 1)]
    with pytest.raises(ValueError, match="one noise level for the whole video"):
        check_streamable(guider_of(families.family_model(name), conditions))


def test_the_node_makes_what_the_library_makes(stream, tiny_objects, tiny_checkpoint):
    from itertools import islice

    import folder_paths

    from comfyui_spacetime.models.endless import endless
    from comfyui_spacetime.models.generate import Models

    models = Models.load(folder_paths.get_full_path("checkpoints", tiny_checkpoint), dtype=torch.float32)
    lines = "0: a red ball falls\n0.4: a blue ball falls"
    _, latent = stream(prompts=lines, seconds=1.0)
    settings = {"steps": 4, "shift": 1.0, "cfg": 3.0, "solver": "euler_sde", "seed": 3}
    made = list(islice(endless(models, lines, height=32, width=32, window=4, context=1, **settings), 4))
    window, held = made[-1][1], latent["spacetime_stream"][1]
    assert held.first == window.first == 4
    # a run through the host rounds otherwise, and random weights make that larger from latent to latent
    assert float((held.latents - window.latents).abs().mean()) < 0.01 * float(window.latents.std())


def test_length_and_context(stream):
    video, latent = stream(seconds=2.0)
    assert len(frames_of(video)) == 25
    assert latent["samples"].shape == (1, 16, 2, 4, 4)  # the context of a window of 4


def test_frames_per_second_are_those_of_the_latent(stream):
    empty = {"samples": torch.zeros(1, 16, 3, 4, 4), "spacetime_fps": 6.0}
    video, _ = stream(latent=empty, fps=0.0, seconds=1.5, window=2.0, context=0.5)
    assert video.get_components().frame_rate == 6
    assert len(frames_of(video)) == 1 + 4 * 2


def test_it_goes_on_as_if_it_had_never_stopped(stream):
    _, whole = stream(seconds=3.0)
    _, first = stream(seconds=1.0)
    video, rest = stream(seconds=2.0, latent=first)
    assert torch.equal(whole["samples"], rest["samples"])
    assert torch.equal(whole["spacetime_stream"][1].latents, rest["spacetime_stream"][1].latents)
    assert len(frames_of(video)) == 24  # no single first frame


def test_a_changed_latent_counts_as_a_clip(stream):
    _, first = stream(seconds=1.0)
    _, rest = stream(seconds=1.0, latent={**first, "samples": first["samples"] + 1})
    _, held = stream(seconds=1.0, latent=first)
    assert not torch.equal(rest["samples"], held["samples"])


def test_a_stop_keeps_what_was_made(stream, monkeypatch):
    import comfy.model_management

    from comfyui_spacetime.nodes.host import messages

    shown = []

    def show_frame(bar, image, value, total):
        shown.append(value)
        if value == 13:
            comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(messages, "show_frame", show_frame)
    video, latent = stream(seconds=0.0)  # for ever
    assert len(frames_of(video)) == len(shown) == 13
    assert "spacetime_stream" in latent


def test_a_stream_that_is_stopped_is_what_was_asked_for_no_more(stream, asking):
    with asking(at=13):
        video, latent = stream(seconds=0.0)  # for ever
    asked, wanted = stream(seconds=1.0)
    assert frames_of(video).shape == frames_of(asked).shape
    assert torch.equal(latent["samples"], wanted["samples"])
    assert torch.equal(latent["spacetime_stream"][1].latents, wanted["spacetime_stream"][1].latents)


def test_a_stop_before_the_first_frame_is_a_stop(stream):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        stream()


def test_a_clip_goes_on(stream):
    clip = {"samples": normal(1, 16, 3, 4, 4)}
    video, latent = stream(latent=clip, seconds=1.0)
    assert len(frames_of(video)) == 12
    assert latent["spacetime_stream"][1].first == 6


def test_what_cannot_be_streamed_is_said(stream, tiny_objects):
    import comfy.samplers

    from comfyui_spacetime.nodes.guidance import Guider

    batch = {"samples": torch.zeros(2, 16, 3, 4, 4)}
    half = {"samples": normal(1, 16, 3, 4, 4), "noise_mask": torch.full((1, 1, 3, 4, 4), 0.5)}
    conditions = [tiny_models.conditioning("spacetime", seed) for seed in (0, 1)]

    def guider(mode: str, end: float):
        settings = (3.0, mode, "percent", 0.0, end, 0.7, 0.1, 2.0, 1)
        return Guider.execute(tiny_objects[0], conditions[0], *settings, conditions[1], None).result[0]

    for given, says in (
        ({"latent": batch}, "one video"),
        ({"latent": half}, "still to be generated"),
        ({"clip": None, "prompts": "0: a ball"}, "need `clip`"),
        ({"prompts": "1: a ball"}, "begin with a line at 0"),
        ({"sampler": comfy.samplers.sampler_object("dpmpp_2m")}, "dpmpp_2m cannot"),
        ({"context": 1.5}, "none to denoise"),
        ({"sigmas": torch.tensor([1.0, 0.5])}, "ends in 0"),
        ({"guider": guider("cfg", 0.5)}, "all noise levels"),
        ({"guider": guider("cfg_zero_star", 1.0)}, "all noise levels"),
    ):
        with pytest.raises(ValueError, match=says):
            stream(**given)


@pytest.mark.parametrize("name", ["wan2.1", "wan2.2", "ltx"])
def test_another_models_vae_gives_each_frame_once(name, monkeypatch):
    from comfyui_spacetime.nodes.host.vae import others
    from comfyui_spacetime.nodes.host.vae.pieces import decode_as_they_come, decode_pieces
    from comfyui_spacetime.tools.bench import tiny_vaes

    vae = tiny_vaes.vae(name)
    channels = {"wan2.1": 16, "wan2.2": 48, "ltx": 128}[name]
    clip, time = normal(1, channels, 7, 2, 2), others.time_of(vae)
    whole = torch.cat(list(decode_pieces(vae, clip)))

    def streamed(first: int) -> Tensor:
        lead = clip[:, :, :first] if first else None
        return torch.cat(list(decode_as_they_come(vae, clip[:, :, first:].split(1, dim=2), lead)))

    assert len(streamed(0)) == len(whole) == time.count(7)
    assert len(streamed(5)) == time.count(7) - time.count(5)
    if name != "ltx":  # a causal decoder that is shown all that went before gives what it gives at once
        monkeypatch.setattr(others, "BEFORE", 7)
        torch.testing.assert_close(streamed(0), whole, rtol=0, atol=1 / 255)
        torch.testing.assert_close(streamed(5), whole[time.count(5) :], rtol=0, atol=1 / 255)
