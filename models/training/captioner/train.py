"""Train the captioner on cached latents and their captions: cross-entropy of the words after the clip's prefix.

Words weigh by how much they tell of the clip (agreement.py).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...captioner.captioner import CaptionerFile, save_captioner
from ...captioner.network import PRESETS, CaptionNetwork, causal_matmul, causal_sdpa
from ...captioner.vocabulary import Vocabulary, is_detailed
from ...captioner.writing import write_captions
from ...clips.cache import LatentCache
from ...geometry import FPS
from ...metrics.captions import compare, facts_of_text, field_accuracy, word_overlap
from ...text.description import still_part
from ...transfer import sent
from ...transformer.attention import matmul_attention, sdpa
from ...vae.autoencoder import VideoVAE, fingerprint, weights_mark
from ..optim.optimiser import EMA, Optimiser, learning_rate_scale
from ..run.devices import taking_turns
from ..run.folder import Run, generator, saves_after
from ..run.ranges import check_settings
from ..run.stopping import StoppedError, asked_to_stop
from .agreement import word_weights
from .report import save_examples

IGNORED = -100  # targets that are padding
JUDGED = 32  # held-out clips of each size whose captions are written and judged
MOST = 64  # clips in a step


@dataclass(frozen=True, kw_only=True)
class CaptionerTraining:
    """Settings of a run; all of them are written to its config.json."""

    preset: str = "toy"
    steps: int = 3000
    tokens: int = 4096  # patches per step: the number of clips follows from their size
    images: float = 0.1  # share of steps on first frames alone, described without what happens
    learning_rate: float = 1e-3
    seed: int = 0
    warmup: int = 100
    decay: float = 0.3  # share of the steps at the end over which the learning rate falls to zero
    save_every: int = 250
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        check_settings(self, PRESETS)


class Rows(NamedTuple):
    """Captions of like length: row r describes clip owners[r]."""

    ids: Tensor  # (R, L)
    targets: Tensor  # (R, L), the word after each
    owners: Tensor  # (R,)


class Batch(NamedTuple):
    """Clips of one size and their captions, short and detailed ones apart."""

    latents: Tensor  # (B, C, T, H, W)
    texts: list[Rows]


class Clip(NamedTuple):
    """A clip's latents and captions as ids; stills: what of them a first frame can show; text: its fullest caption."""

    latents: Tensor
    captions: list[list[int]]
    stills: list[list[int]]
    text: str


class CaptionedClips:
    """The clips of a cache that have captions, by size. ValueError where none has."""

    def __init__(self, cache: LatentCache, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.clips: dict[str, list[Clip]] = {}
        for size, bucket in cache.buckets.items():
            for (latents, _), captions in zip(bucket, cache.captions[size], strict=True):
                told = tellings([text for text in captions if text.strip()])
                stills = [part for text in told if (part := still_part(text))]
                if told:
                    ids, still_ids = ([vocabulary.encode(text) for text in texts] for texts in (told, stills))
                    self.clips.setdefault(size, []).append(Clip(latents, ids, still_ids, max(told, key=len)))
        if not self.clips:
            raise ValueError(
                "none of these clips has a caption: write a .txt beside each file, or let a language model describe "
                "some of them first (Caption Clips)"
            )

    @cached_property
    def weights(self) -> Tensor:
        """How much each word of the vocabulary tells of these clips, (V,); only training asks."""
        return word_weights((clip.captions for clips in self.clips.values() for clip in clips), len(self.vocabulary))

    def draw(self, settings: CaptionerTraining, rng: torch.Generator) -> Batch:
        """The batch of one step: a size by the number of its clips, then as many as `tokens` allows."""
        weights = torch.tensor([float(len(clips)) for clips in self.clips.values()])
        clips = list(self.clips.values())[int(torch.multinomial(weights, 1, generator=rng))]
        frames, height, width = clips[0].latents.shape[1:]
        still = frames > 1 and float(torch.rand(1, generator=rng)) < settings.images
        pool = [Clip(c.latents[:, :1], c.stills, [], c.text) for c in clips if c.stills] if still else []
        per_clip = (1 if pool else frames) * -(-height // 2) * -(-width // 2)
        pool = pool or clips
        count = max(1, min(settings.tokens // per_clip, MOST))
        return self.batch([pool[i] for i in torch.randint(len(pool), (count,), generator=rng).tolist()], rng)

    def batch(self, chosen: Sequence[Clip], rng: torch.Generator) -> Batch:
        """A random short caption and a random detailed one of each clip, where it has both."""
        texts = []
        for start in self.vocabulary.starts.values():
            fitting = [(n, [ids for ids in clip.captions if ids[0] == start]) for n, clip in enumerate(chosen)]
            drawn = [(n, ids[int(torch.randint(len(ids), (1,), generator=rng))]) for n, ids in fitting if ids]
            if drawn:
                texts.append(padded_rows(drawn))
        return Batch(torch.stack([clip.latents for clip in chosen]), texts)


def tellings(captions: Sequence[str]) -> list[str]:
    """A clip's captions without those that are casual: that leave out things of the toy world, their colours or what
    they do, which another one of the same length tells. A model is to draw from such words, and not to learn them."""
    told: dict[bool, list[tuple[tuple[int, bool], str]]] = {}
    for text in captions:
        facts = facts_of_text(text)
        moving = facts.motion not in (None, "still")  # things alone are read as a still scene
        told.setdefault(is_detailed(text), []).append(((len(facts.objects), moving), text))
    most = {detailed: max(how_much for how_much, _ in texts) for detailed, texts in told.items()}
    return [text for detailed, texts in told.items() for how_much, text in texts if how_much == most[detailed]]


def padded_rows(drawn: Sequence[tuple[int, list[int]]]) -> Rows:
    """Captions, each with its clip's number, padded to the longest."""
    padded = torch.full((len(drawn), max(len(ids) for _, ids in drawn)), IGNORED)
    for row, (_, ids) in zip(padded, drawn, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return Rows(padded[:, :-1].clamp(min=0), padded[:, 1:], torch.tensor([number for number, _ in drawn]))


def batch_loss(network: CaptionNetwork, batch: Batch, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of a batch's words, in nats; short and detailed captions weigh alike.

    weights: of each word of the vocabulary (V,); left out: all alike.
    """
    weight = next(network.parameters())
    plain = weight.device.type == "cpu"
    prefix = network.prefix(sent(batch.latents, weight.device).to(weight), matmul_attention if plain else sdpa)
    losses = []
    for rows in batch.texts:
        ids, targets, owners = (sent(part, weight.device) for part in rows)
        logits = network(prefix[owners], ids, causal=causal_matmul if plain else causal_sdpa)
        given = weights.to(logits.device) if weights is not None else None
        losses.append(
            F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), weight=given, ignore_index=IGNORED)
        )
    return torch.stack(losses).mean()


def train(
    settings: CaptionerTraining,
    cache: LatentCache,
    held_out: LatentCache,
    vae: VideoVAE,
    out: Path,
    init: CaptionerFile | None = None,
    device: str = "cpu",
) -> CaptionerFile:
    """Train a captioner; returns it with averaged weights. A run folder with a checkpoint is continued.

    Written at each save: out/captioner.safetensors (averaged weights, ready to use), out/checkpoint.safetensors (to
    resume) and out/samples/*.png (held-out clips with their captions). StoppedError when asked to end: the checkpoint
    is then that of the last step.
    """
    mark = fingerprint(vae)
    made_from = cache.made_from(vae, held_out) | {"init": weights_mark(init.state) if init else ""}
    torch.manual_seed(settings.seed)
    run = Run(out, asdict(settings) | {"shards": cache.names} | made_from, assumed=made_from)
    told = [text for rows in cache.captions.values() for captions in rows for text in captions]
    vocabulary = Vocabulary(init.tokens) if init else Vocabulary.of(told)
    clips, judged = CaptionedClips(cache, vocabulary), judged_clips(held_out, cache, vocabulary)
    config = init.config if init else replace(PRESETS[settings.preset], vocabulary=len(vocabulary))
    network = CaptionNetwork(replace(config, in_channels=vae.config.latent_channels)).initialise()
    if init:
        network.load_state_dict(dict(init.state))
    network.to(device, getattr(torch, settings.dtype))
    optimiser = Optimiser(network, learning_rate=settings.learning_rate)
    average = EMA(optimiser.masters)
    first = run.resume(optimiser, average)
    fixed = [judged.draw(replace(settings, images=0.0), generator(1, i)) for i in range(4)]
    meta = {"sizes": list(cache.buckets), "fps": FPS}

    def reported(steps: int) -> None:
        made = averaged(network, average, vocabulary, mark, meta | {"steps": steps})
        judge = made.network(getattr(torch, settings.dtype))
        with taking_turns(network, judge, vae, device=torch.device(device)):
            report(run, made, judge, judged, fixed, vae, steps)

    if saves_after(first, settings.steps, settings.save_every) and run.unreported(first):
        reported(first)  # a kill came between checkpoint and report
    weights = clips.weights.to(device)
    for step in range(first, settings.steps):
        loss = batch_loss(network, clips.draw(settings, generator(settings.seed, step)), weights)
        loss.backward()
        scale = learning_rate_scale(step, settings.steps, warmup=settings.warmup, decay=settings.decay)
        optimiser.step(scale, loss)
        average.update(optimiser.masters, step + 1)
        if step % 20 == 0:
            norm, value = optimiser.check()
            run.record(step=step, loss=round(value, 4), gradient=round(norm, 3))
        stop, due = asked_to_stop(), saves_after(step + 1, settings.steps, settings.save_every)
        if stop or due:
            run.save(step + 1, optimiser, average)
        if due:
            reported(step + 1)
        if stop and step + 1 < settings.steps:
            raise StoppedError.after(step + 1)
    return averaged(network, average, vocabulary, mark, meta | {"steps": settings.steps})


def judged_clips(held_out: LatentCache, cache: LatentCache, vocabulary: Vocabulary) -> CaptionedClips:
    """The held-out clips with captions; where a folder is captioned in part there may be none, which is said."""
    try:
        return CaptionedClips(held_out, vocabulary)
    except ValueError:
        logging.getLogger(__name__).warning("no held-out clip has a caption: judged on those of the training")
        return CaptionedClips(cache, vocabulary)


def averaged(
    network: CaptionNetwork, average: EMA, vocabulary: Vocabulary, mark: str, meta: Mapping[str, object]
) -> CaptionerFile:
    """The captioner with the averaged weights, in bf16."""
    state = {name: weight.detach().cpu().bfloat16() for name, weight in average.items()}
    return CaptionerFile(network.config, tuple(vocabulary.tokens), state, mark, dict(meta))


@torch.no_grad()
def report(
    run: Run,
    made: CaptionerFile,
    network: CaptionNetwork,
    judged: CaptionedClips,
    fixed: Sequence[Batch],
    vae: VideoVAE,
    step: int,
) -> None:
    """The captioner's file; loss, shared words and right facts on held-out clips; some of them with their captions."""
    save_captioner(run.file("captioner.safetensors"), made)
    vocabulary = Vocabulary(made.tokens)
    loss = sum(float(batch_loss(network, batch)) for batch in fixed) / len(fixed)
    pairs = []
    for clips in judged.clips.values():
        shown = clips[:JUDGED]
        latents = torch.stack([clip.latents for clip in shown])
        texts = write_captions(network, vocabulary, latents, detailed=is_detailed(shown[0].text))
        pairs += [(text, clip.text) for text, clip in zip(texts, shown, strict=True)]
    values = {"words": sum(word_overlap(*pair) for pair in pairs) / len(pairs)}
    truths = [(text, facts_of_text(reference)) for text, reference in pairs]
    verdicts = [compare(facts_of_text(text), truth) for text, truth in truths if truth.objects]
    if verdicts:  # only toy-world captions are read so closely
        values["fields"] = field_accuracy(verdicts)
    run.record(step=step, validation_loss=round(loss, 4), **{name: round(value, 4) for name, value in values.items()})
    size, clips = next(iter(judged.clips.items()))
    examples = [(clip.latents, text) for clip, (text, _) in zip(clips, pairs, strict=False)]
    save_examples(run.sample_file(step), examples, vae, cyclic=size.endswith("c"))
