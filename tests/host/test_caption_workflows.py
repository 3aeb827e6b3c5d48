"""The captioning workflows in the real host: a video in words and made again; a folder described and trained on."""

import json
from pathlib import Path

from comfyui_spacetime.models.captioner.captioner import load_captioner

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


def test_a_video_is_described_and_made_again(host):
    few = {"KSampler.steps": 2, "SpacetimeEmptyVideo.width": 64, "SpacetimeEmptyVideo.height": 48}
    result = host.run(WORKFLOWS / "describe_video.json", set={**few, "SpacetimeEmptyVideo.seconds": 0.75})
    texts = result.texts()
    fields = next(json.loads(text) for text in texts if text.startswith("{"))
    assert fields["paragraph"] in texts
    assert fields["subjects"]
    assert fields["background"].startswith("The background is")
    assert [
        file["filename"] for file in result.files() if file["type"] == "output" and file["filename"].endswith(".mp4")
    ]


def test_a_captioner_is_trained_describes_a_folder_and_the_dit_learns_from_it(host):
    short = {"SpacetimeTrainCaptioner.steps": 4, "SpacetimeTrainCaptioner.save_every": 2}
    short |= {"SpacetimeTrainDiT.steps": 4, "SpacetimeTrainDiT.save_every": 2}
    result = host.run(WORKFLOWS / "recaption_folder.json", set=short)
    (report,) = [text for text in result.texts() if "files described" in text]
    output = host.base / "output"
    run = output / "spacetime" / "clips_captioner"
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 4
    assert {"validation_loss", "words"} <= log[-1].keys()
    assert (run / "progress.png").is_file()
    assert load_captioner(output / "checkpoints" / "spacetime" / "clips_captioner.safetensors").meta["steps"] == 4
    written = list((output / "spacetime" / "captions" / "clips_captions").rglob("*.json"))
    assert f"{len(written)} files described" in report
    assert (output / "checkpoints" / "spacetime" / "recaptioned_model.safetensors").is_file()
