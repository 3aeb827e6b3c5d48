"""The tasks on Wan 2.2 5B and LTX-Video, loaded by core's own nodes from small files of the published layouts."""

from pathlib import Path

import av
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from comfyui_spacetime.tools.client import load_workflow
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
    "wan_connect": (
        25,
        ["before frame 9:", "before frame 17:"],
        {"17.steps": 2, "10.max_frames": 9, "14.max_frames": 9, "15.seconds": 0.64}
        | {f"{scale}.{side}": size for scale in (9, 13) for side, size in (("width", 2 * SIDE), ("height", SIDE))},
    ),
    "ltx_animate_image": (25, ["flicker", "over 25 frames"], LTX | {"6.seconds": 1.0}),
    "ltx_extend_forward": (17, ["before frame 9:"], LTX | {"8.max_frames": 9, "6.seconds": 0.64}),
    "ltx_loop_text": (24, ["from the last frame to the first:"], {"24.steps": 2, "4.length": 17}),
    "ltx_restyle": (9, ["PSNR", "colour drift"], LTX | {"8.max_frames": 9}),
}
SMALLER = {"ImageScale.width": 96, "ImageScale.height": SIDE}
SECOND_PASS = {
    "wan_second_pass": SMALLER | {"SpacetimeVAEEncode.max_frames": 9, "BasicScheduler.steps": 4},
    "ltx_second_pass": SMALLER | {"SpacetimeVAEEncode.max_frames": 9, "LTXVScheduler.steps": 4},
}
# workflow -> frames that the video must have, and what to make smaller; 24 frames a second, with sound
WITH_SOUND = {
    "ltx2_extend_with_sound": (
        49,
        {"SpacetimeVAEEncode.max_frames": 25, "LTXVScheduler.steps": 2, "SpacetimeExtendVideo.seconds": 1.0},
    ),
    "h3_connect_with_sound": (
        73,
        {"10.max_frames": 22, "15.max_frames": 22, "16.seconds": 1.0, "BasicScheduler.steps": 2},
    ),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_on_another_model_and_ends_in_its_measure(host, name):
    frames, measured, smaller = TASKS[name]
    if name.endswith("loop_text"):
        smaller = smaller | {f"4.{key}": value for key, value in EMPTY.items()}
    result = host.run(WORKFLOWS / f"{name}.json", set=smaller)
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        decoded = list(video.decode(video=0))
    assert len(decoded) == frames
    assert (decoded[0].width, decoded[0].height) == (2 * SIDE, SIDE)
    text = "\n".join(result.texts())
    for words in measured:
        assert words in text


@pytest.mark.parametrize("name", SECOND_PASS)
def test_a_second_pass_makes_a_clip_larger(host, name):
    result = host.run(WORKFLOWS / f"{name}.json", set=SECOND_PASS[name])
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        decoded = list(video.decode(video=0))
    assert len(decoded) == 9
    assert (decoded[0].width, decoded[0].height) == (160, 96)  # 144 to the nearest whole patch
    assert "over 9 frames" in "\n".join(result.texts())


@pytest.mark.parametrize("name", WITH_SOUND)
def test_a_task_runs_on_a_model_of_picture_and_sound(host, name):
    path = WORKFLOWS / f"{name}.json"
    host.skip_where_too_old(path)
    frames, smaller = WITH_SOUND[name]
    prompt = host.client.prompt_of(path)
    sizes = {
        f"{key}.{side}": SIDE for key, node in prompt.items() if node["class_type"] == "ImageScale" for side in EMPTY
    }
    result = host.run(path, set=smaller | sizes)
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        seconds = float(video.streams.audio[0].duration * video.streams.audio[0].time_base)
        assert len(list(video.decode(video=0))) == frames
    assert seconds == pytest.approx(frames / 24, abs=0.1)
    text = "\n".join(result.texts())
    assert "before frame" in text
    assert "sound seam" in text


def latents_and_frames(host, name: str, made: str, changes: dict) -> tuple[torch.Tensor, int]:
    """What the output `made` (node, number) of a workflow gives, and how many frames the video of it has."""
    prompt = host.client.prompt_of(WORKFLOWS / f"{name}.json")
    node, output = made.split(".")
    inputs = {"samples": [node, int(output)], "filename_prefix": name}
    prompt["kept"] = {"class_type": "SaveLatent", "inputs": inputs}
    result = host.run(prompt, set=changes)
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        return saved_latent(host, result.outputs["kept"]), len(list(video.decode(video=0)))


def test_single_steps_on_wan_are_one_run(host):
    small = {"9.steps": 7, "10.noise_seed": 3, "7.width": SIDE, "7.height": SIDE, "7.seconds": 0.4}
    parted, frames = latents_and_frames(host, "wan_step_by_step", "17.1", small)
    assert frames == 9
    assert torch.equal(parted, latents_and_frames(host, "wan_step_by_step", "17.1", small | {"14.steps": -1})[0])


def test_the_second_expert_takes_over_at_the_models_boundary(host):
    small = {"11.steps": 8, "12.noise_seed": 3, "9.width": SIDE, "9.height": SIDE, "9.seconds": 0.5}
    made, frames = latents_and_frames(host, "wan_two_experts", "19.0", small)
    assert frames == 9
    by_level = small | {"17.until": "sigma", "17.value": 0.8749}
    assert torch.equal(made, latents_and_frames(host, "wan_two_experts", "19.0", by_level)[0])
    one_expert = small | {"17.until": "steps", "17.steps": -1}
    assert not torch.equal(made, latents_and_frames(host, "wan_two_experts", "19.0", one_expert)[0])


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.json")), ids=lambda path: path.stem)
def test_files_that_people_bring_are_named_with_their_folder_and_address(path):
    """So that the editor's own dialog offers what is missing."""
    loaders = {
        "UNETLoader": "diffusion_models",
        "CLIPLoader": "text_encoders",
        "VAELoader": "vae",
        "CheckpointLoaderSimple": "checkpoints",
        "SpacetimeLoadDiT": "diffusion_models",
        "LTXAVTextEncoderLoader": "text_encoders",
        "LTXVAudioVAELoader": "checkpoints",
    }
    for node in load_workflow(path)["nodes"]:
        file = (node.get("widgets_values") or [""])[0]
        if node["type"] in loaders and file.endswith(".safetensors"):  # the dialog takes no other kind
            (model,) = [one for one in node["properties"]["models"] if one["name"] == file]
            assert model["directory"] == loaders[node["type"]]
            assert model["url"].startswith("https://")
            assert model["url"].partition("?")[0].endswith(".safetensors")


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
    (file,) = [one for one in result.files() if one["type"] == "output" and one["filename"].endswith(".mp4")]
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
