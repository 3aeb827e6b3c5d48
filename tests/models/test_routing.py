"""Token routing: what blocks do with the kept patches alone, and runs that are trained so."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from comfyui_spacetime.models.checkpoints import load_checkpoint
from comfyui_spacetime.models.clips.cache import LatentCache
from comfyui_spacetime.models.files import write_tensors
from comfyui_spacetime.models.patches import Grid
from comfyui_spacetime.models.training.dit import train as training
from comfyui_spacetime.models.training.dit.alignment import add_aligner, block_of
from comfyui_spacetime.models.training.dit.batches import Batch, draw_batch, routed
from comfyui_spacetime.models.training.dit.settings import DiTTraining
from comfyui_spacetime.models.training.dit.workers import Workers
from comfyui_spacetime.models.training.run.folder import generator
from comfyui_spacetime.models.transformer.attention import matmul_attention
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.transformer.routing import Route, blocks_past
from comfyui_spacetime.models.vae.autoencoder import PRESETS as VAES
from comfyui_spacetime.models.vae.autoencoder import VideoVAE

SIZES = {"32x32x9": (3, 4, 4), "64x32x17": (5, 4, 8), "32x32x8c": (2, 4, 4)}
EMPTY = torch.full((2, 384), 0.1).bfloat16()
MIDDLE = range(1, 3)  # of the four blocks
FEATURES = 5


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> LatentCache:
    """Random latents of several sizes, with features to align with."""
    folder, rng = tmp_path_factory.mktemp("cache"), generator(0, 0)
    for size, (frames, height, width) in SIZES.items():
        lengths = [[3 + i] for i in range(6)]
        header = {"captions": [["a"]] * 6, "lengths": lengths, "cyclic": size.endswith("c"), "size": size}
        tensors = {
            "latents": torch.randn(6, 16, frames, height, width, generator=rng).bfloat16(),
            "text": torch.randn(sum(map(sum, lengths)), 384, generator=rng).bfloat16(),
            "known": torch.randn(6, frames, height // 2, width // 2, FEATURES, generator=rng),
        }
        write_tensors(folder / f"clips-{size}.safetensors", tensors, {"clips": json.dumps(header)})
    return LatentCache(folder)


@pytest.fixture
def model() -> DiT:
    """Four blocks, awake everywhere: what starts at zero would hide a mistake."""
    torch.manual_seed(0)
    dit = DiT(replace(PRESETS["test"], depth=4)).initialise()
    add_aligner(dit, FEATURES)
    for parameter in dit.parameters():
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.3)
    dit.routed = MIDDLE
    return dit


def settings(**changes: object) -> DiTTraining:
    plain = {"preset": "test", "tokens": 64, "dtype": "float32", "route": 0.5, "mix": (("64x32x17", 1.0),)}
    return DiTTraining(**(plain | changes))


def drawn(cache: LatentCache, step: int = 3, **changes: object) -> Batch:
    return draw_batch(cache, EMPTY, settings(**changes), generator(0, step))


KINDS = {
    "one level a frame": {"images": 0.0, "region": 0.0},
    "a level for each patch": {"images": 0.0, "region": 1.0},
    "images": {"images": 1.0},
    "loops": {"mix": (("32x32x8c", 1.0),)},
    "packed": {"packing": True, "mix": (), "tokens": 120},
}


def step(model: DiT, batch: Batch, parts: int = 1) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    asked = settings(accumulate=parts, alignment=0.5)
    loss, _ = training.backward(model, batch, Workers(), settings=asked, stop=False)
    return float(loss), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


# -- what is drawn -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_routing_changes_nothing_else_of_a_batch(cache, kind):
    plain, other = drawn(cache, **KINDS[kind], route=0.0), drawn(cache, **KINDS[kind])
    assert plain.kept is None
    assert other.kept is not None
    for name in ("clean", "noise", "sigma", "context"):
        assert torch.equal(getattr(plain, name), getattr(other, name))
    assert plain.grids == other.grids
    assert torch.equal(other.kept, drawn(cache, **KINDS[kind]).kept), "the step's own generator fixes it"


@pytest.mark.parametrize(("share", "count"), [(0.25, 6), (0.5, 4), (0.75, 2), (0.99, 1)])
def test_of_each_frame_alike_many_patches_are_kept_and_all_have_their_turn(cache, share, count):
    batch = drawn(cache, images=0.0, route=share)
    grid = batch.grids[0]
    assert grid == Grid(5, 2, 4)
    kept = [routed(batch, share, generator(1, i)).kept.view(-1, *grid) for i in range(200)]
    assert {int(n) for one in kept for n in one.flatten(2).sum(dim=2).flatten()} == {count}
    often = torch.cat(kept).float().mean(dim=0)
    assert (often - count / 8).abs().max() < 0.12


def test_parts_of_a_batch_keep_their_patches(cache):
    for kind in ("images", "packed"):
        batch = drawn(cache, **KINDS[kind])
        parts = [part.kept for part in batch.parts(2)]
        assert torch.equal(torch.cat(parts, dim=1 if kind == "packed" else 0), batch.kept)


# -- what the blocks do ------------------------------------------------------------------------------------------------


def masked(kept: Tensor, lengths: Sequence[int]) -> Tensor:
    """Which patches attend to which (B, 1, N, N): those of the same clip that are kept."""
    clip = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return (clip[:, None] == clip[None]) & kept[:, None, None, :]


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_treat_kept_patches_as_if_the_others_were_hidden_and_leave_those_as_they_were(cache, model, kind):
    """Held against all patches at their places with a mask over the hidden ones."""
    batch = drawn(cache, **KINDS[kind])
    seen: dict[int, tuple[Tensor, Tensor]] = {}
    for index, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _m, given, out, index=index: seen.update({index: (given[0], out)}))
    with torch.no_grad():
        training.batch_loss(model, batch)
        before, after = seen[MIDDLE.start - 1][1], seen[MIDDLE.stop][0]
        prepared = model.prepare(
            batch.grids, batch.context.float(), batch.mask, context_lengths=batch.text_lengths, cyclic=batch.cyclic
        )
        c = model.condition(batch.sigma, batch.grids, prepared.pooled, torch.float32, cyclic=batch.cyclic)
        modulation = model.modulation(torch.nn.functional.silu(c)).unflatten(-1, (6, -1))
        hidden = masked(batch.kept, batch.lengths)
        x = before
        for index in MIDDLE:
            block, text = model.blocks[index], prepared.texts[index]
            lengths = batch.lengths if batch.packed else ()
            x = in_place(block, x, modulation, prepared.rope, text, hidden, lengths)
    kept = batch.kept[..., None]
    assert before.shape == after.shape
    assert torch.equal(after[~batch.kept], before[~batch.kept]), "what goes past is the same to the bit"
    torch.testing.assert_close(after * kept, x * kept, atol=2e-5, rtol=1e-4)
    assert float((after - before)[batch.kept].abs().min(dim=-1).values.max()) > 0


def in_place(block, x, modulation, rope, text, hidden, lengths) -> Tensor:
    """A block over all patches whose self-attention does not see the hidden ones, nor other clips."""
    real = block.self_attn.forward

    def seeing(x: Tensor, rope: Tensor, _kernel: object, _lengths: Sequence[int]) -> Tensor:
        return real(x, rope, lambda q, k, v, _mask=None: matmul_attention(q, k, v, hidden), ())

    block.self_attn.forward = seeing
    try:
        return block(x, modulation, rope, text, matmul_attention, lengths)
    finally:
        del block.self_attn.forward


def test_packed_clips_never_mix(cache, model):
    """Each has the loss that it has alone, with the same patches kept."""
    batch = drawn(cache, **KINDS["packed"])
    assert batch.count > 2
    with torch.no_grad():
        whole = training.batch_loss(model, batch, steadiness=0.5)
        alone = [training.batch_loss(model, part, steadiness=0.5) for part in batch.parts(batch.count)]
    torch.testing.assert_close(whole, torch.stack(alone).mean(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("packing", [True, False])
def test_parts_and_checkpoints_keep_loss_and_gradients(cache, model, packing):
    batch = drawn(cache, packing=packing, tokens=96, alignment=0.5)
    assert batch.count > 1
    assert block_of(model) not in MIDDLE
    model.routed = range(3)  # the aligned block is among them: it tells of the patches that it saw
    loss, expected = step(model, batch)
    for parts, checkpointing in ((2, False), (1, True)):
        model.checkpointing = checkpointing
        again, found = step(model, batch, parts)
        assert again == pytest.approx(loss, rel=1e-5)
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-3)


def test_a_route_past_no_block_changes_nothing(cache, model):
    batch = drawn(cache)
    plain = replace(batch, kept=None)
    model.routed = range(0)
    with torch.no_grad():
        assert training.batch_loss(model, batch) == training.batch_loss(model, plain)


def test_a_route_that_keeps_all_patches_changes_nothing(cache, model):
    batch = drawn(cache)
    whole = replace(batch, kept=torch.ones_like(batch.kept))
    with torch.no_grad():
        loss = training.batch_loss(model, replace(batch, kept=None))
        torch.testing.assert_close(training.batch_loss(model, whole), loss, atol=1e-6, rtol=1e-6)
        assert training.batch_loss(model, batch) != loss


def test_a_compiled_block_takes_the_positions_of_a_route(cache, model):
    """share_graph says which sizes may differ; positions have their patches elsewhere then."""
    from comfyui_spacetime.models.transformer.blocks import Block
    from comfyui_spacetime.models.transformer.compiled import share_graph

    batch = drawn(cache)
    with torch.no_grad():
        loss = training.batch_loss(model, batch)
        share_graph(model.blocks, Block.forward)
        assert training.batch_loss(model, batch) == loss


# -- settings and runs -------------------------------------------------------------------------------------------------


def test_blocks_are_counted_as_python_does():
    assert blocks_past(8, 2, -2) == range(2, 6)
    assert blocks_past(8, 0, 1000) == range(8)
    for depth, start, end in ((2, 2, -2), (8, 6, -2), (8, 5, 3)):
        with pytest.raises(ValueError, match=rf"of {depth} there is none .*: choose --route-start and --route-end"):
            blocks_past(depth, start, end)


def test_a_route_knows_its_patches_in_all_rows():
    kept = torch.tensor([[True, False, True, False], [False, True, True, False]])
    route = Route.of(range(1, 2), kept, [4], torch.device("cpu"))
    assert route.places.tolist() == [[0, 2], [1, 2]]
    assert route.lengths == (2,)
    tokens = torch.arange(8.0).view(2, 4, 1)
    assert route.select(tokens)[..., 0].tolist() == [[0, 2], [5, 6]]


def train(cache: LatentCache, out: Path, **changes: object) -> DiT:
    torch.manual_seed(0)
    short = {"steps": 4, "save_every": 2, "warmup": 1, "snapshots": 0, "early": 0.0, "route_start": 0, "route_end": 1}
    vae = VideoVAE(VAES["test"])
    return training.train(settings(**(short | changes)), cache, cache, torch.zeros(2, 384), vae, out)


def test_a_routed_run_goes_on_to_the_bit_and_leaves_a_plain_model(cache, tmp_path, monkeypatch):
    whole = train(cache, tmp_path / "whole", alignment=0.5)
    answers = iter([False, True])
    monkeypatch.setattr(training, "asked_to_stop", lambda: next(answers, False))
    with pytest.raises(training.StoppedError):
        train(cache, tmp_path / "halves", alignment=0.5)
    again = train(cache, tmp_path / "halves", alignment=0.5)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    found = load_checkpoint(tmp_path / "whole" / "dit.safetensors")
    assert found.dit().routed == range(0)
    assert found.dit().state_dict().keys() == DiT(PRESETS["test"]).state_dict().keys()


def test_a_route_past_no_block_is_refused_when_a_run_begins(cache, tmp_path):
    with pytest.raises(ValueError, match="from block 2 to before block -2 of 2 there is none"):
        train(cache, tmp_path, route_start=2, route_end=-2)
