"""The captioner at work: frames of any size and rate in, a description out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..geometry import OURS, ClipSize, best_size
from ..text.description import Description
from ..text.faults import find_faults
from ..text.interface import LanguageModelError
from ..vae.autoencoder import VideoVAE
from .captioner import CaptionerFile, check_vae, frame_numbers, parsed_sizes
from .network import CaptionNetwork
from .vocabulary import Vocabulary
from .writing import write_captions

ATTEMPTS = 3


@dataclass(frozen=True)
class Captioner:
    """A trained captioner with the VAE whose latents it reads. A `text.describing.Describer`.

    temperature 0 writes the likeliest words; above, the seed decides. on_wait is called between words and may raise.
    place brings the network and the VAE to where they compute, before each use (a host may manage its memory).
    """

    name: str
    network: CaptionNetwork = field(repr=False)
    vocabulary: Vocabulary = field(repr=False)
    vae: VideoVAE = field(repr=False)
    sizes: tuple[ClipSize, ...]
    fps: float
    detailed: bool = True
    temperature: float = 0.0
    on_wait: Callable[[], None] = field(default=lambda: None, repr=False)
    place: Callable[[], None] = field(default=lambda: None, repr=False)

    @classmethod
    def of(cls, name: str, file: CaptionerFile, vae: VideoVAE, mark: str, *, detailed: bool = True) -> Captioner:
        """From a file and a VAE with this mark. ValueError when they do not belong together."""
        check_vae(file, mark, name)
        sizes = parsed_sizes(file.meta.get("sizes") or ["64x64x33"])
        fps = float(file.meta.get("fps") or 12)
        return cls(name, file.network(), Vocabulary(file.tokens), vae, sizes, fps, detailed)

    @property
    def side(self) -> int:
        """Pixels of the longer side of the largest clips that it knows."""
        return max(max(size.width, size.height) for size in self.sizes)

    def describe(self) -> str:
        """Which model this is, for people."""
        return f"captioner {self.name}"

    def pick(self, count: int, fps: float, width: int, height: int) -> list[int]:
        """Frames at the rate that it was trained on; fewer a second of a video that is longer than its clips."""
        return frame_numbers(count, fps, self.fps, best_size(self.sizes, width, height).num_frames)

    def look(self, frames: NDArray[np.uint8], _times: Sequence[float], /, *, seed: int = 0) -> Description:
        """Describe frames (F, H, W, 3) uint8 that `pick` chose. RuntimeError when it writes nothing of use."""
        latents = self.latents(frames)
        problem = ""
        for attempt in range(ATTEMPTS):
            (text,) = write_captions(
                self.network,
                self.vocabulary,
                latents,
                detailed=self.detailed,
                seed=seed + attempt,
                temperature=self.temperature if not attempt else max(self.temperature, 0.7),
                on_wait=self.on_wait,
            )
            faults = find_faults(text, "")
            if not faults:
                return Description.of_text(text)
            problem = "; ".join(faults)
        raise RuntimeError(f"the captioner {self.name} has nothing to say of this video ({problem}): train it longer")

    def __call__(self, *_question: object, **_more: object) -> str:
        """Whoever takes it for a language model that writes prompts gets one sentence."""
        raise LanguageModelError(f"the captioner {self.name} only describes videos: connect Load Language Model here")

    @torch.no_grad()
    def latents(self, frames: NDArray[np.uint8]) -> Tensor:
        """Latents (1, C, T, H, W) of frames, scaled and cut to the size that it knows best."""
        self.place()
        size = best_size(self.sizes, frames.shape[2], frames.shape[1])
        usable = OURS.fitting(len(frames))
        weight = self.vae.encoder.linear.weight
        stored = torch.from_numpy(np.ascontiguousarray(frames[:usable])).to(weight.device)
        pixels = rearrange(stored, "f h w c -> f c h w")
        fitted = cover(pixels.float() / 127.5 - 1, size.width, size.height)
        return self.vae.encode(rearrange(fitted, "f c h w -> 1 c f h w").to(weight))


def cover(pixels: Tensor, width: int, height: int) -> Tensor:
    """Pictures (F, C, H, W) scaled to cover width x height and cut to it from the middle."""
    scale = max(width / pixels.shape[3], height / pixels.shape[2])
    size = (max(height, round(pixels.shape[2] * scale)), max(width, round(pixels.shape[3] * scale)))
    if size != tuple(pixels.shape[2:]):
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True).clamp(-1, 1)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return pixels[:, :, top : top + height, left : left + width]
