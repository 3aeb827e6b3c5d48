"""Models that make sound and picture together (LTX-2, MiniMax-H3) through our nodes, from a video to a video."""

from pathlib import Path
from typing import Any

import pytest
import torch

from comfyui_spacetime.tools.bench import exactness, families, tiny_vaes
from comfyui_spacetime.tools.bench.families import FAMILIES, latent

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
FPS = {"ltx-2": 25.0, "minimax h3": 24.0}
SOUNDING = [name for name, family in FAMILIES.items() if family.sound is not None]


@pytest.fixture(autouse=True)
def said(monkeypatch) -> Any:
    from comfyui_spacetime.nodes.host import messages

    texts: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: texts.append(text))
    with torch.inference_mode():
        yield texts


@pytest.fixture(params=SOUNDING)
def name(request, comfy_host) -> str:
    return there(request.param)


def there(name: str) -> str:
    why = families.lacking(name)
    if why:
        pytest.skip(why)
    return name


@pytest.fixture(scope="module")
def ltx_vaes(comfy_host) -> tuple[Any, Any]:
    """Tiny VAEs of LTX-2's picture (that of LTX-Video) and sound."""
    there("ltx-2")
    return tiny_vaes.vae("ltx"), tiny_vaes.ltx_audio()


def video_with_sound(frames: int, fps: float, *, seconds: float | None = None, rate: int = 24000) -> Any:
    """A VIDEO of noise, with a tone that rises; seconds 0: silent."""
    from comfy_api.latest import InputImpl, Types

    from comfyui_spacetime.models.media.writer import rational

    length = frames / fps if seconds is None else seconds
    time = torch.arange(round(length * rate)) / rate
    tone = 0.4 * torch.sin(2 * torch.pi * (200 + 150 * time) * time).expand(1, 2, -1)
    audio = {"waveform": tone, "sample_rate": rate} if length else None
    images = torch.rand(frames, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    parts = Types.VideoComponents(images=images, frame_rate=rational(fps), audio=audio)
    return InputImpl.VideoFromComponents(parts)


def streams(value: dict[str, Any], key: str = "samples") -> list[torch.Tensor]:
    return list(value[key].unbind())


def run(name: str, given: dict[str, Any], model: Any = None) -> dict[str, Any]:
    guider = families.guider(name, model=model)
    sigmas = exactness.schedule(guider, 2)
    return {**given, "samples": exactness.core_run(guider, exactness.sampler("euler"), sigmas, given)[0]}


def test_empty_video_and_animate_image_make_room_for_sound(name, ltx_vaes):
    from comfyui_spacetime.models.streams import LAYOUTS
    from comfyui_spacetime.nodes.latents import EmptyVideo
    from comfyui_spacetime.nodes.tasks.along_time import AnimateImage

    model, fps = families.family_model(name), FPS[name]
    picture, sound = FAMILIES[name].latent, FAMILIES[name].sound
    layout = LAYOUTS[picture[0], sound[0]]
    empty, _, frames = EmptyVideo.execute(64, 64, 1.0, fps, 1, model).result
    seen, heard = streams(empty)
    assert seen.shape[:2] == (1, picture[0])
    assert heard.shape[:2] == (1, sound[0])
    assert layout.seen(heard).shape[2:] == (layout.length(frames, fps), layout.height, 1)
    assert all(bool((mask == 1).all()) for mask in streams(empty, "noise_mask"))
    made = run(name, {**empty, "samples": empty["samples"], "noise_mask": empty["noise_mask"]})
    assert all(bool(one.any()) for one in streams(made))
    if name != "ltx-2":
        return
    animated = AnimateImage.execute(ltx_vaes[0], torch.rand(1, 64, 64, 3), "0", 1.0, fps, model).result[0]
    mask, of_sound = streams(animated, "noise_mask")
    assert mask.amax(dim=(0, 1, 3, 4)).tolist() == [0.0] + [1.0] * (mask.shape[2] - 1)
    assert bool((of_sound == 1).all())


def test_a_video_file_goes_through_both_vaes_and_back(ltx_vaes, said):
    from comfyui_spacetime.nodes.latents import VAEDecode, VAEEncode

    vae, audio_vae = ltx_vaes
    encoded, fps, count = VAEEncode.execute(vae, video_with_sound(17, 25.0), 0, audio_vae).result
    picture, sound = streams(encoded)
    assert (picture.shape[2], sound.shape) == (3, (1, 8, 17, 16))
    assert "noise_mask" not in encoded
    assert "its sound was encoded too" in said[-1]
    for output in ("images and video", "video file"):
        video = VAEDecode.execute(vae, encoded, fps, output, audio_vae=audio_vae).result[1]
        audio = video.get_components().audio
        assert audio["sample_rate"] == 24000
        assert audio["waveform"].shape[-1] / 24000 == pytest.approx(count / fps, abs=0.06)
        assert float(audio["waveform"].std()) > 1e-3
    VAEDecode.execute(vae, encoded, fps, "images and video")
    assert "connect audio_vae" in said[-1]


def test_a_video_goes_through_the_vaes_of_minimax_h3_and_back(said):
    """Its own rhythm of frames in the picture, left and right in the sound."""
    from comfyui_spacetime.nodes.latents import VAEDecode, VAEEncode
    from comfyui_spacetime.nodes.tasks.along_time import AnimateImage

    there("minimax h3")
    vae, audio_vae = tiny_vaes.vae("h3"), tiny_vaes.vae("h3 sound")
    encoded, fps, count = VAEEncode.execute(vae, video_with_sound(25, 24.0), 0, audio_vae).result
    picture, sound = streams(encoded)
    assert (count, picture.shape, sound.shape) == (22, (1, 24, 7, 4, 4), (1, 32, 2, 37))
    assert "its sound was encoded too" in said[-1]
    images, video = VAEDecode.execute(vae, encoded, fps, "images and video", audio_vae=audio_vae).result
    assert images.shape == (22, 64, 64, 3)
    audio = video.get_components().audio
    assert audio["sample_rate"] == 32000
    assert audio["waveform"].shape[-1] / 32000 == pytest.approx(count / fps, abs=0.06)
    assert float(audio["waveform"].std()) > 1e-3
    model = families.family_model("minimax h3")
    animated, _, frames = AnimateImage.execute(vae, images[:1], "0", 1.0, fps, model).result
    mask, of_sound = streams(animated, "noise_mask")
    assert (frames, mask.amax(dim=(0, 1, 3, 4)).tolist()) == (22, [0.0] + [1.0] * 6)
    assert bool((of_sound == 1).all())
    with pytest.raises(ValueError, match="need latents of one length"):
        VAEDecode.execute(vae, encoded, fps, "images and video", True, audio_vae)


def test_a_silent_video_gets_room_for_sound_and_keeps_its_picture(ltx_vaes, said):
    from comfyui_spacetime.nodes.latents import VAEEncode

    vae, audio_vae = ltx_vaes
    encoded = VAEEncode.execute(vae, video_with_sound(17, 25.0, seconds=0), 0, audio_vae).result[0]
    mask, of_sound = streams(encoded, "noise_mask")
    assert bool((mask == 0).all())
    assert bool((of_sound == 1).all())
    assert "room for one was made" in said[-1]
    made = run("ltx-2", encoded)
    torch.testing.assert_close(streams(made)[0], streams(encoded)[0], atol=2e-4, rtol=2e-4)
    assert bool(streams(made)[1].any())


def test_a_loop_of_sound_begins_where_it_ends(ltx_vaes):
    """Decoded from any place on, a loop sounds the same there."""
    from comfyui_spacetime.nodes.host.vae.heard import decode_sound

    sound = torch.randn(1, 8, 40, 16, generator=torch.Generator().manual_seed(1))
    picture = torch.zeros(1, 128, 5, 2, 2)
    one = decode_sound(ltx_vaes[1], sound, picture, cyclic=True)
    other = decode_sound(ltx_vaes[1], sound.roll(10, dims=2), picture, cyclic=True)
    samples = [torch.from_numpy(made.samples(40 / 25)) for made in (one, other)]
    assert samples[0].shape == (2, 24000 * 40 // 25)
    torch.testing.assert_close(samples[0].roll(24000 * 10 // 25, dims=1), samples[1], atol=2e-3, rtol=0)


def test_extended_known_sound_and_picture_stay_and_time_fits(name):
    from comfyui_spacetime.nodes.tasks.along_time import ExtendVideo

    given = latent(name)
    longer, joins = ExtendVideo.execute(given, "forward", 0.7, FPS[name], 0).result
    made = run(name, longer)
    for before, after, axis in zip(streams(given), streams(made), (2, 2 if name == "ltx-2" else 3), strict=True):
        length = before.shape[axis]
        assert after.shape[axis] > length
        torch.testing.assert_close(after.narrow(axis, 0, length), before, atol=4e-3, rtol=4e-3)
    again = ExtendVideo.execute(made, "forward", 0.7, FPS[name], 0).result[0]
    assert float(streams(again, "noise_mask")[0][:, :, : streams(made)[0].shape[2]].max()) == 0, "sampled: all known"
    assert int(joins) > 1


def test_an_fps_that_does_not_fit_is_said(name):
    from comfyui_spacetime.nodes.tasks.along_time import ExtendVideo

    with pytest.raises(ValueError, match=r"set fps to that of the clip \((25|23\.8)\)"):
        ExtendVideo.execute(latent(name), "forward", 0.7, 12.0, 0)


def test_change_levels_mean_the_same_in_both():
    """gate: what has not opened yet is clean in the picture and in the sound. MiniMax-H3 pools levels by itself."""
    name = there("ltx-2")
    from comfyui_spacetime.models.streams import apart
    from comfyui_spacetime.nodes.host.model.levels import with_levels

    given = latent(name, masked=True)
    model = with_levels(families.family_model(name), "gate")
    seen: list[torch.Tensor] = []

    def apply_model(executor: Any, x: torch.Tensor, *rest: Any, **named: Any) -> Any:
        seen.append(x.clone())
        return executor(x, *rest, **named)

    import comfy.patcher_extension

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, "seen", apply_model)
    run(name, given, model)
    shown = apart(seen[0][:1], [one.shape for one in streams(given)])
    for stream, mask, clean in zip(shown, streams(given, "noise_mask"), streams(given), strict=True):
        closed = ((mask < 1) & (mask > 0)).expand_as(clean)
        assert bool(closed.any())
        torch.testing.assert_close(stream[closed], clean[closed], atol=1e-3, rtol=1e-3)


def test_a_loop_rolls_both_by_the_same_share_of_the_circle(name):
    from comfyui_spacetime.models.streams import joint
    from comfyui_spacetime.nodes.host.model.circle import Circle

    picture, sound = streams(latent(name))
    shapes = [picture.shape, sound.shape]
    circle = Circle.of(joint([picture, sound]), shapes)
    axis = 2 if name == "ltx-2" else 3
    rolled = circle.rolled(joint([picture, sound]), 2)
    length = sound.shape[axis]
    expected = joint([picture.roll(2, 2), sound.roll(round(2 * length / picture.shape[2]), axis)])
    assert torch.equal(rolled, expected)
    assert torch.equal(circle.rolled(rolled, -2), joint([picture, sound]))
    mask = torch.rand(1, 1, *sound.shape[2:])
    assert torch.equal(
        circle.condition("audio_denoise_mask", mask, 2), mask.roll(round(2 * length / picture.shape[2]), axis)
    )
    assert circle.condition("c_crossattn", 5, 2) == 5


def test_a_run_is_saved_and_goes_on_exactly(name):
    guider, given = families.guider(name), latent(name, masked=True)
    chosen, sigmas = exactness.sampler("spacetime unipc"), exactness.schedule(guider, 3)
    reference = exactness.core_run(guider, chosen, sigmas, given)
    assert exactness.same(exactness.stepped(guider, chosen, sigmas, given, 1, exactness.saved_and_loaded), reference)


def times_of(name: str) -> tuple[int, int]:
    """The axis of time of picture and sound."""
    return 2, 2 if name == "ltx-2" else 3


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_extend_far_takes_sound_along(name, direction, said):
    """Several windows: what was known stays, both streams are as long as the time says, and nothing is left open."""
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.models.streams import layout_of
    from comfyui_spacetime.nodes.host.time import CHANNELS
    from comfyui_spacetime.nodes.tasks.long import ExtendFar

    given, guider = latent(name), families.guider(name)
    fps = FPS[name]
    settings = (guider, exactness.sampler("euler"), exactness.schedule(guider, 2), Noise_RandomNoise(1), given)
    made = ExtendFar.execute(*settings, direction, 2.0, 0.9, 0.3, 0.3, fps, 0).result[0]
    assert "noise_mask" not in made
    assert sum("window" in text for text in said) > 1
    picture, sound = streams(made)
    layout, time = layout_of(picture, sound), CHANNELS[picture.shape[1]]
    frames = time.count(picture.shape[2])
    assert time.fits(picture.shape[2])
    assert frames - time.count(FAMILIES[name].latent[1]) == pytest.approx(2.0 * fps, abs=sum(time.rest) / 2)
    assert layout.seen(sound).shape[2] == pytest.approx(frames / fps * layout.rate, abs=1.01)
    lost = int(direction == "backward" and bool(time.head))
    for before, after, axis in zip(streams(given), (picture, sound), times_of(name), strict=True):
        if axis == 2 and before.ndim == 5:
            kept = before[:, :, lost:]
            here = after[:, :, : kept.shape[2]] if direction == "forward" else after[:, :, -kept.shape[2] :]
            assert torch.equal(here, kept)
        elif direction == "forward":
            assert torch.equal(after.narrow(axis, 0, before.shape[axis]), before)
        assert all(bool(one.any()) for one in after.unbind(axis))


def test_extend_far_wants_sound_that_is_there(name):
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    from comfyui_spacetime.nodes.latents import EmptyVideo
    from comfyui_spacetime.nodes.tasks.long import ExtendFar

    guider, silent = families.guider(name), latent(name)
    empty = EmptyVideo.execute(64, 64, 1.0, FPS[name], 1, families.family_model(name)).result[0]
    picture, mask = streams(empty)[0].normal_(), torch.zeros_like(streams(empty, "noise_mask")[0])
    pairs = ([picture, streams(empty)[1]], [mask, streams(empty, "noise_mask")[1]])
    samples, masks = (type(silent["samples"])(list(pair)) for pair in pairs)
    with pytest.raises(ValueError, match="100% of this clip's sound is still to be generated: sample it before"):
        ExtendFar.execute(
            guider,
            exactness.sampler("euler"),
            exactness.schedule(guider, 2),
            Noise_RandomNoise(1),
            {"samples": samples, "noise_mask": masks},
            "forward",
            2.0,
            0.9,
            0.3,
            0.3,
            FPS[name],
            0,
        )


class Clip:
    """A text encoder: the same text, the same conditioning."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> Any:
        return families.conditioning(self.name, len(text))


def prompted(name: str, conditioning: Any, given: dict[str, Any], cfg: float = 1.0, model: Any = None) -> list[Any]:
    """Both streams of a run of one step, so that no place has heard of another through the steps."""
    guider = families.guider(name, cfg, model)
    guider.set_conds(conditioning, families.conditioning(name, 9))
    sigmas = torch.tensor([1.0, 0.0])
    return exactness.core_run(guider, exactness.sampler("euler"), sigmas, given)[0].unbind()


def test_prompts_over_time_hold_in_picture_and_sound(name, said):
    from comfyui_spacetime.nodes.prompts import PromptOverTime

    model, clip, given, fps = families.family_model(name), Clip(name), latent(name), FPS[name]
    seconds = {"ltx-2": 17, "minimax h3": 22}[name] / fps
    turn = seconds / 2
    both = PromptOverTime.execute(model, clip, given, f"0: first\n{turn:.3f}: another", 0.0, fps, 0).result[0]
    assert "masks mix its answers" in said[-1]
    made, one, other = (
        prompted(name, each, given)
        for each in (both, *(clip.encode_from_tokens_scheduled(text) for text in ("first", "another")))
    )
    for mixed, first, second, axis in zip(made, one, other, times_of(name), strict=True):
        length = mixed.shape[axis]
        begin, end = (slice(0, length // 3), slice(-(length // 3), None))
        for part, expected, unlike in ((begin, first, second), (end, second, first)):
            here, right, wrong = (value.movedim(axis, 0)[part] for value in (mixed, expected, unlike))
            torch.testing.assert_close(here, right, atol=1e-4, rtol=1e-4)
            assert not torch.allclose(here, wrong, atol=1e-3)


def test_a_region_of_prompts_is_heard_as_much_as_it_covers(name):
    from comfyui_spacetime.nodes.prompts import PromptOverTime

    model, clip, given = families.family_model(name), Clip(name), latent(name)
    base, whole = (clip.encode_from_tokens_scheduled(text) for text in ("first", "another"))
    half = torch.zeros(1, 8, 8)
    half[:, :4] = 1
    placed = PromptOverTime.execute(model, clip, given, "0: another", 0.0, FPS[name], 0, base, half).result[0]
    made, one, other = (prompted(name, each, given) for each in (placed, base, whole))
    torch.testing.assert_close(made[1], (one[1] + other[1]) / 2, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(made[0][..., :2, :], other[0][..., :2, :], atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(made[0][..., 2:, :], one[0][..., 2:, :], atol=1e-3, rtol=1e-3)


def test_guidance_over_time_guides_picture_and_sound(name):
    from comfyui_spacetime.nodes.prompts import GuidanceOverTime

    model, given, fps = families.family_model(name), latent(name), FPS[name]
    positive = families.conditioning(name, 1)
    flat = GuidanceOverTime.execute(model, "0: 5", fps, 0).result[0]
    rising = GuidanceOverTime.execute(model, "0: 5\n0.5: 1", fps, 0).result[0]
    plain = prompted(name, positive, given, 5.0)
    for one, other in zip(prompted(name, positive, given, 2.0, flat), plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    unguided = prompted(name, positive, given, 1.0)
    for one, begin, end, axis in zip(
        prompted(name, positive, given, 2.0, rising), plain, unguided, times_of(name), strict=True
    ):
        torch.testing.assert_close(one.movedim(axis, 0)[-1], end.movedim(axis, 0)[-1], atol=1e-3, rtol=1e-3)
        first = [float((one.movedim(axis, 0)[0] - value.movedim(axis, 0)[0]).abs().mean()) for value in (begin, end)]
        assert first[0] < first[1]


def test_what_cannot_take_sound_says_so(name, tiny_objects):
    from comfyui_spacetime.nodes.packing import PackClips

    given = latent(name)
    with pytest.raises(ValueError, match="Pack Clips takes pictures alone"):
        PackClips.execute(tiny_objects[0], given, given)
    with pytest.raises(ValueError, match="this model makes pictures alone"):
        exactness.stepped(families.guider("ltx-video"), exactness.sampler("euler"), torch.tensor([1.0, 0.0]), given)
    picture = {"samples": streams(given)[0]}
    guider = families.guider(name)
    with pytest.raises(ValueError, match="makes picture and sound and these tokens hold a picture alone"):
        exactness.stepped(guider, exactness.sampler("euler"), exactness.schedule(guider, 2), picture)


def test_vaes_that_do_not_belong_to_the_sound_are_refused(ltx_vaes):
    from comfyui_spacetime.nodes.host.vae.heard import decode_sound
    from comfyui_spacetime.nodes.latents import VAEEncode

    wan = tiny_vaes.vae("wan2.1")
    with pytest.raises(ValueError, match="belong to a model of pictures alone"):
        VAEEncode.execute(wan, video_with_sound(9, 25.0), 0, ltx_vaes[1])
    with pytest.raises(ValueError, match="connect the audio VAE that belongs to the model"):
        decode_sound(ltx_vaes[1], torch.zeros(1, 32, 2, 37), torch.zeros(1, 24, 7, 4, 4))


@pytest.mark.parametrize("jump", ["nothing", "loudness", "pitch"])
def test_measure_seam_hears_a_join(comfy_host, jump, tmp_path: Path):
    from comfy_api.latest import InputImpl, Types

    from comfyui_spacetime.models.media.writer import rational
    from comfyui_spacetime.nodes.measure import MeasureSeam

    rate, time = 24000, torch.arange(2 * 24000) / 24000
    noise = 0.02 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    tone = 0.3 * torch.sin(2 * torch.pi * 300 * time) + noise
    second = time >= 1
    if jump == "loudness":
        tone = torch.where(second, 0.1 * tone, tone)
    if jump == "pitch":
        tone = torch.where(second, 0.3 * torch.sin(2 * torch.pi * 1500 * time) + noise, tone)
    images = torch.rand(50, 32, 32, 3)
    audio = {"waveform": tone.expand(1, 2, -1), "sample_rate": rate}
    video = InputImpl.VideoFromComponents(Types.VideoComponents(images=images, frame_rate=rational(25.0), audio=audio))
    report = MeasureSeam.execute(video, "joins", "25").result[0]
    loudness, spectrum = (report.value(f"sound seam, {kind}") for kind in ("loudness", "spectrum"))
    if jump == "nothing":
        assert max(loudness, spectrum) < 4
    else:
        assert spectrum > 4
        assert (loudness > 10) == (jump == "loudness")
