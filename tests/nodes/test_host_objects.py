"""Our checkpoint as core objects: core's own nodes and functions do with it what they do with any model."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor


@pytest.fixture
def latent() -> dict:
    return {"samples": torch.zeros(1, 16, 3, 8, 8)}


def encode(clip, text: str) -> list:
    from nodes import CLIPTextEncode

    return CLIPTextEncode().encode(clip, text)[0]


def sample(model, positive, negative, latent: dict, *, steps: int = 4, cfg: float = 4.0) -> Tensor:
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    sampler = comfy.samplers.sampler_object("euler")
    with torch.inference_mode():
        return SamplerCustomAdvanced.execute(Noise_RandomNoise(7), guider, sampler, sigmas, latent).result[0]["samples"]


def test_core_ksampler_equals_sampler_custom_advanced(tiny_objects, latent):
    from nodes import KSampler

    model, clip, _ = tiny_objects
    positive, negative = encode(clip, "a red ball falls"), encode(clip, "")
    with torch.inference_mode():
        (whole,) = KSampler().sample(model, 7, 4, 4.0, "euler", "simple", positive, negative, latent)
    assert torch.equal(whole["samples"], sample(model, positive, negative, latent))
    assert whole["samples"].std() > 0.1
    other = sample(model, encode(clip, "a blue cube on a road"), negative, latent)
    assert not torch.equal(whole["samples"], other), "the prompt has no effect"


def test_sampling_equals_a_plain_euler_loop_over_the_plain_model(tiny_objects, tiny_checkpoint, latent):
    from comfyui_spacetime.models.checkpoints import load_checkpoint
    from comfyui_spacetime.models.text.encoder import load_text_encoder
    from comfyui_spacetime.nodes.host import folders

    model, clip, _ = tiny_objects
    prompt, cfg = "a green cone rolls to the left", 4.0
    ours = sample(model, encode(clip, prompt), encode(clip, ""), latent, cfg=cfg)
    dit = load_checkpoint(folders.checkpoint_path(tiny_checkpoint)).dit()
    context, mask = load_text_encoder()([prompt, ""])
    x = torch.randn(latent["samples"].shape, generator=torch.manual_seed(7))
    import comfy.samplers

    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 4)
    with torch.no_grad():
        for now, after in itertools.pairwise(sigmas):
            positive, negative = dit(x.expand(2, -1, -1, -1, -1), now.expand(2), context, mask).split(1)
            x = x + (after - now) * (negative + cfg * (positive - negative))
    torch.testing.assert_close(ours, x, atol=2e-4, rtol=1e-3)


def test_prompts_of_different_length_run_in_one_batch(tiny_objects, latent):
    model, clip, _ = tiny_objects
    batches = []

    def watch(apply_model, arguments: dict):
        batches.append(len(arguments["cond_or_uncond"]))
        return apply_model(arguments["input"], arguments["timestep"], **arguments["c"])

    watched = model.clone()
    watched.set_model_unet_function_wrapper(watch)
    sample(watched, encode(clip, "a long prompt with many more words than the other one has"), encode(clip, ""), latent)
    assert batches == [2] * 4


def test_text_is_prepared_once_per_run(tiny_objects, latent, monkeypatch):
    model, clip, _ = tiny_objects
    network, calls = model.model.diffusion_model, []
    original = network.prepare
    monkeypatch.setattr(network, "prepare", lambda *a, **k: calls.append(1) or original(*a, **k))
    for _ in range(2):
        sample(model, encode(clip, "a ball"), encode(clip, ""), latent, steps=5)
    assert len(calls) == 2
    assert "spacetime_run" not in model.model_options["transformer_options"]


def test_single_steps_of_a_guider_share_the_prepared_text_until_weights_or_text_change(
    tiny_objects, latent, monkeypatch
):
    from comfy.samplers import CFGGuider, sampler_object
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise

    model, clip, _ = tiny_objects
    model = model.clone()
    network, calls = model.model.diffusion_model, []
    original = network.prepare
    monkeypatch.setattr(network, "prepare", lambda *a, **k: calls.append(1) or original(*a, **k))
    guider = CFGGuider(model)
    guider.set_cfg(4.0)
    texts = encode(clip, "a ball"), encode(clip, "a cube"), encode(clip, "")

    def step(text: list, *, at: float = 0.8) -> Tensor:
        guider.set_conds(text, texts[2])
        noise = Noise_RandomNoise(3).generate_noise(latent)
        levels = torch.tensor([at, at - 0.1])
        return guider.sample(noise, latent["samples"], sampler_object("euler"), levels, disable_pbar=True, seed=3)

    first = step(texts[0])
    assert torch.equal(step(texts[0]), first)
    step(texts[0], at=0.5)
    assert len(calls) == 1
    assert not torch.equal(step(texts[1]), first)
    assert len(calls) == 2
    key = next(name for name in model.model_state_dict() if name.endswith("blocks.0.cross_attn.kv.weight"))
    weight = model.model_state_dict()[key]
    model.add_patches({key: (torch.randn_like(weight),)}, 1.0)  # as a LoRA does
    changed = step(texts[0])
    assert len(calls) == 3
    fresh = CFGGuider(model)
    fresh.set_cfg(4.0)
    guider = fresh
    assert torch.equal(step(texts[0]), changed)
    model.unpatch_model()


def test_the_mask_gives_every_patch_its_own_noise_level(tiny_objects, monkeypatch):
    model, clip, _ = tiny_objects
    generator = torch.manual_seed(3)
    known = torch.randn(1, 16, 3, 8, 8, generator=generator)
    mask = torch.ones(1, 1, 3, 8, 8)
    mask[:, :, 0] = 0
    mask[:, :, 1, :4, :4] = 0.5
    network, seen = model.model.diffusion_model, []
    original = network.level_embedder.forward
    monkeypatch.setattr(
        network.level_embedder, "forward", lambda sigma, dtype: seen.append(sigma) or original(sigma, dtype)
    )
    out = sample(model, encode(clip, "a ball"), encode(clip, ""), {"samples": known, "noise_mask": mask}, steps=3)
    levels = seen[0][0].reshape(3, 4, 4)  # (B, N) -> patches
    assert torch.equal(levels[0], torch.zeros(4, 4))
    assert torch.equal(levels[1, :2, :2], torch.full((2, 2), 0.5))
    assert torch.equal(levels[2], torch.ones(4, 4))
    torch.testing.assert_close(out[:, :, 0], known[:, :, 0])
    assert not torch.allclose(out[:, :, 2], known[:, :, 2])


def test_a_mask_of_whole_frames_gives_levels_per_frame_and_the_same_result(tiny_objects, monkeypatch):
    model, clip, _ = tiny_objects
    known = torch.randn(1, 16, 3, 8, 8, generator=torch.manual_seed(3))
    latent = {
        "samples": known,
        "noise_mask": torch.tensor([0.0, 0.5, 1.0])[None, None, :, None, None].expand(1, 1, 3, 8, 8),
    }
    network, seen = model.model.diffusion_model, []
    original = network.level_embedder.forward

    def watch(sigma, dtype):
        seen.append(sigma)
        return original(sigma, dtype)

    monkeypatch.setattr(network.level_embedder, "forward", watch)
    positive, negative = encode(clip, "a ball"), encode(clip, "")
    by_frame = sample(model, positive, negative, latent)
    assert torch.equal(seen[0][0], torch.tensor([0.0, 0.5, 1.0]))
    kind = type(model.model)
    process_timestep = kind.process_timestep

    def per_patch(self, *args, whole_frames: bool, **kwargs):
        assert whole_frames
        return process_timestep(self, *args, whole_frames=False, **kwargs)

    monkeypatch.setattr(kind, "process_timestep", per_patch)
    torch.testing.assert_close(sample(model, positive, negative, latent), by_frame, atol=1e-4, rtol=1e-4)
    assert seen[-1].shape == (2, 48)


def test_an_odd_latent_size_and_an_image_latent_work(tiny_objects):
    model, clip, _ = tiny_objects
    positive, negative = encode(clip, "a ball"), encode(clip, "")
    assert sample(model, positive, negative, {"samples": torch.zeros(1, 16, 2, 7, 9)}).shape == (1, 16, 2, 7, 9)
    # core's Empty Latent Image: four channels, no time
    assert sample(model, positive, negative, {"samples": torch.zeros(2, 4, 8, 8)}).shape == (2, 16, 1, 8, 8)


def test_core_lora_changes_the_result_and_comes_off_again(tiny_objects, latent):
    import comfy.sd

    model, clip, _ = tiny_objects
    name = "blocks.0.mlp.down"
    weight = model.model.diffusion_model.get_parameter(f"{name}.weight")
    lora = {
        f"diffusion_model.{name}.lora_up.weight": torch.randn(weight.shape[0], 2, generator=torch.manual_seed(0)),
        f"diffusion_model.{name}.lora_down.weight": torch.randn(2, weight.shape[1], generator=torch.manual_seed(1)),
    }
    positive, negative = encode(clip, "a ball"), encode(clip, "")
    before = sample(model, positive, negative, latent)
    patched, _ = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 1.0)
    assert f"diffusion_model.{name}.weight" in patched.patches
    assert not torch.allclose(before, sample(patched, positive, negative, latent))
    assert torch.equal(before, sample(model, positive, negative, latent))


def test_attention_override_block_patch_and_wrapper_are_honoured(tiny_objects, latent):
    import comfy.patcher_extension

    model, clip, _ = tiny_objects
    calls = {"attention": 0, "block": 0, "wrapper": 0}

    def attention(func, *args, **kwargs):
        calls["attention"] += 1
        return func(*args, **kwargs)

    def block(args: dict, extra: dict) -> dict:
        calls["block"] += 1
        return extra["original_block"](args)

    def wrapper(executor, *args, **kwargs):
        calls["wrapper"] += 1
        return executor(*args, **kwargs)

    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = attention
    patched.set_model_patch_replace(block, "dit", "double_block", 1)
    patched.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    positive, negative = encode(clip, "a ball"), encode(clip, "")
    assert torch.equal(sample(patched, positive, negative, latent), sample(model, positive, negative, latent))
    assert calls == {"attention": 2 * 2 * 4, "block": 4, "wrapper": 4}


def test_previews_come_from_the_latent_colours(tiny_objects):
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod

    model = tiny_objects[0]
    latent_preview.args.preview_method, before = LatentPreviewMethod.Auto, latent_preview.args.preview_method
    try:
        previewer = latent_preview.get_previewer(torch.device("cpu"), model.model.latent_format)
    finally:
        latent_preview.args.preview_method = before
    image = previewer.decode_latent_to_preview(torch.randn(1, 16, 3, 8, 8))
    assert image.size == (8, 8)


def test_preview_colours_of_a_linear_decoder_are_exact(comfy_host):
    """Without its convolutions the VAE is a linear map per block, whose mean colour the fit must recover."""
    from comfyui_spacetime.models.vae.autoencoder import PRESETS, VideoVAE
    from comfyui_spacetime.nodes.host.vae.pieces import preview_colours

    vae = VideoVAE(PRESETS["test"])
    with torch.no_grad():
        vae.decoder.linear.weight.mul_(0.05)
    factors, bias = preview_colours(vae)
    weight = vae.decoder.linear.weight.reshape(-1, 3, 16).mean(dim=0)  # (pixels of a block, colours, channels)
    torch.testing.assert_close(torch.tensor(factors), weight.T, atol=2e-3, rtol=0)
    torch.testing.assert_close(
        torch.tensor(bias), vae.decoder.linear.bias.reshape(-1, 3).mean(dim=0), atol=2e-3, rtol=0
    )


def test_bf16_is_close_to_fp32(tiny_checkpoint, tiny_objects, latent):
    from comfyui_spacetime.nodes.loaders import LoadCheckpoint

    exact, clip, _ = tiny_objects
    model = LoadCheckpoint.execute(tiny_checkpoint, "bf16").result[0]
    assert model.model.diffusion_model.blocks[0].mlp.down.weight.dtype == torch.bfloat16
    positive, negative = encode(clip, "a ball"), encode(clip, "")
    near, far = sample(model, positive, negative, latent, cfg=1.0), sample(exact, positive, negative, latent, cfg=1.0)
    assert (near - far).abs().mean() < 0.05 * far.std()


@pytest.mark.parametrize("prediction", ["velocity", "eps", "v", "x0"])
@pytest.mark.parametrize("masked", [False, True])
def test_every_prediction_type_and_learned_variance_give_core_the_right_denoised(comfy_host, prediction, masked):
    from comfyui_spacetime.models.flow import to_denoised
    from comfyui_spacetime.models.transformer.config import PRESETS
    from comfyui_spacetime.models.transformer.dit import DiT
    from comfyui_spacetime.nodes.host.model.model import build_model

    torch.manual_seed(0)
    config = replace(PRESETS["test"], prediction=prediction, learned_variance=True)
    dit = DiT(config).initialise()
    for weight in dit.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    core = build_model(config, dit.state_dict(), {}, "fp32").model
    x, context = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 3, 384)
    sigma, mask = torch.tensor([0.7]), torch.ones(1, 16, 2, 4, 4)
    extra = {}
    if masked:
        mask[:, :, 0], mask[:, :, 1, :2] = 0, 0.5
        extra = {"denoise_mask": mask}
    levels = mask[:, :1, :, ::2, ::2].flatten(1) * 0.7
    with torch.no_grad():
        denoised = core.apply_model(x, sigma, c_crossattn=context, **extra)
        prediction_of_plain = dit(x, levels if masked else sigma, context)[:, :16]
    # where nothing may change x is clean already, whatever the model says
    expected = torch.where(mask > 0, to_denoised(prediction_of_plain, x, levels, prediction), x)
    torch.testing.assert_close(denoised, expected, atol=1e-4, rtol=1e-4)


def test_foreign_conditioning_is_refused_in_one_sentence(tiny_objects, latent):
    model, clip, _ = tiny_objects
    foreign = [[torch.zeros(1, 5, 4096), {}]]
    with pytest.raises(ValueError, match="width 384, the conditioning has 4096"):
        sample(model, foreign, encode(clip, ""), latent)


def test_joined_conditioning_without_a_fitting_mask_works(tiny_objects, latent):
    from nodes import ConditioningConcat, ConditioningZeroOut

    model, clip, _ = tiny_objects
    (joined,) = ConditioningConcat().concat(encode(clip, "a ball"), encode(clip, "a cube"))
    (nothing,) = ConditioningZeroOut().zero_out(encode(clip, "a cube and more"))
    assert sample(model, joined, nothing, latent).isfinite().all()


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_core_context_windows_and_caching_nodes_run_on_the_model(tiny_objects, core_node):
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode
    from comfy_extras.nodes_easycache import EasyCacheNode

    model, clip, _ = tiny_objects
    positive, negative = encode(clip, "a ball"), encode(clip, "")
    # without a mask: this host's context windows do not cut masks, for its own models neither
    latent = {"samples": torch.zeros(1, 16, 9, 8, 8)}
    whole = sample(model, positive, negative, latent)
    windowed = core_node(
        ContextWindowsManualNode,
        model=model,
        context_length=5,
        context_overlap=2,
        dim=2,
        context_schedule="standard_static",
        context_stride=1,
        closed_loop=False,
        fuse_method="pyramid",
    ).result[0]
    assert not torch.equal(sample(windowed, positive, negative, latent), whole)
    careful, eager = (EasyCacheNode.execute(model, limit, 0.0, 1.0, False).result[0] for limit in (0.0, 3.0))
    torch.testing.assert_close(sample(careful, positive, negative, latent), whole)
    assert not torch.equal(sample(eager, positive, negative, latent), whole)


def test_weights_stored_in_fp8_compute_as_their_values_in_half_precision(comfy_host):
    """By core's casting layers, as where people ask it for an fp8 model; single parameters are cast by ours."""
    import comfy.ops

    from comfyui_spacetime.models.transformer.config import PRESETS
    from comfyui_spacetime.models.transformer.dit import DiT
    from comfyui_spacetime.nodes.host.model.hosted_dit import HostedDiT

    config = replace(PRESETS["test"], num_classes=3)
    torch.manual_seed(0)
    state = {key: value.normal_(std=0.1) for key, value in DiT(config).state_dict().items()}
    narrow = {key: value.to(torch.float8_e4m3fn) for key, value in state.items()}
    built = []
    for dtype in (torch.float8_e4m3fn, torch.bfloat16):
        network = HostedDiT(config=config, dtype=dtype, operations=comfy.ops.manual_cast).requires_grad_(False)
        network.load_state_dict(narrow)
        assert {parameter.dtype for parameter in network.parameters()} == {dtype}
        built.append(network)
    x, context = torch.randn(1, 16, 2, 4, 4).bfloat16(), torch.randn(1, 5, 384).bfloat16()
    sigma, labels = torch.tensor([0.5]), torch.tensor([1])
    one, other = (network(x, sigma, context, class_labels=labels) for network in built)
    assert other.abs().sum() > 0
    assert torch.equal(one, other)


def test_what_the_host_does_to_weights_on_the_way_holds_where_plain_layers_are_not_called(comfy_host):
    import comfy.ops

    from comfyui_spacetime.models.transformer.config import PRESETS
    from comfyui_spacetime.models.transformer.dit import DiT
    from comfyui_spacetime.models.transformer.plain import is_plain
    from comfyui_spacetime.nodes.host.model.hosted_dit import HostedDiT

    torch.manual_seed(0)
    state = {key: value.normal_(std=0.1) for key, value in DiT(PRESETS["test"]).state_dict().items()}
    x, context, sigma = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 5, 384), torch.tensor([0.5])
    answers = {}
    for name, operations in (("plain", comfy.ops.disable_weight_init), ("cast", comfy.ops.manual_cast)):
        network = HostedDiT(config=PRESETS["test"], dtype=torch.float32, operations=operations).requires_grad_(False)
        network.load_state_dict(state)
        layers = [layer for block in network.blocks for layer in (block.mlp.gate_up, block.self_attn.k_norm)]
        assert {is_plain(layer) for layer in layers} == {name == "plain"}
        answers[name] = network(x, sigma, context)
        for layer in layers:
            layer.weight_function = [lambda weight: 2 * weight]  # as where the host patches a weight that it fetches
        assert not any(map(is_plain, layers))
        answers[name, "patched"] = network(x, sigma, context)
    torch.testing.assert_close(answers["plain"], answers["cast"])
    torch.testing.assert_close(answers["plain", "patched"], answers["cast", "patched"])
    assert not torch.allclose(answers["plain"], answers["plain", "patched"])
