"""The tasks on Wan 2.2 5B and LTX-Video, loaded by core's own nodes from small files of the published layouts."""

from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from comfyui_spacetime.tools.terminal import Trouble

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"
SIDE = 64
# workflow -> frames that the video must have, what its measures must say, what to make smaller
WAN = {"10.steps": 2, "ImageScale.width": 2 * SIDE, "ImageScale.height": SIDE}
LTX = {"24.steps": 2, "ImageScale.width": 2 * SIDE, "ImageScale.height": SIDE}
EMPTY = {"width": 2 * SIDE, "height": SIDE}
TASKS = {
    "wan_animate_image": (29, ["flicker", "over 29 frames"], WAN | {"6.seconds": 1.2}),
    "wan_extend_forward": (17, ["before frame 9:"], WAN | {"8.max_frames": 9, "6.seconds": 0.64}),
    "wan_loop_text": (20, ["from the last frame to the first:"], {"10.steps": 2, "4.length": 17}),
    "wan_restyle": (9, ["PSNR", "colour drift"], WAN | {"8.max_frames": 9}),
    "ltx_animate_image": (25, ["flicker", "over 25 frames"], LTX | {"6.seconds": 1.0}),
    "ltx_extend_forward": (17, ["before frame 9:"], LTX | {"8.max_frames": 9, "6.seconds": 0.64}),
    "ltx_loop_text": (24, ["from the last frame to the first:"], {"24.steps": 2, "4.length": 17}),
    "ltx_restyle": (9, ["PSNR", "colour drift"], LTX | {"8.max_frames": 9}),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_on_another_model_and_ends_in_its_measure(host, name):
    frames, measured, smaller = TASKS[name]
    if name.endswith("loop_text"):
        smaller = smaller | {f"4.{key}": value for key, value in EMPTY.items()}
    result = host.run(WORKFLOWS / f"{name}.json", set=smaller)
    (file,) = [one for one in result.files() if one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        decoded = list(video.decode(video=0))
    assert len(decoded) == frames
    assert (decoded[0].width, decoded[0].height) == (2 * SIDE, SIDE)
    text = "\n".join(result.texts())
    for words in measured:
        assert words in text


def test_the_papers_dit_makes_an_image_of_a_class_that_was_asked_for(host):
    path = WORKFLOWS / "dit_class_to_image.json"
    pictures = {}
    for label in ("golden retriever", "207", "goldfish"):
        changes = {"6.steps": 3, "6.seed": 1, "5.width": SIDE, "5.height": SIDE, "Class.label": label}
        (file,) = host.run(path, set=changes).files()
        with Image.open(host.base / "output" / file["subfolder"] / file["filename"]) as image:
            assert image.size == (SIDE, SIDE)
            pictures[label] = image.tobytes()
    assert pictures["golden retriever"] == pictures["207"] != pictures["goldfish"]
    with pytest.raises(Trouble, match="knows no class"):
        host.run(path, set={"Class.label": "unicorn"})


def test_latte_makes_a_video_of_a_text_frame_by_frame(host):
    changes = {"8.steps": 2, "6.width": SIDE, "6.height": 2 * SIDE, "6.seconds": 0.75}
    result = host.run(WORKFLOWS / "latte_text_to_video.json", set=changes)
    (file,) = [one for one in result.files() if one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        decoded = list(video.decode(video=0))
    assert len(decoded) == 6
    assert (decoded[0].width, decoded[0].height) == (SIDE, 2 * SIDE)


@pytest.mark.parametrize(
    ("name", "changes", "tolerance"),
    [
        ("wan_extend_forward", WAN | {"10.sampler_name": "euler"}, 1e-4),
        ("wan_extend_forward", WAN, 0.006),  # core's uni_pc ends at sigma 0.001: so much noise stays everywhere
        ("ltx_extend_forward", LTX, 1e-4),
    ],
)
def test_the_latents_of_the_known_clip_come_back_unchanged(host, name, changes, tolerance):
    prompt = host.client.prompt_of(WORKFLOWS / f"{name}.json")
    for title, source in (("given", "8"), ("made", "10")):
        inputs = {"samples": [source, 0], "filename_prefix": f"{name}_{title}"}
        prompt[title] = {"class_type": "SaveLatent", "inputs": inputs}
    result = host.run(prompt, set=changes | {"8.max_frames": 9, "6.seconds": 0.64})
    given, made = (saved_latent(host, result.outputs[title]) for title in ("given", "made"))
    known = given.shape[2]
    assert made.shape[2] > known
    torch.testing.assert_close(made[:, :, :known], given, atol=tolerance, rtol=0)
    assert float(made[:, :, known:].std()) > 0.1


def saved_latent(host, output: dict) -> torch.Tensor:
    """What SaveLatent wrote."""
    (file,) = output["latents"]
    return load_file(host.base / "output" / file["subfolder"] / file["filename"])["latent_tensor"]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("wan_extend_forward", {"8.max_frames": 1, "6.direction": "backward"}, "too short to extend backward"),
        ("ltx_animate_image", {"ImageScale.height": 16}, "both sides need 32 pixels"),
        ("wan_loop_text", {"4.length": 1, "4.width": 64, "4.height": 64}, "a loop of 1 latent"),
        ("ltx_restyle", {"6.strength": 0.0, **LTX}, "changes nothing"),
    ],
)
def test_bad_input_is_one_sentence_on_the_node(host, name, change, message):
    with pytest.raises(Trouble, match=message):
        host.run(WORKFLOWS / f"{name}.json", set=change)
