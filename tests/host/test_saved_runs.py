"""Runs that are saved and loaded in the real host: in one workflow, and with the host ended in between."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from comfyui_spacetime.models.checkpoints import Checkpoint, save_checkpoint
from comfyui_spacetime.models.transformer.config import PRESETS as DITS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE
from comfyui_spacetime.tools.terminal import Trouble
from comfyui_spacetime.tools.widgets import choices_of, input_specs

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "save_and_resume.json"
FEW = {"SpacetimeEmptyVideo.width": 64, "SpacetimeEmptyVideo.height": 48, "SpacetimeEmptyVideo.seconds": 0.75}
FEW |= {"SpacetimeScheduler.steps": 4, "20.steps": 2}
SAVE, LOAD, SECOND = "60", "61", "40"
SAVING = "SpacetimeSaveRun"


def without_file(prompt):
    """The same steps with no file between them."""
    plain = {key: node for key, node in prompt.items() if key not in (SAVE, LOAD)}
    plain[SECOND] = {**prompt[SECOND], "inputs": {**prompt[SECOND]["inputs"], "tokens": ["20", 0]}}
    return plain


def test_saved_and_resumed_in_one_workflow(host):
    prompt = host.client.prompt_of(WORKFLOW)
    result = host.run(prompt, set=FEW)
    assert "step 2 of 4" in "\n".join(result.texts())
    assert host.frames(prompt, FEW) == host.frames(without_file(prompt), FEW)
    (saved,) = (host.base / "output" / "runs").glob("*.safetensors")
    assert 1000 < saved.stat().st_size < 1_000_000
    prompt[LOAD]["inputs"]["run"] = f"runs/{saved.name}"
    with pytest.raises(Trouble, match="another guider than this run was made by"):
        host.run(prompt, set={**FEW, "SpacetimeGuider.cfg": 5.0})
    prompt[LOAD]["inputs"]["run"] = "../somewhere.safetensors"
    with pytest.raises(Trouble, match="there is no run"):
        host.run(prompt, set=FEW)


def save_tiny(path):
    """A small random checkpoint."""
    torch.manual_seed(0)
    dit, vae = DiT(DITS["test"]).initialise(), VideoVAE(VAES["test"])
    with torch.no_grad():
        for parameter in dit.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))  # fresh ones answer zero
    save_checkpoint(path, Checkpoint(DITS["test"], dit.state_dict(), VAES["test"], vae.state_dict()))


def branches(prompt, names, tail):
    """A prompt in which each sampler has a branch of its own."""
    made = {key: prompt[key] for key in ("1", "2", "3", "4", "5", "6", "7", "8", "9")}
    for name in names:
        own = name.startswith("spacetime ")
        kind = {"class_type": "SpacetimeSampler", "inputs": {**prompt["10"]["inputs"], "solver": name.split()[-1]}}
        core = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": name}}
        made[f"{name} sampler"] = kind if own else core
        made |= tail(name)
    return made


def stepping(name, key, tokens, steps):
    inputs = {"tokens": tokens, "guider": ["9", 0], "sampler": [f"{name} sampler", 0], "steps": steps}
    return {f"{name} {key}": {"class_type": "SpacetimeDenoiseStep", "inputs": inputs}}


def kept(name, key, folder):
    """The latents of a step, in a file of the output folder."""
    laid = {"class_type": "SpacetimeUnpatchify", "inputs": {"tokens": [f"{name} {key}", 0]}}
    saved = {"samples": [f"{name} laid", 0], "filename_prefix": f"{folder}/{name}"}
    return {f"{name} laid": laid, f"{name} kept": {"class_type": "SaveLatent", "inputs": saved}}


def latents_in(base, folder):
    found = {path.name.rpartition("_0")[0]: load_file(path) for path in (base / "output" / folder).iterdir()}
    return {name: tensors["latent_tensor"] for name, tensors in found.items()}


def test_every_sampler_is_resumed_after_the_host_was_killed(start_host, tmp_path):
    """Half a run by each, saved; the process is killed; another one ends in the bits of a run without a break."""
    with start_host(tmp_path) as host:
        info = host.client.object_info()
        core, ours = (
            choices_of(input_specs(info[kind])[name])
            for kind, name in (("KSamplerSelect", "sampler_name"), ("SpacetimeSampler", "solver"))
        )
        names = [*core, *(f"spacetime {name}" for name in ours)]
        prompt = host.client.prompt_of(WORKFLOW)
        save_tiny(tmp_path / "models" / "checkpoints" / "tiny_runs.safetensors")
        prompt["1"]["inputs"] |= {"checkpoint": "tiny_runs.safetensors", "dtype": "fp32"}
        prompt["4"]["inputs"] |= {"width": 32, "height": 32, "seconds": 0.5}
        prompt["6"]["inputs"]["steps"] = 4

        def first(name):
            file = {"tokens": [f"{name} half", 0], "filename_prefix": f"runs/{name}"}
            half = stepping(name, "half", ["8", 0], 2) | {f"{name} file": {"class_type": SAVING, "inputs": file}}
            return half | stepping(name, "rest", [f"{name} half", 0], -1) | kept(name, "rest", "whole")

        host.run(branches(prompt, names, first))
        host.kill()
    whole = latents_in(tmp_path, "whole")
    assert set(whole) == set(names)

    def second(name):
        (file,) = (tmp_path / "output" / "runs").glob(f"{name}_0*.safetensors")
        inputs = {"run": f"runs/{file.name}", "guider": ["9", 0], "sampler": [f"{name} sampler", 0]}
        loaded = {f"{name} load": {"class_type": "SpacetimeLoadRun", "inputs": {**inputs, "if_changed": "stop"}}}
        return loaded | stepping(name, "rest", [f"{name} load", 0], -1) | kept(name, "rest", "resumed")

    with start_host(tmp_path) as host:
        host.run(branches(prompt, names, second))
    resumed = latents_in(tmp_path, "resumed")
    assert [name for name in names if not torch.equal(whole[name], resumed[name])] == []
