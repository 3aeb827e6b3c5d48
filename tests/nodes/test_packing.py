"""Clips of different size in one run: equal to separate runs, with core's sampler, masks and a prompt each."""

import pytest
import torch
from torch import Tensor

SIZES = [(3, 8, 8), (2, 4, 12), (1, 6, 6)]


def normal(*sizes: int, seed: int = 0) -> Tensor:
    return torch.randn(1, 16, *sizes, generator=torch.Generator().manual_seed(seed))


def sample(model, positive, negative, noise: Tensor, latent: dict) -> Tensor:
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(3.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 3)
    sampler, mask = comfy.samplers.sampler_object("euler"), latent.get("noise_mask")
    with torch.inference_mode():
        return guider.sample(noise, latent["samples"], sampler, sigmas, denoise_mask=mask, disable_pbar=True, seed=1)


@pytest.fixture(scope="module")
def prompts(tiny_objects) -> list:
    from nodes import CLIPTextEncode

    texts = ("a red ball falls", "two blue cubes roll to the left", "a cone", "")
    return [CLIPTextEncode().encode(tiny_objects[1], text)[0] for text in texts]


@pytest.mark.parametrize("own_prompts", [True, False])
def test_packed_clips_equal_separate_runs(tiny_objects, prompts, own_prompts):
    from comfyui_spacetime.nodes.packing import PackClips, SplitClips

    model, negative = tiny_objects[0], prompts[3]
    positives = prompts[:3] if own_prompts else [prompts[0]] * 3
    clips = [{"samples": normal(*size, seed=index)} for index, size in enumerate(SIZES)]
    noises = [normal(*size, seed=10 + index) for index, size in enumerate(SIZES)]
    clips[0]["noise_mask"] = torch.ones(1, 1, *SIZES[0])
    clips[0]["noise_mask"][:, :, 0] = 0
    separate = [sample(model, p, negative, n, c) for p, n, c in zip(positives, noises, clips, strict=True)]

    given = (positives[0], positives[1]) if own_prompts else ()
    packed_model, latent, packed = PackClips.execute(model, clips[0], clips[1], *given).result
    given = (packed, positives[2]) if own_prompts else ()
    packed_model, latent, packed = PackClips.execute(packed_model, latent, clips[2], *given).result
    _, row, _ = PackClips.execute(model, {"samples": noises[0]}, {"samples": noises[1]}).result
    _, row, _ = PackClips.execute(model, row, {"samples": noises[2]}).result

    positive = packed if own_prompts else positives[0]
    together = {**latent, "samples": sample(packed_model, positive, negative, row["samples"], latent)}
    (split,) = SplitClips.execute(together).result
    for clip, alone in zip(split, separate, strict=True):
        assert clip["samples"].shape == alone.shape
        assert (clip["samples"] - alone).abs().max() <= 1e-4
    torch.testing.assert_close(split[0]["samples"][:, :, 0], clips[0]["samples"][:, :, 0], atol=1e-5, rtol=1e-5)


PATCHES = [(1, 2, 2), (1, 1, 1), (2, 2, 2), (1, 4, 4), (3, 1, 2)]


def cut_by(patch: tuple[int, int, int], seed: int = 0) -> list[dict]:
    """Two clips of whole patches."""
    grids = [(3, 4, 4), (2, 2, 6)]
    sizes = [tuple(count * side for count, side in zip(grid, patch, strict=True)) for grid in grids]
    return [{"samples": normal(*size, seed=seed + index)} for index, size in enumerate(sizes)]


def with_patch(checkpoint: str, patch: tuple[int, int, int]):
    """A random MODEL of ours that works on patches of this size."""
    from dataclasses import replace
    from pathlib import Path

    import folder_paths

    from comfyui_spacetime.models.checkpoints import Checkpoint
    from comfyui_spacetime.models.transformer.config import PRESETS
    from comfyui_spacetime.models.transformer.dit import DiT
    from comfyui_spacetime.nodes.host.checkpoint import Source, build_dit

    path = Path(folder_paths.get_full_path("checkpoints", checkpoint))
    config = replace(PRESETS["test"], patch=patch)
    torch.manual_seed(0)
    network = DiT(config)
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1 if weight.ndim > 1 else 0.3)
    meta = {"rgb_factors": [[0.0] * 3] * 16, "rgb_bias": [0.0] * 3}
    return build_dit(Checkpoint(config, network.state_dict(), meta=meta), Source.of(path, checkpoint, "fp32"))


@pytest.mark.parametrize("patch", PATCHES)
def test_clips_are_packed_in_the_patches_of_the_model(tiny_checkpoint, prompts, patch):
    """As many tokens as separate runs have, with the same answers, and each clip as it was behind it."""
    from comfyui_spacetime.nodes.packing import PackClips, SplitClips

    model = with_patch(tiny_checkpoint, patch)
    clips, noises = cut_by(patch), [clip["samples"] for clip in cut_by(patch, seed=10)]
    separate = [sample(model, prompts[0], prompts[3], n, c) for n, c in zip(noises, clips, strict=True)]
    packed_model, latent, _ = PackClips.execute(model, *clips).result
    _, row, _ = PackClips.execute(model, *({"samples": noise} for noise in noises)).result
    assert latent["samples"].shape[2:4] == patch[:2]
    (back,) = SplitClips.execute(latent).result
    together = {**latent, "samples": sample(packed_model, prompts[0], prompts[3], row["samples"], latent)}
    (split,) = SplitClips.execute(together).result
    for clip, same, made, alone in zip(clips, back, split, separate, strict=True):
        assert torch.equal(clip["samples"], same["samples"])
        assert made["samples"].shape == alone.shape
        assert (made["samples"] - alone).abs().max() <= 1e-4


def test_clips_packed_for_other_patches_are_refused(tiny_checkpoint, tiny_objects):
    from comfyui_spacetime.nodes.packing import PackClips

    one, other = {"samples": normal(*SIZES[0])}, {"samples": normal(*SIZES[1])}
    packed = PackClips.execute(with_patch(tiny_checkpoint, (1, 4, 4)), one, other).result[1]
    with pytest.raises(ValueError, match="pack them anew"):
        PackClips.execute(tiny_objects[0], packed, one)


@pytest.mark.parametrize("patch", PATCHES)
def test_packing_loses_nothing(tiny_checkpoint, patch):
    from comfyui_spacetime.nodes.packing import PackClips, SplitClips

    clips = cut_by(patch)
    clips[1]["noise_mask"] = torch.rand(1, 1, *clips[1]["samples"].shape[2:], generator=torch.manual_seed(0))
    latent = PackClips.execute(with_patch(tiny_checkpoint, patch), *clips).result[1]
    back = SplitClips.execute(latent).result[0]
    for one, other in zip(clips, back, strict=True):
        assert torch.equal(one["samples"], other["samples"])
    assert torch.equal(back[1]["noise_mask"], clips[1]["noise_mask"])
    assert "noise_mask" not in back[0]


def test_what_does_not_fit_is_refused(tiny_objects, prompts):
    from comfyui_spacetime.nodes.packing import PackClips, SplitClips

    model = tiny_objects[0]
    one, other = {"samples": normal(*SIZES[0])}, {"samples": normal(*SIZES[1])}
    packed_model = PackClips.execute(model, one, other).result[0]
    with pytest.raises(ValueError, match="same Pack Clips"):
        sample(packed_model, prompts[0], prompts[3], normal(*SIZES[0]), one)
    with pytest.raises(ValueError, match="single clip"):
        SplitClips.execute(one)
    with pytest.raises(ValueError, match="connect both, or neither"):
        PackClips.execute(model, one, other, prompts[0])
    with pytest.raises(ValueError, match="same batch size"):
        PackClips.execute(model, one, {"samples": normal(*SIZES[1]).repeat(2, 1, 1, 1, 1)})
