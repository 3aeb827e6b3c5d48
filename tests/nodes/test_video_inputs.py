"""Every node that takes a VIDEO reads it as a player shows it: found by their schemas, so that new ones are covered."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from comfyui_spacetime.tests.media_files import corners, counting, encode, turned


def nodes_with_video() -> list[Any]:
    """(class, input id) of all our nodes' inputs that take a VIDEO."""
    from comfyui_spacetime.tools.in_process import load_host

    if not load_host():
        return []
    from comfyui_spacetime.nodes import load_nodes

    return [
        pytest.param(node, one.id, id=f"{node.__name__}.{one.id}")
        for node in load_nodes()
        for one in node.define_schema().inputs
        if "VIDEO" in str(one.get_io_type()).split(",")
    ]


def run(node: Any, name: str, path: Path, tiny_objects: tuple, monkeypatch: pytest.MonkeyPatch) -> tuple[list, str]:
    """Run a node with this file at an input and something that fits at the others.

    Returns what it read and what it said.
    """
    from comfyui_spacetime.nodes.host import messages
    from comfyui_spacetime.nodes.host.vae import frames as video

    read: list[Any] = []
    said: list[str] = []
    true = video.open_frames
    monkeypatch.setattr(video, "open_frames", lambda source: read.append(true(source)) or read[-1])
    monkeypatch.setattr(messages, "show_text", lambda _, text: said.append(text))
    inputs: dict[str, Any] = {}
    schema = node.define_schema()
    for one in schema.inputs:
        kinds = str(one.get_io_type()).split(",")
        if "SPACETIME_PROBE" in kinds:
            pytest.skip("judges clips of the size that a probe has made")
        if one.id == name or "VIDEO" in kinds:
            inputs[one.id] = video.video_from_file(path)
        elif "VAE" in kinds and one.id != "audio_vae":  # of models with sound, which this is not
            inputs[one.id] = tiny_objects[2]
        elif not one.optional:
            inputs[one.id] = one.default if one.default is not None else one.options[0]
    node.execute(**inputs)
    monkeypatch.undo()
    assert read, f"{node.__name__} does not read {name} through open_frames"
    return read, "\n".join(said)


@pytest.mark.parametrize(("node", "name"), nodes_with_video())
def test_turned_squeezed_and_uneven_files_are_read_right(tmp_path, monkeypatch, tiny_objects, node, name):
    times = [0, 100, 200, 1200, 1300, 1400, 1500, 1600, 1700]
    files = [
        (turned(encode(tmp_path / "t.mp4", [corners(64, 96)] * 9, codec="h264"), 0, 1, -1, 0), (64, 96), 9, 0),
        (encode(tmp_path / "s.mp4", [corners(64, 48)] * 9, codec="h264", squeeze=2), (96, 64), 9, 1),
        (encode(tmp_path / "u.mkv", counting(9, 64, 96), 10, times=times), (96, 64), 18, None),
    ]
    for path, size, count, colour_at_top_right in files:
        for source in run(node, name, path, tiny_objects, monkeypatch)[0]:
            pixels = torch.cat(list(source.pieces()))
            assert (source.width, source.height, len(pixels)) == (*size, count), path.name
            assert colour_at_top_right in (None, int(pixels[0, 8, -8].argmax())), path.name


@pytest.mark.parametrize(("node", "name"), nodes_with_video())
def test_transparency_is_said_on_the_node(tmp_path, monkeypatch, tiny_objects, node, name):
    hidden = np.full((64, 64, 4), 200, np.uint8)
    hidden[:, :32, 3] = 0
    frames = [av.VideoFrame.from_ndarray(hidden, format="rgba").reformat(format="argb") for _ in range(9)]
    path = encode(tmp_path / "a.mov", frames, codec="qtrle", pixels="argb")
    assert "what is transparent was laid on black" in run(node, name, path, tiny_objects, monkeypatch)[1]


@pytest.mark.parametrize(("node", "name"), nodes_with_video())
def test_a_damaged_end_is_said_on_the_node(tmp_path, monkeypatch, tiny_objects, node, name):
    noise = list(np.random.default_rng(0).integers(0, 255, (40, 64, 64, 3), dtype=np.uint8))
    path = encode(tmp_path / "a.mp4", noise, codec="h264", container={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    said = run(node, name, path, tiny_objects, monkeypatch)[1]
    assert "damaged" in said
    assert "Errno" not in said
