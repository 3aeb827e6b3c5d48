"""What a folder of clips may hold, and what becomes of each entry: odd ones are named, and the others go on."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from comfyui_spacetime.models.clips.clips import ClipSet
from comfyui_spacetime.models.clips.entries import entries_of, in_words
from comfyui_spacetime.models.clips.folder import Listing, list_clips
from comfyui_spacetime.models.clips.index import Index
from comfyui_spacetime.models.clips.split import Place, held_out
from comfyui_spacetime.models.geometry import ClipSize

SIZE = ClipSize.parse_list("32x32x1")
RNG = np.random.default_rng(0)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return path


def told(listing: Listing) -> dict[str, tuple[str, ...]]:
    return {clip.file: clip.captions for clip in listing.clips}


# -- odd entries -------------------------------------------------------------------------------------------------------


def dangling(folder: Path) -> str:
    (folder / "gone.png").symlink_to(folder / "nowhere.png")
    return "gone.png"


def looping(folder: Path) -> str:
    (folder / "round.png").symlink_to(folder / "round.png")
    return "round.png"


def outside(folder: Path) -> str:
    (folder / "out.png").symlink_to(picture(folder.parent / "elsewhere.png"))
    return "out.png"


def linked_folder(folder: Path) -> str:
    picture(folder / "b" / "in.png")
    (folder / "again").symlink_to(folder / "b")
    return "again"


def not_utf8(folder: Path) -> str:
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))).write_bytes(b"x")
    return r"caf\xe9.png"


def folder_not_utf8(folder: Path) -> str:
    inner = Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9"))
    inner.mkdir()
    picture(inner / "a.png")
    return r"caf\xe9"


def pipe(folder: Path) -> str:
    os.mkfifo(folder / "pipe.mp4")
    return "pipe.mp4"


def broken(folder: Path) -> str:
    (folder / "broken.mp4").write_bytes(b"no video")
    return "broken.mp4"


def unknown_type(folder: Path) -> str:
    (folder / "model.blend").write_bytes(b"BLENDER")
    return "model.blend"


def no_type(folder: Path) -> str:
    (folder / "README").write_bytes(b"read me")
    return "README"


def lonely_caption(folder: Path) -> str:
    (folder / "misspelt.txt").write_text("a ball")
    return "misspelt.txt"


def unreadable_folder(folder: Path) -> str:
    picture(folder / "shut" / "a.png")
    (folder / "shut").chmod(0)
    return "shut"


def line_break(folder: Path) -> str:
    (folder / "two\nlines.blend").write_bytes(b"x")
    return r"two\nlines.blend"


ODD = [
    dangling,
    looping,
    outside,
    linked_folder,
    not_utf8,
    folder_not_utf8,
    pipe,
    broken,
    unknown_type,
    no_type,
    lonely_caption,
    unreadable_folder,
    line_break,
]


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes")
@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
@pytest.mark.parametrize("indexed", [False, True])
def test_an_odd_entry_is_named_with_its_reason_and_the_others_go_on(tmp_path, make, indexed):
    pytest.importorskip("av")
    folder, index = tmp_path / "clips", tmp_path / "index.json" if indexed else None
    picture(folder / "good.png")
    name = make(folder)
    if make is unreadable_folder and os.access(folder / "shut", os.R_OK):
        pytest.skip("this user may read everything")
    for _ in range(2):
        listing = list_clips(folder, SIZE, index=index)
        assert "good.png" in told(listing)
        assert any(name == entry and why for entry, why in listing.skipped)
        assert f"skipped {name}: " in listing.text()
        listing.text().encode()  # the page and the log are UTF-8
    (folder / "shut").chmod(0o700) if (folder / "shut").exists() else None


def test_many_entries_with_one_reason_are_one_line(tmp_path):
    picture(tmp_path / "good.png")
    for number in range(300):
        (tmp_path / f"{number:03d}.heif2").write_bytes(b"x")
    (line,) = in_words(entries_of(tmp_path).unused)
    assert line == (
        "skipped 000.heif2, 001.heif2, 002.heif2, 003.heif2, 004.heif2, 295 more: files of the type .heif2 are not "
        "read here"
    )


def test_a_file_that_goes_while_the_folder_is_looked_through_is_named(tmp_path, monkeypatch):
    picture(tmp_path / "good.png")
    entries = entries_of(tmp_path)
    gone = type(entries)((*entries.media, "gone.png"))
    monkeypatch.setattr("comfyui_spacetime.models.clips.folder.entries_of", lambda _: gone)
    listing = list_clips(tmp_path, SIZE)
    assert [name for name, _ in listing.skipped] == ["gone.png"]


# -- captions ----------------------------------------------------------------------------------------------------------

TEXT = "ein Häschen – 一只兔子"
READ = {"utf-8": TEXT, "utf-8-sig": TEXT, "utf-16": TEXT}
OTHER = {"cp1252": "a man’s café – a ball…", "gbk": "一个红色的球", "utf-16-le": "a red ball", "utf-32": "a red ball"}


@pytest.mark.parametrize("encoding", [*READ, *OTHER])
@pytest.mark.parametrize("kind", [".txt", ".json"])
def test_captions_in_unicode_are_read_and_others_are_named_and_never_learned(tmp_path, encoding, kind):
    picture(tmp_path / "walk.png")
    text = (READ | OTHER)[encoding]
    timed = {"clips": [{"start": 0, "end": 9, "caption": text}]}
    content = text if kind == ".txt" else json.dumps(timed, ensure_ascii=False)
    (tmp_path / f"walk{kind}").write_bytes(content.encode(encoding))
    listing = list_clips(tmp_path, SIZE)
    if encoding in READ:
        assert told(listing) == {"walk.png": (text,)}
        assert listing.problems() == []
        return
    assert told(listing) == {"walk.png": ()}
    (problem,) = listing.problems()
    assert problem.startswith(f"walk.png: left out where captions are learned, walk{kind} is ")
    assert "save it as UTF-8" in problem
    assert str(tmp_path) not in problem


def test_a_caption_file_that_cannot_be_read_leaves_the_good_one_in_use(tmp_path):
    picture(tmp_path / "walk.png")
    (tmp_path / "walk.txt").write_text("a ball")
    (tmp_path / "walk.png.txt").write_bytes("a caf\xe9".encode("latin-1"))
    listing = list_clips(tmp_path, SIZE)
    assert told(listing) == {"walk.png": ("a ball",)}
    assert listing.problems()[0].startswith("walk.png: in part not used, walk.png.txt is neither UTF-8")


def test_files_of_one_stem_do_not_take_each_others_captions(tmp_path):
    for name in ("walk.png", "walk.jpg", "run.png"):
        picture(tmp_path / name)
        (tmp_path / f"{name.split('.')[0]}.txt").write_text("whose is it?")
    listing = list_clips(tmp_path, SIZE)
    assert told(listing) == {"walk.png": (), "walk.jpg": (), "run.png": ("whose is it?",)}
    said = "\n".join(listing.problems())
    assert "call them walk.png.txt" in said
    assert "call them walk.jpg.txt" in said
    for name in ("walk.png", "walk.jpg"):
        (tmp_path / f"{name}.txt").write_text(f"of {name}")
    assert told(list_clips(tmp_path, SIZE)) == {
        "walk.png": ("of walk.png",),
        "walk.jpg": ("of walk.jpg",),
        "run.png": ("whose is it?",),
    }


# -- what is held out --------------------------------------------------------------------------------------------------


def places(files: int, first: int = 0) -> list[Place]:
    """Three scenes of two clips each from every file."""
    return [
        Place(f"{n:03d}.mp4", scene, 10.0 * scene + start)
        for n in range(first, first + files)
        for scene in range(3)
        for start in (0.0, 4.0)
    ]


def sides(held: frozenset[Place]) -> set[str]:
    return {place.file for place in held}


@pytest.mark.parametrize("files", [2, 3, 10, 40, 300])
def test_no_file_is_both_trained_on_and_judged_on(files):
    held = held_out(places(files))
    trained = {place.file for place in places(files) if place not in held}
    assert held
    assert trained
    assert not sides(held) & trained
    if files >= 40:
        assert 0.03 < len(sides(held)) / files < 0.2


@pytest.mark.parametrize("files", [2, 10, 40])
@pytest.mark.parametrize("more", [1, 5, 100])
def test_files_that_are_added_move_no_other_file(files, more):
    before = held_out(places(files))
    stems = {file.removesuffix(".mp4") for file in sides(before)}  # as the index remembers
    after = held_out([*places(more, first=1000), *places(files)], stems)
    old = {place.file for place in places(files)}
    assert sides(after) & old == sides(before)
    gone = min(old - sides(before))
    fewer = held_out([place for place in places(files) if place.file != gone], stems)
    assert files == 2 or sides(fewer) == sides(before)


def test_two_files_of_one_stem_are_on_one_side():
    twins = [Place(f"{n}.{kind}", 0, 0.0) for n in range(50) for kind in ("mp4", "mov")]
    held = held_out(twins)
    trained = {place.file.split(".")[0] for place in twins if place not in held}
    assert held
    assert trained.isdisjoint({place.file.split(".")[0] for place in held})


def test_one_file_is_split_by_its_scenes_and_one_scene_at_its_end():
    scenes = [Place("a.mp4", n // 4, float(n)) for n in range(40)]
    held = held_out(scenes)
    assert {place.scene for place in held}.isdisjoint({place.scene for place in scenes if place not in held})
    single = [Place("a.mp4", 0, float(n)) for n in range(20)]
    assert sorted(place.start for place in held_out(single)) == [18.0, 19.0]


def test_the_split_of_a_folder_is_remembered_in_its_index(tmp_path):
    folder, index = tmp_path / "clips", tmp_path / "index.json"
    seen: set[str] = set()
    for number in range(12):
        picture(folder / f"{number}.png")
        listing = list_clips(folder, SIZE, index=index)
        held = {clip.file for clip in listing.part(held_out=True)}
        trained = {clip.file for clip in listing.part(held_out=False)}
        assert seen <= held
        assert number == 0 or not held & trained
        seen = held if number else set()
    assert {f"{stem}.png" for stem in Index.read(index).held_out} == held


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_index_is_no_index(tmp_path, seed):
    path, rng = tmp_path / "index.json", np.random.default_rng(seed)
    picture(tmp_path / "clips" / "a.png")
    whole = list_clips(tmp_path / "clips", SIZE, index=path)
    data = bytearray(path.read_bytes())
    for _ in range(int(rng.integers(1, 6))):
        place = int(rng.integers(len(data)))
        if rng.random() < 0.5:
            data[place] = int(rng.integers(256))
        else:
            del data[place : place + int(rng.integers(1, 9))]
    path.write_bytes(bytes(data))
    assert {clip.file for clip in list_clips(tmp_path / "clips", SIZE, index=path).clips} == {"a.png"}
    assert len(whole.clips) == 1


def test_clips_for_the_vae_are_looked_for_and_decoded_once(tmp_path, monkeypatch):
    from comfyui_spacetime.models.clips import folder as module

    for number in range(6):
        picture(tmp_path / f"{number}.png")
    looked: list[str] = []
    monkeypatch.setattr(module, "look", lambda path, look=module.look: looked.append(path.name) or look(path))
    clips, judged, _ = ClipSet(sizes=SIZE, folder=str(tmp_path)).pixels()
    assert len(clips) + len(judged) == 6
    assert sorted(looked) == [f"{number}.png" for number in range(6)]


def test_the_cases_of_captions_in_other_encodings_train_on_what_they_say(tmp_path):
    """Three videos whose captions are Windows-1252, UTF-16 with its mark, and GBK."""
    pytest.importorskip("av")
    media = Path(__file__).resolve().parents[2] / "workflows" / "media"
    video = next(iter(sorted(media.glob("*.mp4"))))
    for name, text, encoding in (("a", OTHER["cp1252"], "cp1252"), ("b", "a red ball", "utf-16"), ("c", "球", "gbk")):
        shutil.copy(video, tmp_path / f"{name}.mp4")
        (tmp_path / f"{name}.txt").write_bytes(text.encode(encoding))
    found = list_clips(tmp_path, ClipSize.parse_list("64x64x9"))
    assert {clip.file: clip.captions for clip in found.clips} == {"a.mp4": (), "b.mp4": ("a red ball",), "c.mp4": ()}
    assert "a.txt" in found.text()
    assert "c.txt" in found.text()
