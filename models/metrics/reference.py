"""Full-reference image quality, frame by frame: how far is a video from the one it should equal?"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import conv2d

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of images (F, H, W, C) in 0..1, per frame (F,); inf where they are equal."""
    _check(images, reference)
    error = (images.double() - reference.double()).square().mean(dim=(1, 2, 3))
    return (-10 * error.log10()).float()


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity of images (F, H, W, C) in 0..1, per frame (F,), mean over the colours.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13, with its
    Gaussian window of 11 pixels and deviation 1.5, where the window fits entirely into the image.
    """
    _check(images, reference)
    if min(images.shape[1:3]) < SSIM_WINDOW:
        raise ValueError(
            f"SSIM looks through a window of {SSIM_WINDOW} pixels; frames of {images.shape[2]} x {images.shape[1]} "
            "are too small for it"
        )
    x, y = (rearrange(video.double(), "f h w c -> (f c) 1 h w") for video in (images, reference))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    likeness = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return rearrange(likeness, "(f c) 1 h w -> f (c h w)", c=images.shape[3]).mean(dim=1).float()


def _blur(x: Tensor) -> Tensor:
    offsets = torch.arange(SSIM_WINDOW, dtype=x.dtype, device=x.device) - SSIM_WINDOW // 2
    weights = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    weights = weights / weights.sum()
    return conv2d(conv2d(x, weights.reshape(1, 1, -1, 1)), weights.reshape(1, 1, 1, -1))


def _check(images: Tensor, reference: Tensor) -> None:
    if images.shape != reference.shape or images.ndim != 4:
        raise ValueError(
            f"to compare videos both must have the same frames, size and colours, got {tuple(images.shape)} and "
            f"{tuple(reference.shape)}: crop or resize one of them"
        )
