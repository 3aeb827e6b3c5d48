"""Optical flow between frames (OpenCV, imported when it is used), and what follows from it."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

CONSISTENT = 1.0  # pixels by which forward and backward flow may miss each other where nothing is hidden
FASTEST = 0.05  # share of the pixels that counts as what moves (VBench, arXiv 2311.17982, dynamic degree)


class Motion(NamedTuple):
    """From one frame to the next."""

    warp_error: float  # mean difference where both frames show the same thing, in 0..1
    speed: float  # mean speed of the fastest 5 % of the pixels, in parts of the short side
    visible: float  # share of the pixels that both frames show


def motion(before: Tensor, after: Tensor) -> Motion:
    """Motion between two frames (H, W, 3) in 0..1.

    The later frame is drawn back along the flow and compared with the earlier one where flow there and back agree
    (the others are hidden in one of them): Lai et al. 2018, arXiv 1808.00449, eq. 7.
    """
    cv2 = _opencv()
    one, other = (_grey(frame) for frame in (before, after))
    method = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    forward, backward = method.calc(one, other, None), method.calc(other, one, None)
    height, width = one.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    target = grid + forward
    returned = forward + cv2.remap(backward, target, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = ((target >= 0) & (target <= np.array([width - 1, height - 1]))).all(axis=-1)
    visible = inside & (np.linalg.norm(returned, axis=-1) < CONSISTENT)
    colours = [frame[..., :3].float().cpu().numpy() for frame in (before, after)]
    drawn_back = cv2.remap(colours[1], target, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    error = np.abs(drawn_back - colours[0]).mean(axis=-1)
    speeds = np.sort(np.linalg.norm(forward, axis=-1).ravel())
    fastest = speeds[-max(1, int(FASTEST * speeds.size)) :].mean() / min(height, width)
    return Motion(float(error[visible].mean()) if visible.any() else 0.0, float(fastest), float(visible.mean()))


def _grey(frame: Tensor) -> NDArray[np.uint8]:
    pixels = (frame[..., :3].float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    grey: NDArray[np.uint8] = _opencv().cvtColor(np.ascontiguousarray(pixels), _opencv().COLOR_RGB2GRAY)
    return grey


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise ValueError(
            "optical flow needs OpenCV: install opencv-python-headless into ComfyUI's Python, or switch motion off"
        ) from error
    return cv2
