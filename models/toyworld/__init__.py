"""A small rendered world with exact mechanics, captions and ground truth; it trains the embedded model."""

from .captions import caption_held_out, detailed_caption, short_caption
from .physics import State, simulate
from .renderer import Clip, render
from .scenes import held_out_combinations, is_held_out, sample_scene
from .world import COLOURS, CYCLIC_KINDS, FLOORS, KINDS, SHAPES, SKIES, Body, Camera, Scene

__all__ = [
    "COLOURS",
    "CYCLIC_KINDS",
    "FLOORS",
    "KINDS",
    "SHAPES",
    "SKIES",
    "Body",
    "Camera",
    "Clip",
    "Scene",
    "State",
    "caption_held_out",
    "detailed_caption",
    "held_out_combinations",
    "is_held_out",
    "render",
    "sample_scene",
    "short_caption",
    "simulate",
]
