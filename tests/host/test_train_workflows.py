"""The training workflows in the real host: from clips to a first sample, with the run shown and kept."""

import json
from pathlib import Path

import av
import pytest

from comfyui_spacetime.models.checkpoints import load_checkpoint

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
DIT = {"SpacetimeTrainDiT.steps": 4, "SpacetimeTrainDiT.save_every": 2, "KSampler.steps": 2}
TOY = {"SpacetimeToyWorld.count": 4}
CLIPS = {"SpacetimeTrainVAE.steps": 4, "SpacetimeTrainVAE.save_every": 2}
STUDENT = {"SpacetimeDistillDiT.steps": 4, "SpacetimeDistillDiT.save_every": 2, "SpacetimeDistillDiT.tokens": 80}
CASES = {
    "train_on_your_clips": (DIT | CLIPS, "clips_model", (9, 64, 32)),
    "train_dit": (DIT | TOY, "toy_model", (9, 32, 32)),
    "train_classes": (DIT | TOY | {"SpacetimeClassLabel.label": "spin"}, "toy_classes", (9, 32, 32)),
    "distill": (STUDENT | TOY, "toy_4_steps", (17, 64, 64)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_training_workflow_ends_in_a_video_and_a_checkpoint(host, name):
    settings, run, expected = CASES[name]
    result = host.run(WORKFLOWS / f"{name}.json", set=settings)
    output = host.base / "output"
    (video,) = [file for file in result.files() if file["type"] == "output" and file["filename"].endswith(".mp4")]
    with av.open(str(output / video["subfolder"] / video["filename"])) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _ in container.decode(stream))
        assert (frames, stream.width, stream.height) == expected
    log = [json.loads(line) for line in (output / "spacetime" / run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 4
    assert (output / "spacetime" / run / "progress.png").is_file()
    checkpoint = load_checkpoint(output / "checkpoints" / "spacetime" / f"{run}.safetensors")
    assert checkpoint.dit_config is not None
    assert checkpoint.vae_config is not None
    listed = host.client.get_json("/object_info/SpacetimeLoadCheckpoint")["SpacetimeLoadCheckpoint"]["input"][
        "required"
    ]["checkpoint"]
    assert f"spacetime/{run}.safetensors" in json.dumps(listed).replace("\\\\", "/")


def test_a_vae_is_trained_and_judged_beside_a_clip(host):
    few = {"SpacetimeTrainVAE.steps": 4, "SpacetimeTrainVAE.save_every": 2, "SpacetimeToyWorld.count": 3}
    result = host.run(WORKFLOWS / "train_vae.json", set=few)
    output = host.base / "output"
    (video,) = [file for file in result.files() if file["type"] == "output" and file["filename"].endswith(".mp4")]
    with av.open(str(output / video["subfolder"] / video["filename"])) as container:
        stream = container.streams.video[0]
        assert (sum(1 for _ in container.decode(stream)), stream.width, stream.height) == (33, 96 + 2 + 96, 96)
    text = "\n".join(result.texts())
    assert "over 33 frames of 96 x 96" in text
    assert "SSIM" in text
    assert load_checkpoint(output / "spacetime" / "toy_vae" / "vae.safetensors").meta["steps"] == 4
    pictures = {file["filename"] for file in result.files() if file["filename"].endswith(".png")}
    assert "progress.png" in pictures
    assert len(pictures) == 2, "the contact sheet of Toy World is shown too"
