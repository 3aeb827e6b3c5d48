"""What a workflow was made with: found by name, summed, written into what is queued, and nowhere else."""

import hashlib
import time

import pytest

from comfyui_spacetime.models.embedded import EMBEDDED


@pytest.fixture
def record(comfy_host):
    from comfyui_spacetime.nodes.host import made_with

    return made_with


def queued(kind="SpacetimeLoadCheckpoint", **inputs):
    prompt = {"1": {"class_type": kind, "inputs": {"checkpoint": "spacetime-toy", **inputs}}}
    return {
        "prompt": prompt,
        "extra_data": {"extra_pnginfo": {"workflow": {"nodes": [], "extra": {"ds": {"scale": 1}}}}},
    }


def test_the_embedded_model_is_named_with_its_own_sum(record):
    workflow = record.recorded(queued())["extra_data"]["extra_pnginfo"]["workflow"]
    (weights,) = workflow["extra"]["spacetime"]["weights"]
    assert weights["sha256"] == hashlib.sha256(EMBEDDED.read_bytes()).hexdigest()
    assert weights["size"] == EMBEDDED.stat().st_size
    assert workflow["extra"]["ds"] == {"scale": 1}, "what was there stays"


@pytest.mark.parametrize("name", ["", "..", "../spacetime-toy", "/etc/passwd", "a\0b.safetensors", "gone.safetensors"])
def test_what_is_no_file_of_weights_is_left_out(record, name):
    assert record.made_with([name])["weights"] == []


def test_prompts_without_our_nodes_or_without_a_workflow_stay_as_they_are(record):
    other = queued("CheckpointLoaderSimple")
    assert "spacetime" not in record.recorded(other)["extra_data"]["extra_pnginfo"]["workflow"]["extra"]
    for bare in ({"prompt": queued()["prompt"]}, {**queued(), "extra_data": {}}, {"prompt": [], "extra_data": None}):
        assert record.recorded(dict(bare)) == bare


def test_the_sum_of_a_large_file_comes_later_and_follows_its_content(record, tmp_path, monkeypatch):
    monkeypatch.setattr(record, "AT_ONCE", 3)
    path = tmp_path / "large.safetensors"
    for content in (b"four", b"other"):
        path.write_bytes(content)
        end = time.monotonic() + 10
        while record.checksum(path) is None and time.monotonic() < end:
            time.sleep(0.01)
        assert record.checksum(path) == hashlib.sha256(content).hexdigest()


def test_addresses_are_those_of_the_nodes_inside_of_subgraphs_too(record):
    def node(name):
        return {"properties": {"models": [{"name": name, "url": f"https://x.invalid/{name}", "directory": "vae"}]}}

    workflow = {"nodes": [node("a")], "definitions": {"subgraphs": [{"nodes": [node("b"), {"properties": {}}]}]}}
    assert record.addresses_in(workflow) == {name: f"https://x.invalid/{name}" for name in "ab"}


def test_a_question_that_is_no_list_of_names_is_refused(record):
    for names in ("{}", "[1]", "nothing", str(["a"] * 300).replace("'", '"')):
        with pytest.raises(ValueError, match="names"):
            record.answer({"names": names})
