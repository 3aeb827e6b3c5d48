"""A VIDEO of the host is read as the host itself reads it, as far as it shows files as a player does."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_spacetime.tests.media_files import corners, counting, encode, numbers


def smooth(count: int, height: int, width: int) -> list[np.ndarray]:
    """Colours that move."""
    y, x = np.mgrid[:height, :width]
    return [
        np.stack([128 + 90 * np.sin((x + 3 * i) / 17), 128 + 90 * np.cos(y / 13), 2.5 * i + 0 * x + 60], -1).astype(
            "u1"
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("size", [(64, 96), (46, 62), (720, 1280)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.mov"])
def test_an_ordinary_file_is_what_the_host_shows(comfy_host, tmp_path, name, size):
    from comfy_api.latest import InputImpl

    from comfyui_spacetime.nodes.host.vae.frames import open_frames

    codec = "libvpx-vp9" if name == "a.webm" else "h264"
    path = encode(tmp_path / name, smooth(3 if size[0] > 100 else 12, *size), 24, codec=codec)
    for source in (str(path), io.BytesIO(path.read_bytes())):
        video = InputImpl.VideoFromFile(source)
        theirs = video.get_components()
        ours = open_frames(video)
        pixels = torch.cat(list(ours.pieces()))
        assert pixels.shape == theirs.images.shape
        torch.testing.assert_close(pixels, theirs.images.float(), atol=1e-5, rtol=0)
        assert ours.fps == pytest.approx(float(theirs.frame_rate))


@pytest.mark.parametrize(("start", "duration"), [(0.5, 0), (0, 0.5), (1.0, 0.5), (1.04, 0.3)])
def test_a_trimmed_video_is_read_trimmed(comfy_host, tmp_path, start, duration):
    from comfy_api.latest import InputImpl

    from comfyui_spacetime.nodes.host.vae.frames import open_frames

    path = encode(
        tmp_path / "a.mp4", counting(40, 64, 64), 20, codec="h264", options={"crf": "1", "g": "10"}, sound=16000
    )
    video = InputImpl.VideoFromFile(str(path))
    if not hasattr(video, "as_trimmed"):
        pytest.skip("this host does not trim")
    trimmed = video.as_trimmed(start, duration, strict_duration=False)
    ours = open_frames(trimmed)
    theirs = trimmed.get_components()
    pixels = torch.cat(list(ours.pieces()))
    assert numbers(pixels) == numbers(theirs.images)
    heard = ours.sound().samples(0.25)
    wanted = theirs.audio["waveform"][0, :, : heard.shape[1]].numpy()
    assert np.abs(heard).max() == pytest.approx(np.abs(wanted).max(), rel=0.1)


def test_what_this_pack_does_not_know_of_a_video_the_host_reads(comfy_host, tmp_path):
    """A crop of later hosts, another pack's own kind."""
    from comfy_api.latest import InputImpl, Types

    from comfyui_spacetime.nodes.host.vae.frames import open_frames

    path = encode(tmp_path / "a.mp4", [corners(64, 96)] * 3, codec="h264")

    class Cropped(InputImpl.VideoFromFile):
        def get_components(self) -> Types.VideoComponents:
            whole = super().get_components()
            return Types.VideoComponents(images=whole.images[:, :32, :48], frame_rate=whole.frame_rate)

    def cropped_later(path: Path) -> object:
        video = InputImpl.VideoFromFile(str(path))
        video.__dict__["_VideoFromFile__crop"] = (0, 0, 48, 32)
        whole = video.get_components()
        part = Types.VideoComponents(images=whole.images[:, :32, :48], frame_rate=whole.frame_rate)
        video.__dict__["get_components"] = lambda: part
        return video

    for video in (Cropped(str(path)), cropped_later(path)):
        source = open_frames(video)
        assert (source.width, source.height) == (48, 32)
        assert float(torch.cat(list(source.pieces()))[..., 1:].max()) < 0.5  # the red quarter alone


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_channels_become_rgb_on_black(comfy_host, channels):
    from comfyui_spacetime.nodes.host.vae.frames import open_frames

    images = torch.full((5, 32, 32, channels), 0.5)
    source = open_frames(images)
    pixels = torch.cat(list(source.pieces()))
    assert pixels.shape == (5, 32, 32, 3)
    transparent = channels in (2, 4)
    assert float(pixels.max()) == (0.25 if transparent else 0.5)
    assert source.remarks() == (["what is transparent was laid on black"] if transparent else [])


def test_a_file_that_is_gone_or_broken_is_one_sentence(comfy_host, tmp_path):
    from comfyui_spacetime.nodes.host.vae.frames import open_frames, video_from_file

    (tmp_path / "broken.mp4").write_bytes(b"\x00" * 4000)
    for name in ("broken.mp4", "gone.mp4"):
        with pytest.raises(ValueError, match=rf"^{name}: it is no video that can be read") as found:
            open_frames(video_from_file(tmp_path / name))
        assert "Errno" not in str(found.value)
