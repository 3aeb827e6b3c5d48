"""A run that went through a file is the same run: to the bit, for every kind of state; other files are refused."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from comfyui_spacetime.models.files import read_tensors, write_tensors
from comfyui_spacetime.tools.bench import exactness, tiny_models
from comfyui_spacetime.tools.bench.exactness import cfg_guider, core_run, noised, same, saved_and_loaded, schedule, step
from comfyui_spacetime.tools.bench.tiny_models import latent, model

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")
KINDS = ["heun", "dpmpp_2m_sde", "uni_pc", "res_multistep_cfg_pp", "dpm_adaptive", "spacetime unipc"]


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "mask"])
@pytest.mark.parametrize("name", [*KINDS, "spacetime euler_sde"])
def test_saved_and_loaded_after_every_step(name, masked):
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan", masked=masked)
    chosen, sigmas = exactness.sampler(name), schedule(guider)
    reference = core_run(guider, chosen, sigmas, given)
    assert same(exactness.stepped(guider, chosen, sigmas, given, after=saved_and_loaded), reference)


@pytest.fixture
def run(tmp_path):
    """Saves tokens, and reads them again."""
    from comfyui_spacetime.nodes.host.stepping import saving

    def through(tokens):
        saving.save(tokens, tmp_path / "run.safetensors")
        return saving.load(tmp_path / "run.safetensors")[0]

    through.path = tmp_path / "run.safetensors"
    return through


def halfway(name="heun", masked=True, steps=2):
    guider, given = cfg_guider(model("wan"), "wan"), latent("wan", masked=masked)
    return step(noised(given, schedule(guider)), guider, exactness.sampler(name), steps)


def test_all_that_a_latent_carries_comes_back(run):
    from comfyui_spacetime.models.media.sound import Sound
    from comfyui_spacetime.nodes.host.vae.sound import Carried

    sound = Sound.of_samples(torch.randn(2, 4000).clamp(-1, 1).numpy(), 16000)
    extra = {"spacetime_sound": Carried(sound, 12.0, 2), "spacetime_cyclic": True, "batch_index": [3], "type": "video"}
    before = replace(halfway(), extra=extra)
    after = run(before)
    assert set(after.extra) == set(extra)
    assert (after.extra["batch_index"], after.extra["type"], after.extra["spacetime_cyclic"]) == ([3], "video", True)
    carried = after.extra["spacetime_sound"]
    assert (carried.sound.source == sound.source).all()
    assert (carried.sound.rate, carried.fps, carried.length) == (16000, 12.0, 2)
    with pytest.raises(ValueError, match=r"extra\.odd is a object, which a file cannot hold"):
        run(replace(before, extra={"odd": object()}))


@pytest.mark.parametrize("node", ["EasyCacheNode", "LazyCacheNode"])
def test_caches_of_core_go_on(node, run):
    import comfy_extras.nodes_easycache as caches

    cached = getattr(caches, node).execute(model("wan"), 0.5, 0.15, 0.95, False).args[0]
    given, one = latent("wan"), exactness.sampler("dpmpp_2m")
    sigmas = schedule(cfg_guider(cached, "wan"), 8)
    reference = core_run(cfg_guider(cached, "wan"), one, sigmas, given)
    tokens = noised(given, sigmas)
    while not tokens.trajectory.done:
        tokens = run(step(tokens, cfg_guider(cached, "wan"), one))
    assert torch.equal(exactness.laid(tokens), reference[0])


def test_scheduled_lora_and_random_numbers_go_on(run):
    """Keyframes that have lasted some steps, and a model that draws from torch's generator."""
    import comfy.hooks
    import comfy.samplers
    import node_helpers

    generator = torch.Generator().manual_seed(4)
    lora = {
        f"diffusion_model.blocks.0.self_attn.q.lora_{part}.weight": torch.randn(*shape, generator=generator)
        for part, shape in (("up", (128, 4)), ("down", (4, 128)))
    }
    hooks, frames = comfy.hooks.create_hook_lora(lora, 1.0, 0.0), comfy.hooks.HookKeyframeGroup()
    for strength, start in ((1.0, 0.0), (0.2, 0.3), (2.0, 0.5)):
        frames.add(comfy.hooks.HookKeyframe(strength, start, guarantee_steps=2))
    hooks.set_keyframes_on_hooks(frames)
    noisy = model("wan").clone()
    noisy.set_model_sampler_post_cfg_function(lambda args: args["denoised"] + 0.1 * torch.randn_like(args["denoised"]))
    guider = comfy.samplers.CFGGuider(noisy)
    hooked = node_helpers.conditioning_set_values(tiny_models.conditioning("wan", 1), {"hooks": hooks})
    guider.set_conds(hooked, tiny_models.conditioning("wan", 2))
    guider.set_cfg(2.0)
    sigmas, given, one = schedule(guider, 8), latent("wan"), exactness.sampler("heun")
    core_run(guider, one, sigmas, given)  # the first run of a hook differs from the second in core itself
    reference = core_run(guider, one, sigmas, given)
    tokens = noised(given, sigmas)
    while not tokens.trajectory.done:
        tokens = run(step(tokens, guider, one))
        torch.manual_seed(99)
    assert torch.equal(exactness.laid(tokens), reference[0])


def test_edits_and_restarts_come_back(run):
    guider, chosen = cfg_guider(model("wan"), "wan"), exactness.sampler("heun")
    edited = halfway().with_values(halfway().values * 1.1)
    for tokens in (edited, step(edited, guider, chosen, 1)):
        once, again = step(tokens, guider, chosen, 0), step(run(tokens), guider, chosen, 0)
        assert torch.equal(once.values, again.values)
        assert again.trajectory.note == once.trajectory.note == "new trajectory: tokens edited"


def test_our_solvers_store_their_state_alone(run):
    """The file of a solver of ours does not grow with the steps; that of a replay grows by one latent a call."""
    sizes = {}
    for name in ("spacetime dpmpp_2m", "dpmpp_2m"):
        for steps in (2, 4):
            run(halfway(name, steps=steps, masked=False))
            sizes[name, steps] = run.path.stat().st_size
    latents = latent("wan")["samples"].nbytes
    assert abs(sizes["spacetime dpmpp_2m", 4] - sizes["spacetime dpmpp_2m", 2]) < latents / 4
    assert 1.9 * latents < sizes["dpmpp_2m", 4] - sizes["dpmpp_2m", 2] < 3 * latents


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_rounded_records_would_not_lead_back(dtype):
    """Why records are stored as the sampler saw them: it is noticed, and ends in a new trajectory."""
    guider, chosen, tokens = cfg_guider(model("wan"), "wan"), exactness.sampler("dpmpp_2m"), halfway("dpmpp_2m")
    past = tokens.trajectory.past
    rounded = tuple(replace(one, denoised=one.denoised.to(dtype).float()) for one in past.records)
    other = replace(tokens, trajectory=replace(tokens.trajectory, past=replace(past, records=rounded)))
    after = step(other, guider, chosen, 0)
    assert after.trajectory.note.startswith("new trajectory: the past steps cannot be repeated")
    assert not torch.equal(after.values, step(tokens, guider, chosen, 0).values)


def read(path):
    """The run of a file, or the sentence that refuses it."""
    from comfyui_spacetime.nodes.host.stepping import saving

    try:
        return saving.load(path)[0], ""
    except ValueError as error:
        return None, str(error)


def is_sentence(text):
    return 20 < len(text) < 400 and "\n" not in text


def test_damaged_files_are_one_sentence(run):
    """Any byte changed, and any length: never a run that looks whole."""
    run(halfway("spacetime unipc"))
    whole = run.path.read_bytes()
    generator = torch.Generator().manual_seed(1)
    header = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(8), *torch.randint(8, header, (150,), generator=generator).tolist()]
    places += torch.randint(header, len(whole), (20,), generator=generator).tolist()
    damaged = [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in places]
    damaged += [whole[: int(n)] for n in torch.linspace(0, len(whole) - 1, 20)] + [whole + b"\0"]
    accepted = 0
    for data in damaged:
        run.path.write_bytes(data)
        tokens, text = read(run.path)
        if tokens is None:
            assert is_sentence(text)
        else:  # padding of the header
            accepted += 1
            assert torch.equal(tokens.values, halfway("spacetime unipc").values)
    assert accepted <= 2


def forged(path, change):
    """The file with its JSON changed and a checksum that fits again."""
    from comfyui_spacetime.nodes.host.stepping import saving

    tensors, header = read_tensors(path)
    held = json.loads(header[saving.ENTRY])
    held = change(held, tensors) or held
    text = json.dumps(held)
    write_tensors(path, tensors, {saving.ENTRY: text, saving.CHECKSUM: saving._checksum(text, tensors)})


def places_of(tree, at=()):
    """Every place of a JSON value."""
    yield at
    for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places_of(inner, (*at, key))


ODD = [
    None,
    True,
    -1,
    2**70,
    "",
    "x" * 50,
    1.5,
    [],
    {},
    {"tensor": ["0", [-1]]},
    {"tensor": ["no", [1]]},
    {"list": [1]},
    {"UUID": "no"},
    {"dtype": "pickle"},
    {"Tokens": {}},
    {"float": "nan"},
]


@pytest.mark.parametrize("name", ["heun", "spacetime unipc"])
def test_forged_files_are_one_sentence_or_a_run(name, run):
    """Any value of the structure replaced by another: refused in a sentence, or a run that steps without a crash."""
    from comfyui_spacetime.nodes.host.stepping import saving

    guider, chosen = cfg_guider(model("wan"), "wan"), exactness.sampler(name)
    run(halfway(name))
    whole, held = run.path.read_bytes(), json.loads(read_tensors(run.path)[1][saving.ENTRY])
    every, generator = list(places_of(held)), torch.Generator().manual_seed(2)
    stepped = 0
    for index in torch.randint(1, len(every), (120,), generator=generator).tolist():
        odd = ODD[int(torch.randint(len(ODD), (1,), generator=generator))]
        run.path.write_bytes(whole)
        forged(run.path, partial(put, every[index], odd))
        tokens, text = read(run.path)
        if tokens is None:
            assert is_sentence(text), (every[index], odd)
        elif stepped < 6:
            stepped += 1
            step(tokens, guider, chosen, 1)


def put(place, value, held, _tensors):
    inner = held
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value


def test_other_files_are_named(run, tmp_path):
    from comfyui_spacetime.nodes.host.stepping import saving

    write_tensors(tmp_path / "other.safetensors", {"x": torch.ones(2)}, {})
    with pytest.raises(ValueError, match=r"other\.safetensors holds no run"):
        saving.load(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        saving.load(tmp_path / "text.safetensors")
    run(halfway())
    forged(run.path, lambda held, _tensors: {**held, "format": 2})
    with pytest.raises(ValueError, match="has format 2, this version of the pack reads 1"):
        saving.load(run.path)


def test_something_else_connected_is_said(run):
    from comfyui_spacetime.nodes.host.stepping.resuming import resumed

    chosen, tokens = exactness.sampler("heun"), run(halfway())
    guider = cfg_guider(model("wan"), "wan")
    others = {
        "another model": (cfg_guider(tiny_models.tiny_wan(seed=5), "wan"), chosen),
        "another guider": (cfg_guider(model("wan"), "wan", cfg=2.0), chosen),
        "another sampler": (guider, exactness.sampler("euler")),
    }
    assert resumed(tokens, cfg_guider(model("wan"), "wan"), exactness.sampler("heun"), "stop") == (tokens, "")
    for what, (other_guider, other_sampler) in others.items():
        with pytest.raises(ValueError, match=f"{what} than this run was made by"):
            resumed(tokens, other_guider, other_sampler, "stop")
        anew, _ = resumed(tokens, other_guider, other_sampler, "new trajectory")
        assert anew.trajectory.note == f"new trajectory: {what} than it was saved with"
        assert anew.trajectory.position == (2, exactness.STEPS)
        assert step(anew, other_guider, other_sampler, 0).trajectory.done
        kept, remark = resumed(tokens, other_guider, other_sampler, "go on")
        assert kept is tokens
        assert remark == f"goes on with {what} than it was saved with"


def test_a_lora_is_another_model(run):
    from comfyui_spacetime.nodes.host.stepping.fingerprint import made_by

    plain, patched = model("wan"), model("wan").clone()
    patched.add_patches({"diffusion_model.blocks.0.self_attn.q.weight": ("diff", (torch.ones(128, 128),))}, 0.5)
    stronger = model("wan").clone()
    stronger.add_patches({"diffusion_model.blocks.0.self_attn.q.weight": ("diff", (torch.ones(128, 128),))}, 0.6)
    prints = [made_by(cfg_guider(one, "wan")).model for one in (plain, patched, stronger, plain.clone())]
    assert len(set(prints)) == 3
    assert prints[0] == prints[3]


def test_names_stay_in_the_output_folder(tmp_path, monkeypatch):
    import folder_paths

    from comfyui_spacetime.nodes.host.folders import new_output_file, output_file, output_name

    (tmp_path / "output" / "runs").mkdir(parents=True)
    (tmp_path / "outside.safetensors").write_bytes(b"x")
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))
    path = new_output_file("runs/spacetime", ".safetensors")
    assert output_name(path) == "runs/spacetime_00001_.safetensors"
    path.write_bytes(b"x")
    assert output_file(output_name(path), "run", ".safetensors") == path
    assert new_output_file("runs/spacetime", ".safetensors").name == "spacetime_00002_.safetensors"
    for prefix in ("../outside", "", str(tmp_path / "elsewhere")):
        with pytest.raises(ValueError, match="leads out of ComfyUI's output folder"):
            new_output_file(prefix, ".safetensors")
    for name in ("../outside.safetensors", str(tmp_path / "outside.safetensors"), "runs", "", "runs/none.safetensors"):
        with pytest.raises(ValueError, match=r"there is no run .*newest in runs: runs/spacetime_00001_\.safetensors"):
            output_file(name, "run", ".safetensors")
