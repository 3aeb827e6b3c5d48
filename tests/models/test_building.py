"""A file's header cannot cost memory or time, and the weights of a network are those of the file."""

import math
import resource
import time
from dataclasses import asdict, replace

import pytest
import torch

from comfyui_spacetime.models.building import built, check_finite
from comfyui_spacetime.models.captioner.captioner import CaptionerFile, load_captioner, save_captioner
from comfyui_spacetime.models.captioner.network import PRESETS as CAPTIONERS
from comfyui_spacetime.models.captioner.network import CaptionNetwork
from comfyui_spacetime.models.captioner.vocabulary import Vocabulary
from comfyui_spacetime.models.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from comfyui_spacetime.models.headers import config_of
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

WORDS = Vocabulary.of(["a red ball rolls"])
KINDS = {
    "dit": (DiT, PRESETS["test"]),
    "vae": (VideoVAE, VAES["test"]),
    "captioner": (CaptionNetwork, replace(CAPTIONERS["test"], vocabulary=len(WORDS))),
}
SIZES = [
    (name, entry)
    for name, (_, config) in KINDS.items()
    for entry, value in asdict(config).items()
    if not isinstance(value, str | bool)
]
WRONG = [
    0,
    -1,
    10**7,
    10**30,
    2.5,
    math.nan,
    math.inf,
    True,
    None,
    "8",
    [8],
    [0, 0, 0],
    [2, 2],
    {"a": 1},
    [[1]],
    "x" * 10**6,
]


def save(path, name, config, state):
    if name == "captioner":
        save_captioner(path, CaptionerFile(config, tuple(WORDS.tokens), state, "0a1b2c3d", {}))
    else:
        save_checkpoint(path, Checkpoint(**{f"{name}_config": config, f"{name}_state": state}))


def load(path, name):
    if name == "captioner":
        return load_captioner(path).network()
    return getattr(load_checkpoint(path), name)()


def broken(config, **values):
    """A config with values that it would refuse."""
    made = object.__new__(type(config))
    for key, value in (asdict(config) | values).items():
        object.__setattr__(made, key, value)
    return made


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_network_of_a_file_has_its_weights_and_shares_none(tmp_path, name, dtype):
    kind, config = KINDS[name]
    torch.manual_seed(0)
    state = {key: torch.randn_like(value).abs() for key, value in kind(config).state_dict().items()}
    save(tmp_path / "a.safetensors", name, config, {key: value.to(dtype) for key, value in state.items()})
    network = load(tmp_path / "a.safetensors", name)
    again = load(tmp_path / "a.safetensors", name)
    assert not network.training
    assert not any(value.is_meta for value in network.state_dict().values())
    for key, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, state[key].to(dtype).float())
    trained = dict(kind(config).named_parameters())
    for key, parameter in network.named_parameters():
        assert parameter.requires_grad == trained[key].requires_grad
        parameter.data.zero_()
    assert any(bool(value.any()) for value in again.state_dict().values())
    held = {key: value.clone() for key, value in state.items()}
    for parameter in built(kind, config, held, name).parameters():
        parameter.data.zero_()
    assert all(torch.equal(held[key], state[key]) for key in held)


@pytest.mark.parametrize(("name", "entry"), SIZES)
def test_no_value_of_a_config_costs_memory_or_time(tmp_path, name, entry):
    kind, config = KINDS[name]
    path = tmp_path / "small.safetensors"
    state = kind(config).state_dict()
    value = getattr(config, entry)
    large = [65_536, 1024, 64, *([(65_536,) * len(value), (1024,) * len(value)] if isinstance(value, tuple) else [])]
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for wrong in [*WRONG, *large]:
        save(path, name, broken(config, **{entry: wrong}), state)
        if wrong in (value, list(value) if isinstance(value, tuple) else value) or (entry, wrong) == ("mlp_ratio", 2.5):
            continue  # the same shapes
        with pytest.raises(ValueError, match=r"small\.safetensors") as caught:
            load(path, name)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500
    assert time.process_time() - begin < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


@pytest.mark.parametrize("name", KINDS)
def test_weights_that_cannot_be_computed_with_are_refused(tmp_path, name):
    kind, config = KINDS[name]
    state = kind(config).state_dict()
    first = next(iter(state))
    path = tmp_path / "a.safetensors"
    for value, said in (
        (torch.full_like(state[first], math.nan), "no finite numbers"),
        (torch.full_like(state[first], -math.inf), "no finite numbers"),
        (state[first].int(), "no floating-point"),
        (state[first].flatten()[:-1], "another shape"),
        (None, "missing"),
    ):
        changed = {key: held for key, held in (state | {first: value}).items() if held is not None}
        save(path, name, config, changed)
        with pytest.raises(ValueError, match=said) as caught:
            load(path, name)
        assert first in str(caught.value)
    save(path, name, config, state | {"y" * 100_000: torch.zeros(1)})
    with pytest.raises(ValueError, match="unknown") as caught:
        load(path, name)
    assert len(str(caught.value)) < 500


def test_large_finite_weights_pass():
    check_finite({"a": torch.full((4,), 3e38), "b": torch.full((4,), 6e4).half(), "c": torch.zeros(0)}, "it")


META = {
    "shift": [0, -1, math.nan, math.inf, "3", [3], True],
    "trained_on": [["0x0x0"], ["96x96"], "96x96x33", 3, [33], ["9" * 50 + "x1x1"]],
    "classes": [[1, 2], "ab", {"a": 1}, ["a"], [["a"], ["b"]]],
    "dit": [3, [], "x"],
    "recommended": [
        3,
        [2, 24, "euler"],
        {},
        {"cfg": 2.0, "steps": 24},
        {"cfg": 2.0, "steps": 24, "solver": "euler", "more": 1},
        *(
            {"cfg": 2.0, "steps": 24, "solver": "euler"} | wrong
            for wrong in (
                {"cfg": -1},
                {"cfg": math.nan},
                {"cfg": "2"},
                {"steps": 0},
                {"steps": 2.5},
                {"steps": 10**9},
                {"solver": "magic"},
                {"solver": 3},
                {"solver": ["euler"]},
            )
        ),
    ],
    "rgb_factors": [[[1, 2, 3]], 3, [[1, 2]] * 16, [["a", "b", "c"]] * 16, [[math.nan] * 3] * 16],
    "rgb_bias": [[1, 2], 3, ["a", "b", "c"], {"a": 1}],
}


@pytest.mark.parametrize("entry", META)
def test_what_a_header_says_of_use_is_checked_when_it_is_read(tmp_path, entry):
    config = replace(PRESETS["test"], num_classes=2)
    path = tmp_path / "a.safetensors"
    for wrong in META[entry]:
        save_checkpoint(path, Checkpoint(config, DiT(config).state_dict(), meta={entry: wrong}))
        with pytest.raises(ValueError, match=r"the header of a\.safetensors cannot be used"):
            load_checkpoint(path)
    right = {
        "shift": 2.0,
        "trained_on": ["96x96x33", "96x96x32c"],
        "classes": ["a", "b"],
        "dit": {"steps": 3},
        "recommended": {"cfg": 2, "steps": 24, "solver": "euler_sde"},
        "rgb_factors": [[0.1, 0.2, 0.3]] * 16,
        "rgb_bias": [0, 0, 0],
        "object_psnr": math.nan,
    }
    save_checkpoint(path, Checkpoint(config, DiT(config).state_dict(), meta=right))
    assert load_checkpoint(path).class_names == ("a", "b")


def test_a_deviation_of_zero_is_refused(tmp_path):
    state = VideoVAE(VAES["test"]).state_dict()
    state["latent_std"][3] = 0
    save_checkpoint(tmp_path / "a.safetensors", Checkpoint(vae_config=VAES["test"], vae_state=state))
    with pytest.raises(ValueError, match="deviation"):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", KINDS)
def test_configs_made_in_code_have_the_same_limits(name):
    kind = type(KINDS[name][1])
    values = asdict(KINDS[name][1])
    assert config_of(kind, {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}) == KINDS[name][1]
    for key, value in values.items():
        if isinstance(value, int) and not isinstance(value, bool):
            with pytest.raises(ValueError, match=f"{key} is -1, where a whole number from"):
                kind(**(values | {key: -1}))
