"""Files that are damaged, by accident or on purpose: each is used, or refused in one sentence that names it.

Seeded mutations of small whole files: bytes flipped, cut and added, values of the JSON inside replaced by others,
tensors dropped, renamed and reshaped.
"""

import copy
import json
import random
import struct
import time
from dataclasses import replace

import pytest
import torch

from comfyui_spacetime.models.captioner.captioner import CaptionerFile, load_captioner, save_captioner
from comfyui_spacetime.models.captioner.describer import Captioner
from comfyui_spacetime.models.captioner.network import PRESETS as CAPTIONERS
from comfyui_spacetime.models.captioner.network import CaptionNetwork
from comfyui_spacetime.models.captioner.vocabulary import Vocabulary
from comfyui_spacetime.models.checkpoints import Checkpoint, known_sizes, load_checkpoint, save_checkpoint
from comfyui_spacetime.models.files import write_json, write_tensors
from comfyui_spacetime.models.metrics.report import Measure, Report
from comfyui_spacetime.models.text.configuration import read_configuration
from comfyui_spacetime.models.text.gguf import read_header
from comfyui_spacetime.models.training.dit.lora import merge
from comfyui_spacetime.models.training.dit.profiles import snapshots_of
from comfyui_spacetime.models.training.optim.layout import newest
from comfyui_spacetime.models.training.run.chart import progress_picture
from comfyui_spacetime.models.training.run.folder import Run
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

CASES = 150  # of each loader
ODD = [
    None,
    True,
    -1,
    0,
    1,
    2.5,
    10**7,
    10**30,
    float("nan"),
    float("inf"),
    "",
    "x",
    "0x0x0",
    "x" * 10**5,
    "\ud83d",
    [],
    {},
    [[]],
    ["a"],
    [1, 2, 3],
    {"a": 1},
    [None] * 50,
]
WORDS = Vocabulary.of(["a red ball rolls"])


def places(value, path=()):
    """Paths of all values inside a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(value, rng):
    """A JSON value with one value inside replaced, removed, or added."""
    value = copy.deepcopy(value)
    path = rng.choice([path for path in places(value) if path] or [()])
    if not path:
        return rng.choice(ODD)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    kind = rng.random()
    if kind < 0.15:
        del inner[path[-1]]
    elif kind < 0.2 and isinstance(inner, dict):
        inner["unheard of"] = rng.choice(ODD)
    else:
        inner[path[-1]] = rng.choice(ODD)
    return value


def struck(data, rng):
    """Bytes with a few flipped, cut off, put in, or turned to zero."""
    data, kind = bytearray(data), rng.randrange(5)
    place = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 600))
    if kind == 0:
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[place:]
    elif kind == 2:
        data[place:place] = rng.randbytes(rng.randint(1, 40))
    elif kind == 3:
        data[place : place + 8] = rng.choice([b"\xff" * 8, b"\0" * 8, struct.pack("<q", 10**9)])
    else:
        del data[place : place + rng.randint(1, 30)]
    return bytes(data)


def text_changed(data, rng):
    """A JSON text with a value changed, or struck."""
    if rng.random() < 0.3:
        return struck(data, rng)
    return json.dumps(changed(json.loads(data), rng)).encode()


def lines_changed(data, rng):
    """Lines of JSON of which one is changed."""
    lines = data.splitlines()
    number = rng.randrange(len(lines))
    lines[number] = text_changed(lines[number], rng)
    return b"\n".join(lines)


def tensors_changed(data, rng):
    """A safetensors file with its bytes, its header's entries or its tensors' descriptions changed."""
    if rng.random() < 0.3:
        return struck(data, rng)
    size = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + size]), data[8 + size :]
    entries = header.get("__metadata__", {})
    if entries and rng.random() < 0.6:
        name = rng.choice(list(entries))
        entries[name] = json.dumps(changed(json.loads(entries[name]), rng))
    else:
        name = rng.choice([key for key in header if key != "__metadata__"])
        kind = rng.randrange(4)
        if kind == 0:
            header["y" * rng.choice([1, 10**5])] = header.pop(name)
        elif kind == 1:
            header[name]["shape"] = header[name]["shape"][::-1]
        elif kind == 2:
            header[name]["shape"] = [1, *header[name]["shape"]]
        else:
            header[name]["dtype"] = rng.choice(["I32", "F8_E4M3", "U8", "F4", "BOOL"])
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + rest


def make_checkpoint(path):
    torch.manual_seed(0)
    config = replace(PRESETS["test"], depth=1, num_classes=2)
    meta = {"shift": 2.0, "trained_on": ["96x96x33"], "classes": ["a", "b"], "dit": {"steps": 3}, "rgb_bias": [0, 0, 0]}
    vae = VideoVAE(VAES["test"])
    save_checkpoint(path, Checkpoint(config, DiT(config).state_dict(), VAES["test"], vae.state_dict(), meta))


def use_checkpoint(path):
    checkpoint = load_checkpoint(path)
    known = known_sizes(checkpoint.meta)
    assert known is None or known.text()
    assert all(isinstance(name, str) for name in checkpoint.class_names)
    if checkpoint.dit_config is not None:
        checkpoint.dit()
    if checkpoint.vae_config is not None:
        checkpoint.vae()
    assert float(checkpoint.meta.get("shift") or 3) > 0


def make_captioner(path):
    torch.manual_seed(0)
    config = replace(CAPTIONERS["test"], vocabulary=len(WORDS))
    meta = {"sizes": ["64x64x33"], "fps": 12, "steps": 3}
    save_captioner(
        path, CaptionerFile(config, tuple(WORDS.tokens), CaptionNetwork(config).state_dict(), "0a1b2c3d", meta)
    )


def use_captioner(path):
    file = load_captioner(path)
    Captioner.of("mine", file, VAE, file.vae).pick(33, 12.0, 64, 64)


VAE = VideoVAE(VAES["test"])
LAYER = "blocks.0.mlp.down"
BASE = Checkpoint(PRESETS["test"], DiT(PRESETS["test"]).state_dict())


def make_lora(path):
    out, inner = BASE.dit_state[f"{LAYER}.weight"].shape
    named = {"lora_up.weight": torch.ones(out, 2), "lora_down.weight": torch.ones(2, inner), "alpha": torch.tensor(2.0)}
    tensors = {f"diffusion_model.{LAYER}.{name}": value for name, value in named.items()}
    write_tensors(path, tensors, {"spacetime_lora": json.dumps({"steps": 8})})


def make_log(path):
    rows = [{"time": n / 2, "step": n, "loss": 1 / n, "validation_loss": 0.5} for n in range(1, 5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_run_config(path):
    write_json(path, {"preset": "test", "steps": 8, "snapshots": 4, "mix": [["64x64x9", 1.0]]})


def use_run_config(path):
    (path.parent / "checkpoint.safetensors").unlink(missing_ok=True)
    write_tensors(path.parent / "checkpoint.safetensors", {"a": torch.zeros(1)}, {"step": "3"})
    Run(path.parent, {"preset": "test", "steps": 8, "snapshots": 4, "mix": [["64x64x9", 1.0]]})


def make_snapshots(path):
    make_run_config(path)
    for step in (2, 4, 6, 8):
        write_tensors(path.parent / "averages" / f"{step:08d}-6.94.safetensors", {"a": torch.zeros(1)}, {"step": "2"})


def make_configuration(path):
    endpoint = {"url": "http://127.0.0.1:1/v1", "model": "m", "timeout": 3, "options": {"seed": 1}, "small": True}
    write_json(path, {"endpoints": {"mine": endpoint}, "allowed_urls": ["http://127.0.0.1:1"]})


def use_configuration(path):
    configuration = read_configuration(path, {})
    for name in configuration.endpoints:
        configuration.endpoint(name, {})


def make_gguf(path):
    def text(value):
        return struct.pack("<Q", len(value)) + value

    pairs = text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama")
    pairs += text(b"llama.context_length") + struct.pack("<II", 4, 2048)
    pairs += text(b"tokens") + struct.pack("<IIQ", 9, 8, 3) + text(b"a") + text(b"b") + text(b"c")
    tensor = text(b"token_embd.weight") + struct.pack("<IQQIQ", 2, 8, 4, 0, 0)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + pairs + tensor + b"\0" * 256)


LOADERS = {
    "checkpoint": (make_checkpoint, tensors_changed, use_checkpoint, "a.safetensors"),
    "captioner": (make_captioner, tensors_changed, use_captioner, "a.safetensors"),
    "LoRA": (make_lora, tensors_changed, lambda path: merge(BASE, path), "a.safetensors"),
    "step of a run": (
        lambda path: write_tensors(path, {"a": torch.zeros(2)}, {"step": "3"}),
        tensors_changed,
        lambda path: newest(path.parent),
        "checkpoint.safetensors",
    ),
    "settings of a run": (make_run_config, text_changed, use_run_config, "config.json"),
    "snapshots": (make_snapshots, text_changed, lambda path: snapshots_of(path.parent), "config.json"),
    "log": (make_log, lines_changed, lambda path: progress_picture(path.parent, 8), "log.jsonl"),
    "configuration": (make_configuration, text_changed, use_configuration, "spacetime_language_models.json"),
    "report": (
        lambda path: path.write_text(Report("Seam", (Measure("seam", 1.0, "", (1.0, 2.0)),), ("fine",)).to_json()),
        text_changed,
        lambda path: Report.from_json(path.read_bytes().decode("utf-8", "replace")).text(),
        "report.json",
    ),
    "GGUF": (make_gguf, struck, read_header, "a.gguf"),
}


def refusal(use, what):
    """The sentence of the ValueError that `use` ends in; None when it does not."""
    try:
        use()
    except ValueError as error:
        return str(error) if type(error) is ValueError else f"{type(error)}\n{error}"
    except Exception as error:
        raise AssertionError(what) from error
    return None


@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_file_is_used_or_refused_in_one_sentence(tmp_path, name):
    make, change, use, file = LOADERS[name]
    path = tmp_path / file
    make(path)
    whole, rng, refused = path.read_bytes(), random.Random(16), 0
    use(path)
    path.write_bytes(whole)
    for case in range(CASES):
        damaged = change(whole, rng)
        path.write_bytes(damaged)
        begin = time.process_time()
        said = refusal(lambda: use(path), f"case {case}, {damaged[:400]!r}")
        if said is not None:
            refused += 1
            assert "\n" not in said, f"case {case}: {said[:300]}"
            assert ":" in said, f"case {case} says no remedy: {said}"
            assert len(said) < 600, f"case {case}: {said[:300]}"
        assert time.process_time() - begin < 3, f"case {case} is slow"
    assert refused > CASES / 20 or name == "log"  # which leaves wrong lines out
