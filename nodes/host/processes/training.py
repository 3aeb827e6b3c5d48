"""Training as processes of their own: their folders, and following one from a running node."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from PIL import Image

from ....models.checkpoints import Checkpoint, joined, load_checkpoint, save_checkpoint
from ....models.files import read_tensors, replacing, write_tensors
from ....models.remedies import cut
from ....models.training.run.chart import latest_sample, progress_picture, read_log
from ....models.vae.autoencoder import fingerprint
from ..folders import OURS, checked_name, output_folder, temp_file
from ..messages import check_interrupted, progress_bar, show_text
from ..vae.pieces import SpacetimeVAE

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = "example"  # stands for the clips that come with the pack, unless there is a folder of that name
ALLOWED = "spacetime_clips"  # entry of the user's extra_model_paths.yaml with more folders of clips
PROGRESS = "progress.png"  # in a run's folder: how it is going, as its node shows it
LONGEST_PATH = 4096  # characters; no system takes more, and looking for its links would take minutes
SEND_AGAIN = 4.0  # seconds
WINDOWS = os.name == "nt"
PATIENCE = 30.0  # seconds that a process gets to write its checkpoint after it was asked to stop


def clips_folder(name: str) -> Path:
    """A folder of clips: inside the host's input folder, or inside one that the user's configuration allows."""
    allowed = folder_paths.folder_names_and_paths.get(ALLOWED, ([], set()))[0]
    roots = [Path(root).resolve() for root in (folder_paths.get_input_directory(), *allowed)]
    for root in roots if len(name) <= LONGEST_PATH else ():
        with suppress(OSError, ValueError):  # no name that a disk takes
            folder = (root / name.strip()).resolve()
            if folder.is_relative_to(root) and folder.is_dir():
                return folder
    if name == EXAMPLE:
        return ROOT / "workflows" / "media"
    there = sorted({path.name for root in roots if root.is_dir() for path in root.iterdir() if path.is_dir()})
    raise ValueError(
        f'there is no folder "{cut(name, 60)}" in ComfyUI\'s input folder {roots[0]}: put your clips into a folder '
        f"there (there are: {', '.join(there[:20]) or 'none'}), or allow another place under {ALLOWED} in "
        "extra_model_paths.yaml"
    )


def run_folder(name: str) -> Path:
    """The folder of a run inside the host's output folder. ValueError for a name that could lead elsewhere."""
    return output_folder() / OURS / checked_name(name, "a run")


def index_file(folder: Path) -> Path:
    """Where to remember what the videos of a folder hold."""
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    return output_folder() / OURS / ".cache" / f"index-{digest}.json"


def cache_folder(arguments: Sequence[str], vae: Any) -> Path:
    """Where the latents of these clips under this VAE are kept, for all runs that use them."""
    digest = hashlib.sha256("\0".join([fingerprint(network_of(vae)), *arguments]).encode()).hexdigest()[:12]
    return output_folder() / OURS / ".cache" / digest


def picture_ui(picture: Image.Image, path: Path, text: str) -> dict[str, Any]:
    """A picture written to a file in the host's output or temp folder, and a text, as a node's results to show."""
    write_picture(picture, path)
    return {"images": [image_entry(path)], "text": (text,)}


def image_entry(path: Path) -> dict[str, str]:
    """A file of the host's output or temp folder as the editor asks for it. ValueError when it lies elsewhere."""
    for kind, root in (("output", folder_paths.get_output_directory()), ("temp", folder_paths.get_temp_directory())):
        base = Path(root).resolve()
        if path.resolve().is_relative_to(base):
            subfolder = path.resolve().parent.relative_to(base).as_posix()
            return {"filename": path.name, "subfolder": "" if subfolder == "." else subfolder, "type": kind}
    raise ValueError(f"{path} lies outside of ComfyUI's folders")


def shown_of_run(name: str) -> dict[str, Any]:
    """What the node of a run showed last; empty when there is no such run. ValueError for a name that is none."""
    path = run_folder(name) / PROGRESS
    return {"images": [image_entry(path)]} if path.is_file() else {}


def write_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG whole or not at all."""
    with replacing(path) as partial:
        picture.save(partial, format="PNG")


def network_of(vae: Any) -> Any:
    """Our VAE's network. ValueError for another model's VAE."""
    if not isinstance(vae, SpacetimeVAE):
        raise ValueError(
            "this VAE belongs to another model: connect the one of Train VAE or of Load Spacetime Checkpoint"
        )
    return vae.first_stage_model


@contextmanager
def vae_for_process(vae: Any, path: Path) -> Iterator[Path]:
    """A core VAE object of ours as a file for a process to read; it is kept as `path` when the block ends well.

    Until then `path` stays as it is: it may be what a finished run of this name was made with, and the process may
    refuse to go on with another VAE.
    """
    network_of(vae)
    given = temp_file(".safetensors")
    try:
        yield save_vae(vae, given)
        save_vae(vae, path)
    finally:
        given.unlink(missing_ok=True)


def save_vae(vae: Any, path: Path) -> Path:
    """Write a core VAE object of ours to a checkpoint file, unless that file holds it already."""
    network = network_of(vae)
    if path.exists():
        held = load_checkpoint(path)
        state = network.state_dict()
        if held.vae_state.keys() == state.keys() and all(
            torch.equal(value, state[key].cpu()) for key, value in held.vae_state.items()
        ):
            return path
    save_checkpoint(path, Checkpoint(vae_config=network.config, vae_state=network.state_dict()))
    return path


def publish(folder: Path, vae: Path, name: str) -> tuple[Path, Checkpoint]:
    """Put a trained DiT and its VAE into one file that the loader node lists; returns it and what it holds.

    The run's early model goes beside it as NAME_early, and a LoRA to where core's LoRA loaders list it.
    """
    output, held = output_folder(), load_checkpoint(vae)
    place = output / "checkpoints" / OURS
    checkpoint = joined(load_checkpoint(folder / "dit.safetensors"), held)
    save_checkpoint(place / f"{name}.safetensors", checkpoint)
    if (folder / "early.safetensors").exists():
        save_checkpoint(
            place / f"{name}_early.safetensors", joined(load_checkpoint(folder / "early.safetensors"), held)
        )
    if (folder / "lora.safetensors").exists():
        write_tensors(output / "loras" / OURS / f"{name}.safetensors", *read_tensors(folder / "lora.safetensors"))
    return place / f"{name}.safetensors", checkpoint


class Follower:
    """Shows a run on its node while it goes on: progress bar, loss curve and latest strip.

    The picture is also kept as progress.png in the run's folder, where a page that is loaded anew finds it, and sent
    again now and then, since such a page has missed what was sent before.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self.bar = progress_bar(steps)
        self.seen: tuple[float, Path | None] = (-1, None)
        self.picture: Image.Image | None = None
        self.sent = 0.0
        self.before = self._written()

    def _written(self) -> tuple[int, int]:
        """Changes when the run writes to its log."""
        try:
            stat = (self.folder / "log.jsonl").stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size

    def __call__(self) -> None:
        """Look, and draw when there is something new."""
        rows = read_log(self.folder / "log.jsonl")
        seen = (max((row["step"] for row in rows), default=-1), latest_sample(self.folder))
        if rows and seen != self.seen:
            self.seen, self.sent = seen, 0.0
            self.picture = progress_picture(self.folder, self.steps)
            if self._written() != self.before:  # the process may refuse this run: then it stays as it was
                write_picture(self.picture, self.folder / PROGRESS)
        if self.picture is not None and time.monotonic() - self.sent > SEND_AGAIN:
            self.sent = time.monotonic()
            self.bar.update_absolute(int(self.seen[0]), self.steps, ("JPEG", self.picture, 1024))


def train(node: Any, arguments: Sequence[str], folder: Path, look: Callable[[], None] = lambda: None) -> None:
    """Run the training command with these arguments until it ends. What it says goes to folder/output.txt.

    The host's models make room for it. An interrupt asks the process to stop, which writes its checkpoint first.
    ValueError with the process's last line when it fails.
    """
    make_room()
    stop = temp_file(".stop")
    options = ["--with-parent", str(os.getpid()), "--stop-file", str(stop)]
    follow(
        node,
        ["models.training", *options, *arguments],
        folder,
        look,
        "lower batch, crop or tokens and queue it again, it continues from its last checkpoint",
        stop,
    )


def follow(
    node: Any, arguments: Sequence[str], folder: Path, look: Callable[[], None], remedy: str, stop: Path | None = None
) -> None:
    """Run a module of the pack as a process of its own, as `train` does.

    remedy: what to do when it was killed. stop: a file whose appearance the process takes for the wish to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "output.txt"
    command = [sys.executable, str(ROOT / "tools" / "pack.py"), *arguments]
    with output.open("wb") as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, cwd=ROOT)
    try:
        shown = ""
        while process.poll() is None:
            check_interrupted()
            look()
            line = last_line(output)
            if line != shown:
                shown = line
                show_text(node, line)
            time.sleep(0.5)
    finally:
        end(process, stop)
    look()
    if process.returncode < 0:
        raise ValueError(
            f"the process was killed (signal {-process.returncode}; the system does so when memory is full): {remedy}"
        )
    if process.returncode:
        raise ValueError(last_line(output) or f"the process ended with code {process.returncode}")


def end(process: subprocess.Popen[bytes], stop: Path | None = None) -> None:
    """Ask a process to stop, by a signal and by a file that it looks for, and wait for it; kill it when it does not.

    Windows has no such signal: what Python calls terminate ends a process there before it can write its checkpoint.
    """
    if process.poll() is not None:
        return
    if stop is not None:
        stop.touch()
    if stop is None or not WINDOWS:
        process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if stop is not None:
            stop.unlink(missing_ok=True)


def last_line(path: Path) -> str:
    """What a process said last."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4000))
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def make_room() -> None:
    """Give the GPU's memory to the training process."""
    comfy.model_management.unload_all_models()
    comfy.model_management.soft_empty_cache()
