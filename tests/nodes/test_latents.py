"""Loader and latent nodes: what goes in, what comes out, what is refused."""

from pathlib import Path

import pytest
import torch


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(34, 40, 64, 3, generator=torch.manual_seed(0))


@pytest.fixture
def temp(comfy_host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import folder_paths

    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    return tmp_path / "temp"


def video_file(images: torch.Tensor, folder: Path):
    """A VIDEO on disk with these frames."""
    from comfyui_spacetime.nodes.host.vae import frames as video

    folder.mkdir(exist_ok=True)
    with video.VideoWriter(12.0, crf=1) as writer:
        writer.write(images)
    return writer.video()


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"), [(0, 12, 1), (2.75, 12, 33), (1, 24, 25), (0.1, 12, 1), (1.41, 12, 17), (60, 12, 721)]
)
def test_empty_video_has_the_nearest_length_that_fits(comfy_host, seconds, fps, frames):
    from comfyui_spacetime.nodes.latents import EmptyVideo

    latent, rate, count = EmptyVideo.execute(100, 64, seconds, fps, 2).result
    assert (count, rate) == (frames, fps)
    assert latent["samples"].shape == (2, 16, 1 + (frames - 1) // 4, 8, 12)
    assert not latent["samples"].any()


def test_encode_trims_and_crops_and_says_so(tiny_objects, images, monkeypatch):
    from comfyui_spacetime.nodes.host import messages
    from comfyui_spacetime.nodes.latents import VAEEncode

    said = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: said.append(text))
    vae = tiny_objects[2]
    latent, fps, count = VAEEncode.execute(vae, images, 0).result
    assert (fps, count) == (12.0, 33)
    assert said == [
        "33 frames of 64 x 32; the last 1 of 34 dropped (1 + 4k fit); cropped from 64 x 40 (multiples of 16 fit)"
    ]
    torch.testing.assert_close(latent["samples"], vae.encode(images[:33, 4:36]), atol=1e-5, rtol=1e-5)
    assert VAEEncode.execute(vae, images, 10).result[2] == 9
    assert VAEEncode.execute(vae, images[:1], 0).result[0]["samples"].shape == (1, 16, 1, 4, 8)


def test_a_video_file_is_streamed_and_equals_its_frames(tiny_objects, images, temp, monkeypatch):
    from comfyui_spacetime.nodes.latents import VAEEncode

    vae = tiny_objects[2]
    clip = video_file(images, temp)
    frames = clip.get_components().images
    assert frames.shape == images.shape
    monkeypatch.setattr(type(clip), "get_components", lambda _: pytest.fail("the whole file was loaded"))
    latent, fps, count = VAEEncode.execute(vae, clip, 0).result
    assert (fps, count) == (12.0, 33)
    torch.testing.assert_close(
        latent["samples"], VAEEncode.execute(vae, frames, 0).result[0]["samples"], atol=1e-5, rtol=1e-5
    )


def test_decode_equals_core_decode_in_images_and_video(tiny_objects):
    from comfyui_spacetime.nodes.latents import VAEDecode

    vae = tiny_objects[2]
    latents = torch.randn(2, 16, 11, 6, 4, generator=torch.manual_seed(0))
    images, video = VAEDecode.execute(vae, {"samples": latents}, 12.5, "images and video").result
    torch.testing.assert_close(images, vae.decode(latents).flatten(0, 1), atol=1e-5, rtol=0)
    components = video.get_components()
    assert components.images is images
    assert float(components.frame_rate) == 12.5


def test_decode_to_a_file_gives_the_same_frames_and_no_images(tiny_objects, temp):
    from comfy_execution.graph import ExecutionBlocker

    from comfyui_spacetime.nodes.latents import VAEDecode

    smooth = torch.nn.functional.interpolate(
        torch.randn(1, 16, 3, 2, 2, generator=torch.manual_seed(0)), (10, 8, 8), mode="trilinear"
    )
    images, _ = VAEDecode.execute(tiny_objects[2], {"samples": smooth}, 12.0, "images and video").result
    nothing, video = VAEDecode.execute(tiny_objects[2], {"samples": smooth}, 12.0, "video file").result
    assert isinstance(nothing, ExecutionBlocker)
    assert video.get_frame_count() == 37
    assert [path.suffix for path in temp.iterdir()] == [".mp4"]
    # the file keeps colours at half resolution, and these random ones change with every pixel: compare block means
    means = [
        frames.unfold(1, 8, 8).unfold(2, 8, 8).mean(dim=(-2, -1)) for frames in (video.get_components().images, images)
    ]
    assert (means[0] - means[1]).abs().mean() < 0.02


def test_an_interrupted_decode_leaves_no_file(tiny_objects, temp):
    import comfy.model_management as manage

    from comfyui_spacetime.nodes.latents import VAEDecode

    manage.interrupt_current_processing(True)
    with pytest.raises(manage.InterruptProcessingException):
        VAEDecode.execute(tiny_objects[2], {"samples": torch.zeros(1, 16, 20, 4, 4)}, 12.0, "video file")
    assert not temp.exists() or not list(temp.iterdir())


def test_latents_of_another_model_are_refused(tiny_objects):
    from comfyui_spacetime.nodes.latents import VAEDecode

    for shape in ((1, 4, 8, 8), (1, 128, 2, 4, 4)):
        with pytest.raises(ValueError, match="use the VAE that belongs to the model"):
            VAEDecode.execute(tiny_objects[2], {"samples": torch.zeros(shape)}, 12.0, "images and video")


def test_another_core_vae_is_used_as_it_is(comfy_host, images):
    import comfy.sd
    from comfy.pixel_space_convert import PixelspaceConversionVAE

    from comfyui_spacetime.nodes.latents import VAEDecode, VAEEncode

    PixelspaceConversionVAE()
    vae = comfy.sd.VAE({"pixel_space_vae": torch.tensor(1.0)})
    latent, _, count = VAEEncode.execute(vae, images, 0).result
    assert latent["samples"].shape == (34, 3, 40, 64)
    assert count == 34
    assert VAEEncode.execute(vae, images, 5).result[2] == 5
    decoded, _ = VAEDecode.execute(vae, latent, 12.0, "images and video").result
    torch.testing.assert_close(decoded, images, atol=1e-5, rtol=0)


def test_a_video_that_is_too_small_is_refused(tiny_objects):
    from comfyui_spacetime.nodes.latents import VAEEncode

    with pytest.raises(ValueError, match="both sides need at least 16"):
        VAEEncode.execute(tiny_objects[2], torch.zeros(1, 8, 64, 3), 0)


def test_compare_reports_equal_and_different_videos(comfy_host, images, temp):
    from comfyui_spacetime.models.metrics.report import Report
    from comfyui_spacetime.nodes.compare import CompareVideos

    output = CompareVideos.execute(images, images)
    report, psnr, ssim, text = output.result
    assert psnr == float("inf")
    assert ssim == pytest.approx(1)
    assert output.ui["text"] == (text,)
    assert Report.from_json(report.to_json()) == report
    noisy = (images[:30, :, 4:60] + 0.1 * torch.randn(30, 40, 56, 3, generator=torch.manual_seed(1))).clamp(0, 1)
    report, psnr, ssim, text = CompareVideos.execute(noisy, images).result
    assert 20 < psnr < 24
    assert "the videos have 30 and 34 frames" in text
    assert "56 x 40 and 64 x 40" in text
    assert len(report.measures[0].per_frame) == 30
    flat = torch.full((5, 32, 32, 3), 0.4)
    assert CompareVideos.execute(video_file(flat, temp), flat).result[1] > 30


def test_compare_takes_more_videos_and_shows_each_as_a_file(comfy_host, images):
    import json
    from pathlib import Path

    import folder_paths

    from comfyui_spacetime.models.media.reader import open_file
    from comfyui_spacetime.nodes.compare import CompareVideos

    odd = images[:6, :33, :41]
    noisy = (odd + 0.1 * torch.randn(odd.shape, generator=torch.manual_seed(1))).clamp(0, 1)
    output = CompareVideos.execute(noisy, odd, odd, noisy)
    report = output.result[0]
    assert [one.name for one in report.measures[::2]] == ["PSNR", "PSNR of third", "PSNR of fourth"]
    assert report.value("PSNR of fourth") == report.value("PSNR") < report.value("PSNR of third") == float("inf")
    shown = output.ui["spacetime_videos"]
    assert [one["name"] for one in shown] == ["frames", "reference", "third", "fourth"]
    for one in shown:
        file = open_file(Path(folder_paths.get_temp_directory()) / one["filename"])
        assert (file.width, file.height) == (40, 32)
    json.dumps(output.ui["spacetime_measures"], allow_nan=False)  # browsers read no Infinity


def test_the_loader_lists_our_files_and_refuses_others(tiny_checkpoint, tmp_path, monkeypatch):
    import folder_paths
    from safetensors.torch import save_file

    from comfyui_spacetime.nodes.host import folders
    from comfyui_spacetime.nodes.loaders import LoadCheckpoint

    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    whole = folders.checkpoint_path(tiny_checkpoint).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({"head.modulation": torch.zeros(1)}, tmp_path / "wan.safetensors")
    names = LoadCheckpoint.define_schema().inputs[0].options
    assert names[0] == "spacetime-toy"
    assert {"tiny.safetensors", "cut.safetensors"} <= set(names)
    assert "wan.safetensors" not in names
    for name, message in (
        ("cut.safetensors", "not a whole safetensors file"),
        ("wan.safetensors", "Wan model; use Load Diffusion Model"),
        ("gone.safetensors", "no checkpoint 'gone.safetensors'"),
        ("../../../etc/passwd", "no checkpoint"),
    ):
        with pytest.raises(ValueError, match=message):
            LoadCheckpoint.execute(name, "auto")


def test_missing_weights_are_named(tiny_checkpoint, tmp_path):
    import dataclasses

    import folder_paths

    from comfyui_spacetime.models.checkpoints import load_checkpoint, save_checkpoint
    from comfyui_spacetime.nodes.host import folders
    from comfyui_spacetime.nodes.loaders import LoadCheckpoint

    folder_paths.add_model_folder_path("checkpoints", str(tmp_path))
    checkpoint = load_checkpoint(folders.checkpoint_path(tiny_checkpoint))
    state = {key: value for key, value in checkpoint.dit_state.items() if key != "blocks.1.mlp.down.weight"}
    save_checkpoint(tmp_path / "holed.safetensors", dataclasses.replace(checkpoint, dit_state=state))
    save_checkpoint(tmp_path / "vae.safetensors", dataclasses.replace(checkpoint, dit_state={}, dit_config=None))
    with pytest.raises(ValueError, match=r"1 weights are missing \(first: blocks\.1\.mlp\.down\.weight\)"):
        LoadCheckpoint.execute("holed.safetensors", "fp32")
    with pytest.raises(ValueError, match="holds a VAE but no transformer"):
        LoadCheckpoint.execute("vae.safetensors", "fp32")


def test_the_loader_notices_a_changed_file(tiny_checkpoint):
    from comfyui_spacetime.nodes.host import folders
    from comfyui_spacetime.nodes.loaders import LoadCheckpoint

    before = LoadCheckpoint.fingerprint_inputs(tiny_checkpoint, "auto")
    assert before == LoadCheckpoint.fingerprint_inputs(tiny_checkpoint, "auto")
    folders.checkpoint_path(tiny_checkpoint).touch()
    assert before != LoadCheckpoint.fingerprint_inputs(tiny_checkpoint, "auto")


def test_a_failing_module_does_not_take_the_others_down(comfy_host, monkeypatch, caplog):
    import comfyui_spacetime.nodes as pack

    monkeypatch.setattr(pack, "MODULES", ("loaders", "no_such_module", "latents"))
    ids = [node.GET_SCHEMA().node_id for node in pack.load_nodes()]
    assert ids == [
        "SpacetimeLoadCheckpoint",
        "SpacetimeLoadDiT",
        "SpacetimeEmptyVideo",
        "SpacetimeVAEEncode",
        "SpacetimeVAEDecode",
    ]
    assert "no_such_module" in caplog.text


def test_a_video_unlike_those_of_the_training_is_announced(tiny_objects, monkeypatch):
    """On Empty Video before the run, and by whatever samples it; nothing is said of a size that the model knows."""
    from comfyui_spacetime.models.trained_on import TrainedOn
    from comfyui_spacetime.nodes.host import messages
    from comfyui_spacetime.nodes.host.model import model as host_model
    from comfyui_spacetime.nodes.latents import EmptyVideo
    from nodes import CLIPTextEncode, KSampler

    shown: list[str] = []
    said: list[str] = []
    monkeypatch.setattr(messages, "show_text", lambda _, text: shown.append(text))
    monkeypatch.setattr(host_model, "say_while_running", lambda text: said.append(text) if text else None)
    model = tiny_objects[0].clone()
    model.set_attachments(host_model.TRAINED_ON, TrainedOn.parse(["64x48x9"]))
    prompt = CLIPTextEncode().encode(tiny_objects[1], "a red ball")[0]
    for seconds in (0.75, 1.5):
        latent, _, _ = EmptyVideo.execute(64, 48, seconds, 12.0, 1, model).result
        with torch.inference_mode():
            KSampler().sample(model, 1, 1, 1.0, "euler", "simple", prompt, prompt, latent)
    assert shown[0] == "9 frames of 64 x 48, 0.75 s"
    assert "1.417 s\nthis model was trained on 64 x 48 pixels, up to 9 frames; 17 frames are more" in shown[1]
    assert len(said) == 1
    assert "17 frames are more than it knows" in said[0]


class Described:
    """A MODEL or VAE as far as its latents go."""

    def __init__(self, **said):
        self.__dict__.update(said)

    def get_model_object(self, _name):
        return self


def empty(model=None, vae=None, width=100, height=64, seconds=1.0):
    from comfyui_spacetime.nodes.latents import EmptyVideo

    return EmptyVideo.execute(width, height, seconds, 24.0, 1, model, vae).result[0]["samples"].shape


@pytest.mark.parametrize("name", ["wan2.1", "wan2.2", "ltx"])
def test_an_empty_video_is_what_its_vae_decodes_to_that_size(comfy_host, name):
    from comfyui_spacetime.nodes.host.vae.others import compression_of, decode_clip
    from comfyui_spacetime.tools.bench import tiny_vaes

    vae = tiny_vaes.vae(name)
    shape = empty(vae=vae)
    compression = compression_of(vae)
    frames = decode_clip(vae, torch.zeros(shape))
    assert shape[1] == vae.latent_channels
    assert len(frames) == compression.nearest(1.0, 24.0)
    assert frames.shape[1:3] == (compression.nearest_side(64), compression.nearest_side(100))


def test_latents_have_the_channels_of_their_model_and_these_must_be_the_vaes(comfy_host):
    from comfyui_spacetime.models.geometry import Compression
    from comfyui_spacetime.nodes.host.vae.others import latents_of

    wan = Described(latent_channels=48, spacial_downscale_ratio=16, temporal_downscale_ratio=4)
    assert latents_of(wan, None) == (48, Compression(4, 16))
    assert latents_of(None, None) == (16, Compression(4, 8))
    assert empty() == (1, 16, 7, 8, 12)
    with pytest.raises(ValueError, match="48 channels and the VAE makes 16"):
        latents_of(wan, Described(latent_channels=16))


def test_an_image_vae_decodes_every_frame_of_a_video(comfy_host):
    import comfy.sd
    import comfy.taesd.taesd

    from comfyui_spacetime.nodes.host.vae.others import decode_clip, frames_per_latent
    from comfyui_spacetime.tools.bench.tiny_models import random_state

    vae = comfy.sd.VAE(sd=random_state(comfy.taesd.taesd.TAESD(latent_channels=4), 0))
    clip = torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    frames = decode_clip(vae, clip)
    assert frames_per_latent(vae) == 1
    assert frames.shape == (3, 32, 48, 3)
    for index, frame in enumerate(frames):
        torch.testing.assert_close(frame, vae.decode(clip[:, :, index])[0], rtol=1e-3, atol=1e-3)
