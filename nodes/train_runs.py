"""How the training nodes run the training command on latents, and show what it made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .host.messages import serve_json


@contextmanager
def trained_on_latents(
    node: Any, command: str, clips: Any, vae: Any, folder: Path, steps: int, arguments: list[str]
) -> Iterator[Path]:
    """Encode the clips and run a training command on their latents; gives the VAE's file, which then goes."""
    from .host.processes import training

    with training.vae_for_process(vae, folder / "used_vae.safetensors") as vae_file:
        place = [command, "--out", str(folder), "--vae", str(vae_file), *_caches(node, clips, vae, vae_file, folder)]
        training.train(node, [*place, *arguments], folder, training.Follower(folder, steps))
        yield vae_file


def _caches(node: Any, clips: Any, vae: Any, vae_file: Path, folder: Path) -> list[str]:
    """Encode the clips to train on and those held out, unless that was done before; the options that name them."""
    from .host.processes import training

    options: list[str] = []
    for option, held_out in (("--data", False), ("--held-out", True)):
        arguments = clips.cache_arguments(held_out=held_out)
        place = training.cache_folder(arguments, vae)
        training.train(node, ["cache", "--vae", str(vae_file), "--out", str(place), *arguments], folder)
        options += [option, str(place)]
    return options


def result(folder: Path, steps: int, text: str) -> dict[str, Any]:
    """The finished run's curve and latest strip for the node."""
    from ..models.training.run.chart import progress_picture
    from .host.processes import training

    return training.picture_ui(progress_picture(folder, steps), folder / training.PROGRESS, text)


def _shown(query: Mapping[str, str]) -> dict[str, Any]:
    """What a page that is loaded anew asks for: the picture of the run that a node names."""
    from .host.processes import training

    return training.shown_of_run(query.get("name", ""))


serve_json("/spacetime/run", _shown)
