"""Each editing task's workflow, as the editor saves it, in the real ComfyUI; each ends in its measure."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from comfyui_spacetime.models.checkpoints import Checkpoint, save_checkpoint
from comfyui_spacetime.models.transformer.config import PRESETS as DITS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE
from comfyui_spacetime.tools.terminal import Trouble

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
QUICK = {"1.checkpoint": "tiny_tasks.safetensors", "1.dtype": "fp32", "10.steps": 2}
# workflow -> frames that the video must have, what its measures must say
TASKS = {
    "animate_image": (33, ["flicker", "warp error", "dynamic degree", "over 33 frames"]),
    "extend_forward": (33, ["before frame 17:"]),
    "extend_backward": (29, ["before frame 13:"]),
    "retake": (33, ["before frame 9:", "before frame 21:"]),
    "loop_text": (32, ["from the last frame to the first:"]),
    "loop_clip": (32, ["from the last frame to the first:", "before frame 16:"]),
    "connect_gap": (37, ["before frame 13:", "before frame 25:"]),
    "connect_blend": (33, ["before frame 9:", "before frame 25:"]),
    "restyle": (33, ["PSNR", "colour drift"]),
    "fill_region": (33, ["PSNR", "colour drift"]),
    "paint_levels": (33, ["PSNR", "colour drift"]),
    "outpaint": (33, ["PSNR", "the middle of the larger one was compared"]),
}
# a loop from text is not among them: no place of it is special, which tests/nodes/test_editing.py shows
JOINS = ("extend_forward", "extend_backward", "loop_clip", "connect_gap", "connect_blend")


@pytest.fixture(scope="module")
def inputs(host) -> None:
    """The clips and stills that ship, and a small random checkpoint, in the host's own folders."""
    for file in (WORKFLOWS / "media").iterdir():
        shutil.copy(file, host.base / "input" / file.name)
    torch.manual_seed(0)
    dit, vae = DiT(DITS["test"]).initialise(), VideoVAE(VAES["test"])
    path = host.base / "models" / "checkpoints" / "tiny_tasks.safetensors"
    save_checkpoint(path, Checkpoint(DITS["test"], dit.state_dict(), VAES["test"], vae.state_dict()))


@pytest.mark.parametrize("name", TASKS)
def test_the_workflow_of_a_task_runs_and_ends_in_its_measure(host, inputs, name):
    import av

    result = host.run(WORKFLOWS / f"{name}.json", set=QUICK)
    frames, measured = TASKS[name]
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        assert sum(1 for _ in video.decode(video=0)) == frames
    text = "\n".join(line for output in result.outputs.values() for line in output.get("text", ()))
    for words in measured:
        assert words in text


@pytest.mark.parametrize("name", JOINS)
def test_the_joins_of_the_embedded_model_do_not_show(host, inputs, name):
    """The workflows and clips as they ship: a join changes the picture no more than other frames do.

    So it is in the median over 12 clips of bench tasks, where single ones reach 1.7; two of those that ship are above
    it with the present model, 1.33 and 1.23, and are bounded here.
    """
    outputs = host.run(WORKFLOWS / f"{name}.json").outputs
    text = "\n".join(line for output in outputs.values() for line in output.get("text", ()))
    seams = [float(value) for value in re.findall(r"^seam ([0-9.]+) x the median change$", text, re.MULTILINE)]
    assert len(seams) == text.count("Measure Seam")
    assert seams
    assert max(seams) <= {"loop_clip": 1.4, "connect_gap": 1.3}.get(name, 1.1)


def test_the_joins_of_a_retake_are_like_the_source(host, inputs):
    """The ball falls at one of them, so what is usual there is what the source itself does there."""
    outputs = host.run(WORKFLOWS / "retake.json").outputs
    made, source = (
        dict(re.findall(r"before frame (\d+): ([0-9.]+) x", outputs[key]["text"][0])) for key in ("15", "18")
    )
    assert list(made) == list(source) == ["9", "21"]
    for frame, ratio in made.items():
        assert float(ratio) <= 1.1 * max(1.0, float(source[frame]))


def test_a_clip_is_extended_window_by_window(host, inputs):
    quick = {name: value for name, value in QUICK.items() if not name.startswith("10.")}
    outputs = host.run(WORKFLOWS / "extend_far.json", set=quick | {"7.steps": 2, "6.seconds": 4.0}).outputs
    assert "2 windows of 9 latents, 3 of them known" in outputs["17"]["text"][0]
    assert "over 65 frames" in outputs["16"]["text"][0]


def test_a_loop_of_the_host_makes_what_extend_far_makes(host, inputs):
    """The workflow with its inside open, and one node that does the same: equal latents, to the bit."""
    host.skip_where_too_old(WORKFLOWS / "extend_loop.json")
    prompt = host.client.prompt_of(WORKFLOWS / "extend_loop.json")
    far = host.client.prompt_of(WORKFLOWS / "extend_far.json")["6"]["inputs"]
    links = {name: prompt["10"]["inputs"][name] for name in ("model", "positive", "negative")}
    scheduler = {"model": links["model"], "scheduler": "simple", "steps": 2, "denoise": 1.0}
    prompt["31"] = {"class_type": "CFGGuider", "inputs": {**links, "cfg": prompt["10"]["inputs"]["cfg"]}}
    prompt["32"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    prompt["33"] = {"class_type": "BasicScheduler", "inputs": scheduler}
    prompt["34"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 0}}
    own = {"guider": ["31", 0], "sampler": ["32", 0], "sigmas": ["33", 0], "noise": ["34", 0], "latent": ["5", 0]}
    prompt["30"] = {"class_type": "SpacetimeExtendFar", "inputs": {**far, **own, "seconds": 6.0, "anchor": 0.0}}
    for name, source in (("loop", ["24", 0]), ("far", ["30", 0])):
        saved = {"samples": source, "filename_prefix": f"{name}/latent"}
        prompt[f"kept {name}"] = {"class_type": "SaveLatent", "inputs": saved}
    for key in ("11", "12", "15", "17"):
        del prompt[key]
    host.run(prompt, set=QUICK)
    loop, one = (
        load_file(next((host.base / "output" / name).glob("*.latent")))["latent_tensor"] for name in ("loop", "far")
    )
    assert loop.shape[2] == 5 + 3 * 6
    assert torch.equal(loop, one)


def test_a_stream_is_written_frame_by_frame(host, inputs):
    import av

    result = host.run(WORKFLOWS / "stream_video.json", set={"16.seconds": 2.0, "16.prompts": "0: a red ball"})
    (file,) = [one for one in result.files() if one["filename"].endswith(".mp4") and one["type"] == "output"]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        assert sum(1 for _ in video.decode(video=0)) == 25


def test_two_clips_of_different_size_come_out_of_one_run(host, inputs):
    import av

    result = host.run(WORKFLOWS / "pack_clips.json", set=QUICK)
    sizes = []
    for file in result.files():
        if file["filename"].endswith(".mp4"):
            with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
                frames = list(video.decode(video=0))
                sizes.append((len(frames), frames[0].width, frames[0].height))
    assert sorted(sizes) == [(17, 128, 96), (33, 96, 96)]


def test_a_clip_is_measured_without_a_model(host, inputs):
    outputs = host.run(WORKFLOWS / "measure.json").outputs
    assert "over 37 frames" in outputs["3"]["text"][0]
    assert "from the last frame to the first" in outputs["6"]["text"][0]
    assert outputs["4"]["images"]
    assert outputs["7"]["images"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("connect_gap", {"6.seconds": 0.0}, "a gap of 0 latents"),
        ("connect_blend", {"6.seconds": 30.0}, "an overlap of 90 latents"),
        ("animate_image", {"6.times": "0, end"}, "1 stills and 2 times"),
        ("loop_text", {"4.seconds": 0.0}, "a loop of 1 latent"),
        ("restyle", {"6.strength": 0.0}, "changes nothing"),
    ],
)
def test_bad_input_is_one_sentence_on_the_node(host, inputs, name, change, message):
    with pytest.raises(Trouble, match=message):
        host.run(WORKFLOWS / f"{name}.json", set=QUICK | change)
