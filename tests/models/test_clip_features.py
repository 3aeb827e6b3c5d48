"""Features of another encoder for a folder's clips: laid on the patches, kept in the cache, refused in a sentence."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from einops import reduce

from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.clips.encode import cache_folder
from comfyui_spacetime.models.clips.features import features_of, overlaps
from comfyui_spacetime.models.clips.folder import frames_of, list_clips
from comfyui_spacetime.models.clips.footage import read_clip
from comfyui_spacetime.models.files import write_tensors
from comfyui_spacetime.models.geometry import ClipSize
from comfyui_spacetime.models.training import __main__ as shell
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.dit.train import train
from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE

from .test_training_folder import encoder, write_video

SIZE = ClipSize(32, 32, 9)
FRAMES, HEIGHT, WIDTH = 30, 40, 60


def drifting() -> list[np.ndarray]:
    """Slopes across, down and in time, one a colour, so that a mean tells its place; pale, as video files keep it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return [
        np.stack([80 + 2 * x, 80 + 3 * y, np.full_like(x, 60 + 5 * i)], axis=-1).astype(np.uint8) for i in range(FRAMES)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    write_video(root / "walk.mp4", drifting(), 12)
    write_video(root / "red_ball" / "a.mp4", drifting(), 12)
    return root


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    return VideoVAE(PRESETS["test"])


def write(path: Path, features: torch.Tensor, name: str = "features") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {name: features}, {})
    return path


def beside(folder: Path, root: Path, channels: int = 5) -> Path:
    """Features of each video of the folder, of grids that have nothing to do with clips or with each other."""
    torch.manual_seed(channels)
    for number, name in enumerate(("walk", "red_ball/a")):
        write(root / f"{name}.safetensors", torch.randn(7 + number, 3, 5 - number, channels))
    return root


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cells", [1, 2, 3, 7, 50])
def test_a_span_gets_of_each_cell_what_it_covers_of_it(cells):
    spans = np.array([[0.0, 1.0], [0.1, 0.35], [0.5, 0.5001], [0.0, 0.25], [0.9, 1.0]])
    values = np.random.default_rng(0).normal(size=cells)
    for span, shares in zip(spans, overlaps(spans, cells), strict=True):
        points = np.linspace(*span, 100_001)[:-1] + (span[1] - span[0]) / 200_002
        assert shares @ values == pytest.approx(values[(points * cells).astype(int)].mean(), abs=1e-3)


@pytest.mark.parametrize("size", ["32x32x9", "48x32x9", "32x48x17", "16x48x1"])
def test_pictures_as_features_are_the_means_of_the_patches(folder, tmp_path, size):
    """The whole file's pixels as its features must give what the clip's own pixels give: time, cut and grid agree."""
    clips = [clip for clip in list_clips(folder, ClipSize.parse_list(size)).clips if clip.file == "walk.mp4"]
    pixels = read_clip(folder / "walk.mp4", 0, FRAMES, 12, WIDTH, HEIGHT)
    write(tmp_path / "walk.safetensors", torch.from_numpy(pixels).float())
    known = features_of(tmp_path, folder, clips)
    for clip in clips:
        frames = frames_of(folder, clip).astype(float)
        first = reduce(frames[:1], "t (h a) (w b) c -> t h w c", "mean", a=16, b=16)
        rest = reduce(frames[1:], "(t f) (h a) (w b) c -> t h w c", "mean", f=4, a=16, b=16)
        found = known.of(clip)
        assert found.dtype == torch.float16
        np.testing.assert_allclose(
            found.float().numpy(), np.concatenate([first, rest]), atol=3
        )  # files shrunk while read are up to 2.6 off


def test_a_single_map_is_what_every_patch_is_to_tell(folder, tmp_path):
    clips = [clip for clip in list_clips(folder, (SIZE,)).clips if clip.file == "walk.mp4"]
    write(tmp_path / "walk.mp4.safetensors", torch.tensor([1.0, 2.0]).bfloat16().reshape(1, 1, 1, 2))
    found = features_of(tmp_path, folder, clips).of(clips[0])
    assert found.shape == (3, 2, 2, 2)
    assert found.flatten(0, 2).unique(dim=0).tolist() == [[1.0, 2.0]]


# -- in the cache ------------------------------------------------------------------------------------------------------


def test_a_dit_is_aligned_with_a_folder_of_features(folder, vae, tmp_path):
    clips = list_clips(folder, (SIZE,)).clips
    known = features_of(beside(folder, tmp_path / "features"), folder, clips)
    assert cache_folder(tmp_path / "cache", folder, clips, vae, encoder, known=known) == []
    cache = LatentCache(tmp_path / "cache")
    assert cache.known_channels == 5
    assert torch.equal(torch.stack(cache.known[str(SIZE)]), torch.stack([known.of(clip) for clip in clips]))
    settings = DiTTraining(preset="test", tokens=48, steps=2, dtype="float32", snapshots=0, early=0.0, alignment=0.5)
    train(settings, cache, cache, torch.zeros(2, 384), vae, tmp_path / "run")
    assert (tmp_path / "run" / "dit.safetensors").is_file()


def test_a_cache_is_made_anew_when_the_features_change_and_only_then(folder, vae, tmp_path):
    clips = list_clips(folder, (SIZE,)).clips

    def built(channels: int) -> tuple[set[str], str]:
        known = features_of(tmp_path / "features", folder, clips) if channels else None
        cache_folder(tmp_path / "cache", folder, clips, vae, encoder, known=known)
        cache = LatentCache(tmp_path / "cache")
        assert not channels or cache.known_channels == channels
        return set(cache.names), cache.clips_mark

    plain = built(0)
    beside(folder, tmp_path / "features", 5)
    five = built(5)
    assert built(5) == five
    beside(folder, tmp_path / "features", 6)
    assert len({mark for _, mark in (plain, five, built(6))}) == 3
    assert built(0) == plain


def test_features_of_two_encoders_in_one_cache_are_refused(folder, vae, tmp_path):
    clips = list_clips(folder, (SIZE,)).clips
    for channels in (5, 6):
        known = features_of(beside(folder, tmp_path / f"{channels}", channels), folder, clips)
        cache_folder(tmp_path / f"cache{channels}", folder, clips, vae, encoder, known=known)
    for path in (tmp_path / "cache5").iterdir():
        path.rename(tmp_path / "cache6" / path.name)
    with pytest.raises(ValueError, match="features of 5 and of 6 channels: build the cache again"):
        _ = LatentCache(tmp_path / "cache6").known_channels


# -- what cannot be used -----------------------------------------------------------------------------------------------


def no_folder(root: Path) -> str:
    for path in sorted(root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    root.rmdir()
    return "there is no folder .* of features: make it"


def missing(root: Path) -> str:
    (root / "red_ball" / "a.safetensors").unlink()
    return r"1 of 2 files have no features, such as red_ball/a\.mp4: there is no .*red_ball.a\.safetensors"


def other_channels(root: Path) -> str:
    write(root / "walk.safetensors", torch.zeros(2, 2, 2, 3))
    return r"walk\.safetensors has 3 channels and .*a\.safetensors has 5: make all features with one encoder"


def other_name(root: Path) -> str:
    write(root / "walk.safetensors", torch.zeros(2, 2, 2, 5), "tokens")
    return r"walk\.safetensors holds no tensor features: it is to hold features \(T, H, W, D\)"


def other_shape(root: Path) -> str:
    write(root / "walk.safetensors", torch.zeros(2, 4, 5))
    return r"holds features of type F32 and shape \(2, 4, 5\): it is to hold"


def nothing(root: Path) -> str:
    write(root / "walk.safetensors", torch.zeros(0, 2, 2, 5))
    return r"holds features of type F32 and shape \(0, 2, 2, 5\): it is to hold"


def whole_numbers(root: Path) -> str:
    write(root / "walk.safetensors", torch.zeros(2, 2, 2, 5, dtype=torch.int32))
    return r"holds features of type I32 .* floating point"


def no_safetensors(root: Path) -> str:
    (root / "walk.safetensors").write_bytes(b"PK\x03\x04 something else")
    return r"walk\.safetensors is "


@pytest.mark.parametrize(
    "damage", [no_folder, missing, other_channels, other_name, other_shape, nothing, whole_numbers, no_safetensors]
)
def test_what_is_no_features_is_told_before_anything_is_encoded(folder, tmp_path, damage):
    root = beside(folder, tmp_path / "features")
    says = damage(root)
    with pytest.raises(ValueError, match=says):
        features_of(root, folder, list_clips(folder, (SIZE,)).clips)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_values_that_are_no_numbers_are_refused_and_no_shard_is_written(folder, vae, tmp_path, value):
    root = beside(folder, tmp_path / "features")
    write(root / "walk.safetensors", torch.full((4, 2, 2, 5), value))
    clips = list_clips(folder, (SIZE,)).clips
    with pytest.raises(ValueError, match=r"walk\.safetensors holds values that are no numbers, or too large for fp16"):
        cache_folder(tmp_path / "cache", folder, clips, vae, encoder, known=features_of(root, folder, clips))
    assert not list((tmp_path / "cache").glob("*.safetensors"))


def test_files_with_one_stem_need_features_by_their_whole_names(folder, tmp_path):
    copy = tmp_path / "clips"
    copy.mkdir()
    for name in ("walk.mp4", "walk.mov"):
        (copy / name).write_bytes((folder / "walk.mp4").read_bytes())
    clips = list_clips(copy, (SIZE,)).clips
    write(tmp_path / "features" / "walk.safetensors", torch.zeros(2, 2, 2, 5))
    with pytest.raises(ValueError, match=r"2 of 2 files have no features, .*: there is no .*walk\.mov\.safetensors"):
        features_of(tmp_path / "features", copy, clips)
    for name in ("walk.mp4", "walk.mov"):
        write(tmp_path / "features" / f"{name}.safetensors", torch.zeros(2, 2, 2, 5))
    assert len(features_of(tmp_path / "features", copy, clips).files) == 2


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--features", "f"], "--features are those of a folder of clips: name it with --clips"),
        (["--clips", "c", "--truth"], "--truth is known of rendered clips alone: give --features"),
    ],
)
def test_what_is_known_of_the_wrong_kind_of_clips_is_refused_by_the_shell(monkeypatch, capsys, options, says):
    command = ["cache", "--vae", "v.safetensors", "--out", "o", "--size", "32x32x9", *options]
    monkeypatch.setattr(sys, "argv", ["run.py", *command])
    assert shell.main() == 2
    assert says in capsys.readouterr().err


# -- how the guide makes them ------------------------------------------------------------------------------------------


def snippet() -> str:
    """The guide's script."""
    guide = Path(__file__).resolve().parents[2] / "web" / "docs" / "guides" / "training.md"
    (code,) = re.findall(r"^```python\n(.*?)^```$", guide.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return str(code)


def test_the_guides_snippet_makes_features_that_are_taken(folder, tmp_path, monkeypatch):
    """With an encoder in place of DINOv2 whose tokens are one of its own and the mean colours of 14 x 14 pixels."""

    class Colours:
        from_pretrained = classmethod(lambda cls, _: cls())
        eval = lambda self: self  # noqa: E731

        def __call__(self, pixels: torch.Tensor) -> SimpleNamespace:
            tokens = reduce(pixels, "b c (h x) (w y) -> b (h w) c", "mean", x=14, y=14)
            return SimpleNamespace(last_hidden_state=torch.cat([torch.full_like(tokens[:, :1], 9.0), tokens], dim=1))

    packing = SimpleNamespace(load=lambda: None)
    for name, module in {"transformers": SimpleNamespace(AutoModel=Colours), "tools.pack": packing}.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "tools", SimpleNamespace(pack=packing))
    code = snippet()
    monkeypatch.setattr(sys, "argv", ["features.py", str(folder), str(tmp_path / "features")])
    exec(compile(code, "features.py", "exec"), {})  # noqa: S102 - our own
    clips = [clip for clip in list_clips(folder, (SIZE,)).clips if clip.file == "walk.mp4"]
    known = features_of(tmp_path / "features", folder, clips)
    for clip in clips:
        found = known.of(clip).float() * torch.tensor([0.229, 0.224, 0.225]) + torch.tensor([0.485, 0.456, 0.406])
        frames = frames_of(folder, clip).astype(float)[1:]
        shown = reduce(frames, "(t f) (h a) (w b) c -> t h w c", "mean", f=4, a=16, b=16)
        np.testing.assert_allclose(
            255 * found[1:].numpy(), shown, atol=8
        )  # four maps a second: two frames early or late
