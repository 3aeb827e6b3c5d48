"""Describe Video, Caption Clips and Train Captioner in the real host: frames, folders, runs, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
BUNNY = ROOT / "workflows" / "media" / "big_buck_bunny.mp4"
ANSWER = {
    "subjects": ["a gray rabbit"],
    "actions": ["it stretches"],
    "background": "a meadow",
    "camera": "static",
    "style": "animation",
    "paragraph": "A gray rabbit stretches in a meadow.",
}
DESCRIBE = {"fps": 12.0, "length": "detailed", "seed": 0, "temperature": 0.0, "num_frames": 4}


@pytest.fixture
def folders(comfy_host, tmp_path, monkeypatch) -> Path:
    """The host's input, output and temp folders, empty."""
    import folder_paths

    for kind in ("input", "output", "temp"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    (tmp_path / "input" / "clips").mkdir()
    shutil.copy(BUNNY, tmp_path / "input" / "clips" / "bunny.mp4")
    return tmp_path


@pytest.fixture(scope="module")
def vae(comfy_host):
    """A small VAE of ours as a core object."""
    from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
    from comfyui_spacetime.nodes.host.vae.pieces import SpacetimeVAE

    torch.manual_seed(0)
    return SpacetimeVAE(VideoVAE(PRESETS["test"]))


@pytest.fixture
def captioner(vae, tmp_path, monkeypatch):
    """Name of a captioner for that VAE, in a folder that the host lists, that always says the same."""
    import folder_paths

    from comfyui_spacetime.models.captioner.captioner import CaptionerFile, save_captioner
    from comfyui_spacetime.models.captioner.network import PRESETS, CaptionNetwork
    from comfyui_spacetime.models.captioner.vocabulary import Vocabulary
    from comfyui_spacetime.models.vae.autoencoder import fingerprint

    vocabulary = Vocabulary.of(["a red ball rolls to the left"])
    network = CaptionNetwork(replace(PRESETS["test"], vocabulary=len(vocabulary))).initialise()
    ids = vocabulary.encode("a red ball rolls to the left")
    torch.nn.init.zeros_(network.decoder.words.weight)
    torch.nn.init.zeros_(network.decoder.head.weight)
    with torch.no_grad():  # each word points to the one after it
        for step, (word, following) in enumerate(zip([vocabulary.starts[True], *ids[1:]], ids[1:], strict=False)):
            network.decoder.words.weight[word] = torch.eye(32)[step] * 10
            network.decoder.head.weight[following] = torch.eye(32)[step] * 10
    folder = tmp_path / "captioners"
    meta = {"sizes": ["32x32x9", "64x32x9"], "fps": 12}
    file = CaptionerFile(
        network.config, tuple(vocabulary.tokens), network.state_dict(), fingerprint(vae.first_stage_model), meta
    )
    save_captioner(folder / "says.safetensors", file)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", ([str(folder)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return "says.safetensors"


class Sees:
    """A language model that sees pictures; counts them."""

    def __init__(self, answer=None):
        self.answer, self.pictures = answer or json.dumps(ANSWER), []

    def describe(self):
        return "test model"

    def __call__(self, question):
        self.pictures.append(len(question.images))
        return self.answer


def test_a_captioner_describes_images_and_videos_of_any_size(folders, captioner, vae):
    from comfyui_spacetime.nodes.captioning import DescribeVideo, LoadCaptioner
    from comfyui_spacetime.nodes.host.vae.frames import video_from_file

    (model,) = LoadCaptioner.execute(captioner, vae).result
    for frames in (torch.rand(30, 40, 70, 3), torch.rand(1, 200, 90, 3), video_from_file(BUNNY)):
        caption, fields = DescribeVideo.execute(frames, language_model=model, **DESCRIBE).result
        assert caption == "A red ball rolls to the left"
        assert json.loads(fields)["paragraph"] == caption


def test_a_captioner_does_not_pass_for_a_writer_of_prompts(folders, captioner, vae):
    from comfyui_spacetime.nodes.captioning import LoadCaptioner
    from comfyui_spacetime.nodes.words import ExpandCaption

    (model,) = LoadCaptioner.execute(captioner, vae).result
    settings = {"mode": "language model", "style": "plain", "language": "as the prompt", "seed": 0}
    caption, original, changes = ExpandCaption.execute("a red ball falls", language_model=model, **settings).result
    assert caption.startswith(original)
    assert "only describes videos" in changes


def test_loaders_keep_captioners_and_models_apart(folders, captioner, vae, tiny_checkpoint):
    from comfyui_spacetime.nodes.captioning import LoadCaptioner
    from comfyui_spacetime.nodes.host import folders
    from comfyui_spacetime.nodes.host.words.captioning import captioner_names

    assert captioner in captioner_names()
    assert tiny_checkpoint not in captioner_names()
    assert captioner not in folders.checkpoint_names()
    assert not [name for name in folders.checkpoint_names() if "captioner" in name]
    with pytest.raises(ValueError, match="reads the latents of the VAE"):
        LoadCaptioner.execute(captioner)  # with the embedded VAE
    with pytest.raises(ValueError, match="there is no captioner"):
        LoadCaptioner.execute("../../secret.safetensors", vae)
    with pytest.raises(ValueError, match="this VAE belongs to another model"):
        LoadCaptioner.execute(captioner, object())


def test_a_language_model_sees_frames_over_the_whole_video(comfy_host):
    from comfyui_spacetime.nodes.captioning import DescribeVideo
    from comfyui_spacetime.nodes.host.vae.frames import video_from_file

    model = Sees()
    caption, fields = DescribeVideo.execute(video_from_file(BUNNY), language_model=model, **DESCRIBE).result
    assert caption == ANSWER["paragraph"]
    assert json.loads(fields)["subjects"] == ["a gray rabbit"]
    DescribeVideo.execute(torch.rand(1, 32, 32, 3), language_model=model, **DESCRIBE)
    assert model.pictures == [4, 1]
    refusing = Sees("I'm sorry, I can't help with that.")
    with pytest.raises(RuntimeError, match="answers of test model are no description: it is a refusal"):
        DescribeVideo.execute(torch.rand(3, 32, 32, 3), language_model=refusing, **DESCRIBE)


def test_a_folder_is_captioned_and_feeds_training(folders):
    from comfyui_spacetime.nodes.captioning import CaptionClips
    from comfyui_spacetime.nodes.clips import ClipsFromFolder

    chosen = {"folder": "clips", "size": "32x32x9", "fps": 12.0, "max_clips": 10}
    (clips, _) = ClipsFromFolder.execute(**chosen).result
    settings = {"name": "mine", "which": "clips without a caption", "length": "detailed", "limit": 0, "seed": 0}
    captioned, report = CaptionClips.execute(clips, language_model=Sees(), **settings).result
    assert "1 files described, 0 kept" in report
    assert (
        (folders / "output" / "spacetime" / "captions" / "mine" / "bunny.txt").read_text().startswith("A gray rabbit")
    )
    assert sorted(path.name for path in (folders / "input" / "clips").iterdir()) == ["bunny.mp4"]
    assert {clip.captions for clip in captioned.folder_clips(held_out=False)} == {(ANSWER["paragraph"],)}
    assert "--captions" in captioned.cache_arguments(held_out=False)
    before = ClipsFromFolder.fingerprint_inputs(**chosen, captions="mine")
    (again, _) = ClipsFromFolder.execute(**chosen, captions="mine").result
    assert again.folder_clips(held_out=False) == captioned.folder_clips(held_out=False)
    _, report = CaptionClips.execute(again, language_model=Sees("nothing"), **settings).result
    assert "0 files described, 1 kept" in report
    CaptionClips.execute(
        again,
        language_model=Sees(json.dumps({**ANSWER, "paragraph": "A hare wakes up."})),
        **settings | {"which": "all clips", "seed": 1},
    )
    assert ClipsFromFolder.fingerprint_inputs(**chosen, captions="mine") == before  # the same describer: kept


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/tmp/x", "..", "a.b"])
def test_sets_of_captions_lead_nowhere_else(folders, name):
    from comfyui_spacetime.nodes.host.words.captioning import captions_folder

    with pytest.raises(ValueError, match="is no name for a set of captions"):
        captions_folder(name)


def test_what_cannot_be_captioned_is_one_sentence(folders):
    from comfyui_spacetime.nodes.captioning import CaptionClips
    from comfyui_spacetime.nodes.clips import ClipsFromFolder, ToyWorld

    settings = {"name": "mine", "which": "all clips", "length": "short", "limit": 0, "seed": 0}
    toy = ToyWorld.execute("32x32x9", 2).result[0]
    with pytest.raises(ValueError, match="toy-world clips have their captions already"):
        CaptionClips.execute(toy, language_model=Sees(), **settings)
    chosen = {"folder": "clips", "size": "32x32x9", "fps": 12.0, "max_clips": 10}
    clips = replace(ClipsFromFolder.execute(**chosen).result[0], captions=str(folders / "output" / "other"))
    with pytest.raises(ValueError, match='use the set of captions "other" already'):
        CaptionClips.execute(clips, language_model=Sees(), **settings)


def test_a_captioner_is_trained_shown_and_used_at_once(folders, vae, monkeypatch):
    import folder_paths

    from comfyui_spacetime.nodes.captioning import LoadCaptioner
    from comfyui_spacetime.nodes.clips import ClipsFromFolder, ToyWorld
    from comfyui_spacetime.nodes.train import TrainCaptioner

    place = [str(folders / "output" / "checkpoints")]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", (place, {".safetensors"}))
    settings = {
        "preset": "test",
        "steps": 2,
        "tokens": 48,
        "learning_rate": 1e-3,
        "save_every": 2,
        "run_seed": 0,
        "numbers": "float32",
        "start_from": "nothing",
    }
    output = TrainCaptioner.execute(ToyWorld.execute("32x32x9", 4).result[0], vae, "teller", **settings)
    model, path = output.result
    assert path == str(folders / "output" / "checkpoints" / "spacetime" / "teller.safetensors")
    assert output.ui["images"][0]["filename"] == "progress.png"
    assert model.describe() == "captioner teller"
    (listed,) = LoadCaptioner.execute("spacetime/teller.safetensors", vae).result
    pixels = np.zeros((9, 32, 32, 3), np.uint8)
    assert torch.equal(listed.network.prefix(listed.latents(pixels)), model.network.prefix(model.latents(pixels)))
    uncaptioned = ClipsFromFolder.execute("clips", "32x32x9", 12.0, 10).result[0]
    with pytest.raises(ValueError, match="none of these clips has a caption"):
        TrainCaptioner.execute(uncaptioned, vae, "other", **settings)
