"""Texts of any length and kind in every text input: an answer soon, or a short sentence that can be written down."""

import inspect
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from comfyui_spacetime.tools.in_process import load_host

SIZE = 1_000_000
SECONDS = 10  # of this process's time; what reads a text in the square of its length takes hours
SHOWN = 500  # characters of an error, its own words included
TEXTS = {
    "one word": "x" * SIZE,
    "words": "word " * (SIZE // 5),
    "lines": "a\n" * (SIZE // 2),
    "digits": "9" * SIZE,
    "numbers": "1, " * (SIZE // 3),
    "sizes": "64x" * (SIZE // 3),
    "path": "a/" * (SIZE // 2),
    "blanks": " " * SIZE,
    "brackets": "([{" * (SIZE // 3),
    "nothing to see": "\0\u200b" * (SIZE // 2),
    "Chinese": "一只猫" * (SIZE // 3),
    "half a character": "a red ball \ud83d",
    "half characters": "\ud800 " * (SIZE // 2),
    "dots": "../" * (SIZE // 3),
    "address": "http://" + "a." * (SIZE // 2),
    "accents": "e\u0301" * (SIZE // 2),
    "quotes": "\"'«" * (SIZE // 3),
}


def text_inputs() -> list[Any]:
    """(node, name of the input) for every text input of the registry."""
    if not load_host():
        return []
    from comfyui_spacetime.nodes import load_nodes

    return [
        pytest.param(node, one.id, id=f"{node.__name__} {one.id}")
        for node in load_nodes()
        for one in node.define_schema().inputs
        if one.get_io_type() == "STRING"
    ]


class Started(Exception):  # noqa: N818 - it is no error
    """A text was accepted, and the work would begin."""


@pytest.fixture(scope="module")
def sockets(tiny_objects, tmp_path_factory) -> dict[str, Any]:
    """Something small and true for each kind of socket."""
    import comfy.samplers
    import comfy_extras.nodes_custom_sampler as core

    from comfyui_spacetime.nodes.clips import ToyWorld
    from comfyui_spacetime.nodes.host.stepping.trajectory import begin
    from comfyui_spacetime.nodes.tokens import cut

    model, clip, vae = tiny_objects
    latent = {"samples": torch.zeros(1, 16, 3, 4, 4)}
    guider = core.Guider_Basic(model)
    guider.set_conds(clip.encode_from_tokens_scheduled(clip.tokenize("a red ball")))
    return {
        "MODEL": model,
        "CLIP": clip,
        "VAE": vae,
        "LATENT": latent,
        "GUIDER": guider,
        "IMAGE": torch.zeros(1, 16, 16, 3),
        "IMAGE,VIDEO": torch.zeros(17, 16, 16, 3),
        "SAMPLER": comfy.samplers.sampler_object("euler"),
        "SIGMAS": torch.tensor([1.0, 0.0]),
        "NOISE": core.Noise_RandomNoise(0),
        "SPACETIME_CLIPS": ToyWorld.execute("64x64x17", 2).result[0],
        "SPACETIME_TOKENS": begin(cut(latent, (1, 2, 2)), core.Noise_RandomNoise(0), torch.tensor([1.0, 0.0])),
    }


@pytest.fixture
def nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No process, no model call, and a folder of the test's own; coming that far is as good as an answer."""
    import folder_paths

    from comfyui_spacetime.nodes.host.processes import training

    def start(*_: Any, **__: Any) -> None:
        raise Started

    monkeypatch.setattr(training.subprocess, "Popen", start)
    monkeypatch.setattr("comfy.samplers.CFGGuider.sample", start)
    for name in ("get_input_directory", "get_output_directory", "get_user_directory", "get_temp_directory"):
        monkeypatch.setattr(folder_paths, name, lambda *_: str(tmp_path))


def arguments(node: Any, sockets: dict[str, Any]) -> dict[str, Any]:
    """What a node gets: the defaults of its widgets, and something on each socket that must be connected."""
    given = {}
    for one in node.define_schema().inputs:
        kind = one.get_io_type()
        if kind in sockets and (not one.optional or kind == "CLIP"):
            given[one.id] = sockets[kind]
        elif not one.optional:
            given[one.id] = one.options[0] if one.default is None and kind == "COMBO" else one.default
    return listed(node, given)


def listed(node: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The values as a node that takes lists gets them."""
    return {name: [value] for name, value in given.items()} if node.define_schema().is_input_list else given


def calls(node: Any, given: dict[str, Any]) -> dict[str, Any]:
    """What the host calls with the values of the inputs."""
    found: dict[str, Any] = {"execute": lambda: node.execute(**given)}
    for name in ("validate_inputs", "fingerprint_inputs"):
        own = getattr(node, name)
        wanted = set(inspect.signature(own).parameters) & given.keys()
        if name in vars(node):
            found[name] = lambda own=own, wanted=wanted: own(**{key: given[key] for key in wanted})
    return found


@pytest.mark.parametrize(("node", "name"), text_inputs())
@pytest.mark.usefixtures("nothing_starts", "one_thread")
def test_every_text_gets_an_answer_soon_or_a_short_sentence(node, name, sockets):
    given = arguments(node, sockets)
    for kind, text in TEXTS.items():
        for method, call in calls(node, {**given, name: text}).items():
            began = time.process_time()
            said = ""
            try:
                found = call()
                said = found if isinstance(found, str) and method == "validate_inputs" else ""
            except Started:
                pass
            except UnicodeError as error:
                pytest.fail(f"{method}, {kind}: raw words of Python, {error}")
            except (ValueError, RuntimeError) as error:
                said = str(error)
            took = time.process_time() - began
            assert took < SECONDS, f"{method}, {kind}: {took:.0f} s"
            assert len(said) <= SHOWN, f"{method}, {kind}: {len(said)} characters, {said[:200]!r}"
            said.encode()  # ValueError for half a character, which no terminal can show
