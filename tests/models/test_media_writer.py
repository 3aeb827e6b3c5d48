"""The one writer: whole files or none, the right colours, and the sound in its place."""

import ast
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from comfyui_spacetime.models.media.reader import images, open_file
from comfyui_spacetime.models.media.sound import Sound
from comfyui_spacetime.models.media.writer import Mp4, mp4_writer, rational
from comfyui_spacetime.tests.media_files import corners, counting, encode, numbers, tone

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, frames: list[np.ndarray], fps: float = 12.0, **more: object) -> Path:
    with mp4_writer(path, fps, **more) as file:
        for frame in frames:
            file.write(frame[None])
    return path


@pytest.mark.parametrize("height", [64, 720])
def test_what_is_written_is_read_again_in_its_colours(tmp_path, height):
    path = write(tmp_path / "a.mp4", [corners(height, 96)] * 3, crf=1)
    found = torch.cat(list(images(open_file(path), 8))).numpy()
    quarter = height // 4
    for y, x in ((quarter, 24), (quarter, -24), (-quarter, 24), (-quarter, -24)):
        np.testing.assert_allclose(found[1, y, x] * 255, corners(height, 96)[y, x], atol=4)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        tags = [stream.codec_context.colorspace, stream.codec_context.color_primaries, stream.codec_context.color_trc]
        assert tags == [1, 1, 1]
        next(container.decode(stream))


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), 12, 12.5, 1, 120, 29.97])
def test_the_rate_is_kept(tmp_path, rate):
    path = write(tmp_path / "a.mp4", counting(20), float(rate), crf=1)
    file = open_file(path)
    assert file.fps == rational(float(rate))
    assert float(file.fps) == pytest.approx(float(rate), abs=1e-9)
    assert numbers(torch.cat(list(images(file, 8)))) == list(range(20))


class _Full:
    """A container whose disk is full."""

    def __init__(self, container: object) -> None:
        self._container = container
        self.closed = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._container, name)

    def mux(self, packets: list[object]) -> None:
        if packets:
            raise av.error.OSError(28, "No space left on device")

    def close(self) -> None:
        self.closed = True
        self._container.close()


@pytest.mark.parametrize("when", ["on the way", "last flush", "close"])
def test_whatever_fails_nothing_stays_open_or_behind(tmp_path, monkeypatch, when):
    """Also at the last flush, where frames that the encoder still held are written."""
    opened = []
    begin = Mp4._open

    def spied(self: Mp4, width: int, height: int) -> None:
        begin(self, width, height)
        self._container = _Full(self._container)
        opened.append(self._container)
        if when == "close":
            self._container.mux = lambda _: None
            self._container.close = lambda: (_ for _ in ()).throw(av.error.OSError(28, "No space left on device"))

    monkeypatch.setattr(Mp4, "_open", spied)
    many = 200 if when == "on the way" else 1  # the encoder holds one frame back to the end
    with pytest.raises((ValueError, OSError), match="the disk is full: free some space"):
        write(tmp_path / "a.mp4", counting(1) * many)
    assert opened
    assert when == "close" or opened[0].closed
    assert list(tmp_path.iterdir()) == []


def interrupted(path: Path) -> None:
    with mp4_writer(path, 12) as file:
        file.write(np.stack(counting(4)))
        raise KeyboardInterrupt


def test_the_file_before_stays_when_the_new_one_is_interrupted(tmp_path):
    path = write(tmp_path / "a.mp4", counting(4))
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize(("frames", "message"), [([], "no frames to write"), ([np.zeros((3, 4, 3), np.uint8)], "even")])
def test_what_cannot_be_written_is_one_sentence(tmp_path, frames, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.mp4", frames)
    assert not list(tmp_path.iterdir())


def heard(path: Path) -> tuple[np.ndarray, int]:
    """The sound of a file, (channels, samples), with silence from the file's beginning to its first sample."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        frames = list(container.decode(stream))
        late = round((frames[0].time or 0) * stream.rate)
        samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    return np.pad(samples, ((0, 0), (max(0, late), 0)))[:, max(0, -late) :], stream.rate


@pytest.mark.parametrize("rate", [44100, 48000, 22050])
def test_sound_goes_along_to_the_end_of_the_frames(tmp_path, rate):
    source = encode(tmp_path / "a.mkv", counting(36), 12, sound=rate)
    sound = Sound.of_file(source, 0.0)
    assert (sound.rate, sound.channels) == (rate, 2)
    path = write(tmp_path / "b.mp4", counting(24), sound=sound)
    samples, found_rate = heard(path)
    assert found_rate == rate
    assert samples.shape[1] / rate == pytest.approx(2.0, abs=0.06)
    true = tone(3.0, rate).to_ndarray()
    middle = slice(rate // 2, rate)
    delays = [np.corrcoef(samples[0, middle], true[0, rate // 2 - d : rate - d])[0, 1] for d in range(rate // 440 + 1)]
    assert max(delays) > 0.99
    assert np.abs(samples[1, middle]).max() == pytest.approx(np.abs(samples[0, middle]).max() / 2, rel=0.05)


@pytest.mark.parametrize("begin", [-0.25, 0.0, 0.5, 3.25])
def test_a_click_stays_where_it_was_seen(tmp_path, begin):
    """The sound is counted from the first picture, wherever the file's clock has put that."""
    rate = 8000
    click = np.zeros((1, 5 * rate), np.float32)
    click[:, 4 * rate : 4 * rate + 80] = 0.9
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=rate, layout="mono")
        video = container.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 60, 40, "yuv420p"
        frame = av.AudioFrame.from_ndarray(click, format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        container.mux(video.encode(av.VideoFrame.from_ndarray(counting(1)[0], format="rgb24")))
        container.mux(video.encode(None))
    sound = Sound.of_file(tmp_path / "a.mkv", begin)
    samples = sound.samples(6.0)
    assert samples.shape == (1, 6 * rate)
    assert int(np.abs(samples[0]).argmax()) / rate == pytest.approx(4.0 - begin, abs=0.011)


def test_an_odd_rate_and_many_channels_are_mixed(tmp_path):
    wave = np.stack([np.sin(np.arange(30000) / 9)] * 8).astype(np.float32)
    path = write(tmp_path / "a.mp4", counting(24), sound=Sound.of_samples(wave[:6], 15000))
    assert heard(path)[1] == 48000
    assert heard(path)[0].shape[0] == 6


def test_a_file_without_sound_has_none(tmp_path):
    assert Sound.of_file(encode(tmp_path / "a.mkv", counting(2)), 0.0) is None


def test_media_are_opened_and_written_in_one_place():
    """PyAV is opened nowhere but in models/media, and a host's VIDEO is taken apart nowhere but beside the reader."""
    for path in [*ROOT.glob("models/**/*.py"), *ROOT.glob("nodes/**/*.py"), *ROOT.glob("tools/**/*.py")]:
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"))
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import) and any(one.name.split(".")[0] == "av" for one in node.names):
                assert name.startswith("models/media/"), f"{name} uses PyAV"
            if isinstance(node, ast.ImportFrom) and node.level == 0 and str(node.module).split(".")[0] == "av":
                assert name.startswith("models/media/"), f"{name} uses PyAV"
        if used & {"get_components", "get_stream_source", "get_frame_count", "get_dimensions"}:
            assert name == "nodes/host/vae/frames.py", f"{name} reads a VIDEO by itself"
