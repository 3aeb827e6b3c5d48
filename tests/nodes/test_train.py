"""The training nodes in the real host: folders that may be used, runs as processes, interrupt and resume."""

import shutil
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUNNY = ROOT / "workflows" / "media" / "big_buck_bunny.mp4"
COMMON = {"learning_rate": 1e-3, "save_every": 2, "run_seed": 0, "numbers": "float32"}
VAE = {"preset": "test", "batch": 2, "crop": 32, **COMMON}


@pytest.fixture
def folders(comfy_host, tmp_path, monkeypatch) -> Path:
    """The host's input, output and temp folders, empty."""
    import folder_paths

    for kind in ("input", "output", "temp"):
        (tmp_path / kind).mkdir()
        monkeypatch.setattr(folder_paths, f"{kind}_directory", str(tmp_path / kind))
    return tmp_path


@pytest.mark.parametrize("name", ["", "../run", "a/b", "/tmp/run", "a.b", "..", "C:\\run", "-x", "a b", "x" * 65])
def test_names_of_runs_lead_nowhere_else(folders, name):
    from comfyui_spacetime.nodes.host.processes.training import run_folder

    with pytest.raises(ValueError, match="is no name for a run"):
        run_folder(name)
    assert run_folder("my_run-1") == folders / "output" / "spacetime" / "my_run-1"


def test_clips_come_from_the_input_folder_or_an_allowed_one(folders, monkeypatch):
    import folder_paths

    from comfyui_spacetime.nodes.host.processes.training import clips_folder

    other = folders / "footage"
    (other / "holiday").mkdir(parents=True)
    (folders / "input" / "clips").mkdir()
    (folders / "input" / "door").symlink_to(other)
    assert clips_folder("clips") == folders / "input" / "clips"
    for name in ("../footage", str(other), "door", "door/holiday", "nothing", "\0"):
        with pytest.raises(ValueError, match="put your clips into a folder there"):
            clips_folder(name)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "spacetime_clips", ([str(other)], set()))
    assert clips_folder(str(other)) == other
    assert clips_folder("holiday") == other / "holiday"


def test_clips_from_folder_shows_what_it_found(folders):
    from comfyui_spacetime.nodes.clips import ClipsFromFolder

    place = folders / "input" / "clips" / "white_rabbit"
    place.mkdir(parents=True)
    shutil.copy(BUNNY, place / "bunny.mp4")
    (place / "broken.mp4").write_bytes(b"no video")
    chosen = {"folder": "clips", "size": "32x32x9", "fps": 12.0, "max_clips": 10}
    output = ClipsFromFolder.execute(**chosen)
    clips, report = output.result
    assert clips.folder == str(folders / "input" / "clips")
    assert "skipped white_rabbit/broken.mp4" in report
    (image,) = output.ui["images"]
    assert (folders / image["type"] / image["subfolder"] / image["filename"]).is_file()
    before = ClipsFromFolder.fingerprint_inputs(**chosen)
    (place / "bunny.txt").write_text("a rabbit", encoding="utf-8")
    assert ClipsFromFolder.fingerprint_inputs(**chosen) != before


def test_a_vae_run_is_interrupted_and_continued_under_its_own_settings_only(folders):
    import comfy.model_management as manage

    from comfyui_spacetime.models.checkpoints import load_checkpoint
    from comfyui_spacetime.models.files import read_tensors
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.train import TrainVAE

    clips = ToyWorld.execute("32x32x9", 4).result[0]
    run = folders / "output" / "spacetime" / "vae"

    def cancel() -> None:
        while not (run / "checkpoint.safetensors").exists():
            time.sleep(0.05)
        manage.interrupt_current_processing(True)

    threading.Thread(target=cancel, daemon=True).start()
    with pytest.raises(manage.InterruptProcessingException):
        TrainVAE.execute(clips, "vae", steps=400, **VAE)
    manage.interrupt_current_processing(False)
    done = int(read_tensors(run / "checkpoint.safetensors")[1]["step"])
    assert 2 <= done < 400
    with pytest.raises(ValueError, match=r"holds a run with other settings \(steps\)"):
        TrainVAE.execute(clips, "vae", steps=4, **VAE)
    assert int(read_tensors(run / "checkpoint.safetensors")[1]["step"]) == done

    output = TrainVAE.execute(clips, "short", steps=2, **VAE)
    vae, path = output.result
    assert load_checkpoint(Path(path)).meta["steps"] == 2
    assert vae.latent_channels == 16
    assert output.ui["images"] == [{"filename": "progress.png", "subfolder": "spacetime/short", "type": "output"}]


def test_a_trained_dit_is_usable_at_once(folders):
    from comfyui_spacetime.models.checkpoints import load_checkpoint
    from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.host.vae.pieces import SpacetimeVAE
    from comfyui_spacetime.nodes.train import TrainDiT

    clips = ToyWorld.execute("32x32x9", 4).result[0]
    settings = {"preset": "test", "steps": 2, "tokens": 48, "start_from": "nothing", **COMMON}
    output = TrainDiT.execute(clips, SpacetimeVAE(VideoVAE(PRESETS["test"])), "dit", **settings)
    model, clip, vae, path = output.result
    assert load_checkpoint(Path(path)).dit_config is not None
    assert path == str(folders / "output" / "checkpoints" / "spacetime" / "dit.safetensors")
    assert {"images", "text"} <= output.ui.keys()
    assert model.model.latent_format.latent_channels == vae.latent_channels == 16
    assert clip is not None


def test_classes_an_early_model_and_a_lora_come_out_of_train_dit(folders):
    import folder_paths

    from comfyui_spacetime.models.checkpoints import load_checkpoint
    from comfyui_spacetime.models.clips.toy import toy_example
    from comfyui_spacetime.models.geometry import ClipSize
    from comfyui_spacetime.models.training.dit.lora import merge
    from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
    from comfyui_spacetime.nodes.classes import ClassLabel
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.host.vae.pieces import SpacetimeVAE
    from comfyui_spacetime.nodes.train import TrainDiT

    clips = ToyWorld.execute("32x32x9", 4).result[0]
    vae = SpacetimeVAE(VideoVAE(PRESETS["test"]))
    settings = {"preset": "test", "steps": 4, "tokens": 48, **COMMON}
    switches = {"classes": True, "packing": True, "parts": 2, "checkpointing": True, "log": "tensorboard"}
    model, *_, path = TrainDiT.execute(clips, vae, "all", start_from="nothing", **settings, **switches).result
    names = tuple(sorted({toy_example(seed, ClipSize(32, 32, 9)).kind for seed in range(4)}))
    assert load_checkpoint(path).class_names == names
    assert ClassLabel.execute(model, names[1], [["text", {}]]).result[0][0][1]["spacetime_class"] == 1
    assert load_checkpoint(Path(path).with_stem("all_early")).meta["dit"]["steps"] == 1
    assert list((folders / "output" / "spacetime" / "all" / "tensorboard").glob("events*"))

    folder_paths.add_model_folder_path("checkpoints", str(folders / "output" / "checkpoints"))
    start = "spacetime/all.safetensors"
    *_, path = TrainDiT.execute(clips, vae, "small", start_from=start, lora_rank=2, **settings).result
    lora = folders / "output" / "loras" / "spacetime" / "small.safetensors"
    made = merge(load_checkpoint(folders / "output" / "checkpoints" / start), lora)
    result = load_checkpoint(path)
    assert result.class_names == names
    name = "blocks.0.mlp.down.weight"
    assert (result.dit_state[name].float() - made.dit_state[name].float()).abs().max() < 1e-2
    with pytest.raises(ValueError, match="choose that model in start_from"):
        TrainDiT.execute(clips, vae, "none", start_from="nothing", lora_rank=2, **settings)


def test_a_distilled_dit_is_for_few_steps(folders, tiny_checkpoint):
    from comfyui_spacetime.models.checkpoints import load_checkpoint, recommended_of
    from comfyui_spacetime.models.recommended import Recommended
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.distill import DistillDiT
    from comfyui_spacetime.nodes.host.model.recommended import own_settings

    clips = ToyWorld.execute("32x32x9", 4).result[0]
    settings = {"steps": 2, "tokens": 48, "student_steps": 3, "cfg": 0.0, "lora_rank": 2, **COMMON}
    model, _, vae, path = DistillDiT.execute(clips, tiny_checkpoint, "few", **settings).result
    few = Recommended(cfg=1.0, shift=2.0, steps=3, solver="euler")
    assert own_settings(model).settings == few
    assert recommended_of(load_checkpoint(path).meta) == few
    assert vae.latent_channels == 16
    assert (folders / "output" / "loras" / "spacetime" / "few.safetensors").is_file()


def test_another_models_vae_is_refused_before_anything_starts(folders):
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.train import TrainDiT

    clips = ToyWorld.execute("32x32x9", 1).result[0]
    settings = {"preset": "test", "steps": 2, "tokens": 48, "start_from": "nothing", **COMMON}
    with pytest.raises(ValueError, match="this VAE belongs to another model"):
        TrainDiT.execute(clips, object(), "dit", **settings)


def test_a_run_is_drawn_into_its_folder_as_it_goes_and_only_there(folders):
    import json

    from PIL import Image

    from comfyui_spacetime.nodes.host.processes.training import Follower, run_folder, shown_of_run

    run = run_folder("mine")
    assert shown_of_run("mine") == {}
    run.mkdir(parents=True)
    follower = Follower(run, 100)
    follower()
    assert shown_of_run("mine") == {}, "there is nothing to draw yet"
    (run / "log.jsonl").write_text(json.dumps({"step": 20, "loss": 0.5}) + "\n")
    follower()
    assert shown_of_run("mine") == {
        "images": [{"filename": "progress.png", "subfolder": "spacetime/mine", "type": "output"}]
    }
    before = Image.open(run / "progress.png").tobytes()
    (run / "log.jsonl").write_text("".join(json.dumps({"step": s, "loss": 0.5 - s / 100}) + "\n" for s in (20, 40)))
    follower()
    assert Image.open(run / "progress.png").tobytes() != before
    with pytest.raises(ValueError, match="is no name for a run"):
        shown_of_run("../mine")


def test_a_picture_is_sent_again_for_pages_that_came_later(folders, monkeypatch):
    import json

    from comfyui_spacetime.nodes.host.processes import training

    sent: list[int] = []

    class Bar:
        def update_absolute(self, value: int, _total: int, _picture: object) -> None:
            sent.append(value)

    monkeypatch.setattr(training, "progress_bar", lambda _: Bar())
    run = training.run_folder("mine")
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text(json.dumps({"step": 20, "loss": 0.5}) + "\n")
    follower = training.Follower(run, 100)
    for _ in range(3):
        follower()
    assert sent == [20]
    monkeypatch.setattr(training, "SEND_AGAIN", 0.0)
    follower()
    assert sent == [20, 20]


def test_one_still_image_is_enough_to_begin_and_a_flat_one_is_refused(folders):
    """The smallest folder there can be: one clip of one frame, without a caption."""
    from PIL import Image

    from comfyui_spacetime.nodes.clips import ClipsFromFolder
    from comfyui_spacetime.nodes.train import TrainDiT, TrainVAE

    place = folders / "input" / "clips"
    place.mkdir()
    with Image.open(ROOT / "workflows" / "media" / "toy_red_cube.png") as image:
        image.save(place / "only.png")
    chosen = {"folder": "clips", "size": "64x64x1", "fps": 12.0, "max_clips": 10}
    clips, report = ClipsFromFolder.execute(**chosen).result
    assert "1 clips have no caption" in report
    vae = TrainVAE.execute(clips, "vae", steps=2, adversarial=0.2, adversarial_from=0.0, images=1.0, **VAE).result[0]
    settings = {"preset": "test", "steps": 2, "tokens": 48, "start_from": "nothing", **COMMON}
    assert Path(TrainDiT.execute(clips, vae, "dit", **settings).result[3]).is_file()

    Image.new("RGB", (64, 64), (90, 90, 90)).save(place / "only.png")
    flat = ClipsFromFolder.execute(**chosen).result[0]
    with pytest.raises(ValueError, match="the clips differ in 0 ways only"):
        TrainVAE.execute(flat, "flat", steps=2, **VAE)


def test_a_run_folder_of_another_kind_is_refused_and_kept(folders):
    from comfyui_spacetime.models.files import read_tensors
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.train import TrainDiT, TrainVAE

    clips = ToyWorld.execute("32x32x9", 4).result[0]
    vae, path = TrainVAE.execute(clips, "mine", steps=2, **VAE).result
    run = Path(path).parent
    kept = {name: (run / name).read_bytes() for name in ("checkpoint.safetensors", "vae.safetensors", "config.json")}
    settings = {"preset": "test", "steps": 2, "tokens": 48, "start_from": "nothing", **COMMON}
    with pytest.raises(ValueError, match=r"holds a run with other settings .*: choose another name"):
        TrainDiT.execute(clips, vae, "mine", **settings)
    assert {name: (run / name).read_bytes() for name in kept} == kept
    assert read_tensors(run / "checkpoint.safetensors")[1]["step"] == "2"


def test_a_perceptual_loss_that_cannot_be_is_one_sentence(folders):
    """Said by the process, shown by the node: one sentence with the remedy."""
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.train import TrainVAE

    clips = ToyWorld.execute("16x16x5", 20).result[0]
    with pytest.raises(ValueError, match=r"at least 32 x 32 pixels|pip install --no-deps stlpips-pytorch"):
        TrainVAE.execute(clips, "vae", steps=2, perceptual=0.5, **VAE)


def test_the_hosts_models_make_room_before_any_process_of_training(comfy_host, tmp_path, monkeypatch):
    from comfyui_spacetime.nodes.host.processes import training

    done = []
    monkeypatch.setattr(training, "make_room", lambda: done.append("room"))
    monkeypatch.setattr(training, "follow", lambda _node, arguments, *_rest: done.append(arguments[5]))
    for command in ("vae", "dit", "captioner", "cache"):
        training.train(None, [command], tmp_path)
        assert done[-2:] == ["room", command]


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a run but the record of what its last process said."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("output.txt", "lock")
    }


@pytest.mark.parametrize("kind", ["dit", "captioner", "vae"])
def test_a_refused_run_leaves_the_finished_one_of_its_name_as_it_was(folders, kind):
    import torch

    from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.host.vae.pieces import SpacetimeVAE
    from comfyui_spacetime.nodes.train import TrainCaptioner, TrainDiT, TrainVAE

    clips = ToyWorld.execute("32x32x9", 4).result[0]
    torch.manual_seed(0)
    first, other = (SpacetimeVAE(VideoVAE(PRESETS["test"])) for _ in range(2))
    settings = {"preset": "test", "tokens": 48, "start_from": "nothing", **COMMON}
    node = {"dit": TrainDiT, "captioner": TrainCaptioner}.get(kind)

    def run(vae: object, steps: int) -> None:
        if node is None:
            TrainVAE.execute(clips, "mine", steps=steps, start_from=vae, **VAE)
        else:
            node.execute(clips, vae, "mine", steps=steps, **settings)

    run(first, 2)
    folder = folders / "output" / "spacetime" / "mine"
    before = contents(folder)
    assert ("start.safetensors" if kind == "vae" else "used_vae.safetensors") in before
    with pytest.raises(ValueError, match=" changed since the run in "):
        run(other, 2)
    assert contents(folder) == before
    assert not list((folders / "temp").glob("*.safetensors"))


def test_a_process_without_signals_is_asked_by_a_file(comfy_host, tmp_path, monkeypatch):
    import subprocess
    import sys

    from comfyui_spacetime.nodes.host.processes import training

    monkeypatch.setattr(training, "WINDOWS", True)
    stop = tmp_path / "a.stop"
    waits = "import pathlib, sys, time\nwhile not pathlib.Path(sys.argv[1]).exists(): time.sleep(0.02)\nsys.exit(7)"
    process = subprocess.Popen([sys.executable, "-c", waits, str(stop)])
    training.end(process, stop)
    assert process.returncode == 7, "it ended by itself, and was not killed"
    assert not stop.exists()
