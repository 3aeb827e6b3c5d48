"""The clips of one training step and everything random about them.

Either rows of one size, or clips of any size packed one after the other into a single row (NaViT, arXiv 2307.06304).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ...clips.cache import Example, LatentCache, stack_text
from ...patches import DEFAULT_PATCH, Grid, Patch, to_patches
from ...transfer import sent
from .losses import sample_levels, sample_region
from .settings import Drawing

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """Everything random of one step, drawn from the step's own generator."""

    clean: Tensor  # (B, N, P)
    noise: Tensor  # (B, N, P)
    sigma: Tensor  # (B, frames) or (B, N)
    context: Tensor  # (B, L, E)
    mask: Tensor | None  # (B, L); None: every token counts
    grids: tuple[Grid, ...]  # one for all rows, or those of the clips in the only row
    cyclic: bool
    text_lengths: tuple[int, ...] = ()  # tokens of each packed clip's text
    labels: Tensor | None = None  # class of each clip, (clips,)
    known: Tensor | None = None  # (B, N, F) features to align with
    kept: Tensor | None = None  # (B, N) bool, on the CPU: patches that go through all blocks; None: all of them

    @property
    def packed(self) -> bool:
        """Whether the clips stand one after the other in one row."""
        return bool(self.text_lengths)

    @property
    def count(self) -> int:
        """Clips in it."""
        return len(self.grids) if self.packed else len(self.clean)

    @property
    def lengths(self) -> list[int]:
        """Patches of each clip in a row."""
        return [grid.num_tokens for grid in self.grids]

    def levels(self) -> Tensor:
        """Noise levels per patch, (B, N)."""
        return self.sigma.repeat_interleave(self.clean.shape[1] // self.sigma.shape[1], dim=1)

    def label_rows(self, device: torch.device) -> Tensor | None:
        """Class labels as the DiT takes them: (B,), or (1, N) for packed clips."""
        if self.labels is None or not self.packed:
            return None if self.labels is None else sent(self.labels, device)
        return sent(self.labels.repeat_interleave(torch.tensor(self.lengths))[None], device)

    def part(self, clips: slice) -> Batch:
        """Some of the clips: what one worker, or one part of an accumulated step, computes."""
        if not self.packed:
            names = ("clean", "noise", "sigma", "context", "mask", "labels", "known", "kept")
            return replace(self, **{n: value[clips] for n in names if (value := getattr(self, n)) is not None})
        patches, words = (_stretch(lengths, clips) for lengths in (self.lengths, self.text_lengths))
        return replace(
            self,
            clean=self.clean[:, patches],
            noise=self.noise[:, patches],
            sigma=self.sigma[:, patches],
            context=self.context[:, words],
            grids=self.grids[clips],
            text_lengths=self.text_lengths[clips],
            labels=None if self.labels is None else self.labels[clips],
            known=None if self.known is None else self.known[:, patches],
            kept=None if self.kept is None else self.kept[:, patches],
        )

    def parts(self, number: int) -> list[Batch]:
        """The same clips in at most `number` parts of like count."""
        number = min(number, self.count)
        cuts = [self.count * i // number for i in range(number + 1)] if number else []
        return [self.part(slice(a, b)) for a, b in pairwise(cuts)]


def _stretch(lengths: Sequence[int], clips: slice) -> slice:
    """Where some of several stretches in a row lie."""
    ends = [0, *accumulate(lengths)]
    return slice(ends[clips.start], ends[clips.stop])


def pack_batches(batches: Sequence[Batch]) -> Batch:
    """One row of all clips; each keeps its noise, levels and text (without padding)."""
    rows = [batch.part(slice(i, i + 1)) for batch in batches for i in range(batch.count)]
    texts = [row.context if row.mask is None else row.context[:, row.mask[0]] for row in rows]
    return Batch(
        torch.cat([row.clean for row in rows], dim=1),
        torch.cat([row.noise for row in rows], dim=1),
        torch.cat([row.levels() for row in rows], dim=1),
        torch.cat(texts, dim=1),
        None,
        tuple(grid for row in rows for grid in row.grids),
        rows[0].cyclic,
        tuple(text.shape[1] for text in texts),
        None if rows[0].labels is None else torch.cat([row.labels for row in rows if row.labels is not None]),
        None if rows[0].known is None else torch.cat([row.known for row in rows if row.known is not None], dim=1),
    )


def make_batch(
    examples: Sequence[Example],
    empty: Tensor,
    settings: Drawing,
    rng: torch.Generator,
    patch: Patch = DEFAULT_PATCH,
    *,
    cyclic: bool,
    device: torch.device = CPU,
) -> Batch:
    """Noise, levels and texts for a batch of clips of one size; a tenth of the texts and classes become none.

    patch: the model's, which is not the preset's where a run continues another model. device: where latents and noise,
    nearly all of a batch, are to lie; a GPU also draws the noise, which is then another than the CPU's.
    """
    latents = sent(torch.stack([example.latents for example in examples]), device).float()
    grid, clean = Grid.of(latents, patch), to_patches(latents, patch)
    sigma = sample_levels(len(examples), grid, rng)
    if cyclic:  # a loop has no first frame
        offset = int(torch.randint(grid.frames, (1,), generator=rng))
        sigma = sigma.roll(offset, dims=1)
    if not cyclic and float(torch.rand(1, generator=rng)) < settings.region:
        per_frame = sigma.repeat_interleave(grid.height * grid.width, dim=1)
        sigma = per_frame.amax(dim=1, keepdim=True) * torch.stack([sample_region(grid, rng) for _ in examples])
    dropped = (torch.rand(len(examples), generator=rng) < settings.dropout).tolist()
    context, mask = stack_text([empty if drop else e.text for e, drop in zip(examples, dropped, strict=True)])
    noise = torch.randn(clean.shape, generator=rng_on(device, rng), device=device)
    named = ["" if drop else e.label for e, drop in zip(examples, dropped, strict=True)]
    labels = class_labels(named, settings.classes)
    known = known_of(examples, grid, device) if settings.alignment else None
    return Batch(clean, noise, sigma, context, mask, (grid,), cyclic, labels=labels, known=known)


def known_of(examples: Sequence[Example], grid: Grid, device: torch.device) -> Tensor:
    """What is known of the patches, (B, N, F). ValueError for clips of which nothing is, or of other patches."""
    known = [example.known for example in examples if example.known is not None]
    if len(known) < len(examples) or known[0].shape[:-1] != tuple(grid):
        raise ValueError(f"the clips hold no features of their {tuple(grid)} patches to align with")
    return sent(torch.stack(known), device).flatten(1, 3)


def rng_on(device: torch.device, rng: torch.Generator) -> torch.Generator:
    """A step's generator on the CPU, or one on the device that the step's seed fixes as well."""
    return rng if device.type == "cpu" else torch.Generator(device).manual_seed(rng.initial_seed())


def class_labels(names: Sequence[str], classes: Sequence[str]) -> Tensor | None:
    """Numbers (clips,) of named classes, len(classes) for those without; None where there are no classes at all."""
    numbers = {name: number for number, name in enumerate(classes)}
    return torch.tensor([numbers.get(name, len(numbers)) for name in names]) if numbers else None


def draw_batch(
    cache: LatentCache,
    empty: Tensor,
    settings: Drawing,
    rng: torch.Generator,
    patch: Patch = DEFAULT_PATCH,
    device: torch.device = CPU,
) -> Batch:
    """The batch of one step, with the patches that go through all blocks where some do not."""
    batch = draw_clips(cache, empty, settings, rng, patch, device)
    return routed(batch, settings.route, rng) if settings.route else batch


def routed(batch: Batch, share: float, rng: torch.Generator) -> Batch:
    """The batch with a random `share` of its patches left out by some blocks: of each latent frame alike many.

    At least one patch of a frame is kept.
    """
    kept = []
    for grid in batch.grids:
        size = grid.height * grid.width
        order = torch.rand(len(batch.clean), grid.frames, size, generator=rng).argsort(dim=-1)
        count = max(1, round((1 - share) * size))
        kept.append((order.argsort(dim=-1) < count).flatten(1))
    return replace(batch, kept=torch.cat(kept, dim=1))


def draw_clips(
    cache: LatentCache,
    empty: Tensor,
    settings: Drawing,
    rng: torch.Generator,
    patch: Patch = DEFAULT_PATCH,
    device: torch.device = CPU,
) -> Batch:
    """The clips of one step: packed, or of a bucket by its share and as many of its clips as `tokens` allows."""
    mix = settings.mix or tuple((size, 1.0) for size in cache.buckets)
    weights = torch.tensor([share for _, share in mix])
    size = mix[int(torch.multinomial(weights, 1, generator=rng))][0]
    unknown = [name for name, _ in mix if name not in cache.buckets]
    if unknown:
        raise ValueError(f"the cache holds no clips of {unknown[0]}, only {', '.join(cache.buckets)}")
    cyclic = size.endswith("c")
    if settings.packing:
        alike = tuple((name, share) for name, share in mix if name.endswith("c") == cyclic)
        return draw_packed(cache, empty, settings, alike, rng, patch)
    image = not cyclic and float(torch.rand(1, generator=rng)) < settings.images
    examples = cache.draw(
        size, max(1, settings.tokens // patches(cache, size, patch, image=image)), rng, settings.balance
    )
    if image:
        examples = [first_frame(example) for example in examples]
    return make_batch(examples, empty, settings, rng, patch, cyclic=cyclic, device=device)


def draw_packed(
    cache: LatentCache,
    empty: Tensor,
    settings: Drawing,
    mix: Sequence[tuple[str, float]],
    rng: torch.Generator,
    patch: Patch = DEFAULT_PATCH,
) -> Batch:
    """Clips drawn by their shares, each that still fits, until nothing does; all loops, or none.

    The last places go to the smaller sizes, so that these are drawn a little more often than their shares say.
    """
    cyclic = mix[0][0].endswith("c")
    still = 0.0 if cyclic else settings.images
    kinds = [(size, image, share * (still if image else 1 - still)) for size, share in mix for image in (True, False)]
    sizes = [patches(cache, size, patch, image=image) for size, image, _ in kinds]
    clips: list[Batch] = []
    left = settings.tokens
    while True:
        weights = torch.tensor([w if n <= left or not clips else 0.0 for (*_, w), n in zip(kinds, sizes, strict=True)])
        if not weights.any():
            return pack_batches(clips)
        number = int(torch.multinomial(weights, 1, generator=rng))
        size, image, _ = kinds[number]
        (example,) = cache.draw(size, 1, rng, settings.balance)
        chosen = first_frame(example) if image else example
        clips.append(make_batch([chosen], empty, settings, rng, patch, cyclic=cyclic))
        left -= sizes[number]


def patches(cache: LatentCache, size: str, patch: Patch = DEFAULT_PATCH, *, image: bool = False) -> int:
    """Patches of a clip of this size, or of its first frame."""
    shape = cache.buckets[size][0][0].shape
    frames = 1 if image else shape[1] // patch[0]
    return int(frames * (shape[2] // patch[1]) * (shape[3] // patch[2]))


def first_frame(example: Example) -> Example:
    """A clip's first frame as an image."""
    known = None if example.known is None else example.known[:1]
    return example._replace(latents=example.latents[:, :1], known=known)
