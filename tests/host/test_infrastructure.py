"""The test host itself: a run gives files, a bad input gives one sentence."""

from pathlib import Path

import pytest

from comfyui_spacetime.tools.terminal import Trouble

VIDEO = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 32, "batch_size": 4, "color": 255}},
    "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8.0}},
    "3": {
        "class_type": "SaveVideo",
        "inputs": {"video": ["2", 0], "filename_prefix": "infrastructure", "format": "auto", "codec": "auto"},
    },
}


def test_a_run_lists_the_files_it_made(host):
    result = host.run(VIDEO, set={"1.width": 128})
    (file,) = result.files()
    assert file["filename"].endswith(".mp4")
    assert len(host.client.fetch(file)) > 1000
    assert (host.base / "output" / file["filename"]).exists()


def test_the_nodes_of_this_pack_are_loaded(host):
    assert [name for name in host.client.object_info() if name.startswith("Spacetime")]


def test_a_value_out_of_range_is_refused_with_the_node_and_the_reason(host):
    with pytest.raises(Trouble, match=r"EmptyImage \(node 1\).*width"):
        host.run(VIDEO, set={"1.width": 0})


def test_a_node_that_fails_is_named(host):
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "nothing.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    with pytest.raises(Trouble, match=r"LoadImage.*nothing\.png"):
        host.run(prompt)


def test_an_uploaded_file_can_be_loaded(host, tmp_path: Path):
    from PIL import Image

    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    name = host.client.upload(tmp_path / "red.png")
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert len(list(host.run(prompt).files())) == 1
