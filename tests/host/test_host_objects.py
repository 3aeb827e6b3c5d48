"""Our checkpoint in the real ComfyUI, with core's nodes on both sides."""

from pathlib import Path

import pytest
import torch

from comfyui_spacetime.models.checkpoints import Checkpoint, save_checkpoint
from comfyui_spacetime.models.transformer.config import PRESETS as DITS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE
from comfyui_spacetime.tools.terminal import Trouble

LOAD = {"class_type": "SpacetimeLoadCheckpoint", "inputs": {"checkpoint": "tiny.safetensors", "dtype": "fp32"}}


@pytest.fixture(scope="module")
def checkpoint(host) -> Path:
    """A small random checkpoint in the host's own folder."""
    torch.manual_seed(0)
    dit, vae = DiT(DITS["test"]).initialise(), VideoVAE(VAES["test"])
    path = host.base / "models" / "checkpoints" / "tiny.safetensors"
    save_checkpoint(path, Checkpoint(DITS["test"], dit.state_dict(), VAES["test"], vae.state_dict()))
    return path


def generate(output: str) -> dict:
    """Prompt to decoded video through core's KSampler."""
    text = {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a red ball falls"}}
    sampling = {"seed": 1, "steps": 2, "cfg": 4.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    links = {"model": ["1", 0], "positive": ["2", 0], "negative": ["2", 0], "latent_image": ["3", 0]}
    size = {"width": 32, "height": 48, "seconds": 1.0, "fps": 12.0, "batch": 1}
    return {
        "1": LOAD,
        "2": text,
        "3": {"class_type": "SpacetimeEmptyVideo", "inputs": size},
        "4": {"class_type": "KSampler", "inputs": {**sampling, **links}},
        "5": {
            "class_type": "SpacetimeVAEDecode",
            "inputs": {"vae": ["1", 2], "latent": ["4", 0], "fps": ["3", 1], "output": output},
        },
    }


def save_video(source: list) -> dict:
    return {
        "class_type": "SaveVideo",
        "inputs": {"video": source, "filename_prefix": "host_objects", "format": "auto", "codec": "auto"},
    }


@pytest.mark.parametrize("output", ["images and video", "video file"])
def test_text_to_video_in_memory_and_straight_to_a_file(host, checkpoint, output):
    import av

    (file,) = host.run(generate(output) | {"6": save_video(["5", 1])}).files()
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        frames = list(video.decode(video=0))
        assert (len(frames), frames[0].width, frames[0].height) == (13, 32, 48)
        assert float(video.streams.video[0].average_rate) == 12.0


def test_a_round_trip_through_core_and_our_nodes_is_reported(host, checkpoint):
    prompt = generate("video file") | {
        "6": {"class_type": "SpacetimeVAEEncode", "inputs": {"vae": ["1", 2], "frames": ["5", 1], "max_frames": 9}},
        "7": {"class_type": "VAEDecode", "inputs": {"vae": ["1", 2], "samples": ["6", 0]}},
        "8": {"class_type": "SpacetimeCompareVideos", "inputs": {"frames": ["7", 0], "reference": ["5", 1]}},
    }
    (text,) = host.run(prompt).outputs["8"]["text"]
    assert "PSNR" in text
    assert "over 9 frames of 32 x 48" in text


def test_a_checkpoint_that_is_cut_short_is_refused_on_the_node(host, checkpoint):
    whole = checkpoint.read_bytes()
    (checkpoint.parent / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    prompt = {"1": LOAD, "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}}}
    prompt |= {"3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}}}
    with pytest.raises(Trouble, match=r"SpacetimeLoadCheckpoint.*cut\.safetensors is not a whole safetensors file"):
        host.run(prompt, set={"1.checkpoint": "cut.safetensors"})
