"""Videos beyond a model's own length, and probes of what it simulates, in the real ComfyUI."""

from pathlib import Path

import av
import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint, save_checkpoint
from comfyui_spacetime.models.transformer.config import PRESETS as DITS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE
from comfyui_spacetime.tools.terminal import Trouble

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
QUICK = {"1.checkpoint": "tiny_lengths.safetensors", "1.dtype": "fp32", "10.steps": 1}


@pytest.fixture(scope="module")
def checkpoint(host) -> Path:
    """A small random model that says what it was trained on."""
    torch.manual_seed(0)
    dit, vae = DiT(DITS["test"]).initialise(), VideoVAE(VAES["test"])
    path = host.base / "models" / "checkpoints" / "tiny_lengths.safetensors"
    meta = {"trained_on": ["64x64x9"]}
    save_checkpoint(path, Checkpoint(DITS["test"], dit.state_dict(), VAES["test"], vae.state_dict(), meta))
    return path


def frames_of(host, file: dict) -> tuple[int, int, int]:
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        decoded = list(video.decode(video=0))
    return len(decoded), decoded[0].width, decoded[0].height


def test_a_longer_video_in_one_run(host, checkpoint):
    changes = {"4.width": 64, "4.height": 64, "4.seconds": 1.4, "6.trained_frames": 0}
    result = host.run(WORKFLOWS / "longer_video.json", set=QUICK | changes)
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    assert frames_of(host, file) == (17, 64, 64)
    assert "over 17 frames" in "\n".join(result.texts())


def test_a_model_is_probed_on_several_clips_at_once(host, checkpoint):
    changes = {"4.count": 2, "4.width": 64, "4.height": 64}
    result = host.run(WORKFLOWS / "probe_simulation.json", set=QUICK | changes)
    videos = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    assert [frames_of(host, file) for file in videos] == [(33, 128, 64)] * 2
    text = "\n".join(result.texts())
    assert "2 clips, 5 frames given, 28 judged" in text
    assert "permanence, truth 1 share" in text
    assert "permanence, frozen 0 share" in text


def test_a_video_of_another_length_is_not_judged(host, checkpoint):
    changes = {"4.count": 1, "4.width": 64, "4.height": 64, "6.seconds": 0.5}
    with pytest.raises(Trouble, match="13 frames of 64 x 64 cannot be judged by a true clip of 33 frames"):
        host.run(WORKFLOWS / "probe_simulation.json", set=QUICK | changes)
