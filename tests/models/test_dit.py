"""The spacetime DiT: noise levels per patch, cyclic time, packing, and its parts against diffusers'."""

import pytest
import torch

from comfyui_spacetime.models.patches import Grid, from_patches, to_patches
from comfyui_spacetime.models.transformer.attention import attend, matmul_attention, sdpa
from comfyui_spacetime.models.transformer.blocks import GatedMLP, rms
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.transformer.embeddings import sinusoidal
from comfyui_spacetime.models.transformer.rope import apply_rope, cyclic_frequencies, rope_table


@pytest.fixture(scope="module")
def model(awake_dit) -> DiT:
    return awake_dit


def inputs(frames: int = 4, height: int = 4, width: int = 6, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 16, frames, height, width, generator=rng)
    context = torch.randn(2, 5, 384, generator=rng)
    return x, torch.tensor([0.3, 0.8]), context


def test_a_level_per_clip_per_frame_and_per_patch_agree(model):
    x, sigma, context = inputs()
    expected = model(x, sigma, context)
    assert expected.shape == x.shape
    assert torch.allclose(model(x, sigma[:, None].expand(2, 4), context), expected, atol=1e-5)
    assert torch.allclose(model(x, sigma[:, None].expand(2, 24), context), expected, atol=1e-5)


def test_each_patch_answers_to_its_own_level(model):
    x, _, context = inputs()
    levels = torch.full((2, 24), 0.5)
    changed = levels.clone()
    changed[:, 7] = 0.0
    grid = Grid.of(x)
    prepared = model.prepare([grid], context)
    before = model.condition(levels, [grid], prepared.pooled, x.dtype)
    after = model.condition(changed, [grid], prepared.pooled, x.dtype)
    differs = (before - after).abs().sum(-1) > 0
    assert differs[:, 7].all()
    assert differs.sum() == 2


def test_levels_of_another_shape_are_refused(model):
    x, _, context = inputs()
    with pytest.raises(ValueError, match="fit neither 4 frames nor 24 patches"):
        model(x, torch.rand(2, 5), context)


@pytest.mark.parametrize("frames", [4, 8, 9])
def test_cyclic_time_commutes_with_a_roll(model, frames):
    x, sigma, context = inputs(frames=frames)
    whole = model(x, sigma, context, cyclic=True)
    assert torch.allclose(model(x.roll(3, 2), sigma, context, cyclic=True), whole.roll(3, 2), atol=1e-5)
    ordinary = model(x, sigma, context)
    assert not torch.allclose(model(x.roll(3, 2), sigma, context), ordinary.roll(3, 2), atol=1e-3)


def test_cyclic_frequencies_are_whole_harmonics():
    turns = cyclic_frequencies(12, 9) * 9 / (2 * torch.pi)
    assert torch.allclose(turns, turns.round(), atol=1e-12)
    assert turns.min() >= 1
    assert turns.max() <= 4


def test_rope_depends_on_differences_only():
    table = rope_table([Grid(6, 1, 1)], 24)
    q, k = torch.randn(1, 1, 1, 24), torch.randn(1, 1, 1, 24)

    def score(i: int, j: int) -> torch.Tensor:
        return (apply_rope(q, table[:, i : i + 1]) * apply_rope(k, table[:, j : j + 1])).sum()

    assert torch.allclose(score(0, 2), score(3, 5), atol=1e-5)
    assert not torch.allclose(score(0, 2), score(0, 3), atol=1e-3)


def test_packed_clips_equal_separate_runs(model):
    """Two clips of different size, level and text in one sequence give what they give alone."""
    first, second = inputs(4, 4, 6, seed=1), inputs(2, 8, 4, seed=2)
    alone = [model(x, sigma, context) for x, sigma, context in (first, second)]
    grids = [Grid.of(first[0]), Grid.of(second[0])]
    values = torch.cat([to_patches(first[0]), to_patches(second[0])], dim=1)
    levels = torch.cat([first[1][:, None].expand(2, 4), second[1][:, None].expand(2, 2)], dim=1)
    prepared = model.prepare(grids, torch.cat([first[2], second[2]], dim=1), context_lengths=(5, 5))
    out = model.forward_tokens(values, levels, prepared)
    parts = out.split([grid.num_tokens for grid in grids], dim=1)
    for part, grid, expected in zip(parts, grids, alone, strict=True):
        assert torch.allclose(from_patches(part, grid), expected, atol=1e-5)


def test_packed_clips_may_share_one_text(model):
    first, second = inputs(4, 4, 6, seed=1), inputs(2, 8, 4, seed=2)
    context = first[2]
    alone = [model(x, sigma, context) for x, sigma, _ in (first, second)]
    grids = [Grid.of(first[0]), Grid.of(second[0])]
    values = torch.cat([to_patches(first[0]), to_patches(second[0])], dim=1)
    levels = torch.cat([first[1][:, None].expand(2, 4), second[1][:, None].expand(2, 2)], dim=1)
    out = model.forward_tokens(values, levels, model.prepare(grids, context))
    for part, grid, expected in zip(out.split([g.num_tokens for g in grids], dim=1), grids, alone, strict=True):
        assert torch.allclose(from_patches(part, grid), expected, atol=1e-5)


def test_padding_of_the_text_changes_nothing(model):
    x, sigma, context = inputs()
    padded = torch.cat([context, torch.randn(2, 3, 384)], dim=1)
    mask = torch.arange(8).expand(2, 8) < 5
    assert torch.allclose(model(x, sigma, padded, mask), model(x, sigma, context), atol=1e-5)


def mean_of_nothing(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None):
    """A kernel that gives the mean of all values where everything is masked, as some hosts' do."""
    bias = None if mask is None else torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    return sdpa(q, k, v, bias)


@pytest.mark.parametrize("kernel", [sdpa, matmul_attention, mean_of_nothing])
def test_a_text_without_real_tokens_says_nothing_whatever_the_kernel(model, kernel):
    """As one text, as the text of a packed clip, and as one of several for one clip."""
    x, sigma, context = inputs()
    other, grid = context.flip(1), Grid.of(x)
    none, real = torch.zeros(2, 5, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    mask = torch.cat([none, real], dim=1)
    shares = torch.rand(grid.num_tokens)
    shares = torch.stack([shares, 1 - shares])
    levels = sigma[:, None].expand(2, 8)

    def answers(words: torch.Tensor, kernel):
        both = torch.cat([words, other], dim=1)
        alone = model(x, sigma, prepared=model.prepare([grid], words, none), attention=kernel)
        packed = model.prepare([grid, grid], both, mask, context_lengths=(5, 5))
        mixed = model.prepare([grid], both, mask, context_lengths=(5, 5), shares=shares)
        twice = to_patches(torch.cat([x, x], dim=2))
        return [
            alone,
            model.forward_tokens(twice, levels, packed, attention=kernel),
            model(x, sigma, prepared=mixed, attention=kernel),
        ]

    for found, expected in zip(answers(context, kernel), answers(9 * other, sdpa), strict=True):
        assert torch.allclose(found, expected, atol=1e-5)


def test_text_prepared_once_equals_text_every_step(model):
    x, sigma, context = inputs()
    prepared = model.prepare([Grid.of(x)], context)
    assert torch.equal(model(x, sigma, prepared=prepared), model(x, sigma, context))


def test_a_fresh_model_predicts_zero():
    x, sigma, context = inputs()
    assert not DiT(PRESETS["test"]).initialise()(x, sigma, context).any()


def test_kernels_agree():
    q, k, v = torch.randn(3, 2, 4, 12, 16).unbind(0)
    mask = torch.rand(2, 1, 1, 12) < 0.7
    mask[1] = False  # and what may attend to nothing
    assert torch.allclose(matmul_attention(q, k, v, mask), sdpa(q, k, v, mask), atol=1e-5)
    block = torch.block_diag(torch.ones(5, 5), torch.ones(7, 7)).bool()
    assert torch.allclose(attend(q, k, v, lengths=[5, 7]), sdpa(q, k, v, block), atol=1e-5)


def test_parts_equal_diffusers():
    embeddings = pytest.importorskip("diffusers.models.embeddings", reason="diffusers is a development dependency")
    attention = pytest.importorskip("diffusers.models.attention")
    times = torch.tensor([0.0, 3.5, 999.0])
    reference = embeddings.get_timestep_embedding(times, 256, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert torch.allclose(sinusoidal(times), reference, atol=1e-5)

    mlp = GatedMLP(32, 64, torch.nn)
    other = attention.FeedForward(32, inner_dim=64, activation_fn="swiglu", bias=False)
    gate, up = mlp.gate_up.weight.chunk(2)
    other.net[0].proj.weight.data = torch.cat([up, gate])  # diffusers puts the gate second
    other.net[2].weight.data = mlp.down.weight.data
    x = torch.randn(2, 7, 32)
    assert torch.allclose(mlp(x), other(x), atol=1e-6)

    norm = pytest.importorskip("diffusers.models.normalization").RMSNorm(32, eps=1e-6)
    assert torch.allclose(rms(x), norm(x), atol=1e-6)

    table = rope_table([Grid(3, 2, 2)], 32)
    q = torch.randn(1, 4, 12, 32)
    cos, sin = (torch.cat([part, part], dim=-1) for part in table)
    rotated = embeddings.apply_rotary_emb(q, (cos, sin), use_real_unbind_dim=-2)
    assert torch.allclose(apply_rope(q, table), rotated, atol=1e-5)


def test_a_longer_video_slows_one_frequency_of_time():
    """RIFLEx: only the one that would come round; what the model knows stays bit for bit."""
    import math

    from comfyui_spacetime.models.transformer.rope import extrapolated, frequencies, repeating_pair

    freqs = frequencies(12)
    pair = repeating_pair(freqs, 9)
    periods = 2 * math.pi / freqs
    assert periods[pair] >= 9 > periods[pair - 1]
    slowed = extrapolated(freqs, 9, 17)
    assert (slowed != freqs).nonzero().flatten().tolist() == [pair]
    assert float(slowed[pair]) == pytest.approx(0.9 * 2 * math.pi / 17)
    assert extrapolated(freqs, 9, 9) is freqs
    assert float(extrapolated(freqs, 9, 17, pair=0)[0]) < float(freqs[0])
    with pytest.raises(ValueError, match="there is no frequency 13 of time, only 12"):
        extrapolated(freqs, 9, 17, pair=12)
    short, long = [Grid(9, 2, 2)], [Grid(17, 2, 2)]
    assert torch.equal(rope_table(short, 64, trained_frames=9), rope_table(short, 64))
    assert not torch.equal(rope_table(long, 64, trained_frames=9), rope_table(long, 64))
    assert torch.equal(rope_table(long, 64, trained_frames=9, cyclic=True), rope_table(long, 64, cyclic=True))


def test_the_repeating_frequency_is_the_one_that_the_authors_chose():
    """HunyuanVideo (33 latents): 4th of 8, base 256. CogVideoX (13 latents): 2nd of 8, base 10000."""
    from comfyui_spacetime.models.transformer.rope import repeating_pair

    steps = torch.arange(8, dtype=torch.float64) / 8
    assert repeating_pair(256.0**-steps, 33) + 1 == 4
    assert repeating_pair(10000.0**-steps, 13) + 1 == 2


def test_what_was_prepared_cannot_be_contradicted(model):
    """Text, loop and size belong to it: giving others besides is an error, not another video."""
    x, sigma, context = torch.randn(1, 16, 2, 4, 4), torch.tensor([0.5]), torch.randn(1, 3, 384)
    prepared = model.prepare([Grid.of(x)], context)
    for wrong in ({"context": context}, {"cyclic": True}):
        with pytest.raises(ValueError, match="belong to what was prepared"):
            model(x, sigma, prepared=prepared, **wrong)
    with pytest.raises(ValueError, match="prepare anew"):
        model(x[:, :, :1], sigma, prepared=prepared)
    with pytest.raises(ValueError, match="prepared for 8 patches, and these are 4"):
        model.forward_tokens(to_patches(x)[:, :4], sigma, prepared)


def test_positions_lie_where_the_weights_lie():
    assert DiT(PRESETS["test"], device="meta").prepare([Grid(1, 2, 2)]).rope.device.type == "meta"
