"""Captions beside files and in sets, and a folder that is described: what is kept, what is new, what is broken."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from comfyui_spacetime.models.clips.cache import ClipSize
from comfyui_spacetime.models.clips.clips import ClipSet
from comfyui_spacetime.models.clips.sidecars import Sidecar, TimedCaption, sidecar_of
from comfyui_spacetime.models.text.description import Description
from comfyui_spacetime.models.training.captioner.recaption import ALL, describe_folder

av = pytest.importorskip("av")
SIZE = ClipSize.parse("32x32x9")


def write_video(path: Path, brightness: list[int]) -> Path:
    """Gray frames of 60 x 40 pixels at 12 fps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=12, options={"crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 60, 40, "yuv420p"
        for value in brightness:
            frame = np.full((40, 60, 3), value, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two scenes in one file, a file with a caption, one in a sub-folder, one broken, one that is no video."""
    root = tmp_path / "clips"
    write_video(root / "two.mp4", [30] * 12 + [220] * 12)
    write_video(root / "told.mp4", [100] * 12)
    (root / "told.txt").write_text("a grey wall\n", encoding="utf-8")
    write_video(root / "balls" / "a.mp4", [60] * 12)
    (root / "broken.mp4").write_bytes(b"no video")
    return root


@dataclass
class Brightness:
    """Describes a clip by how bright it is."""

    name: str = "brightness"
    side: int = 64
    fails: tuple[int, ...] = ()
    seen: list[tuple[tuple[int, ...], list[float]]] = field(default_factory=list)

    def pick(self, count, _fps, _width, _height):
        return [0, count - 1]

    def look(self, frames, times, *, seed=0):  # noqa: ARG002
        self.seen.append((frames.shape, list(times)))
        if len(self.seen) in self.fails:
            raise RuntimeError("the answers are no description: it is empty")
        text = f"a surface of brightness {round(float(frames.mean()) / 10)}"
        return Description(subjects=(text,), paragraph=text)


def clips_of(folder: Path, captions: Path | str = "") -> ClipSet:
    return ClipSet(sizes=(SIZE,), folder=str(folder), captions=str(captions))


def captions_by_file(folder: Path, captions: Path | str = "") -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = {}
    for clip in sorted(clips_of(folder, captions).listing().clips, key=lambda clip: clip.start):
        found.setdefault(clip.file, []).append(clip.captions)
    return found


def test_a_folder_is_described_and_training_reads_it(folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    captions, describer = tmp_path / "set", Brightness()
    done = describe_folder(folder, clips_of(folder).listing().clips, captions, describer)
    assert sorted(done.written) == ["balls/a.mp4", "two.mp4"]
    assert done.kept == ["told.mp4"]
    assert done.problems == []
    assert captions_by_file(folder) == {
        "two.mp4": [("",), ("",)], "told.mp4": [("a grey wall",)], "balls/a.mp4": [("balls",)]
    }  # fmt: skip
    assert captions_by_file(folder, captions) == {
        "two.mp4": [("a surface of brightness 3",), ("a surface of brightness 22",)],  # each scene its own
        "told.mp4": [("a grey wall",)],
        "balls/a.mp4": [("a surface of brightness 6",)],
    }
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert (captions / "two.txt").read_text() == "a surface of brightness 3\na surface of brightness 22\n"
    record = json.loads((captions / "balls" / "a.json").read_text())
    assert record["described_by"] == "brightness"
    assert record["clips"][0]["fields"]["subjects"] == ["a surface of brightness 6"]
    shape, times = describer.seen[0]
    assert shape == (2, 64, 64, 3)  # as training sees it, at the describer's own size
    assert times == [0.0, pytest.approx(8 / 12)]


def test_a_second_run_does_nothing_and_a_stopped_one_continues(folder, tmp_path):
    clips, captions = clips_of(folder).listing().clips, tmp_path / "set"

    def stop_after_one(done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        describe_folder(folder, clips, captions, Brightness(), which=ALL, progress=stop_after_one)
    first = sorted(captions.rglob("*.json"))
    assert len(first) == 2
    done = describe_folder(folder, clips, captions, Brightness(), which=ALL)
    assert (len(done.kept), len(done.written)) == (2, 1)
    again = Brightness()
    assert describe_folder(folder, clips, captions, again, which=ALL).written == []
    assert again.seen == []
    other = describe_folder(folder, clips, captions, Brightness(name="another"), which=ALL)
    assert len(other.written) == 3
    assert describe_folder(folder, clips, captions, Brightness(name="a third")).written == []  # captions are kept


def test_a_part_first_then_the_rest(folder, tmp_path):
    clips, captions = clips_of(folder).listing().clips, tmp_path / "set"
    part = describe_folder(folder, clips, captions, Brightness(name="large"), limit=1)
    assert (len(part.written), len(part.left)) == (1, 1)
    assert "1 left for later" in part.text()
    rest = describe_folder(folder, clips, captions, Brightness(name="small"))
    assert sorted(rest.written + part.written) == ["balls/a.mp4", "two.mp4"]


def test_files_that_fail_are_listed_and_the_others_go_on(folder, tmp_path):
    clips, captions = clips_of(folder).listing().clips, tmp_path / "set"
    (folder / "two.mp4").write_bytes((folder / "two.mp4").read_bytes()[:100])  # broken since it was listed
    done = describe_folder(folder, clips, captions, Brightness())
    assert done.written == ["balls/a.mp4"]
    (problem,) = done.problems
    assert problem.startswith("two.mp4: ")
    assert "not described: two.mp4" in done.text()
    assert not (captions / "two.json").exists()
    done = describe_folder(folder, clips, tmp_path / "other", Brightness(fails=(1,)))
    assert "it is empty" in done.text()


def test_a_describer_out_of_order_stops_the_run(tmp_path):
    folder = tmp_path / "clips"
    for number in range(7):
        write_video(folder / f"{number}.mp4", [50] * 12)
    broken = Brightness(fails=tuple(range(1, 20)))
    with pytest.raises(
        ValueError, match="none of the first 5 files could be described; the answers are no description"
    ):
        describe_folder(folder, clips_of(folder).listing().clips, tmp_path / "set", broken)
    assert len(broken.seen) == 5
    with pytest.raises(ValueError, match="there is no choice"):
        describe_folder(folder, (), tmp_path / "set", broken, which="some")


def test_captions_by_time_go_to_the_clip_that_they_share_most_with():
    sidecar = Sidecar((TimedCaption(0, 1, "one"), TimedCaption(1, 2, "two")), ("whole",))
    assert sidecar.at(0.2, 0.9) == ("one",)
    assert sidecar.at(0.8, 0.9) == ("two",)
    assert sidecar.at(5, 1) == ()
    assert Sidecar(lines=("a", "b")).at(3, 1) == ("a", "b")


def test_sidecars_that_lead_elsewhere_or_hold_something_else_count_for_nothing(tmp_path):
    folder, outside = tmp_path / "clips", tmp_path / "secret.txt"
    folder.mkdir()
    outside.write_text("a secret", encoding="utf-8")
    (folder / "a.txt").symlink_to(outside)
    assert sidecar_of(folder / "a.mp4", folder) == Sidecar()
    for content in ('{"objects": []}', "[1]", "{", '{"clips": [{"start": "x"}]}', '{"clips": 3}'):
        (folder / "b.json").write_text(content, encoding="utf-8")
        assert sidecar_of(folder / "b.mp4", folder) == Sidecar()
    (folder / "b.json").write_text('{"clips": [{"start": 0, "end": 2, "caption": "a  dog\\nruns"}]}', encoding="utf-8")
    assert sidecar_of(folder / "b.mp4", folder).at(0, 1) == ("a dog runs",)
