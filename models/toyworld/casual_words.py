"""The words of casual captions: what happens in a word or two, and what people put around a sentence."""

from __future__ import annotations

KEY_WORDS: dict[str, tuple[str, ...]] = {
    "bounce": ("bouncing", "bounces", "hopping", "jumping"),
    "bounce in place": ("bouncing up and down", "bouncing in place", "hopping on the spot"),
    "fall": ("falling", "falls", "dropping", "drop from above"),
    "roll": ("moving", "rolling", "sliding", "crossing"),
    "collide": ("collision", "colliding", "crash"),
    "hide": ("behind a wall", "hidden by a wall", "passing behind a wall"),
    "orbit": ("orbiting camera", "camera orbit", "circling camera"),
    "pan": ("camera pan", "panning camera", "moving camera"),
    "circle": ("circling", "going around", "orbiting"),
    "still": ("still", "at rest", "no motion"),
    "spin": ("spinning", "rotating", "turning in place"),
}
WRAPPINGS = (
    "a video of {}",
    "a clip of {}",
    "video: {}",
    "animation of {}",
    "please show {}",
    "show me {}",
    "make a video: {}",
    "a short film in which {}",
    "{}, 3d animation",
    "{}, simple render",
    "a scene where {}",
    "can you make {}",
)
