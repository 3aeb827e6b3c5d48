"""Task nodes: what they lay out, say and refuse; and a run through core's KSampler and our step node."""

import pytest
import torch
from torch import Tensor


def clip(num_latents: int = 5, *, seed: int = 0, size: int = 8) -> dict[str, Tensor]:
    return {"samples": torch.randn(1, 16, num_latents, size, size, generator=torch.Generator().manual_seed(seed))}


def known(latent: dict) -> list[float]:
    return [round(float(level), 3) for level in latent["noise_mask"].amax(dim=(0, 1, 3, 4))]


def test_animate_puts_keyframes_where_their_times_are(tiny_objects):
    from comfyui_spacetime.nodes.tasks.along_time import AnimateImage

    images = torch.rand(3, 64, 72, 3, generator=torch.manual_seed(0))
    latent, fps, count = AnimateImage.execute(tiny_objects[2], images, "0, 0.75 end", 2.75, 12.0).result
    assert (fps, count) == (12.0, 33)
    assert latent["samples"].shape == (1, 16, 9, 8, 8)
    assert known(latent) == [0, 1, 1, 0, 1, 1, 1, 1, 0]
    alone = tiny_objects[2].encode(images[1:2, :, 4:68])
    torch.testing.assert_close(latent["samples"][:, :, 3:4], alone)
    with pytest.raises(ValueError, match="3 stills and 1 times"):
        AnimateImage.execute(tiny_objects[2], images, "0", 2.75, 12.0)
    with pytest.raises(ValueError, match="'soon' is no time"):
        AnimateImage.execute(tiny_objects[2], images[:1], "soon", 2.75, 12.0)
    with pytest.raises(ValueError, match="too small"):
        AnimateImage.execute(tiny_objects[2], images[:1, :8], "0", 2.75, 12.0)


def test_extend_says_where_old_and_new_meet(comfy_host):
    from comfyui_spacetime.nodes.tasks.along_time import ExtendVideo

    forward, joins = ExtendVideo.execute(clip(5), "forward", 1.0, 12.0, 4).result
    assert known(forward) == [0] * 5 + [1] * 3
    assert joins == "17"
    both, joins = ExtendVideo.execute(clip(5), "both", 1.0, 12.0, 4).result
    assert known(both) == [1] * 3 + [0] * 4 + [1] * 3
    assert joins == "9, 25"


@pytest.mark.parametrize(
    ("start", "end", "levels", "joins"),
    [
        (0.5, 1.0, [0, 0, 1, 1, 0], "5, 13"),  # frames 6 to 11 lie in the latents of frames 5 to 12
        (0.0, 0.08, [1, 0, 0, 0, 0], "1"),
        (0.08, 5 / 12, [0, 1, 0, 0, 0], "1, 5"),  # the frame at the end is kept
        (1.1, 0.0, [0, 0, 0, 0, 1], "13"),
        (1.0, 9.0, [0, 0, 0, 1, 1], "9"),
    ],
)
def test_a_retake_says_where_old_and_new_meet(comfy_host, start, end, levels, joins):
    from comfyui_spacetime.nodes.tasks.along_time import Retake

    made, where = Retake.execute(clip(5), start, end, 12.0, 4).result
    assert known(made) == levels
    assert where == joins
    half = torch.zeros(1, 64, 64)
    half[:, :, :32] = 1
    (region, _) = Retake.execute(clip(5), start, end, 12.0, 4, half).result
    assert known(region) == levels
    assert not region["noise_mask"][..., 4:].any()


def test_a_retake_of_nothing_is_refused(comfy_host):
    from comfyui_spacetime.nodes.tasks.along_time import Retake

    for start, end in ((1.5, 0.0), (1.0, 0.5), (1.0, 1.0)):
        with pytest.raises(ValueError, match=r"is no stretch of a clip of 1\.417 s"):
            Retake.execute(clip(5), start, end, 12.0, 4)
    with pytest.raises(ValueError, match="the mask is empty"):
        Retake.execute(clip(5), 0.5, 1.0, 12.0, 4, torch.zeros(1, 64, 64))


def test_connect_by_gap_and_by_blend(tiny_objects):
    from comfyui_spacetime.nodes.tasks.connect import ConnectVideos

    model = tiny_objects[0]
    gap, same, joins = ConnectVideos.execute(clip(3), clip(3, seed=1), "gap", 0.66, 0.8, 12.0, 4, model).result
    assert known(gap) == [0, 0, 0, 1, 1, 0, 0]
    assert same is model
    assert joins == "9, 17"
    blend, patched, joins = ConnectVideos.execute(clip(4), clip(4, seed=1), "blend", 1.0, 0.8, 12.0, 4, model).result
    assert known(blend) == [0, 0.422, 0.8, 0.422]
    assert patched is not model
    assert joins == "1, 13"
    with pytest.raises(ValueError, match="connect `model`"):
        ConnectVideos.execute(clip(4), clip(4), "blend", 1.0, 0.8, 12.0, 4)
    with pytest.raises(ValueError, match="12 and 24 frames per second"):
        ConnectVideos.execute(clip(4), clip(4), "gap", 1.0, 0.8, 12.0, 4, second_fps=24.0)
    with pytest.raises(ValueError, match="a gap of 0"):
        ConnectVideos.execute(clip(4), clip(4), "gap", 0.0, 0.8, 12.0, 4)


@pytest.mark.parametrize(("overlap", "frames"), [(2, 8), (5, 17)])
def test_a_blend_with_the_vae_fades_frame_by_frame(tiny_objects, overlap, frames):
    from comfyui_spacetime.nodes.tasks.connect import ConnectVideos

    model, vae = tiny_objects[0], tiny_objects[2]
    first, second = clip(5), clip(6, seed=1)
    made = ConnectVideos.execute(first, second, "blend", overlap / 3, 0.0, 12.0, 4, model, vae=vae).result[0]["samples"]
    one, other = (vae.decode(latent["samples"])[0] for latent in (first, second))
    other = other[1:][4 * overlap - frames :]  # without its first latent; a first frame fades into the latest of four
    for number in range(frames):
        u = (number + 1) / (frames + 1)
        weight = u * u * (3 - 2 * u)
        here = len(one) - frames + number
        one[here] = (1 - weight) * one[here] + weight * other[number]
    torch.testing.assert_close(made[:, :, 5 - overlap : 5], vae.encode(one)[:, :, 5 - overlap :])
    assert torch.equal(made[:, :, : 5 - overlap], first["samples"][:, :, : 5 - overlap])
    assert torch.equal(made[:, :, 5:], second["samples"][:, :, 1 + overlap :])


def test_a_loop_keeps_its_mask_or_closes_a_clip(tiny_objects):
    from comfyui_spacetime.nodes.tasks.loops import LoopVideo

    model = tiny_objects[0]
    _, latent, frames, joins = LoopVideo.execute(model, clip(8), "generate", 1.0, 12.0, 4, 0).result
    assert (frames, joins, known(latent)) == (32, "", [1] * 8)
    still = {**clip(8), "noise_mask": torch.ones(1, 1, 8, 8, 8)}
    still["noise_mask"][:, :, 0] = 0
    assert known(LoopVideo.execute(model, still, "generate", 1.0, 12.0, 4, 0).result[1]) == [0] + [1] * 7
    _, latent, frames, joins = LoopVideo.execute(model, clip(5), "close clip", 1.0, 12.0, 4, 0).result
    assert (frames, joins, known(latent)) == (28, "16", [0] * 4 + [1] * 3)
    with pytest.raises(ValueError, match="a loop of 1 latent"):
        LoopVideo.execute(model, clip(1), "generate", 1.0, 12.0, 4, 0)


def test_restyle_fill_and_outpaint(tiny_objects, monkeypatch):
    from comfyui_spacetime.nodes.host import messages
    from comfyui_spacetime.nodes.tasks.in_space import FillRegion, Outpaint, RestyleVideo

    said: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: said.append(text))
    model = tiny_objects[0]
    half = torch.zeros(1, 64, 64)
    half[:, :, :32] = 1
    _, latent = RestyleVideo.execute(model, clip(5), 0.5, 0.1, 0.7, 12.0, "gate", 4, half).result
    assert known(latent) == [0, 0.5, 0.5, 0, 0]
    assert not latent["noise_mask"][..., 4:].any()
    nothing = RestyleVideo.execute(model, clip(5), 0.5, 0.0, 0.0, 12.0, "gate", 4, torch.zeros(1, 64, 64)).result[1]
    assert not nothing["noise_mask"].any()
    assert "the mask is empty, so nothing changes" in said[-1]
    (latent,) = FillRegion.execute(clip(3), half, 4).result
    assert float(latent["noise_mask"].mean()) == 0.5
    latent, width, height = Outpaint.execute(clip(3), 16, 0, 16, 0, 0, 8).result
    assert (width, height) == (96, 64)
    assert latent["samples"].shape[-2:] == (8, 12)
    with pytest.raises(ValueError, match="multiple of 32"):
        Outpaint.execute(clip(3), 16, 0, 16, 0, 0, 32)
    assert Outpaint.execute(clip(3), 16, 0, 16, 0, 0, 0).result[1:] == (96, 64)
    other = {"samples": torch.zeros(1, 128, 2, 4, 4)}
    assert Outpaint.execute(other, 32, 0, 0, 0, 0, 0).result[1:] == (160, 128)
    with pytest.raises(ValueError, match="multiple of 32, the side of a latent here"):
        Outpaint.execute(other, 16, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="set pixels_per_latent"):
        Outpaint.execute({"samples": torch.zeros(1, 7, 2, 4, 4)}, 16, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="no video"):
        FillRegion.execute({"samples": torch.zeros(1, 4, 8, 8)}, half, 4)


def test_the_step_node_gives_what_ksampler_gives(tiny_objects):
    """A task with levels in between, under both."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import CFGGuider, Noise_RandomNoise

    from comfyui_spacetime.nodes.denoise import DenoiseStep, ForwardDiffusion
    from comfyui_spacetime.nodes.tasks.in_space import RestyleVideo
    from comfyui_spacetime.nodes.tokens import Patchify, Unpatchify
    from nodes import CLIPTextEncode, KSampler

    model, latent = RestyleVideo.execute(tiny_objects[0], clip(3), 0.6, 0.1, 0.0, 12.0, "clamp", 4).result
    prompt = CLIPTextEncode().encode(tiny_objects[1], "a red ball falls")[0]
    with torch.inference_mode():
        (whole,) = KSampler().sample(model, 3, 4, 2.0, "euler", "simple", prompt, prompt, latent)
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 4)
        guider = CFGGuider.execute(model, prompt, prompt, 2.0).result[0]
        (tokens,) = Patchify.execute(latent, 1, 2, 2).result
        (tokens,) = ForwardDiffusion.execute(tokens, Noise_RandomNoise(3), sigmas).result
        for _ in range(4):
            tokens, _, done = DenoiseStep.execute(tokens, guider, comfy.samplers.sampler_object("euler"), 1).result
        stepped = Unpatchify.execute(tokens).result[0]
    assert done
    assert torch.equal(stepped["samples"], whole["samples"])
    torch.testing.assert_close(whole["samples"][:, :, 0], latent["samples"][:, :, 0], atol=1e-5, rtol=1e-5)
    assert (whole["samples"][:, :, 1:] - latent["samples"][:, :, 1:]).abs().mean() > 0.05


def test_measures_of_a_loop_and_of_a_video(comfy_host):
    from comfyui_spacetime.nodes.measure import MeasureSeam, MeasureVideo

    wave = 0.5 + 0.4 * torch.sin(torch.arange(32) * 2 * torch.pi / 32)
    picture = wave[None, None, :, None].expand(1, 32, 32, 3)
    frames = torch.cat([picture.roll(4 * index, dims=2) for index in range(8)])
    report, seam, text, plot = MeasureSeam.execute(frames, "loop", "").result
    assert seam == pytest.approx(1, abs=1e-3)
    assert "seam 1" in text
    assert plot.shape[-1] == 3
    cut = torch.cat([frames[:4], 1 - frames[4:]])
    assert MeasureSeam.execute(cut, "joins", "4").result[1] > 1.2
    with pytest.raises(ValueError, match="whole numbers"):
        MeasureSeam.execute(cut, "joins", "four")
    report, flicker, drift, text, _ = MeasureVideo.execute(frames, 12.0, True).result
    assert report.value("flicker") == flicker
    assert drift < 1
    assert "warp error" in text


def assert_stopped_after_a_window(whole, given, settings):
    """Asked to stop while its first window is made, it gives that one."""
    from comfy_execution.utils import CurrentNodeContext

    from comfyui_spacetime.nodes.host import messages, stopping
    from comfyui_spacetime.nodes.tasks.long import ExtendFar

    here = {"prompt_id": "a prompt", "node_id": "5"}
    with pytest.MonkeyPatch.context() as patched, CurrentNodeContext(**here), torch.inference_mode():
        patched.setattr(messages, "show_text", lambda _, text: text.startswith("window") and stopping.stop(here))
        short, report, *_ = ExtendFar.execute(*given, *settings).result
    assert len(report.measures[0].per_frame) == 1
    assert torch.equal(short["samples"], whole["samples"][:, :, : 5 + 4])


def test_extend_far_goes_window_by_window_with_prompts_of_its_own(tiny_objects, monkeypatch):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import CFGGuider, Noise_RandomNoise

    from comfyui_spacetime.nodes.host import messages
    from comfyui_spacetime.nodes.tasks.long import ExtendFar
    from nodes import CLIPTextEncode

    said: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: said.append(text))
    model, encoder, _ = tiny_objects
    prompt = CLIPTextEncode().encode(encoder, "a red ball falls")[0]
    guider = CFGGuider.execute(model, prompt, prompt, 2.0).result[0]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 2)
    given = (guider, comfy.samplers.sampler_object("euler"), sigmas, Noise_RandomNoise(3), clip(5), "forward", 3.0)
    settings = (2.0, 1.0, 0.0, 12.0, 4)
    with torch.inference_mode():
        latent, report, drift, text, _ = ExtendFar.execute(*given, *settings).result
        other = ExtendFar.execute(*given, *settings, encoder, "a red ball falls\na blue cube spins\n").result[0]
    assert latent["samples"].shape[2] == 5 + 9
    torch.testing.assert_close(latent["samples"][:, :, :5], clip(5)["samples"], atol=1e-5, rtol=1e-5)
    assert said[:3] == ["window 1 of 3", "window 2 of 3", "window 3 of 3"]
    assert report.value("drift of the last window") == drift
    assert "3 windows of 7 latents, 3 of them known" in text
    assert_stopped_after_a_window(latent, given, settings)
    # the first window has the same prompt, the others another one
    torch.testing.assert_close(other["samples"][:, :, :8], latent["samples"][:, :, :8], atol=1e-4, rtol=1e-4)
    assert (other["samples"][:, :, 9:] - latent["samples"][:, :, 9:]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="connect the model's text encoder"):
        ExtendFar.execute(*given, *settings, None, "a red ball")
