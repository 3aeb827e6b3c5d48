"""Perceptual distance of pictures: how different do they look, by the features of a network that learned to see?

LPIPS (Zhang et al. 2018, arXiv 1801.03924, eq. 1) in its shift-tolerant form (Ghildyal and Liu 2022, arXiv 2207.13686):
the activations of five stages of VGG-16 or AlexNet are scaled to unit length at each position, and their squared
differences are weighted per channel. Before each halving stands a small blur, so that moving a picture by one pixel
changes little. The weights come from the package stlpips-pytorch where the user has installed it; only its weights are
read, none of its code is run.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..extras import install

PACKAGE, WEIGHTS = "stlpips_pytorch", "weights/vST0.0/{}_shift_tolerant.pth"
NETWORKS = ("vgg", "alex")
SMALLEST = 32  # pixels: below, the deepest stage has nothing left to see
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's colours, for pixels in [-1, 1]


class Halve(nn.Module):
    """Every second position of an image blurred with [1 2 1], after two reflected positions at each edge."""

    def forward(self, x: Tensor) -> Tensor:
        line = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype, device=x.device) / 4
        kernel = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def vgg_stages() -> list[nn.Sequential]:
    """The convolutions of VGG-16, stage by stage."""
    stages, before = [], 3
    for number, (channels, depth) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
        layers: list[nn.Module] = [nn.MaxPool2d(2, stride=1), Halve()] if number else []
        for _ in range(depth):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        stages.append(nn.Sequential(*layers))
    return stages


def alex_stages() -> list[nn.Sequential]:
    """The convolutions of AlexNet, stage by stage; the first does not skip positions, the blur after it does."""

    def pool() -> list[nn.Module]:
        return [nn.MaxPool2d(3, stride=1), Halve()]

    return [
        nn.Sequential(nn.Conv2d(3, 64, 11, padding=2), Halve(), nn.ReLU()),
        nn.Sequential(*pool(), nn.Conv2d(64, 192, 5, padding=2), nn.ReLU()),
        nn.Sequential(*pool(), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        nn.Sequential(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    ]


class PerceptualDistance(nn.Module):
    """The network. Its weights are fixed; gradients flow through it to the pictures."""

    def __init__(self, network: str) -> None:
        super().__init__()
        stages = vgg_stages() if network == "vgg" else alex_stages()
        self.stages = nn.ModuleList(stages)
        convolutions = ([layer for layer in stage if isinstance(layer, nn.Conv2d)] for stage in stages)
        self.weights = nn.ParameterList(torch.zeros(layers[-1].out_channels) for layers in convolutions)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Activations of unit length of each stage, fp32, of pictures (N, 3, H, W) in [-1, 1]."""
        if min(pictures.shape[2:]) < SMALLEST:
            raise ValueError(
                f"the perceptual distance needs pictures of at least {SMALLEST} x {SMALLEST} pixels, got "
                f"{pictures.shape[3]} x {pictures.shape[2]}: take a larger crop, or no perceptual loss"
            )
        shift, scale = (torch.tensor(c, device=pictures.device).view(1, 3, 1, 1) for c in (SHIFT, SCALE))
        x, found = ((pictures - shift) / scale).to(self.weights[0].dtype), []
        for stage in self.stages:
            x = stage(x)
            length = x.float().square().sum(dim=1, keepdim=True).clamp_min(1e-10).sqrt()
            found.append(x.float() / length)
        return found

    def forward(self, pictures: Tensor, reference: Tensor) -> Tensor:
        """Distance of each of N pictures to its reference, both (N, 3, H, W) in [-1, 1]; 0 where they are equal."""
        with torch.no_grad():
            wanted = self.features(reference)
        distance = pictures.new_zeros(len(pictures), dtype=torch.float32)
        for ours, theirs, weight in zip(self.features(pictures), wanted, self.weights, strict=True):
            distance = distance + ((ours - theirs).square() * weight.float().view(1, -1, 1, 1)).sum(1).mean((1, 2))
        return distance


def load_perceptual(network: str = "vgg") -> PerceptualDistance:
    """The distance by "vgg" or "alex" (a fifth of the work). ValueError when the weights are not installed."""
    if network not in NETWORKS:
        raise ValueError(f'"{network}" is no network of the perceptual distance: choose {" or ".join(NETWORKS)}')
    distance = PerceptualDistance(network)
    path = weights_file(network)
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
        convolutions = [layer for layer in distance.stages.modules() if isinstance(layer, nn.Conv2d)]
        names = [name.removesuffix(".bias") for name in held if name.startswith("net.") and name.endswith(".bias")]
        for layer, name in zip(convolutions, names, strict=True):
            layer.load_state_dict({part: held[f"{name}.{part}"] for part in ("weight", "bias")})
        with torch.no_grad():
            for number, weight in enumerate(distance.weights):
                weight.copy_(held[f"lin{number}.model.1.weight"].flatten())
    except (OSError, RuntimeError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} does not hold its weights ({error}): install stlpips-pytorch anew") from error
    return distance.requires_grad_(requires_grad=False).eval()


def weights_file(network: str) -> Path:
    """Where the package keeps its weights. ValueError when it is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    for place in (found.submodule_search_locations or []) if found else []:
        path = Path(place) / WEIGHTS.format(network)
        if path.is_file():
            return path
    raise ValueError(
        "the perceptual loss needs the weights of the package stlpips-pytorch, which is not installed: "
        f"{install('stlpips-pytorch')}, or set the perceptual loss to 0"
    )
