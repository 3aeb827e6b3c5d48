"""A person's wishes reach the right nodes of the starter workflow, and files land where they were asked for."""

import argparse
from dataclasses import dataclass, field

import pytest

from comfyui_spacetime.tools import video
from comfyui_spacetime.tools.terminal import Trouble

INT, FLOAT = ["INT", {"default": 1}], ["FLOAT", {"default": 1.0}]
OBJECTS = {
    "CLIPTextEncode": {"input": {"required": {"text": ["STRING", {"multiline": True}]}}},
    "SpacetimeEmptyVideo": {"input": {"required": {"width": INT, "height": INT, "seconds": FLOAT}}},
    "RandomNoise": {"input": {"required": {"noise_seed": INT}}},
    "SpacetimeScheduler": {"input": {"required": {"steps": INT}}},
    "SpacetimeGuider": {"input": {"required": {"cfg": FLOAT}}},
}


def starter():
    prompt = {
        str(key): {"class_type": kind, "inputs": {}, "_meta": {"title": kind}}
        for key, kind in enumerate(OBJECTS, start=2)
    }
    return {"1": {"class_type": "CLIPTextEncode", "inputs": {"text": ""}, "_meta": {"title": "Negative"}}, **prompt}


def test_every_wish_has_its_place():
    prompt = starter()
    prompt["2"]["_meta"]["title"] = "Prompt"
    wish = video.Wish("a red cube", seconds=1.5, width=128, height=96, seed=3, steps=9, cfg=2.5)
    video.fill_in(prompt, wish, OBJECTS)
    inputs = {key: node["inputs"] for key, node in prompt.items()}
    assert inputs == {
        "1": {"text": ""},
        "2": {"text": "a red cube"},
        "3": {"seconds": 1.5, "width": 128, "height": 96},
        "4": {"noise_seed": 3},
        "5": {"steps": 9},
        "6": {"cfg": 2.5},
    }


def test_no_wish_changes_nothing():
    prompt = starter()
    video.fill_in(prompt, video.Wish(), OBJECTS)
    assert prompt == starter()


def test_the_command_line_makes_a_wish():
    parser = argparse.ArgumentParser()
    parser.add_argument("prompt")
    video.add_options(parser)
    wish = video.Wish.of(parser.parse_args(["a red cube", "--seconds", "2", "--seed", "5"]))
    assert wish == video.Wish("a red cube", seconds=2.0, seed=5)


@dataclass
class FakeHost:
    """A host whose files all hold the same bytes."""

    client: "FakeHost" = field(init=False)

    def __post_init__(self):
        self.client = self

    def fetch(self, _file):
        return b"video"


FILE = {"filename": "made_00001_.mp4", "subfolder": "", "type": "output"}


def test_a_file_is_kept_under_the_name_that_was_asked_for(tmp_path):
    path = video.keep(FakeHost(), FILE, tmp_path / "new" / "mine.mp4")
    assert path == tmp_path / "new" / "mine.mp4"
    assert path.read_bytes() == b"video"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_in_a_folder_overwrites_nothing(tmp_path):
    first, second = (video.keep(FakeHost(), FILE, tmp_path) for _ in range(2))
    assert first.name == "made_00001_.mp4"
    assert second.name == "made_00001__2.mp4"


def test_another_suffix_than_the_files_is_refused(tmp_path):
    with pytest.raises(Trouble, match=r"Give --out that suffix"):
        video.keep(FakeHost(), FILE, tmp_path / "mine.avi")


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Trouble, match="choose another place"):
        video.keep(FakeHost(), FILE, tmp_path / "file" / "mine.mp4")
