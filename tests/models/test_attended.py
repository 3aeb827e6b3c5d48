"""Rows of attention from kept queries and keys."""

import pytest
import torch

from comfyui_spacetime.models.transformer.attended import Attended


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def looked(lengths, blocks: int = 3, heads: int = 4, key_heads: int = 4, most: int = 2**30):
    found, given = Attended(lengths, most), []
    for block in range(blocks):
        clips = [(random(heads, n, 8) + block, random(key_heads, n, 8) - block) for n in lengths]
        for clip in clips:
            found.add(*clip)
        given.append(clips)
    return found, given


@pytest.mark.parametrize("key_heads", [4, 2, 1])
def test_rows_times_values_are_torchs_attention(key_heads):
    found, given = looked((6,), key_heads=key_heads)
    q, k = given[1][0]
    v = random(4, 6, 5)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k.repeat_interleave(4 // key_heads, dim=0), v)
    for head in range(4):
        rows = torch.stack([found.row(1, patch, head) for patch in range(6)])
        assert torch.allclose(rows.sum(dim=1), torch.ones(6), atol=1e-5)
        assert torch.allclose(rows @ v[head], wanted[head], atol=0.02)  # they are kept in float16
    mean = torch.stack([found.row(1, 2, head) for head in range(4)]).mean(dim=0)
    assert torch.allclose(found.row(1, 2), mean, atol=1e-6)


def test_patches_of_another_clip_are_not_looked_at():
    found, given = looked((6, 4, 3))
    for clip, (start, end) in enumerate([(0, 6), (6, 10), (10, 13)]):
        row = found.row(2, start + 1, 0)
        assert row[start:end].sum() == pytest.approx(1, abs=1e-5)
        assert torch.cat([row[:start], row[end:]]).abs().sum() == 0
        q, k = given[2][clip]
        assert torch.allclose(row[start:end], (q[0, 1] @ k[0].T * 8**-0.5).softmax(-1), atol=2e-3)


def test_it_takes_the_next_clips_own_attention_only():
    found = Attended((6, 4))
    assert found.takes(6, 6)
    assert not found.takes(6, 77)
    assert not found.takes(4, 4)
    found.add(random(2, 6, 8), random(2, 6, 8))
    assert found.takes(4, 4)
    assert found.blocks == {}, "the block is not complete"


@pytest.mark.parametrize("room", [1, 2, 3, 5, 20])
def test_memory_has_a_limit_and_blocks_stay_evenly_spread(room):
    one = 2 * 4 * 6 * 8 * 2  # bytes of a block
    found, given = looked((6,), blocks=20, most=room * one)
    kept = list(found.blocks)
    assert found.num_bytes <= room * one
    assert found.seen == 20
    assert kept == list(range(0, 20, kept[1] if len(kept) > 1 else 20))
    assert len(kept) * 2 > min(room, 20)
    q, k = given[kept[-1]][0]
    assert torch.allclose(found.row(kept[-1], 0, 1), (q[1, 0] @ k[1].T * 8**-0.5).softmax(-1), atol=2e-3)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ((3, 0, 0), "block is 3, and there are 0, 1, 2"),
        ((0, 6, 0), "patch is 6, and there are 0 to 5"),
        ((0, -1, 0), "patch is -1"),
        ((0, 0, 4), "head is 4, and there are 0 to 3"),
    ],
)
def test_what_is_not_there_is_said(asked, says):
    with pytest.raises(ValueError, match=says):
        looked((6,))[0].row(*asked)
