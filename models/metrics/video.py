"""How good is a video by itself? Flicker, sharpness, colour, motion; measured frame by frame, with flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import conv2d

from .flow_field import Motion, motion
from .report import Measure, Report

LAPLACIAN = ((0.0, 1.0, 0.0), (1.0, -4.0, 1.0), (0.0, 1.0, 0.0))
LUMA = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709


def flicker(before: Tensor, frame: Tensor, after: Tensor) -> float:
    """How far pixels leave both neighbours to the same side, mean over the frame (H, W, C), in 0..1.

    What moves on or fades changes to one side and counts nothing; what comes and goes again counts.
    """
    up, down = frame.float() - before.float(), frame.float() - after.float()
    return float((torch.minimum(up.abs(), down.abs()) * (up * down > 0)).mean())


def sharpness(frame: Tensor) -> float:
    """Mean strength of the Laplacian of the brightness of a frame (H, W, 3) in 0..1."""
    brightness = (frame[..., :3].float() * torch.tensor(LUMA, device=frame.device)).sum(dim=-1)
    kernel = torch.tensor(LAPLACIAN, device=frame.device)[None, None]
    return float(conv2d(brightness[None, None], kernel).abs().mean())


def colour(frame: Tensor) -> Tensor:
    """Mean of the three colours and their mean deviation (contrast), (4,)."""
    pixels = rearrange(frame[..., :3].float(), "h w c -> (h w) c")
    return torch.cat([pixels.mean(dim=0), pixels.std(dim=0).mean()[None]]).cpu()


def measure_video(
    frames: Iterable[Tensor], fps: float, *, with_motion: bool = True, reference_seconds: float = 1.0
) -> Report:
    """Report on frames (H, W, 3) in 0..1 at so many per second. Drift compares the end with the first seconds."""
    sharp, colours, flickers, motions = [], [], [], []
    window: list[Tensor] = []
    for frame in frames:
        sharp.append(sharpness(frame))
        colours.append(colour(frame))
        if window and with_motion:
            motions.append(motion(window[-1], frame))
        window = [*window[-2:], frame]
        if len(window) == 3:
            flickers.append(flicker(*window))
    if not sharp:
        raise ValueError("there are no frames to measure")
    span = max(1, min(len(sharp) // 2, round(reference_seconds * fps)))
    measures = [
        *([Measure("flicker", 100 * fmean(flickers), "% of full scale", _percent(flickers))] if flickers else []),
        *_motion_measures(motions),
        Measure("sharpness", 100 * fmean(sharp), "% of full scale", _percent(sharp)),
        *_drift(torch.stack(colours), sharp, span),
    ]
    remarks = [f"over {len(sharp)} frames, {len(sharp) / fps:.3g} s at {fps:.4g} fps"]
    if len(sharp) > 1:
        remarks.append(f"drift: the last {span} frames against the first {span}")
    return Report("Measure Video", tuple(measures), tuple(remarks))


def _motion_measures(motions: Sequence[Motion]) -> list[Measure]:
    if not motions:
        return []
    errors, speeds = [m.warp_error for m in motions], [m.speed for m in motions]
    return [
        Measure("warp error", 100 * fmean(errors), "% of full scale", _percent(errors)),
        Measure("dynamic degree", 100 * fmean(speeds), "% of the short side per frame", _percent(speeds)),
    ]


def _drift(colours: Tensor, sharp: Sequence[float], span: int) -> list[Measure]:
    """How far the end has gone from the beginning: colour in % of full scale, contrast and sharpness in % of theirs."""
    start, end = colours[:span].mean(dim=0), colours[-span:].mean(dim=0)
    curve = (colours[:, :3] - start[:3]).abs().amax(dim=1)
    sharp_start, sharp_end = fmean(sharp[:span]), fmean(sharp[-span:])
    return [
        Measure(
            "colour drift", 100 * float((end[:3] - start[:3]).abs().max()), "% of full scale", _percent(curve.tolist())
        ),
        Measure("contrast drift", _relative(float(start[3]), float(end[3])), "%"),
        Measure("sharpness drift", _relative(sharp_start, sharp_end), "%"),
    ]


def _relative(start: float, end: float) -> float:
    if start == end:
        return 0.0
    return 100 * (end - start) / start if start else float("inf")


def _percent(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(100 * value for value in values)
