"""Kernels for packed clips: each gives what a call per clip gives, and a device gets one that works there."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from comfyui_spacetime.models.patches import Grid
from comfyui_spacetime.models.transformer import attention, packed
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT

MIXES = [((5,), (5,)), ((24, 8, 40), (24, 8, 40)), ((3, 130, 1), (7, 1, 20))]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def drawn(lengths, key_lengths, device, dtype):
    shapes = [(2, 3, sum(sizes), 16) for sizes in (lengths, key_lengths, key_lengths)]
    return [torch.randn(*shape).to(device, dtype) for shape in shapes]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("lengths", "key_lengths"), MIXES)
@pytest.mark.parametrize("name", packed.PACKED)
def test_every_kernel_gives_what_a_call_per_clip_gives(name, lengths, key_lengths, device):
    dtype = torch.float32 if name == "flex" else torch.bfloat16
    if why := packed.refusal(name, device, dtype, gradients=device != "cpu"):
        pytest.skip(f"{name} {why}")
    given = drawn(lengths, key_lengths, device, dtype)
    found, wanted = (kernel(*given, lengths, key_lengths) for kernel in (packed.PACKED[name], packed.per_clip))
    torch.testing.assert_close(found, wanted, atol=1e-5 if dtype == torch.float32 else 0.02, rtol=0.02)


def test_a_kernel_that_is_wrong_or_breaks_is_refused_with_the_reason(monkeypatch):
    def forgetful(q, k, v, _lengths, _key_lengths):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v)  # clips see each other

    monkeypatch.setitem(packed.PACKED, "varlen", forgetful)
    assert "is off by" in packed.refusal("varlen", "cpu")
    monkeypatch.setitem(packed.PACKED, "varlen", packed.per_clip)
    assert packed.refusal("varlen", "cpu") == ""
    with torch.inference_mode():  # as a host asks
        assert packed.refusal("varlen", "cpu") == ""
    monkeypatch.setitem(packed.PACKED, "varlen", lambda *_: 1 / 0)
    assert "ZeroDivisionError" in packed.refusal("varlen", "cpu")


def test_a_device_gets_the_first_kernel_that_works_and_is_asked_once(monkeypatch):
    asked = []

    def broken(*_):
        asked.append("varlen")
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(packed, "chosen", packed.chosen.__wrapped__)
    monkeypatch.setitem(packed.PACKED, "varlen", broken)
    monkeypatch.setitem(packed.PACKED, "xformers", packed.per_clip)
    monkeypatch.setattr(packed.importlib.util, "find_spec", lambda _: True)
    choice = packed.chosen(torch.device("cpu"))
    assert choice.name == "xformers"
    assert "no kernel image" in choice.refused["varlen"]
    assert asked == ["varlen"]


def test_what_was_chosen_is_told(monkeypatch):
    assert "a call per clip" in packed.told("cpu")
    monkeypatch.setattr(packed, "chosen", lambda _: packed.Choice("varlen", {}))
    assert packed.told("cuda:0").startswith("varlen in one call")
    monkeypatch.setattr(packed, "chosen", lambda _: packed.Choice("", {"varlen": "is broken"}))
    assert packed.told("cuda:0") == "a call per clip, because varlen is broken"


@pytest.mark.parametrize(("long_apart", "calls"), [(False, ["long", "short"]), (True, ["short"])])
def test_long_clips_get_a_call_each_where_the_dense_kernel_is_faster(monkeypatch, long_apart, calls):
    seen = []

    def counted(q, k, v, lengths, key_lengths):
        seen.append("long" if lengths[0] > 1000 else "short")
        return packed.per_clip(q, k, v, lengths, key_lengths)

    monkeypatch.setitem(packed.PACKED, "xformers", counted)
    monkeypatch.setattr(packed, "chosen", lambda _: packed.Choice("xformers", {}, long_apart))
    for lengths in ((1100, 1200), (100, 200)):
        given = drawn(lengths, lengths, "cpu", torch.float32)
        wanted = packed.per_clip(*given, lengths, lengths)
        assert torch.equal(packed.packed_attention(*given, lengths, lengths), wanted)
    assert seen == calls
    assert ("from 1024 patches" in packed.told("cuda:0")) == long_apart


def test_kernels_for_halves_do_not_get_fp32_nor_odd_heads():
    q = torch.zeros(1, 1, 4, 64)
    assert packed.takes("varlen", q.half())
    assert not packed.takes("varlen", q)
    assert packed.takes("xformers", q)
    assert not packed.takes("xformers", q[..., :6])


def test_xformers_gets_its_layout_and_its_mask(monkeypatch):
    """Against a stand-in with the two calls as xformers documents them."""

    class BlockDiagonalMask:
        def __init__(self, queries, keys):
            self.queries, self.keys = queries, keys

        @classmethod
        def from_seqlens(cls, q_seqlen, kv_seqlen=None):
            return cls(q_seqlen, kv_seqlen or q_seqlen)

    def memory_efficient_attention(query, key, value, attn_bias=None):
        assert query.shape[0] == 1  # what a block-diagonal mask demands
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))  # (1, M, K, head_dim)
        return packed.per_clip(q, k, v, attn_bias.queries, attn_bias.keys).transpose(1, 2)

    stand_in = {
        "xformers": {},
        "xformers.ops": {"memory_efficient_attention": memory_efficient_attention},
        "xformers.ops.fmha": {},
        "xformers.ops.fmha.attn_bias": {"BlockDiagonalMask": BlockDiagonalMask},
    }
    for name, content in stand_in.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    packed.blocks_of_xformers.cache_clear()
    monkeypatch.setattr(packed.importlib.util, "find_spec", lambda _: SimpleNamespace())
    assert packed.refusal("xformers", "cpu") == ""
    packed.blocks_of_xformers.cache_clear()


def test_varlen_gets_its_layout_and_its_boundaries(monkeypatch):
    """Against a stand-in with the call as torch documents it."""

    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
        lengths, key_lengths = (ends.diff().tolist() for ends in (cu_seq_q, cu_seq_k))
        assert (max_q, max_k) == (max(lengths), max(key_lengths))
        assert cu_seq_q.dtype == torch.int32
        q, k, v = (x.transpose(0, 1)[None] for x in (query, key, value))  # (N, K, head_dim)
        return packed.per_clip(q, k, v, lengths, key_lengths)[0].transpose(0, 1)

    module = ModuleType("torch.nn.attention.varlen")
    module.varlen_attn = varlen_attn
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)
    assert packed.refusal("varlen", "cpu") == ""


def test_a_dit_packs_by_the_kernel_where_nobody_asked_for_another(monkeypatch):
    calls = []

    def counted(*given):
        calls.append(given[3])
        return packed.per_clip(*given)

    monkeypatch.setattr(attention, "packed_attention", counted)
    torch.manual_seed(0)
    model, grids = DiT(PRESETS["test"]).initialise(), [Grid(1, 2, 2), Grid(2, 2, 2)]
    values, text = torch.randn(1, 12, 64), torch.randn(1, 6, 384)
    wanted = model.forward_tokens(values, torch.tensor([0.5]), model.prepare(grids, text, context_lengths=(2, 4)))
    assert calls == []  # the CPU
    meta = model.to("meta")
    prepared = meta.prepare(grids, text.to("meta"), context_lengths=(2, 4))
    given = values.to("meta"), torch.tensor([0.5], device="meta"), prepared
    assert meta.forward_tokens(*given).shape == wanted.shape
    assert calls == [[4, 8]] * 4  # self- and cross-attention of two blocks
    meta.forward_tokens(*given, attention=attention.matmul_attention)
    assert len(calls) == 4
