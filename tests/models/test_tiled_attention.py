"""Attention in tiles, the form for CPUs with bf16 in vector units."""

import pytest
import torch
from torch.nn import functional as F

from comfyui_spacetime.models.patches import Grid
from comfyui_spacetime.models.transformer import attention, tiled
from comfyui_spacetime.models.transformer.attention import normed_rope, sdpa
from comfyui_spacetime.models.transformer.norms import rms
from comfyui_spacetime.models.transformer.rope import apply_rope, rope_table

# (clips, heads, queries, keys, channels): whole batches in a tile, some heads, some rows; one query; texts
SHAPES = [(1, 6, 256, 256, 64), (3, 5, 17, 40, 32), (2, 4, 300, 300, 64), (7, 3, 16, 16, 64), (1, 2, 1, 1, 8)]


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, ...]:
    """Queries, keys and values as views of rows, as a layer gives them."""
    batch, heads, queries, keys, size = shape
    rng = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(batch, count, heads, size, generator=rng).to(dtype).transpose(1, 2)
        for count in (queries, keys, keys)
    )


@pytest.fixture
def gains(monkeypatch):
    monkeypatch.setattr(tiled, "cpu_gains", lambda: True)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other).norm() / other.norm())


@pytest.mark.parametrize("shape", SHAPES)
def test_tiles_of_any_size_give_the_same_bits_and_are_as_exact_as_bf16(monkeypatch, shape):
    q, k, v = drawn(shape)
    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    answers = []
    for tile in (1 << 6, 1 << 12, 1 << 19):
        monkeypatch.setattr(tiled, "TILE", tile)
        answers.append(tiled.tiled_attention(q, k, v))
    assert all(torch.equal(answer, answers[0]) for answer in answers)
    assert distance(answers[0], expected) < 8e-3  # one rounding to bf16 is 2e-3


@pytest.mark.parametrize("size", [1.0, 30.0, 1e4, 1e18])
def test_scores_of_any_size_stay_finite(size):
    q, k, v = drawn(SHAPES[0])
    answer = tiled.tiled_attention(q * size, k * size, v)
    assert torch.isfinite(answer).all()
    assert answer.abs().max() <= v.abs().max()


def test_only_what_it_is_for_is_tiled(gains):
    q, k, v = drawn(SHAPES[1])
    assert tiled.by_tiles(q, k, v, None)
    assert not tiled.by_tiles(q.float(), k.float(), v.float(), None)
    assert not tiled.by_tiles(q, k, v, torch.ones(3, 1, 1, 40, dtype=torch.bool))
    assert not tiled.by_tiles(q.to("meta"), k.to("meta"), v.to("meta"), None)
    learned = q.clone().requires_grad_()
    assert not tiled.by_tiles(learned, k, v, None)
    with torch.no_grad():
        assert tiled.by_tiles(learned, k, v, None)


def test_cpus_without_it_and_with_matrix_units_keep_torchs(monkeypatch):
    for vectors, tiles, expected in ((True, False, True), (True, True, False), (False, False, False)):
        monkeypatch.setattr(tiled, "cpu_multiplies_bf16", lambda found=vectors or tiles: found)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda found=tiles: found, raising=False)
        assert tiled.cpu_gains.__wrapped__() is expected


def test_what_was_chosen_is_told(monkeypatch):
    monkeypatch.setattr(tiled, "cpu_gains", lambda: True)
    assert tiled.told("cpu").startswith("products in tiles in bf16, because")
    monkeypatch.setattr(tiled, "cpu_gains", lambda: False)
    for multiplies, reason in ((True, "matrix units"), (False, "fp32")):
        monkeypatch.setattr(tiled, "cpu_multiplies_bf16", lambda found=multiplies: found)
        assert reason in tiled.told("cpu")
    assert tiled.told("cuda:0").startswith("ComfyUI's dispatcher, because")


def test_sdpa_takes_them(gains, monkeypatch):
    asked = []
    monkeypatch.setattr(attention, "tiled_attention", lambda *given: asked.append(given) or given[0])
    q, k, v = drawn(SHAPES[1])
    sdpa(q, k, v)
    assert len(asked) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("own_positions", [False, True])
def test_rotation_without_gradients_is_the_same_and_leaves_its_input(monkeypatch, dtype, own_positions):
    monkeypatch.setattr(attention, "TILE", 3)  # of 7 tokens
    torch.manual_seed(0)
    norms = [torch.nn.RMSNorm(16, eps=1e-6, dtype=dtype) for _ in range(2)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 7, 3, 3, 16).to(dtype).permute(2, 0, 3, 1, 4)[:2]  # (2, B, K, N, head_dim), a view
    table, before = rope_table([Grid(7, 1, 1)], 16), x.clone()
    if own_positions:  # for each of the batch
        table = torch.stack([table, table.flip(1)], dim=1).unsqueeze(2)
    with torch.no_grad():
        found = normed_rope(norms, x, table)
    learning = normed_rope(norms, x, table)
    assert torch.equal(x, before)
    within = 1e-5 if dtype == torch.float32 else 3e-2
    for norm, part, one, other in zip(norms, x, found, learning, strict=True):
        expected = apply_rope(rms(part.float()) * norm.weight.float(), table)
        assert one.dtype == other.dtype == dtype
        assert (one.requires_grad, other.requires_grad) == (False, True)
        assert torch.allclose(one.float(), expected, atol=within)
        assert torch.allclose(other.float(), expected, atol=within)
