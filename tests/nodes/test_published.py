"""Published transformers through Load DiT: equal to independent implementations, and at home on core's samplers."""

import dataclasses
import io
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.usefixtures("comfy_host", "one_thread")


def parity():
    from comfyui_spacetime.tools.bench import parity

    return parity


@pytest.fixture(scope="module")
def references(comfy_host):
    return {reference.family: reference for reference in parity().references()}


@pytest.fixture(scope="module")
def models(references):
    """A MODEL for each family, loaded once, of its published file."""
    return {family: parity().loaded(reference) for family, reference in references.items()}


FAMILIES = ["DiT (diffusers' file)", "DiT (Meta's file)", "SiT", "Latte with classes", "Latte-1", "Open-Sora"]


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_and_sample_equal_an_independent_implementation(family, references, models):
    assert parity().forward_error(references[family], models[family]) <= parity().FORWARD
    assert parity().sample_error(references[family], models[family]) <= parity().SAMPLE


# -- known traps: each, sprung on purpose, is seen by the comparison above ---------------------------------------------


def sprung(references, family, change):
    """The error of a forward pass after `change` to the recognised model or its network."""
    model = parity().loaded(references[family])
    change(model.model.diffusion_model)
    return parity().forward_error(references[family], model)


def test_trap_frequencies_of_the_time(references):
    def change(network):
        network.t_embedder.shift = 1 - network.t_embedder.shift

    assert sprung(references, "DiT (Meta's file)", change) > 10 * parity().FORWARD
    assert sprung(references, "DiT (diffusers' file)", change) > 10 * parity().FORWARD


def test_trap_channel_or_place_first(references, monkeypatch):
    from einops import rearrange

    from comfyui_spacetime.models.published import dit

    def channel_first(values, height, width, patch):
        return rearrange(values, "b (h w) (c p q) -> b c (h p) (w q)", h=height, w=width, p=patch, q=patch)

    monkeypatch.setattr(dit, "unfold", channel_first)
    assert sprung(references, "DiT (Meta's file)", lambda _: None) > 0.1


def test_trap_rows_and_columns(references, monkeypatch):
    from comfyui_spacetime.models.published import dit, layers

    def swapped(height, width, size, **more):
        across, down = layers.picture_table(height, width, size, **more).chunk(2, dim=-1)
        return torch.cat([down, across], dim=-1)

    monkeypatch.setattr(dit, "picture_table", swapped)
    assert sprung(references, "DiT (Meta's file)", lambda _: None) > 10 * parity().FORWARD


def test_trap_order_of_blocks_and_moments(references):
    def change(network):
        network.config = dataclasses.replace(network.config, frames=0)

    with pytest.raises(ValueError, match="makes images and got 4 latent frames"):
        sprung(references, "Latte with classes", change)


@pytest.mark.parametrize(
    "wrong", [{"sign": 1.0}, {"time_from_clean": False}, {"time_scale": 1000.0}], ids=["sign", "direction", "scale"]
)
def test_trap_units_of_sit(references, wrong):
    model = parity().loaded(references["SiT"])
    sampling = model.model.model_sampling
    sampling.units = dataclasses.replace(sampling.units, **wrong)
    assert parity().sample_error(references["SiT"], model) > 2 * parity().SAMPLE


def test_trap_core_calls_scaled_betas_linear(references):
    """Core's "linear" interpolates square roots, DiT's betas do not: the schedule must be DiT's."""
    from comfyui_spacetime.models.flow import ddpm_alphas_cumprod, vp_to_flow_sigma

    model = parity().loaded(references["DiT (Meta's file)"])
    sampling = model.model.model_sampling
    assert torch.equal(sampling.sigmas, vp_to_flow_sigma(ddpm_alphas_cumprod()).float())
    sampling.alphas = ddpm_alphas_cumprod(scaled=True)
    assert parity().sample_error(references["DiT (Meta's file)"], model) > 10 * parity().SAMPLE


# -- at home in the host -----------------------------------------------------------------------------------------------


def run(model, family, references, sampler="euler", scheduler="simple", latent=None, mask=None, cfg=3.0):
    import comfy.sample

    reference = references[family]
    channels, *frames = reference.shape[:-2]
    shape = (1, channels, *frames, 8, 8)
    latent = torch.zeros(shape) if latent is None else latent
    noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(0))
    conds = [parity().conditioning(condition) for condition in reference.conditions]
    return comfy.sample.sample(
        model, noise, 4, cfg, sampler, scheduler, *conds, latent, noise_mask=mask, disable_pbar=True, seed=1
    )


@pytest.mark.parametrize("scheduler", ["simple", "normal", "karras", "beta", "ddim_uniform", "sgm_uniform"])
@pytest.mark.parametrize("family", ["DiT (Meta's file)", "SiT"])
def test_core_schedulers_give_falling_levels_within_the_model(family, scheduler, models, references):
    import comfy.samplers

    sampling = models[family].get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, 6)
    assert sigmas.diff().max() < 0
    assert sigmas[-1] == 0
    assert sigmas[0] <= sampling.sigma_max + 1e-6
    assert torch.isfinite(run(models[family], family, references, scheduler=scheduler)).all()


def test_times_and_levels_are_inverse(models):
    for family in FAMILIES:
        sampling = models[family].get_model_object("model_sampling")
        levels = torch.linspace(0.05, 0.99, 9)
        torch.testing.assert_close(sampling.sigma(sampling.timestep(levels)), levels, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "uni_pc", "res_multistep", "euler_ancestral"])
def test_single_steps_equal_one_run(family, sampler, models, references):
    from comfyui_spacetime.tools.bench import exactness

    guider = __import__("comfy.samplers", fromlist=["CFGGuider"]).CFGGuider(models[family])
    guider.set_conds(*(parity().conditioning(condition) for condition in references[family].conditions))
    guider.set_cfg(2.0)
    shape = references[family].shape
    latent = {"samples": torch.zeros(1, 4, shape[1] if len(shape) == 4 else 1, 8, 8)}
    sigmas = exactness.schedule(guider, 4)
    whole = exactness.core_run(guider, exactness.sampler(sampler), sigmas, latent)
    for steps in (0, 1):
        assert exactness.same(exactness.stepped(guider, exactness.sampler(sampler), sigmas, latent, steps), whole)


@pytest.mark.parametrize("family", ["DiT (Meta's file)", "Latte-1"])
def test_our_solvers_and_guider_drive_it(family, models, references):
    from comfyui_spacetime.models.solvers import Solver
    from comfyui_spacetime.nodes.host.sampling import SpacetimeGuider, solver_sampler

    guider = SpacetimeGuider(models[family])
    guider.set_conds(*(parity().conditioning(condition) for condition in references[family].conditions))
    guider.set_cfg(2.0)
    shape = (1, 4, 1, 8, 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    sigmas = torch.linspace(0.99, 0, 5)
    made = guider.sample(noise, torch.zeros(shape), solver_sampler(Solver(name="unipc")), sigmas, disable_pbar=True)
    assert torch.isfinite(made).all()


def test_known_places_are_kept(models, references):
    known = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    mask = torch.ones(1, 1, 8, 8)
    mask[..., :4] = 0
    made = run(models["DiT (Meta's file)"], "DiT (Meta's file)", references, latent=known, mask=mask)
    torch.testing.assert_close(made[..., :4], known[..., :4], rtol=1e-4, atol=1e-4)
    assert (made[..., 4:] - known[..., 4:]).abs().mean() > 0.1


def test_other_shapes_and_frames_than_in_training(models):
    network = models["Latte with classes"].model.diffusion_model
    for frames, height, width in ((1, 8, 8), (6, 8, 12)):
        out = network(torch.randn(1, 4, frames, height, width), torch.tensor([500.0]))
        assert out.shape == (1, 8, frames, height, width)
    with pytest.raises(ValueError, match="multiples of 16"):
        network(torch.randn(1, 4, 1, 7, 8), torch.tensor([500.0]))


def test_guidance_on_three_channels_leaves_the_fourth_to_the_prompt(references, models):
    from comfyui_spacetime.nodes.host.model.published import guide_first_channels

    generator = torch.Generator().manual_seed(0)
    cond, uncond = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    made = guide_first_channels({"cond": cond, "uncond": uncond, "cond_scale": 3.0})
    torch.testing.assert_close(made[:, :3], uncond[:, :3] + 3 * (cond[:, :3] - uncond[:, :3]))
    assert torch.equal(made[:, 3:], cond[:, 3:])
    three = models["DiT (Meta's file)"].clone()
    three.set_model_sampler_cfg_function(guide_first_channels)
    every = run(models["DiT (Meta's file)"], "DiT (Meta's file)", references)
    assert not torch.equal(run(three, "DiT (Meta's file)", references), every)


def test_a_lora_changes_the_weights_that_it_names(models, references):
    import comfy.lora
    import comfy.sd

    model = models["DiT (Meta's file)"]
    generator = torch.Generator().manual_seed(0)
    lora = {
        "diffusion_model.blocks.0.attn.qkv.lora_up.weight": torch.randn(384, 2, generator=generator),
        "diffusion_model.blocks.0.attn.qkv.lora_down.weight": torch.randn(2, 128, generator=generator),
    }
    changed, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    before = run(model, "DiT (Meta's file)", references)
    assert not torch.allclose(run(changed, "DiT (Meta's file)", references), before)
    assert torch.equal(run(model, "DiT (Meta's file)", references), before)


# -- the node, and files of every kind ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    import folder_paths

    folder_paths.add_model_folder_path("diffusion_models", str(tmp_path))
    yield tmp_path
    folder_paths.folder_names_and_paths["diffusion_models"][0].remove(str(tmp_path))
    folder_paths.filename_list_cache.clear()


def load(name, family="auto", channels="all"):
    from comfyui_spacetime.nodes.loaders import LoadDiT

    return LoadDiT.execute(name, family, channels, "fp32").result[0]


def contiguous(state):
    return {key: value.clone(memory_format=torch.contiguous_format) for key, value in state.items()}


def test_pt_files_and_training_checkpoints_load(folder, references, models):
    state = references["DiT (Meta's file)"].state
    torch.save(state, folder / "DiT-XL-2-256x256.pt")
    wrong = {key: torch.zeros_like(value) for key, value in state.items()}
    torch.save({"model": wrong, "ema": state, "opt": {}, "args": {"lr": 1.0}}, folder / "0050000.pt")
    expected = run(models["DiT (Meta's file)"], "DiT (Meta's file)", references)
    for name in ("DiT-XL-2-256x256.pt", "0050000.pt"):
        assert torch.equal(run(load(name), "DiT (Meta's file)", references), expected)


def test_sit_is_told_by_its_name_or_by_choice(folder, references):
    state = references["DiT (Meta's file)"].state
    save_file(contiguous(state), folder / "SiT-XL-2-256.safetensors")
    save_file(contiguous(state), folder / "other.safetensors")
    units = [
        load(name, family).get_model_object("model_sampling").units.prediction
        for name, family in (
            ("SiT-XL-2-256.safetensors", "auto"),
            ("other.safetensors", "SiT"),
            ("other.safetensors", "auto"),
        )
    ]
    assert units == ["velocity", "velocity", "eps"]


def test_classes_are_asked_for_by_name(folder, references):
    from comfyui_spacetime.nodes.host.model.model import CLASS, labelled

    state = dict(references["DiT (Meta's file)"].state)
    state["y_embedder.embedding_table.weight"] = torch.randn(1001, 128)
    save_file(contiguous(state), folder / "imagenet.safetensors")
    model = load("imagenet.safetensors")
    assert labelled(model, "golden retriever", None)[0][1][CLASS] == 207
    assert labelled(model, "88", None)[0][1][CLASS] == 88
    assert labelled(model, "", None)[0][1][CLASS] == 1000
    with pytest.raises(ValueError, match="knows no class"):
        labelled(model, "unicorn", None)


class Evil:
    def __reduce__(self):
        return print, ("EXECUTED",)


def evil_zip(path):
    torch.save({"x": torch.zeros(1)}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, pickle.dumps(Evil()) if name.endswith("data.pkl") else data)


def test_files_that_are_no_weights_are_refused_in_a_sentence(folder, references, capsys):
    state = references["DiT (Meta's file)"].state
    buffer = io.BytesIO()
    torch.save(state, buffer)
    (folder / "cut.pt").write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    (folder / "words.pt").write_text("not weights at all")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "evil_old.pt").write_bytes(pickle.dumps(Evil()))
    evil_zip(folder / "evil.pt")
    torch.save([1, 2, 3], folder / "list.pt")
    torch.save({"a": torch.zeros(2)}, folder / "other.pt")
    save_file({"head.modulation": torch.zeros(2)}, folder / "wan.safetensors")
    (folder / "cut.safetensors").write_bytes((folder / "wan.safetensors").read_bytes()[:40])
    save_file(contiguous({k: v for k, v in state.items() if "blocks.2.mlp" not in k}), folder / "hole.safetensors")
    save_file(contiguous(state | {"blocks.0.mlp.fc1.weight": torch.zeros(3, 128)}), folder / "shape.safetensors")
    files = sorted(path.name for path in folder.iterdir())
    for name in files:
        with pytest.raises(ValueError, match=r"^[^\n]{20,300}$") as caught:
            load(name)
        assert "Traceback" not in str(caught.value)
    torch.save(state, folder / "dit.pt")
    with pytest.raises(ValueError, match="holds a DiT, not a Latte"):
        load("dit.pt", "Latte")
    assert "EXECUTED" not in capsys.readouterr().out


@pytest.mark.parametrize("family", ["Latte-1", "Open-Sora"])
def test_the_model_without_its_text_says_so(family, models):
    with pytest.raises(ValueError, match="connect CLIP Text Encode"):
        models[family].model.diffusion_model(torch.zeros(1, 4, 1, 8, 8), torch.zeros(1))


def test_zeros_are_what_open_sora_learned_as_no_text(models):
    network = models["Open-Sora"].model.diffusion_model
    zeros, mask = torch.zeros(1, 3, 32), torch.ones(1, 3, 1)
    nothing, seen = network.text_or_none(zeros, mask)
    assert torch.equal(nothing[0], network.y_embedder.y_embedding)
    assert seen.shape == (1, nothing.shape[1], 1)
    assert network.text_or_none(zeros + 1, mask)[1] is mask


def test_frames_per_second_reach_open_sora(models, references):
    import comfy.sample

    noise = torch.randn(1, 4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    made = []
    for rate in (24.0, 8.0):
        conds = [[[text, {"frame_rate": rate}]] for text in references["Open-Sora"].conditions]
        made.append(
            comfy.sample.sample(
                models["Open-Sora"],
                noise,
                2,
                3.0,
                "euler",
                "simple",
                *conds,
                torch.zeros_like(noise),
                disable_pbar=True,
                seed=1,
            )
        )
    assert not torch.allclose(*made)


@pytest.mark.parametrize("family", FAMILIES)
def test_nodes_take_what_it_was_published_with(family, models, references):
    """Steps, shift, guidance and the first level are the model's own, and a run with them stays finite."""
    from comfyui_spacetime.nodes.guidance import Guider
    from comfyui_spacetime.nodes.sampling import Sampler, Scheduler

    model, reference = models[family], references[family]
    sampling = model.model.model_sampling
    sigmas = Scheduler.execute("linear", 0, "fixed", 0.0, 1.0, 1.0, None, model).args[0]
    assert len(sigmas) == 51
    assert float(sigmas[0]) == pytest.approx(float(sampling.sigma_max), abs=1e-6)
    assert (float(sigmas[0]) < 0.994) == sampling.units.variance_preserving
    conds = [parity().conditioning(condition) for condition in reference.conditions]
    guider = Guider.execute(model, conds[0], -1.0, "cfg", "percent", 0, 1, 0.7, 0, 0, 1, conds[1]).args[0]
    assert guider.guidance.scale in (4.0, 7.0, 7.5)
    sampler = Sampler.execute("auto", 2, 1.0, 1.0, model).args[0]
    channels, *frames = reference.shape[:-2]
    noise = torch.randn(1, channels, *frames, 8, 8, generator=torch.Generator().manual_seed(0))
    made = guider.sample(noise, torch.zeros_like(noise), sampler, sigmas[::10].clone(), disable_pbar=True, seed=1)
    assert torch.isfinite(made).all()
