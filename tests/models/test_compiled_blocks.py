"""Compiled blocks: few graphs, and what they compute."""

from __future__ import annotations

import pytest
import torch

from comfyui_spacetime.models.patches import Grid
from comfyui_spacetime.models.transformer import attention
from comfyui_spacetime.models.transformer.blocks import Block
from comfyui_spacetime.models.transformer.compiled import share_graph
from comfyui_spacetime.models.transformer.config import PRESETS
from comfyui_spacetime.models.transformer.dit import DiT
from comfyui_spacetime.models.transformer.rope import apply_rope

# a clip of so many frames, rows and columns; how many; their words; whether they are loops
CASES = [((3, 2, 2), 4, 7, False), ((3, 3, 2), 2, 7, False), ((2, 2, 2), 5, 12, True), ((1, 4, 4), 6, 5, False)]


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were compiled, by a compiler that runs them as they are; without tiles, as on a GPU."""
    made: list[torch.fx.GraphModule] = []

    def compiler(graph: torch.fx.GraphModule, _inputs: object) -> object:
        made.append(graph)
        return graph.forward

    def untiled(norms: tuple[torch.nn.Module, ...], x: torch.Tensor, table: torch.Tensor) -> list[torch.Tensor]:
        return [apply_rope(norm(part), table) for norm, part in zip(norms, x, strict=True)]

    monkeypatch.setattr(attention, "normed_rope", untiled)
    torch._dynamo.reset()
    yield made, torch.compile(Block.forward, backend=compiler)
    torch._dynamo.reset()


def outputs(model: DiT, *, learning: bool) -> list[torch.Tensor]:
    """Predictions and, when it learns, the sums of their gradients, of all cases."""
    found = []
    for number, (size, batch, words, cyclic) in enumerate(CASES):
        rng = torch.Generator().manual_seed(number)
        grid = Grid(*size)
        context, mask = torch.randn(batch, words, 384, generator=rng), torch.ones(batch, words, dtype=torch.bool)
        mask[0, 3:] = False
        prepared = model.prepare([grid], context, mask, cyclic=cyclic)
        x = torch.randn(batch, grid.num_tokens, 64, generator=rng)
        sigma = torch.rand(batch, grid.num_tokens, generator=rng)
        out = model.forward_tokens(x, sigma, prepared)
        found.append(out.detach())
        if learning:
            model.zero_grad()
            out.square().mean().backward()
            found.append(torch.stack([p.grad.sum() for p in model.parameters() if p.grad is not None]))
    return found


@pytest.mark.parametrize("learning", [True, False])
def test_one_graph_serves_all_blocks_and_sizes_and_computes_the_same(graphs, learning):
    made, compiled = graphs
    torch.manual_seed(0)
    model = DiT(PRESETS["test"]).initialise().requires_grad_(learning)
    torch.nn.init.normal_(model.head.linear.weight)
    plain = outputs(model, learning=learning)
    share_graph([block for block in model.blocks if isinstance(block, Block)], compiled)
    again = outputs(model, learning=learning)
    assert len(made) == 1
    for one, other in zip(plain, again, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)
