"""The spacetime diffusion transformer: noisy patches, each with its own noise level, plus text -> prediction.

Reads top to bottom like the figure: embed patches, embed noise level and conditions, blocks, head. It knows nothing of
schedules, solvers or tasks; the unit of its output (`prediction`) is a word in its config that others interpret.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from ..patches import Grid, from_patches, to_patches
from .attention import Kernel, sdpa
from .blocks import Block, Head, Text
from .config import DiTConfig
from .embeddings import NoiseLevelEmbedder, masked_mean
from .rope import rope_table
from .routing import Route, Row
from .shares import mixed, split_shares


class Prepared(NamedTuple):
    """What does not change from step to step: the clips, their positions, and the text as each block sees it."""

    grids: tuple[Grid, ...]
    cyclic: bool
    rope: Tensor
    texts: list[Text] | list[None]
    pooled: Tensor | None  # (B, 1, D), or per latent frame or patch where these have texts of their own


class DiT(nn.Module):
    """Weights are held by `operations.Linear` and `operations.RMSNorm`: torch.nn, or a host's casting layers."""

    def __init__(
        self,
        config: DiTConfig,
        operations: Any = nn,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False  # in training: blocks are computed again instead of keeping their activations
        self.routed = range(0)  # in training: blocks that some patches go past
        size = config.hidden_size
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        patch_values = config.patch[0] * config.patch[1] * config.patch[2]
        self.patch_embedder = operations.Linear(patch_values * config.in_channels, size, **factory)
        self.level_embedder = NoiseLevelEmbedder(size, operations, **factory)
        self.modulation = operations.Linear(size, 6 * size, **factory)
        self.cyclic_embedding = nn.Parameter(torch.zeros(size, **factory))
        if config.context_dim:
            self.text_embedder = operations.Linear(config.context_dim, size, **factory)
            self.pooled_embedder = operations.Linear(config.context_dim, size, **factory)
        if config.num_classes:
            self.label_embedder = nn.Parameter(torch.zeros(config.num_classes + 1, size, **factory))
        self.blocks = nn.ModuleList(
            Block(size, config.num_heads, config.inner_size, operations, **factory) for _ in range(config.depth)
        )
        self.head = Head(size, patch_values * config.out_channels, operations, **factory)

    def initialise(self) -> DiT:
        """Fresh weights for training: Xavier matrices; every block and the head start at zero output."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)  # keeps the size of what goes through, whatever the widths
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.zeros_(self.head.linear.weight)  # the first answer is 0, the mean of all velocities
        nn.init.normal_(self.modulation.weight, std=0.02)  # not 0: the tables that it is added to are (DiT: adaLN-Zero)
        for block in self.blocks:
            assert isinstance(block, Block)
            nn.init.zeros_(block.cross_attn.proj.weight)  # has no gate, so this makes the block the identity
        return self

    def prepare(
        self,
        grids: Sequence[Grid],
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        context_lengths: Sequence[int] = (),
        cyclic: bool = False,
        trained_frames: int = 0,
        pair: int = -1,
        shares: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> Prepared:
        """The part of a forward pass that all steps of a run share.

        context (B, L, E), context_mask (B, L) bool. With several grids (packed clips) the texts stand one after the
        other in context, and context_lengths says how many tokens each has. So they do for one clip whose patches
        have texts of their own: shares (R, N) says how much each patch attends to each of R texts, adding up to 1.
        trained_frames, pair: see rope_table. device None: where the weights are.
        """
        config, head_dim = self.config, self.config.hidden_size // self.config.num_heads
        place, clips = device or self.cyclic_embedding.device, tuple(grids)
        rope = rope_table(grids, head_dim, cyclic=cyclic, trained_frames=trained_frames, pair=pair, device=place)
        if context is None or not config.context_dim:
            return Prepared(clips, cyclic, rope, [None] * config.depth, None)
        mask = context_mask[:, None, None, :] if context_mask is not None else None
        text = F.silu(self.text_embedder(context))  # (B, L, D)
        if context_mask is not None:
            text = text.masked_fill(~of_a_text(context_mask, context_lengths)[..., None], 0)
        own = None if shares is None else split_shares(shares, context_lengths, _only(clips), place)
        lengths = tuple(context_lengths)
        texts = [Text(*block.cross_attn.keys_values(text), mask, lengths, own) for block in self._blocks()]
        pooled = self._pooled(context, context_mask, grids, context_lengths, shares)
        return Prepared(clips, cyclic, rope, texts, pooled)

    def _pooled(
        self, context: Tensor, mask: Tensor | None, grids: Sequence[Grid], lengths: Sequence[int], shares: Tensor | None
    ) -> Tensor:
        """The mean text as a condition: (B, 1, D), or per patch, (B, N, D), where clips or patches have a text each."""
        if len(lengths) < 2:  # also where a single text has all shares
            pooled: Tensor = self.pooled_embedder(masked_mean(context, mask))
            return pooled[:, None]
        masks = mask.split(list(lengths), dim=1) if mask is not None else [None] * len(lengths)
        means = [masked_mean(part, m) for part, m in zip(context.split(list(lengths), dim=1), masks, strict=True)]
        each = [self.pooled_embedder(mean) for mean in means]
        if shares is not None:
            return mixed(each, shares.to(context.device), _only(grids))
        rows = [row[:, None].expand(-1, grid.num_tokens, -1) for row, grid in zip(each, grids, strict=True)]
        return torch.cat(rows, dim=1)

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor | None = None,
        context_mask: Tensor | None = None,
        *,
        labels: Tensor | None = None,
        cyclic: bool = False,
        prepared: Prepared | None = None,
        attention: Kernel = sdpa,
        transformer_options: dict[str, Any] | None = None,
    ) -> Tensor:
        """Latents x (B, C, T, H, W) at noise level sigma (B,), (B, T) or (B, N) -> prediction of x's shape.

        prepared: what `prepare` made of text and `cyclic`, which are then not given again. ValueError where they are,
        and for latents of another size.
        """
        grid = Grid.of(x, self.config.patch)
        if prepared is None:
            prepared = self.prepare([grid], context, context_mask, cyclic=cyclic, device=x.device)
        elif context is not None or cyclic:
            raise ValueError("text and cyclic belong to what was prepared: give them to prepare, or leave prepared out")
        elif prepared.grids != (grid,):
            raise ValueError(
                f"prepared for patches {list(prepared.grids)}, and these latents have {grid}: prepare anew"
            )
        values = self.forward_tokens(
            to_patches(x, self.config.patch),
            sigma,
            prepared,
            labels=labels,
            attention=attention,
            transformer_options=transformer_options,
        )
        return from_patches(values, grid, self.config.patch)

    def forward_tokens(
        self,
        values: Tensor,
        sigma: Tensor,
        prepared: Prepared,
        *,
        labels: Tensor | None = None,
        attention: Kernel = sdpa,
        transformer_options: dict[str, Any] | None = None,
        taps: dict[int, Tensor] | None = None,
        route: Route | None = None,
    ) -> Tensor:
        """Tokens (B, N, P) of one clip or of several packed ones -> prediction (B, N, P). ValueError for another N.

        taps: filled with what comes out of the blocks whose numbers are its keys, (B, N, D), or of what route keeps.
        """
        grids, cyclic = prepared.grids, prepared.cyclic
        lengths = [grid.num_tokens for grid in grids]
        if values.shape[1] != sum(lengths):
            raise ValueError(f"prepared for {sum(lengths)} patches, and these are {values.shape[1]}: prepare anew")
        x = self.patch_embedder(values)  # (B, N, D)
        c = self.condition(sigma, grids, prepared.pooled, x.dtype, labels=labels, cyclic=cyclic)
        modulation = self.modulation(F.silu(c)).unflatten(-1, (6, -1))  # (B, M, 6, D)
        row, whole = Row(x, modulation, prepared.rope, lengths), None
        del x  # it is not needed while the blocks compute
        for index, (block, text) in enumerate(zip(self.blocks, prepared.texts, strict=True)):
            if route is not None and index in route.blocks[:1]:
                whole, row = row, route.kept(row)
            run = block_runner(block, index, len(self.blocks), transformer_options)
            if self.checkpointing and torch.is_grad_enabled():
                run = partial(checkpoint, run, use_reentrant=False)
            row = row._replace(x=run(row.x, row.modulation, row.rope, text, attention, row.lengths))
            if taps is not None and index in taps:
                taps[index] = row.x
            if route is not None and whole is not None and index + 1 == route.blocks.stop:
                row = route.put_back(whole, row)
        out: Tensor = self.head(row.x, c)
        return out

    def condition(
        self,
        sigma: Tensor,
        grids: Sequence[Grid],
        pooled: Tensor | None,
        dtype: torch.dtype,
        *,
        labels: Tensor | None = None,
        cyclic: bool = False,
    ) -> Tensor:
        """The conditioning vectors c (B, M, D): one per clip (M = 1), per latent frame or per patch.

        As in DiT's code, c is the sum of what stands for the noise level, for the text as a whole and for the class.

        labels: class numbers (B,), or (B, N) for packed clips; None is "no class".
        """
        c = self.level_embedder(noise_levels(sigma, grids), dtype)
        if pooled is not None:
            c = added(c, pooled)
        if cyclic:
            c = c + self.cyclic_embedding.to(c)
        if self.config.num_classes:
            count = self.config.num_classes
            chosen = torch.full(c.shape[:1], count, device=c.device) if labels is None else labels
            classes = self.label_embedder.to(c)[chosen]  # (B, D), or (B, N, D) for packed clips
            c = c + (classes[:, None] if classes.ndim == 2 else classes)
        return c


def of_a_text(mask: Tensor, lengths: Sequence[int]) -> Tensor:
    """For mask (B, L) of one text or of several in a row: whether a token's text has any real token, (B, L).

    The features of one that has none become 0, and so do its values, which have no bias: it adds nothing to a patch,
    as in the mean of the text, whatever an attention kernel makes of a row that is masked throughout.
    """
    parts = mask.split(list(lengths), dim=1) if lengths else (mask,)
    return torch.cat([part.any(dim=1, keepdim=True).expand_as(part) for part in parts], dim=1)


def _only(grids: Sequence[Grid]) -> Grid:
    if len(grids) != 1:
        raise ValueError(
            f"shares in several texts are for one clip, these are {len(grids)}: give each clip a text of its own"
        )
    return grids[0]


def added(c: Tensor, pooled: Tensor) -> Tensor:
    """Both (B, M, D), for different M: one for all, one per latent frame, or one per patch."""
    most = max(c.shape[1], pooled.shape[1])
    rows = [x if x.shape[1] in (1, most) else x.repeat_interleave(most // x.shape[1], dim=1) for x in (c, pooled)]
    return rows[0] + rows[1]


def noise_levels(sigma: Tensor, grids: Sequence[Grid]) -> Tensor:
    """Noise levels (B,), (B, frames) or (B, N) as (B, M), where each of the M serves N / M tokens in a row.

    Packed clips have frames of different size, so theirs are laid out per patch. ValueError for other shapes.
    """
    count, frames = sum(grid.num_tokens for grid in grids), sum(grid.frames for grid in grids)
    if sigma.ndim == 1:
        return sigma[:, None]
    if sigma.ndim != 2 or sigma.shape[1] not in (1, frames, count):
        raise ValueError(f"noise levels of shape {tuple(sigma.shape)} fit neither {frames} frames nor {count} patches")
    if sigma.shape[1] != frames or len(grids) == 1:
        return sigma
    sizes = [grid.height * grid.width for grid in grids for _ in range(grid.frames)]
    return sigma.repeat_interleave(torch.tensor(sizes, device=sigma.device), dim=1)


def block_runner(block: nn.Module, index: int, total: int, options: dict[str, Any] | None) -> Any:
    """The block itself, or what a host put in its place (ComfyUI's patches_replace["dit"])."""
    if options is None:
        return block
    options.update(block_type="double", block_index=index, total_blocks=total)
    replacement = options.get("patches_replace", {}).get("dit", {}).get(("double_block", index))
    if replacement is None:
        return block

    def run(x: Tensor, modulation: Tensor, *rest: Any) -> Tensor:
        def original(args: dict[str, Any]) -> dict[str, Any]:
            return {"img": block(args["img"], args["vec"], *rest)}

        out: Tensor = replacement(
            {"img": x, "vec": modulation, "transformer_options": options}, {"original_block": original}
        )["img"]
        return out

    return run
