"""Generate on a Cluster in the real host: one worker of a real Ray on this machine, and without Ray."""

from pathlib import Path

import av
import pytest

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "many_videos.json"
SMALL = {"seconds": 0.4, "width": 64, "height": 48, "steps": 2, "seeds": 2, "workers": 1}


@pytest.mark.parametrize("packages", ["with Ray", "as run.py installs them"])
def test_the_workflow_saves_a_video_for_each_prompt_and_seed(packages, request):
    if packages == "with Ray":
        pytest.importorskip("ray", reason="Ray is not installed; users have it only if they want it")
    host = request.getfixturevalue("host_with_options" if packages == "with Ray" else "host")
    result = host.run(WORKFLOW, set={f"SpacetimeGenerateOnCluster.{name}": value for name, value in SMALL.items()})
    files = [file for file in result.files() if file["type"] == "output" and file["filename"].endswith(".mp4")]
    assert len(files) == 4
    pictures = set()
    for file in files:
        with av.open(str(host.base / "output" / file["subfolder"] / file["filename"])) as video:
            frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
        assert [frame.shape for frame in frames] == [(48, 64, 3)] * 5
        pictures.add(frames[0].tobytes())
    assert len(pictures) == 4
