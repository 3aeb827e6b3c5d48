"""Captions beside files and in sets, and a folder that is described: what is kept, what is new, what is broken."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from comfyui_spacetime.models.clips import sidecars
from comfyui_spacetime.models.clips.clips import ClipSet
from comfyui_spacetime.models.clips.entries import Entries
from comfyui_spacetime.models.clips.sidecars import CaptionFiles, Sidecar, TimedCaption
from comfyui_spacetime.models.geometry import ClipSize
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
        "two.mp4": [("",), ("",)],
        "told.mp4": [("a grey wall",)],
        "balls/a.mp4": [("balls",)],
    }
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


def written(folder: Path, name: str, captions: Path | None = None) -> Sidecar:
    return CaptionFiles(folder, Entries((name,)), captions).of(name)


def test_sidecars_that_lead_elsewhere_are_named_and_something_else_counts_for_nothing(tmp_path):
    folder, outside = tmp_path / "clips", tmp_path / "secret.txt"
    folder.mkdir()
    outside.write_text("a secret", encoding="utf-8")
    (folder / "a.txt").symlink_to(outside)
    assert written(folder, "a.mp4") == Sidecar(problem="a.txt is not used, it is a link that leads out of the folder")
    for content in ('{"objects": []}', "[1]", "3", '{"clips": [{"start": "x"}]}', '{"clips": 3}', " "):
        (folder / "b.json").write_text(content, encoding="utf-8")
        assert written(folder, "b.mp4") == Sidecar()
    for content in ("{", "[" * 5000, '{"clips": [{"start": 0, "end": 1, "caption": "\\ud83d"}]}'):
        (folder / "b.json").write_text(content, encoding="utf-8")
        assert written(folder, "b.mp4").problem.startswith("b.json ")
    (folder / "b.json").write_text('{"clips": [{"start": 0, "end": 2, "caption": "a  dog\\nruns"}]}', encoding="utf-8")
    assert written(folder, "b.mp4").at(0, 1) == ("a dog runs",)


@pytest.mark.parametrize("seed", range(150))
def test_a_mutated_sidecar_gives_captions_or_a_reason(tmp_path, seed):
    rng = np.random.default_rng(seed)
    whole = {"file": "a.mp4", "content": "0", "clips": [{"start": 0.0, "end": 2.7, "caption": "a dog"}, {"start": 3}]}
    data = bytearray(json.dumps(whole if seed % 2 else {"clips": whole["clips"][:1]}).encode())
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(data)))
        data[place : place + int(rng.integers(0, 6))] = rng.bytes(int(rng.integers(0, 4)))
    (tmp_path / "a.json").write_bytes(bytes(data))
    (tmp_path / "a.mp4").write_bytes(b"a file")
    found = written(tmp_path, "a.mp4")
    assert all(isinstance(caption, str) for caption in found.at(0.0, 1.0))
    assert "\n" not in found.problem


# -- a set belongs to the files that it was made from ------------------------------------------------------------------


def described(folder: Path, captions: Path, name: str = "brightness") -> None:
    describe_folder(folder, clips_of(folder).listing().clips, captions, Brightness(name=name), which=ALL)


def test_captions_of_a_file_that_was_replaced_are_not_used_until_it_is_described_again(folder, tmp_path):
    captions = tmp_path / "set"
    described(folder, captions)
    write_video(folder / "balls" / "a.mp4", [200] * 12)
    listing = clips_of(folder, captions).listing()
    assert {clip.captions for clip in listing.clips if clip.file == "balls/a.mp4"} == {()}
    (problem,) = [line for line in listing.problems() if line.startswith("balls/a.mp4")]
    assert "made from another state of this file: let Caption Clips describe it again" in problem
    described(folder, captions)
    assert captions_by_file(folder, captions)["balls/a.mp4"] == [("a surface of brightness 20",)]


def test_captions_stay_when_a_folder_is_copied(folder, tmp_path):
    captions, copy = tmp_path / "set", tmp_path / "copy"
    described(folder, captions)
    for path in folder.rglob("*.mp4"):
        target = copy / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        os.utime(target, (1, 1))
    assert captions_by_file(copy, captions) == captions_by_file(folder, captions)
    done = describe_folder(copy, clips_of(copy).listing().clips, captions, Brightness(), which=ALL)
    assert done.written == []


def test_a_set_of_before_there_were_marks_is_still_read(folder, tmp_path):
    captions = tmp_path / "set"
    described(folder, captions)
    for path in captions.rglob("*.json"):
        record = json.loads(path.read_text())
        del record["content"]
        path.write_text(json.dumps(record))
    before = captions_by_file(folder, captions)
    assert before["told.mp4"] == [("a surface of brightness 10",)]
    assert describe_folder(folder, clips_of(folder).listing().clips, captions, Brightness(), which=ALL).written == []


def test_files_of_one_stem_have_captions_of_their_own_in_a_set(folder, tmp_path):
    captions = tmp_path / "set"
    described(folder, captions)  # told.mp4 is alone: told.json
    write_video(folder / "told.mov", [240] * 12)
    assert captions_by_file(folder, captions)["told.mp4"] == [("a surface of brightness 10",)]
    assert captions_by_file(folder, captions)["told.mov"] == [()], "told.json is about the other one"
    described(folder, captions)
    assert captions_by_file(folder, captions)["told.mp4"] == [("a surface of brightness 10",)]
    assert captions_by_file(folder, captions)["told.mov"] == [("a surface of brightness 24",)]


@pytest.mark.parametrize("step", range(4))
def test_a_kill_while_captions_are_written_leaves_true_ones_or_none(folder, tmp_path, monkeypatch, step):
    """Two scenes each with a caption of its own: at no moment may one be learned with the caption of the other."""
    captions = tmp_path / "set"
    described(folder, captions, "before")

    class KilledError(BaseException):
        pass

    steps = iter(range(100))

    def dying(name: str) -> None:
        real = getattr(sidecars, name)

        def write(*args: object, **more: object) -> None:
            if next(steps) == step:
                raise KilledError
            real(*args, **more)

        monkeypatch.setattr(sidecars, name, write)

    for name in ("write_json", "write_text"):
        dying(name)
    only = [clip for clip in clips_of(folder).listing().clips if clip.file in ("two.mp4", "told.mp4")]
    with pytest.raises(KilledError):
        describe_folder(folder, only, captions, Brightness(name="after"), which=ALL)
    monkeypatch.undo()
    truth = {"two.mp4": [("a surface of brightness 3",), ("a surface of brightness 22",)]}
    assert captions_by_file(folder, captions)["two.mp4"] == truth["two.mp4"]
    done = describe_folder(folder, only, captions, Brightness(name="after"), which=ALL)
    assert "two.mp4" in done.written or "told.mp4" in done.written, "what the kill cut short is made anew"
    for name in ("two", "told"):
        record = json.loads((captions / f"{name}.json").read_text())
        lines = (captions / f"{name}.txt").read_text().splitlines()
        assert lines == [clip["caption"] for clip in record["clips"]]
        assert record["described_by"] == "after"
