"""Runs that are saved and loaded in the real host: in one workflow, and with the host ended in between."""

from pathlib import Path

import av
import pytest

from comfyui_spacetime.tools.terminal import Trouble

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "save_and_resume.json"
FEW = {"SpacetimeEmptyVideo.width": 64, "SpacetimeEmptyVideo.height": 48, "SpacetimeEmptyVideo.seconds": 0.75}
FEW |= {"SpacetimeScheduler.steps": 4, "20.steps": 2}
SAVE, LOAD, SECOND = "60", "61", "40"


def frames_of(host, result):
    (file,) = [one for one in result.files() if one["type"] == "output"]
    with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in video.decode(video=0)]


def without_file(prompt):
    """The same steps with no file between them."""
    plain = {key: node for key, node in prompt.items() if key not in (SAVE, LOAD)}
    plain[SECOND] = {**prompt[SECOND], "inputs": {**prompt[SECOND]["inputs"], "tokens": ["20", 0]}}
    return plain


def test_saved_and_resumed_in_one_workflow(host):
    prompt = host.client.prompt_of(WORKFLOW)
    result = host.run(prompt, set=FEW)
    assert "step 2 of 4" in "\n".join(result.texts())
    assert frames_of(host, result) == frames_of(host, host.run(without_file(prompt), set=FEW))
    (saved,) = (host.base / "output" / "runs").glob("*.safetensors")
    assert 1000 < saved.stat().st_size < 1_000_000
    prompt[LOAD]["inputs"]["run"] = f"runs/{saved.name}"
    with pytest.raises(Trouble, match="another guider than this run was made by"):
        host.run(prompt, set={**FEW, "SpacetimeGuider.cfg": 5.0})
    prompt[LOAD]["inputs"]["run"] = "../somewhere.safetensors"
    with pytest.raises(Trouble, match="there is no run"):
        host.run(prompt, set=FEW)


@pytest.mark.parametrize("sampler", ["unipc", "dpmpp_2m_sde"])
def test_resumed_by_another_process(sampler, start_host, tmp_path):
    """One of our solvers, whose state is saved, and one of core's, whose records and noise are."""
    with start_host(tmp_path) as host:
        prompt = host.client.prompt_of(WORKFLOW)
        if sampler != "unipc":
            prompt["10"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": sampler}}
        whole = frames_of(host, host.run(without_file(prompt), set=FEW))
        first = {key: node for key, node in prompt.items() if key in ("20", SAVE) or int(key) < 12}
        host.run(first, set=FEW)
    (saved,) = (tmp_path / "output" / "runs").glob("*.safetensors")
    second = {
        key: node for key, node in prompt.items() if key in (LOAD, SECOND, "50", "51", "52", "1", "2", "3", "9", "10")
    }
    second["51"]["inputs"]["fps"] = 12.0
    second[LOAD]["inputs"]["run"] = f"runs/{saved.name}"
    with start_host(tmp_path) as host:
        assert frames_of(host, host.run(second)) == whole
