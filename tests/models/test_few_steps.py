"""The form of a model for few steps: beside it in one file, put in its place, refused where it does not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from comfyui_spacetime.models.checkpoints import (
    Checkpoint,
    joined,
    load_checkpoint,
    recommended_of,
    save_checkpoint,
    with_few_steps,
)
from comfyui_spacetime.models.files import write_tensors
from comfyui_spacetime.models.generate import Models, generate
from comfyui_spacetime.models.lora import Pair
from comfyui_spacetime.models.recommended import CARD, Recommended
from comfyui_spacetime.models.training.__main__ import bundle, parser
from comfyui_spacetime.models.training.dit.lora import merge, read_few_steps, save_lora
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

FEW = Recommended(cfg=1.0, shift=3.0, steps=2, solver="euler")
LAYER = "blocks.1.mlp.down"


@pytest.fixture(scope="module")
def full() -> Checkpoint:
    """A tiny model that is awake everywhere, with its VAE."""
    torch.manual_seed(0)
    dit, vae = DiT(PRESETS["test"]).initialise(), VideoVAE(VAES["test"])
    for parameter in dit.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.1)
    return joined(Checkpoint(dit.config, dit.state_dict()), Checkpoint(None, {}, vae.config, vae.state_dict()), CARD)


def pairs(full: Checkpoint) -> dict[str, Pair]:
    rows, columns = full.dit_state[f"{LAYER}.weight"].shape
    return {LAYER: Pair(torch.randn(rows, 2), torch.randn(2, columns), 0.5)}


@pytest.fixture(scope="module")
def both(full) -> Checkpoint:
    torch.manual_seed(1)
    return with_few_steps(full, pairs(full), FEW)


def test_a_file_holds_both_forms_and_gives_either(both, full, tmp_path):
    save_checkpoint(tmp_path / "both.safetensors", both)
    found = load_checkpoint(tmp_path / "both.safetensors")
    assert recommended_of(found.meta) == CARD
    assert all(torch.equal(found.dit_state[name], weight) for name, weight in full.dit_state.items())
    few = found.for_few_steps()
    assert recommended_of(few.meta) == FEW
    changed = [name for name, weight in few.dit_state.items() if not torch.equal(weight, full.dit_state[name])]
    assert changed == [f"{LAYER}.weight"]
    again = joined(found, found)
    assert torch.equal(again.for_few_steps().dit_state[f"{LAYER}.weight"], few.dit_state[f"{LAYER}.weight"])
    with pytest.raises(ValueError, match="holds no form for few steps"):
        few.for_few_steps()


def test_a_distilled_lora_is_bundled_with_its_model(full, tmp_path):
    save_checkpoint(tmp_path / "full.safetensors", full)
    (pair,) = pairs(full).values()
    weights = {f"{LAYER}.lora_up": pair.up, f"{LAYER}.lora_down": pair.down}
    save_lora(tmp_path / "lora.safetensors", weights, {"recommended": FEW.entry(), "shift": FEW.shift})
    names = {"dit": "full", "vae": "full", "few": "lora", "out": "both"}
    options = [part for name, file in names.items() for part in (f"--{name}", str(tmp_path / f"{file}.safetensors"))]
    bundle(parser().parse_args(["bundle", *options]))
    found = load_checkpoint(tmp_path / "both.safetensors").for_few_steps()
    assert recommended_of(found.meta) == FEW
    wanted = full.dit_state[f"{LAYER}.weight"].float() + pair.up @ pair.down
    assert torch.allclose(found.dit_state[f"{LAYER}.weight"].float(), wanted, atol=0.1)
    bundle(parser().parse_args(["bundle", *options, "--few-rank", "1"]))
    assert load_checkpoint(tmp_path / "both.safetensors").few_state[f"{LAYER}.lora_down"].shape[0] == 1
    save_lora(tmp_path / "other.safetensors", weights, {"steps": 3})
    with pytest.raises(ValueError, match="does not say in how many steps it is run"):
        read_few_steps(tmp_path / "other.safetensors")


def test_a_model_with_another_lora_has_no_form_of_the_one_before(both, full, tmp_path):
    (pair,) = pairs(full).values()
    save_lora(tmp_path / "style.safetensors", {f"{LAYER}.lora_up": pair.up, f"{LAYER}.lora_down": pair.down}, {})
    made = merge(both, tmp_path / "style.safetensors")
    assert not made.few_state
    assert "few" not in made.meta
    assert recommended_of(made.meta) == CARD


def test_a_lower_rank_keeps_the_largest_part_of_the_change():
    torch.manual_seed(0)
    pair = Pair(torch.randn(20, 6), torch.randn(6, 12), 0.5)
    values = torch.linalg.svdvals(pair.delta())
    for rank in (1, 3, 6, 9):
        made = pair.reduced(rank)
        assert len(made.down) == made.up.shape[1] == min(rank, 6)
        off = (made.delta() - pair.delta()).square().sum()
        assert torch.allclose(off, values[rank:6].square().sum(), atol=1e-3), "no other of that rank is nearer"


def test_generate_runs_the_form_for_few_steps_as_its_file_says(both, full, monkeypatch):
    calls: list[float] = []
    real = DiT.forward

    def counted(self: DiT, x: torch.Tensor, sigma: torch.Tensor, *given: object, **named: object) -> torch.Tensor:
        calls.append(float(sigma.max()))
        return real(self, x, sigma, *given, **named)

    monkeypatch.setattr(DiT, "forward", counted)
    size = {"num_frames": 5, "height": 16, "width": 16}
    few = Models.load(both, dtype=torch.float32, few_steps=True)
    (made,) = generate(few, ["a red ball"], **size)
    assert calls == pytest.approx([1.0, 0.75])  # two steps of shift 3, one call each
    whole = Models.load(both, dtype=torch.float32)
    asked = {"steps": 2, "cfg": 1.0, "shift": 3.0, "solver": "euler"}
    (plain,) = generate(whole, ["a red ball"], **size, **asked)
    assert not np.array_equal(made, plain)
    (given,) = generate(few, ["a red ball"], **size, **asked)
    assert np.array_equal(made, given)
    calls.clear()
    generate(whole, ["a red ball"], **size, steps=3)
    assert len(calls) == 6, "the full model stays guided"
    with pytest.raises(ValueError, match="holds no form for few steps"):
        Models.load(full, few_steps=True)


def damaged(both: Checkpoint, how: str) -> Checkpoint:
    state, told = dict(both.few_state), dict(both.meta["few"])
    up, down = f"{LAYER}.lora_up", f"{LAYER}.lora_down"
    if how == "one matrix":
        del state[down]
    elif how == "another layer":
        state = {name.replace("blocks.1", "blocks.7"): weight for name, weight in state.items()}
    elif how == "another size":
        state[up] = state[up][:-1].clone()
    elif how == "no matrix":
        state[up] = state[up].flatten()
    elif how == "not finite":
        state[up] = state[up] * float("inf")
    elif how == "no settings":
        return replace(both, meta={name: value for name, value in both.meta.items() if name != "few"})
    else:
        told = {"settings": 3, "shift": {"recommended": told["recommended"], "shift": -1}}[how]
    return replace(both, few_state=state, meta=both.meta | {"few": told})


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("one matrix", "only one of its two matrices"),
        ("another layer", "does not fit the DiT"),
        ("another size", "does not fit the DiT"),
        ("no matrix", "does not fit the DiT"),
        ("not finite", "the form for few steps holds weights that are no finite numbers"),
        ("no settings", "few is None, where recommended and shift belong"),
        ("settings", "few is 3, where recommended and shift belong"),
        ("shift", "shift is -1"),
    ],
)
def test_a_damaged_form_is_one_sentence(both, tmp_path, how, says):
    path: Path = tmp_path / "damaged.safetensors"
    save_checkpoint(path, damaged(both, how))
    with pytest.raises(ValueError, match=says):
        load_checkpoint(path)


def test_other_keys_in_its_place_are_no_form(both, tmp_path):
    path = tmp_path / "odd.safetensors"
    save_checkpoint(path, replace(both, few_state={"anything": torch.zeros(2)}))
    with pytest.raises(ValueError, match="form for few steps"):
        load_checkpoint(path)
    write_tensors(path, {"x": torch.zeros(1)}, {"spacetime_lora": "{}"})
    with pytest.raises(ValueError, match="does not say in how many steps"):
        read_few_steps(path)
