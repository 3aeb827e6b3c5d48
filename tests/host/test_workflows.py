"""The workflows that come with the pack: complete, legal, and each one makes what it promises in the real host."""

import json
import re
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from comfyui_spacetime.models.checkpoints import load_checkpoint, save_checkpoint, with_few_steps
from comfyui_spacetime.models.embedded import EMBEDDED
from comfyui_spacetime.models.lora import Pair
from comfyui_spacetime.models.recommended import Recommended
from comfyui_spacetime.tools.client import load_workflow
from comfyui_spacetime.tools.widgets import choices_of, kind_of, options_of, specs_for
from comfyui_spacetime.tools.workflow import VIRTUAL, is_link

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
BY_NAME = {path.stem: path for path in WORKFLOWS}
SMALL = {"SpacetimeEmptyVideo.width": 64, "SpacetimeEmptyVideo.height": 48, "SpacetimeEmptyVideo.seconds": 0.75}
FEW = {"SpacetimeScheduler.steps": 2, **SMALL}


def stem(path):
    return path.stem


def saved_file(host, result) -> Path:
    """The one file that a run left in the output folder."""
    (file,) = [one for one in result.files() if one["type"] == "output"]
    return host.base / "output" / file["subfolder"] / file["filename"]


def probe(path):
    """Number of frames, width, height and fps of a video, counted by decoding it."""
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        frames = sum(1 for _ in video.decode(stream))
        return frames, stream.width, stream.height, Fraction(stream.average_rate)


def test_the_starter_makes_a_video(host):
    result = host.run(BY_NAME["text_to_video"], set=FEW)
    assert probe(saved_file(host, result)) == (9, 64, 48, 12)


def test_ksampler_makes_a_video(host):
    result = host.run(BY_NAME["text_to_video_ksampler"], set={**SMALL, "KSampler.steps": 2})
    assert probe(saved_file(host, result)) == (9, 64, 48, 12)


def test_the_starter_and_ksampler_agree(host):
    """Two ways to the same latents: our stages with core's euler and KSampler's own loop, at equal noise levels."""
    ours = host.client.prompt_of(BY_NAME["text_to_video"])
    for key, node in ours.items():
        if node["class_type"] == "SpacetimeSampler":
            ours[key] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
        if node["class_type"] == "SpacetimeScheduler":
            links = {"model": ["1", 0]}
            ours[key] = {"class_type": "BasicScheduler", "inputs": {"scheduler": "simple", "steps": 3, "denoise": 1.0}}
            ours[key]["inputs"].update(links)
        if node["class_type"] == "SaveVideo":
            ours[key] = {"class_type": "SpacetimeCompareVideos", "inputs": {"frames": node["inputs"]["video"]}}
            report = key
    theirs = host.client.prompt_of(BY_NAME["text_to_video_ksampler"])
    decoded = next(key for key, node in theirs.items() if node["class_type"] == "VAEDecode")
    for key, node in theirs.items():
        if node["class_type"] == "KSampler":
            node["inputs"].update(steps=3, seed=5)
        moved = {k: [f"k{v[0]}", v[1]] if is_link(v) else v for k, v in node["inputs"].items()}
        if node["class_type"] != "SaveVideo":
            ours[f"k{key}"] = {**node, "inputs": moved}
    ours[report]["inputs"]["reference"] = [f"k{decoded}", 0]
    small = {f"{key}.{name}": value for key in ("4", "k4") for name, value in (("width", 48), ("seconds", 0.5))}
    (text,) = host.run(ours, set={**small, "7.noise_seed": 5}).outputs[report]["text"]
    assert "PSNR inf dB" in text


def test_a_model_with_a_form_for_few_steps_runs_in_these_without_guidance(host):
    full = load_checkpoint(EMBEDDED)
    layer = "blocks.0.mlp.down"
    rows, columns = full.dit_state[f"{layer}.weight"].shape
    torch.manual_seed(0)
    pairs = {layer: Pair(0.01 * torch.randn(rows, 2), 0.01 * torch.randn(2, columns))}
    few = Recommended(cfg=1.0, shift=3.0, steps=2, solver="euler")
    save_checkpoint(host.base / "models" / "checkpoints" / "both_forms.safetensors", with_few_steps(full, pairs, few))
    chosen = {"SpacetimeLoadCheckpoint.checkpoint": "both_forms.safetensors", "7.noise_seed": 1, **SMALL}
    said = {"SpacetimeScheduler.steps": 2, "SpacetimeScheduler.shift": 3.0, "SpacetimeSampler.solver": "euler"}
    said |= {"SpacetimeGuider.cfg": 1.0}
    left, asked, full_form = (
        host.frames(BY_NAME["text_to_video_4_steps"], chosen | changes)
        for changes in ({}, said, said | {"SpacetimeLoadCheckpoint.form": "full"})
    )
    assert len(left) == 9
    assert left == asked != full_form


def test_the_embedded_model_has_its_form_for_few_steps(host):
    result = host.run(BY_NAME["text_to_video_4_steps"], set=SMALL)
    assert probe(saved_file(host, result)) == (9, 64, 48, 12)


def test_an_image_is_one_frame(host):
    path = saved_file(host, host.run(BY_NAME["text_to_image"], set={"SpacetimeScheduler.steps": 2}))
    with Image.open(path) as image:
        assert image.size == (96, 96)


def test_a_real_clip_goes_through_the_vae_and_is_measured(host):
    result = host.run(BY_NAME["vae_roundtrip"], set={"SpacetimeVAEEncode.max_frames": 9})
    assert probe(saved_file(host, result)) == (9, 256, 144, Fraction(25, 2))
    text = "\n".join(result.texts())
    assert "over 9 frames of 256 x 144" in text
    assert float(re.search(r"PSNR ([\d.]+) dB", text)[1]) > 15


def test_three_steps_with_previews_equal_one(host):
    """The chain of three nodes ends in the same video as one node that runs all of the steps."""
    few = {**FEW, "SpacetimeScheduler.steps": 5, "20.steps": 2, "30.steps": 1}
    chain = host.run(BY_NAME["step_by_step"], set=few)
    previews = [file for file in chain.files() if file["type"] == "temp"]
    assert len(previews) == 3 * 9
    (seen,) = chain.outputs["33"]["spacetime_patches"]
    assert seen["pictures"]["guess"]["columns"] == seen["grids"][0][0]
    query = f"look={seen['attention']['look']}&block={seen['attention']['blocks'][-1]}&head=1&patch=0"
    assert sum(host.client.get_json(f"/spacetime/attention?{query}")["frames"]) == pytest.approx(1, abs=1e-3)
    noop = {"class_type": "SpacetimeDenoiseStep"}
    whole = host.client.prompt_of(BY_NAME["step_by_step"])
    source = whole["20"]["inputs"]["tokens"]
    assert whole["40"]["class_type"] == noop["class_type"]
    whole["40"]["inputs"]["tokens"] = source
    for key in ("20", "21", "22", "30", "31", "32", "33"):
        del whole[key]
    one = host.frames(BY_NAME["step_by_step"], few)
    assert len(one) == 9
    assert one == host.frames(whole, {**FEW, "SpacetimeScheduler.steps": 5})


@pytest.mark.parametrize("path", WORKFLOWS, ids=stem)
def test_every_value_is_legal(host, path):
    host.skip_where_too_old(path)
    info = host.client.object_info()
    for key, node in host.client.prompt_of(path).items():
        specs = specs_for(info[node["class_type"]], node["inputs"])
        for name, value in node["inputs"].items():
            if is_link(value):
                continue
            where = f"{key} {node['class_type']}.{name} = {value!r}"
            options = options_of(specs[name])
            if kind_of(specs[name]) == "COMBO":
                assert value in choices_of(specs[name]), where
            if kind_of(specs[name]) in ("INT", "FLOAT"):
                assert options.get("min", value) <= value <= options.get("max", value), where


@pytest.mark.parametrize("path", WORKFLOWS, ids=stem)
def test_every_required_input_is_there(host, path):
    host.skip_where_too_old(path)
    info = host.client.object_info()
    for node in host.client.prompt_of(path).values():
        required = info[node["class_type"]]["input"].get("required", {})
        assert set(required) <= set(node["inputs"]), node["class_type"]


def test_every_node_of_the_pack_occurs_in_a_workflow(host):
    ours = {name for name in host.client.object_info() if name.startswith("Spacetime")}
    used = {node["type"] for path in WORKFLOWS for node in load_workflow(path)["nodes"]}
    assert ours - used == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=stem)
def test_the_file_is_tidy(path):
    """Titles and a note for people, groups, nothing on top of something else, nothing of the machine it was made on."""
    workflow = load_workflow(path)
    nodes = workflow["nodes"]
    assert workflow["groups"]
    assert [node for node in nodes if node["type"] in VIRTUAL], "a note says what it is for"
    boxes = [(*node["pos"], *node["size"], node["id"]) for node in nodes]
    for i, (x, y, w, h, one) in enumerate(boxes):
        for other_x, other_y, other_w, other_h, other in boxes[i + 1 :]:
            apart = x + w <= other_x or other_x + other_w <= x or y + h + 26 <= other_y or other_y + other_h + 26 <= y
            assert apart, f"nodes {one} and {other} overlap"
    text = json.dumps(workflow)
    assert "/home/" not in text
    assert "/tmp/" not in text


@pytest.mark.parametrize("path", WORKFLOWS, ids=stem)
def test_it_has_a_small_thumbnail(path):
    thumbnail = path.with_suffix(".jpg")
    assert thumbnail.stat().st_size < 60_000
    with Image.open(thumbnail) as image:
        assert min(image.size) >= 200


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_the_host_lists_and_serves_it(host, name):
    packs = host.client.get_json("/api/workflow_templates")
    (pack,) = [pack for pack, names in packs.items() if name in names]
    assert host.client.get_json(f"/api/workflow_templates/{pack}/{name}.json")["nodes"]
    assert host.client.get(f"/api/workflow_templates/{pack}/{name}.jpg")[:3] == b"\xff\xd8\xff"


def test_the_blueprint_is_offered_and_makes_a_video(host):
    """The starter's stages as one node: listed by the host, and whole when something saves its video."""
    name = "Text to Video (Spacetime)"
    offered = host.client.get_json("/global_subgraphs")
    assert name in [one["name"] for one in offered.values()]
    prompt = host.client.prompt_of(ROOT / "subgraphs" / f"{name}.json")
    decode = next(key for key, node in prompt.items() if node["class_type"] == "SpacetimeVAEDecode")
    settings = {"filename_prefix": "blueprint", "format": "auto", "codec": "auto"}
    prompt["save"] = {"class_type": "SaveVideo", "inputs": {"video": [decode, 1], **settings}}
    assert probe(saved_file(host, host.run(prompt, set=FEW))) == (9, 64, 48, 12)
